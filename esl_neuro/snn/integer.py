"""The neuron of the chip as a trainable layer: integers forwards, surrogate gradients in float units backwards.

The forward pass is :class:`esl_neuro.compiler.program.Group`, bit for bit, with ``a`` the weighted sum of arriving
spikes, ``M = 2**23`` and ``trunc0`` rounding toward zero::

    u = trunc0(u keep_u / 4096) + 64 a;   wraps once at +-M
    v = trunc0(v keep_v / 4096) + u + bias;   saturates at +-(M - 1)
    spike = v > 64 vth;   v = 0 where it spikes, or v = v - reset_by in a reset by subtraction

The backward pass is that of the float neuron at the potentials ``v / (64 S)``; errors pass rounding, wrap and
saturation unchanged (straight-through estimator).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esl_neuro.compiled import compiled
from esl_neuro.hardware import arithmetic
from esl_neuro.hardware.arithmetic import DECAY_ONE, POTENTIAL_SHIFT
from esl_neuro.resets import SUBTRACT_NEXT_STEP, ZERO, Reset
from esl_neuro.snn.functional import Surrogate, lif_errors
from esl_neuro.snn.kernels import rows
from esl_neuro.torch_threads import use_torch_threads

HALF_RANGE = float(arithmetic.HALF_RANGE)
POTENTIAL_ONE = float(2**POTENTIAL_SHIFT)


@dataclass(frozen=True)
class LayerConstants:
    """Integer constants of a group of neurons.

    Attributes
    ----------
    keep_u, keep_v : float
        What remains of ``u`` and ``v`` after a step, in 1/4096.
    vth, bias : float64 Tensor
        Thresholds in integer units and biases in units of ``v``; they broadcast with a step of one sample.
    scale : float64 Tensor
        ``S``, integers per float unit; it broadcasts likewise.
    reset : {"zero", "subtract", "subtract_next_step"}
        What a spike does to the potential, see :mod:`esl_neuro.resets`.
    """

    keep_u: float
    keep_v: float
    vth: Tensor
    bias: Tensor
    scale: Tensor
    reset: Reset = ZERO

    @property
    def reset_by(self) -> Tensor | None:
        """What a spike subtracts from ``v``, as the compiler rounds it; None for a reset to zero."""
        if self.reset == ZERO:
            return None
        kept = self.keep_v / DECAY_ONE if self.reset == SUBTRACT_NEXT_STEP else 1.0
        return (self.vth * POTENTIAL_ONE / kept).round().clamp(max=HALF_RANGE - 1)

    @property
    def unit(self) -> Tensor:
        """Float units per unit of ``v``: ``1 / (64 S)``, float64 numbers in single precision."""
        return (1 / (POTENTIAL_ONE * self.scale)).float().double()


def integer_lif(
    sums: Tensor, threshold: Tensor, bias: Tensor | None, constants: LayerConstants, surrogate: Surrogate, width: float
) -> Tensor:
    """Run neurons over time from rest.

    Parameters
    ----------
    sums : Tensor, shape (steps, batch, ...)
        ``a``, integers; its gradient is ``e_I / S``, with ``I = a / S`` the current in float units.
    threshold, bias : Tensor
        In float units, used for their gradients only; the forward pass uses the rounded ones of ``constants``.
    constants : LayerConstants
        The integer constants.
    surrogate : callable
        Slope of the step, one of :data:`~esl_neuro.snn.functional.SURROGATES`.
    width : float
        Its width, in float units.

    Returns
    -------
    float32 Tensor, shape (steps, batch, ...)
        Spikes, 0 or 1.
    """
    spikes: Tensor = _IntegerLIF.apply(sums, threshold, bias, constants, surrogate, width)  # type: ignore[no-untyped-call]
    return spikes


def integer_readout(sums: Tensor, bias: Tensor | None, constants: LayerConstants) -> Tensor:
    """Return the change of the potentials in each step, in float units; gradients are those of ``I + bias``.

    Returns
    -------
    float64 Tensor, shape (steps, batch, outputs)
        Their sum over the steps is exactly the potential times ``constants.unit``, so rounding cannot break ties.
    """
    changes: Tensor = _Readout.apply(sums, bias, constants)  # type: ignore[no-untyped-call]
    return changes


class StraightThrough(torch.autograd.Function):
    """``(values, rounded, factor) -> rounded``, with the gradient of ``factor values``."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, rounded: Tensor, factor: Tensor | float) -> Tensor:  # noqa: ARG004 (gradient)
        """Return the rounded values."""
        ctx.factor = factor
        return rounded

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """Return the error of the values."""
        factor = ctx.factor.to(grads[0].dtype) if isinstance(ctx.factor, Tensor) else ctx.factor
        return grads[0] * factor, None, None


