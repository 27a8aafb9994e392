"""The LIF over time in one pass over memory, compiled for the CPU.

As torch operations (:func:`esl_neuro.snn.functional.lif`), the neuron reads and writes its signals a dozen times; here
each value is accessed once per pass.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esl_neuro.compiled import compiled, compiled_sums
from esl_neuro.neuron_major import empty_like_rows, is_neuron_major, rows_of
from esl_neuro.spike_bits import Bits, empty_bits, pack_row
from esl_neuro.torch_threads import use_torch_threads

TRIANGLE, ARCTAN = 0, 1


@compiled
def _forward(
    currents: NDArray[Any], tau: Any, threshold: NDArray[Any], spikes: NDArray[Any], charged: NDArray[Any]
) -> None:
    steps, samples, neurons = spikes.shape
    one, zero = spikes.dtype.type(1), spikes.dtype.type(0)
    for sample in numba.prange(samples):
        potential = np.zeros(neurons, spikes.dtype)
        for step in range(steps):
            # Constant currents, and potentials that are not needed again, have the memory of one step.
            current, level = currents[step % len(currents), sample], charged[step % len(charged), sample]
            fired = spikes[step, sample]
            for n in range(neurons):
                u = current[n] + tau * potential[n]
                o = one if u > threshold[n] else zero
                level[n], fired[n], potential[n] = u, o, u - u * o


@compiled
def _backward(
    charged: NDArray[Any],
    threshold: NDArray[Any],
    error_o: NDArray[Any],
    tau: Any,
    surrogate: int,
    width: Any,
    error_u: NDArray[Any],
    error_threshold: NDArray[Any],
) -> None:
    steps, samples, neurons = charged.shape
    one, zero = charged.dtype.type(1), charged.dtype.type(0)
    for sample in numba.prange(samples):
        later = np.zeros(neurons, charged.dtype)
        of_threshold = error_threshold[sample]
        for back in range(steps):
            step = steps - 1 - back
            level, arriving, leaving = charged[step, sample], error_o[step, sample], error_u[step, sample]
            for n in range(neurons):
                distance = level[n] - threshold[n]
                if surrogate == TRIANGLE:
                    slope = max(zero, width - abs(distance)) / (width * width)
                else:
                    scaled = distance * width
                    slope = one / (scaled * scaled + one)
                through_spike = (arriving[n] - level[n] * tau * later[n]) * slope
                kept = zero if distance > zero else one
                error = through_spike + kept * tau * later[n]
                leaving[n], later[n] = error, error
                of_threshold[n] -= through_spike


@compiled
def _forward_by_neuron(
    currents: NDArray[Any],
    tau: Any,
    threshold: NDArray[Any],
    spikes: NDArray[Any],
    charged: NDArray[Any],
    bits: Bits,
    steps: int,
    samples: int,
    current_steps: int,
    charged_steps: int,
) -> None:
    """Do the same as :func:`_forward` for signals with one row per neuron, and write the bits of the spikes."""
    one, zero = spikes.dtype.type(1), spikes.dtype.type(0)
    for n in numba.prange(len(spikes)):
        level = threshold[n]
        for step in range(steps):
            current = currents[n, step % current_steps * samples :]
            u, o = charged[n, step % charged_steps * samples :], spikes[n, step * samples :]
            if step == 0:
                for k in range(samples):
                    u[k] = current[k]
                    o[k] = one if u[k] > level else zero
            else:
                before, fired = charged[n, (step - 1) % charged_steps * samples :], spikes[n, (step - 1) * samples :]
                for k in range(samples):
                    u[k] = current[k] + tau * (before[k] - before[k] * fired[k])
                    o[k] = one if u[k] > level else zero
        pack_row(spikes, n, steps * samples, bits)


@compiled_sums
def _backward_by_neuron(
    charged: NDArray[Any],
    threshold: NDArray[Any],
    error_o: NDArray[Any],
    tau: Any,
    surrogate: int,
    width: Any,
    error_u: NDArray[Any],
    error_threshold: NDArray[Any],
    steps: int,
    samples: int,
) -> None:
    """Do the same as :func:`_backward` for signals with one row per neuron."""
    one, zero = charged.dtype.type(1), charged.dtype.type(0)
    per_area, triangle = one / (width * width), surrogate == TRIANGLE
    for n in numba.prange(len(charged)):
        total, limit, last = zero, threshold[n], (steps - 1) * samples
        level, arriving, leaving = charged[n, last:], error_o[n, last:], error_u[n, last:]
        for k in range(samples):  # nothing comes after the last step
            distance = level[k] - limit
            scaled = distance * width
            slope = max(zero, width - abs(distance)) * per_area if triangle else one / (scaled * scaled + one)
            leaving[k] = arriving[k] * slope
            total -= leaving[k]
        for back in range(1, steps):
            first = last - back * samples
            level, arriving, leaving = charged[n, first:], error_o[n, first:], error_u[n, first:]
            later = error_u[n, first + samples :]
            for k in range(samples):
                distance, following = level[k] - limit, tau * later[k]
                scaled = distance * width
                slope = max(zero, width - abs(distance)) * per_area if triangle else one / (scaled * scaled + one)
                through_spike = (arriving[k] - level[k] * following) * slope
                leaving[k] = through_spike + (zero if distance > zero else following)
                total -= through_spike
        error_threshold[n] = total


class FusedLIF(torch.autograd.Function):
    """Forward and backward pass of :func:`esl_neuro.snn.functional.lif` on the CPU.

    Arguments are currents, tau, threshold, surrogate (``TRIANGLE`` or ``ARCTAN``) and width.
    """

    @staticmethod
    def forward(
        ctx: Any, currents: Tensor, tau: float, threshold: Tensor, surrogate: int, width: float
    ) -> tuple[Tensor, Tensor | None]:
        """Return the spikes, and their bits if they have one row per neuron."""
        steps, batch, *shape = currents.shape
        once = currents[:1] if currents.stride(0) == 0 else currents
        kept = steps if any(ctx.needs_input_grad) else min(steps, 1)
        levels = threshold.detach().expand(shape).contiguous()
        use_torch_threads()
        if is_neuron_major(once):
            spikes, charged = (empty_like_rows(once, count) for count in (steps, kept))
            bits = empty_bits(math.prod(shape), steps * batch)
            signals = rows_of(once.flatten(2)), rows_of(spikes.flatten(2)), rows_of(charged.flatten(2))
            arrays = (signals[0], _scalar(tau, currents), levels.numpy().ravel(), *signals[1:])
            _forward_by_neuron(*arrays, bits.numpy(), steps, batch, len(once), kept)
            ctx.mark_non_differentiable(bits)
        else:
            bits = None
            spikes, charged = currents.new_empty(currents.shape), currents.new_empty((kept, batch, *shape))
            _forward(rows(once), _scalar(tau, currents), levels.numpy().ravel(), rows(spikes), rows(charged))
        ctx.save_for_backward(charged, levels)
        ctx.tau, ctx.surrogate, ctx.width, ctx.threshold_shape = tau, surrogate, width, threshold.shape
        return spikes, bits

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, Tensor | None, None, None]:
        """Return the errors of currents and thresholds."""
        charged, levels = ctx.saved_tensors
        error_u, error_threshold = lif_errors(charged, levels, grads[0], ctx.tau, ctx.surrogate, ctx.width)
        learned = error_threshold.sum_to_size(ctx.threshold_shape) if ctx.needs_input_grad[2] else None
        return error_u, None, learned, None, None


def lif_errors(
    charged: Tensor, threshold: Tensor, error_o: Tensor, tau: float, surrogate: int, width: float
) -> tuple[Tensor, Tensor]:
    """Return the errors of currents and thresholds; see :func:`esl_neuro.snn.functional.lif_errors`."""
    levels = threshold.detach().expand(charged.shape[2:]).contiguous()
    decay, scale = _scalar(tau, charged), _scalar(math.pi / width if surrogate == ARCTAN else width, charged)
    if is_neuron_major(charged):
        steps, batch, *shape = charged.shape
        error_u, of_neurons = empty_like_rows(charged, steps), charged.new_empty(shape)
        use_torch_threads()
        signals = rows_of(charged.flatten(2)), levels.numpy().ravel(), rows_of(error_o.flatten(2))
        results = rows_of(error_u.flatten(2)), of_neurons.numpy().ravel()
        _backward_by_neuron(*signals, decay, surrogate, scale, *results, steps, batch)
        return error_u, of_neurons.sum_to_size(threshold.shape)
    error_u, error_threshold = torch.empty_like(charged), torch.zeros_like(charged[0])
    arrays = rows(error_u), rows(error_threshold[None])[0]
    use_torch_threads()
    _backward(rows(charged), levels.numpy().ravel(), rows(error_o), decay, surrogate, scale, *arrays)
    return error_u, error_threshold.sum(0).sum_to_size(threshold.shape)


def fits(currents: Tensor) -> bool:
    """Return whether the compiled kernels support a signal."""
    return currents.device.type == "cpu" and currents.dtype in (torch.float32, torch.float64)


def rows(signal: Tensor) -> NDArray[Any]:
    """Return an array of shape (steps, batch, neurons)."""
    steps, batch, *shape = signal.shape
    rows: NDArray[Any] = signal.detach().contiguous().view(steps, batch, math.prod(shape)).numpy()
    return rows


def _scalar(value: float, like: Tensor) -> Any:
    return np.float32(value) if like.dtype == torch.float32 else np.float64(value)
