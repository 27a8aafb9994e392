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

from esl_neuro.compiled import compiled
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


class FusedLIF(torch.autograd.Function):
    """Forward and backward pass of :func:`esl_neuro.snn.functional.lif` on the CPU.

    Arguments are currents, tau, threshold, surrogate (``TRIANGLE`` or ``ARCTAN``) and width.
    """

    @staticmethod
    def forward(ctx: Any, currents: Tensor, tau: float, threshold: Tensor, surrogate: int, width: float) -> Tensor:
        """Return the spikes."""
        steps, batch, *shape = currents.shape
        once = currents[:1] if currents.stride(0) == 0 else currents
        spikes = currents.new_empty(currents.shape)
        charged = currents.new_empty((steps if any(ctx.needs_input_grad) else min(steps, 1), batch, *shape))
        levels = threshold.detach().expand(shape).contiguous()
        use_torch_threads()
        _forward(rows(once), _scalar(tau, currents), levels.numpy().ravel(), rows(spikes), rows(charged))
        ctx.save_for_backward(charged, levels)
        ctx.tau, ctx.surrogate, ctx.width, ctx.threshold_shape = tau, surrogate, width, threshold.shape
        return spikes

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
    error_u, error_threshold = torch.empty_like(charged), torch.zeros_like(charged[0])
    levels = threshold.detach().expand(charged.shape[2:]).contiguous()
    decay, scale = _scalar(tau, charged), _scalar(math.pi / width if surrogate == ARCTAN else width, charged)
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