def straight_through(values: Tensor, rounded: Tensor, factor: Tensor | float) -> Tensor:
    """Return ``rounded``, whose gradient for ``values`` is ``factor``."""
    result: Tensor = StraightThrough.apply(values, rounded, factor)  # type: ignore[no-untyped-call]
    return result


class _IntegerLIF(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        sums: Tensor,
        threshold: Tensor,
        bias: Tensor | None,
        constants: LayerConstants,
        surrogate: Surrogate,
        width: float,
    ) -> Tensor:
        steps = len(sums) if any(ctx.needs_input_grad) else min(len(sums), 1)
        spikes, charged = run(sums, constants, constants.unit, steps)
        levels = (constants.vth / constants.scale).to(charged.dtype)
        ctx.save_for_backward(charged, levels)
        ctx.constants, ctx.surrogate, ctx.width = constants, surrogate, width
        ctx.shapes = threshold.shape, None if bias is None else bias.shape
        return spikes

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        charged, levels = ctx.saved_tensors
        constants, (of_threshold, of_bias) = ctx.constants, ctx.shapes
        tau = constants.keep_v / DECAY_ONE
        error_u, error_threshold = lif_errors(charged, levels, grads[0], tau, ctx.surrogate, ctx.width, constants.reset)
        error_bias = None if of_bias is None else error_u.sum((0, 1)).sum_to_size(of_bias)
        error_current = _through_synapses(error_u, constants.keep_u / DECAY_ONE)
        error_sums = error_current / constants.scale.to(error_current.dtype)
        return error_sums, error_threshold.sum_to_size(of_threshold), error_bias, None, None, None


class _Readout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, sums: Tensor, bias: Tensor | None, constants: LayerConstants) -> Tensor:
        ctx.constants, ctx.dtype, ctx.bias_shape = constants, sums.dtype, None if bias is None else bias.shape
        spikes, charged = run(sums, constants, torch.ones_like(constants.scale), len(sums))
        potentials = charged.double() * (1 - spikes)
        return torch.diff(potentials, dim=0, prepend=torch.zeros_like(potentials[:1])) * constants.unit

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None]:
        error = grads[0].to(ctx.dtype)
        error_bias = None if ctx.bias_shape is None else error.sum((0, 1)).sum_to_size(ctx.bias_shape)
        return error / ctx.constants.scale.to(error.dtype), error_bias, None


def _through_synapses(error_u: Tensor, kept: float) -> Tensor:
    """Return the errors of the currents ``I`` of ``u[t] = kept u[t-1] + I[t]``."""
    if kept == 0:
        return error_u
    error_current, later = torch.empty_like(error_u), torch.zeros_like(error_u[0])
    for step in range(len(error_u) - 1, -1, -1):
        later = torch.add(error_u[step], later, alpha=kept, out=error_current[step])
    return error_current


