"""Exact spike times and their gradients in one pass over memory, compiled for the CPU.

As torch operations (:mod:`esl_neuro.snn.temporal`), a layer looks at every input of every neuron, a dozen times; here
the search ends at the spike, and gradients are added for the causal set only. Sums are kept in float64.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esl_neuro.compiled import compiled
from esl_neuro.torch_threads import use_torch_threads

NONE, EARLY, ALL = 0, 1, 2  # causal sets of two input times


@compiled
def _search(
    z_sorted: NDArray[Any],
    order: NDArray[Any],
    weights: NDArray[Any],
    threshold: float,
    no_spike: float,
    z_outputs: NDArray[Any],
    excess: NDArray[Any],
    last: NDArray[Any],
) -> None:
    """Find the causal set of every neuron; see ``_fire`` in :mod:`esl_neuro.snn.temporal` for the method."""
    samples, inputs = z_sorted.shape
    for sample in numba.prange(samples):
        z, places = z_sorted[sample], order[sample]
        level = threshold * z[0]
        for output in range(len(weights)):
            row = weights[output]
            slope, risen = -threshold, 0.0
            z_outputs[sample, output], excess[sample, output], last[sample, output] = no_spike, 1.0, -1
            for k in range(inputs):
                slope += row[places[k]]
                gap = (z[k + 1] if k + 1 < inputs else no_spike) - z[k]
                if risen + slope * gap >= level:
                    fired = z[k] + (level - risen) / slope
                    if fired < no_spike:
                        z_outputs[sample, output], excess[sample, output], last[sample, output] = fired, slope, k
                    break
                risen += slope * gap


@compiled
def _spread_to_inputs(
    errors: NDArray[Any], last: NDArray[Any], order: NDArray[Any], weights: NDArray[Any], grad_inputs: NDArray[Any]
) -> None:
    """Add ``error_j w_ij`` to each input of each causal set."""
    for sample in numba.prange(len(errors)):
        places, gradient = order[sample], grad_inputs[sample]
        for output in range(len(weights)):
            error, row = errors[sample, output], weights[output]
            for k in range(last[sample, output] + 1):
                gradient[places[k]] += error * row[places[k]]


@compiled
def _spread_to_weights(
    errors: NDArray[Any],
    last: NDArray[Any],
    order: NDArray[Any],
    z_sorted: NDArray[Any],
    z_outputs: NDArray[Any],
    grad_weights: NDArray[Any],
) -> None:
    """Add ``error_j (z_i - z_j)`` to the weight of each input of each causal set."""
    for output in numba.prange(len(grad_weights)):
        gradient = grad_weights[output]
        for sample in range(len(errors)):
            places, z = order[sample], z_sorted[sample]
            error, fired = errors[sample, output], z_outputs[sample, output]
            for k in range(last[sample, output] + 1):
                gradient[places[k]] += error * (z[k] - fired)


@compiled
def _search_two_times(
    sum_early: NDArray[Any],
    sum_all: NDArray[Any],
    z_early: float,
    z_late: float,
    threshold: float,
    no_spike: float,
    z_outputs: NDArray[Any],
    excess: NDArray[Any],
    causal: NDArray[Any],
) -> None:
    """Decide between the two causal sets of :func:`esl_neuro.snn.temporal.first_spike_binary`."""
    samples, outputs = sum_early.shape
    for sample in numba.prange(samples):
        for output in range(outputs):
            early, every = float(sum_early[sample, output]), float(sum_all[output])
            z_outputs[sample, output], excess[sample, output], causal[sample, output] = no_spike, 1.0, NONE
            slope, moment, chosen, earliest = early - threshold, z_early * early, EARLY, z_early
            if slope <= 0 or moment > slope * z_late:
                slope, moment, chosen, earliest = every - threshold, moment + z_late * (every - early), ALL, z_late
            if slope > 0:
                fired = max(moment / slope, earliest)
                if fired < no_spike:
                    z_outputs[sample, output], excess[sample, output], causal[sample, output] = fired, slope, chosen


@compiled
def _spread_two_times(
    grads: NDArray[Any],
    z_outputs: NDArray[Any],
    excess: NDArray[Any],
    causal: NDArray[Any],
    z_early: float,
    z_late: float,
    of_early: NDArray[Any],
    of_all: NDArray[Any],
) -> None:
    """Return what the weights of early inputs, and of all inputs, receive from each neuron."""
    samples, outputs = grads.shape
    for output in numba.prange(outputs):
        total = 0.0
        for sample in range(samples):
            chosen, error = causal[sample, output], grads[sample, output] / excess[sample, output]
            fired = z_outputs[sample, output]
            of_early[sample, output] = 0.0
            if chosen == EARLY:
                of_early[sample, output] = error * (z_early - fired)
            elif chosen == ALL:
                of_early[sample, output] = error * (z_early - z_late)
                total += error * (z_late - fired)
        of_all[output] = total


class FusedFirstSpike(torch.autograd.Function):
    """:func:`esl_neuro.snn.temporal.first_spike` on the CPU; arguments are inputs, weights, threshold and no spike."""

    @staticmethod
    def forward(ctx: Any, z_inputs: Tensor, weights: Tensor, threshold: float, no_spike: float) -> Tensor:
        """Return ``z`` of every neuron."""
        z = z_inputs.detach().clamp(max=no_spike)
        order = torch.from_numpy(np.argsort(z.numpy(), axis=1))  # four times as fast as torch's, which is stable
        z_sorted = z.gather(1, order)
        shape = len(z_inputs), len(weights)
        z_outputs, excess = weights.new_empty(shape), weights.new_empty(shape)
        last = torch.empty(shape, dtype=torch.int64)
        use_torch_threads()
        found = _array(z_outputs), _array(excess), _array(last)
        _search(_array(z_sorted), _array(order), _array(weights), threshold, no_spike, *found)
        ctx.save_for_backward(z_sorted, order, weights, z_outputs, excess, last)
        return z_outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """Return the gradients of inputs and weights."""
        z_sorted, order, weights, z_outputs, excess, last = ctx.saved_tensors
        errors = grads[0] / excess
        use_torch_threads()
        grad_inputs = grad_weights = None
        if ctx.needs_input_grad[0]:
            grad_inputs = z_sorted.new_zeros(z_sorted.shape)
            _spread_to_inputs(_array(errors), _array(last), _array(order), _array(weights), _array(grad_inputs))
        if ctx.needs_input_grad[1]:
            grad_weights = weights.new_zeros(weights.shape)
            times = _array(z_sorted), _array(z_outputs)
            _spread_to_weights(_array(errors), _array(last), _array(order), *times, _array(grad_weights))
        return grad_inputs, grad_weights, None, None


class FusedFirstSpikeBinary(torch.autograd.Function):
    """:func:`esl_neuro.snn.temporal.first_spike_binary` on the CPU; its arguments, and no spike."""

    @staticmethod
    def forward(
        ctx: Any, early: Tensor, weights: Tensor, z_early: float, z_late: float, threshold: float, no_spike: float
    ) -> Tensor:
        """Return ``z`` of every neuron."""
        sum_early, sum_all = early.to(weights.dtype) @ weights.T, weights.sum(1)
        z_outputs, excess = weights.new_empty(sum_early.shape), weights.new_empty(sum_early.shape)
        causal = torch.empty(sum_early.shape, dtype=torch.int8)
        ctx.z_early, ctx.z_late = float(z_early), float(z_late)
        times = ctx.z_early, ctx.z_late, float(threshold), float(no_spike)
        found = _array(z_outputs), _array(excess), _array(causal)
        use_torch_threads()
        _search_two_times(_array(sum_early), _array(sum_all), *times, *found)
        ctx.save_for_backward(early, z_outputs, excess, causal)
        return z_outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None, None, None, None]:
        """Return the gradient of the weights."""
        early, z_outputs, excess, causal = ctx.saved_tensors
        of_early, of_all = z_outputs.new_empty(z_outputs.shape), z_outputs.new_empty(z_outputs.shape[1])
        use_torch_threads()
        given = _array(grads[0]), _array(z_outputs), _array(excess), _array(causal)
        _spread_two_times(*given, ctx.z_early, ctx.z_late, _array(of_early), _array(of_all))
        return None, of_early.T @ early.to(of_early.dtype) + of_all[:, None], None, None, None, None


def _array(tensor: Tensor) -> NDArray[Any]:
    return np.ascontiguousarray(tensor.detach().numpy())