def run(sums: Tensor, constants: LayerConstants, unit: Tensor, steps_kept: int) -> tuple[Tensor, Tensor]:
    """Run the neurons, in compiled form if there is one.

    Parameters
    ----------
    sums : float32 or float64 Tensor, shape (steps, batch, ...)
        ``a``; the steps may share their memory.
    constants : LayerConstants
        The integer constants.
    unit : float64 Tensor
        Value of a unit of ``v`` in ``charged``; it broadcasts like the constants.
    steps_kept : int
        Steps of ``charged``: all, or one that all steps share if they are not needed.

    Returns
    -------
    spikes : float32 Tensor, shape (steps, batch, ...)
    charged : float32 Tensor, shape (steps_kept, batch, ...)
        ``unit v`` before the reset; exact if the unit is 1.
    """
    spikes = sums.new_empty(sums.shape, dtype=torch.float32)
    charged = sums.new_empty((steps_kept, *sums.shape[1:]), dtype=torch.float32)
    if sums.device.type == "cpu":
        run_compiled(sums, constants, unit, spikes, charged)
    else:
        run_in_torch(sums, constants, unit, spikes, charged)
    return spikes, charged


def run_in_torch(sums: Tensor, constants: LayerConstants, unit: Tensor, spikes: Tensor, charged: Tensor) -> None:
    """Compute spikes and potentials on any device, exactly in double precision."""
    u = v = torch.zeros(sums.shape[1:], dtype=torch.float64, device=sums.device)
    threshold, reset_by = constants.vth * POTENTIAL_ONE, constants.reset_by
    for step, arriving in enumerate(sums.unbind(0)):
        u = torch.trunc(u * constants.keep_u / DECAY_ONE) + POTENTIAL_ONE * arriving
        u = torch.where(u > HALF_RANGE, u - 2 * HALF_RANGE, torch.where(u <= -HALF_RANGE, u + 2 * HALF_RANGE, u))
        v = torch.trunc(v * constants.keep_v / DECAY_ONE) + u + constants.bias
        v = v.clamp(1 - HALF_RANGE, HALF_RANGE - 1)
        spikes[step] = v > threshold
        charged[step % len(charged)] = v * unit
        v = torch.where(v > threshold, 0.0 if reset_by is None else v - reset_by, v)


def run_compiled(sums: Tensor, constants: LayerConstants, unit: Tensor, spikes: Tensor, charged: Tensor) -> None:
    """Compute spikes and potentials on the CPU."""
    shape = sums.shape[2:]
    once = sums[:1] if sums.stride(0) == 0 else sums
    reset_by = constants.vth * 0 - 1 if constants.reset_by is None else constants.reset_by
    bias, threshold, subtracted, units = (
        values.expand(shape).contiguous().numpy().ravel()
        for values in (constants.bias, constants.vth * POTENTIAL_ONE, reset_by, unit)
    )
    use_torch_threads()
    keep = constants.keep_u, constants.keep_v
    _run(rows(once), *keep, bias, threshold, subtracted, units, rows(spikes), rows(charged))


@compiled
def _run(
    sums: NDArray[Any],
    keep_u: float,
    keep_v: float,
    bias: NDArray[np.float64],
    threshold: NDArray[np.float64],
    reset_by: NDArray[np.float64],  # -1 for a reset to zero
    unit: NDArray[np.float64],
    spikes: NDArray[np.float32],
    charged: NDArray[np.float32],
) -> None:
    steps, samples, neurons = spikes.shape
    top = HALF_RANGE - 1.0
    for sample in numba.prange(samples):
        current, potential = np.zeros(neurons), np.zeros(neurons)
        for step in range(steps):
            # Constant sums, and potentials that are not needed again, have the memory of one step.
            arriving, level = sums[step % len(sums), sample], charged[step % len(charged), sample]
            fired = spikes[step, sample]
            for n in range(neurons):
                u = np.trunc(current[n] * keep_u * (1 / 4096)) + POTENTIAL_ONE * arriving[n]
                if u > HALF_RANGE:
                    u -= 2 * HALF_RANGE
                elif u <= -HALF_RANGE:
                    u += 2 * HALF_RANGE
                v = np.trunc(potential[n] * keep_v * (1 / 4096)) + u + bias[n]
                v = min(max(v, -top), top)
                o = 1.0 if v > threshold[n] else 0.0
                current[n] = u
                potential[n] = v - o * (reset_by[n] if reset_by[n] >= 0 else v)
                level[n], fired[n] = v * unit[n], o
