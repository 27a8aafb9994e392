"""The equations of the neurons, as pure functions of tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from esl_neuro.registry import Registry
from esl_neuro.resets import SUBTRACT_NEXT_STEP, ZERO, Reset
from esl_neuro.snn import kernels
from esl_neuro.spike_bits import keep_bits

Surrogate = Callable[[Tensor, float], Tensor]
Activation = Callable[[Tensor], Tensor]

SURROGATES: Registry[Surrogate] = Registry("surrogate")
ACTIVATIONS: Registry[Activation] = Registry("activation")


@SURROGATES.register
def triangle(distance: Tensor, width: float) -> Tensor:
    """Slope ``max(0, width - |x|) / width**2`` at ``x = potential - threshold`` (TET, Deng et al., ICLR 2022)."""
    slope = distance.abs().neg_().add_(width).relu_()
    return slope if width == 1 else slope.div_(width**2)


@SURROGATES.register
def arctan(distance: Tensor, width: float) -> Tensor:
    """Slope ``1 / (1 + (pi x / width)**2)`` at ``x = potential - threshold`` (STL-SNN: alpha = 2 is width 1)."""
    return (distance * (math.pi / width)).square_().add_(1).reciprocal_()


@SURROGATES.register
def rectangle(distance: Tensor, width: float) -> Tensor:
    """Slope ``1 / (2 width)`` where ``|potential - threshold| < width`` (LIAF-Net's programs: width 0.5)."""
    return (distance.abs() < width).to(distance.dtype).div_(2 * width)


@ACTIVATIONS.register
def selu(potential: Tensor) -> Tensor:
    """Scaled exponential linear unit, the default of LIAF-Net's first programs; negative below zero."""
    return torch.nn.functional.selu(potential)


@ACTIVATIONS.register
def relu(potential: Tensor) -> Tensor:
    """``max(0, potential)``, the default of LIAF-Net's later programs."""
    return torch.relu(potential)


# Surrogates that the compiled kernels support.
FUSED = {triangle: kernels.TRIANGLE, arctan: kernels.ARCTAN}


def lif_step(potential: Tensor, current: Tensor, tau: float, threshold: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One step of the iterative LIF neuron with hard reset (ESL-SNNs eqs. 7-9).

    ::

        u[t] = tau * v[t-1] + I[t]              (7)
        o[t] = 1 if u[t] > threshold else 0     (8)
        v[t] = u[t] * (1 - o[t])                (9)

    Parameters
    ----------
    potential : Tensor, shape (batch, neurons)
        ``v[t-1]``.
    current : Tensor, shape (batch, neurons)
        ``I[t]``.
    tau : float
        Membrane decay factor in [0, 1].
    threshold : Tensor, shape (neurons,)
        Positive thresholds.

    Returns
    -------
    spikes, charged, potential : Tensor, shape (batch, neurons)
        ``o[t]``, ``u[t]`` and ``v[t]``.
    """
    charged = torch.add(current, potential, alpha=tau)
    spikes = (charged > threshold).to(charged.dtype)
    return spikes, charged, charged * (1 - spikes)


def subtracted(threshold: Tensor, tau: float | Tensor, reset: Reset) -> Tensor | None:
    """Return what a spike subtracts from the potential, None for a reset to zero.

    ``tau v - threshold`` in the next step is ``v - threshold / tau`` at once.
    """
    if reset == ZERO:
        return None
    return threshold / tau if reset == SUBTRACT_NEXT_STEP else threshold


def lif(
    currents: Tensor,
    tau: float | Tensor,
    threshold: Tensor,
    surrogate: Surrogate,
    width: float,
    reset: Reset = ZERO,
) -> Tensor:
    """Run :func:`lif_step` over time from rest, differentiable through a surrogate slope.

    With ``h = surrogate(u - threshold, width)`` as the derivative of the step, the errors propagate backwards in time
    (STL-SNN), including the gradient of the reset::

        e_o[t] = dL/do[t] - u[t] e_v[t]
        e_u[t] = h[t] e_o[t] + (1 - o[t]) e_v[t]
        e_v[t-1] = tau e_u[t];   dL/dI[t] = e_u[t];   dL/dthreshold = - sum_t h[t] e_o[t]

    A reset by subtraction has ``v[t] = u[t] - o[t] c`` with ``c`` from :func:`subtracted`, so ``e_o[t] = dL/do[t] - c
    e_v[t]``, ``e_u[t] = h[t] e_o[t] + e_v[t]``, and ``c`` receives ``- sum_t o[t] e_v[t]``.

    Parameters
    ----------
    currents : Tensor, shape (steps, batch, ...)
        ``I``.
    tau : float or Tensor
        Membrane decay factor in [0, 1]; a tensor that broadcasts with a step if neurons differ.
    threshold : Tensor
        Positive thresholds; the shape broadcasts with that of a step.
    surrogate : callable
        Slope of the step, one of :data:`SURROGATES`.
    width : float
        Width of the surrogate, in units of potential.
    reset : {"zero", "subtract", "subtract_next_step"}
        What a spike does to the potential, see :mod:`esl_neuro.resets`.

    Returns
    -------
    Tensor, shape (steps, batch, ...)
        Spikes, 0 or 1.
    """
    if isinstance(tau, Tensor) or reset != ZERO:
        return recurrent_lif(currents, tau, 0.0, threshold, surrogate, width, reset=reset)
    if surrogate in FUSED and kernels.fits(currents):
        spikes: Tensor
        spikes, bits = kernels.FusedLIF.apply(  # type: ignore[no-untyped-call]
            currents, tau, threshold, FUSED[surrogate], width
        )
        if bits is not None:
            keep_bits(spikes, bits)
    else:
        spikes = _LIF.apply(currents, tau, threshold, surrogate, width)  # type: ignore[no-untyped-call]
    return spikes


def recurrent_lif(
    currents: Tensor,
    tau: float | Tensor,
    tau_syn: float | Tensor,
    threshold: Tensor,
    surrogate: Surrogate,
    width: float,
    feedback: Callable[[Tensor], Tensor] | None = None,
    reset: Reset = ZERO,
) -> Tensor:
    """Run recurrent LIF neurons, which receive their own spikes of the previous step.

    ::

        i[t] = tau_syn i[t-1] + I[t] + feedback(o[t-1])
        u[t] = tau v[t-1] + i[t];   o[t] = 1 if u[t] > threshold else 0
        v[t] = u[t] (1 - o[t]);   in a reset by subtraction, v[t] = u[t] - o[t] c with c from subtracted()

    The gradient is that of :func:`lif`, including the gradient through the feedback.

    Parameters
    ----------
    currents : Tensor, shape (steps, batch, ...)
        ``I``.
    tau, tau_syn : float or Tensor
        Decay factors of membrane and synaptic current, in [0, 1]; tensors broadcast with a step.
    threshold : Tensor
        Positive thresholds; the shape broadcasts with that of a step.
    surrogate : callable
        Slope of the step, one of :data:`SURROGATES`.
    width : float
        Width of the surrogate, in units of potential.
    feedback : callable, optional
        Maps spikes of shape (batch, ...) to currents of the same shape.
    reset : {"zero", "subtract", "subtract_next_step"}
        What a spike does to the potential.

    Returns
    -------
    Tensor, shape (steps, batch, ...)
        Spikes, 0 or 1.
    """
    spikes = []
    synaptic, potential = torch.zeros_like(currents[0]), torch.zeros_like(currents[0])
    fired = torch.zeros_like(currents[0])
    reset_by = subtracted(threshold, tau, reset)
    for arriving in currents.unbind(0):
        arriving = arriving if feedback is None else arriving + feedback(fired)
        synaptic = tau_syn * synaptic + arriving
        charged = tau * potential + synaptic
        fired = _Spike.apply(charged, threshold, surrogate, width)  # type: ignore[no-untyped-call]
        potential = charged * (1 - fired) if reset_by is None else charged - fired * reset_by
        spikes.append(fired)
    return torch.stack(spikes)


def liaf_step(
    potential: Tensor,
    current: Tensor,
    tau: float | Tensor,
    threshold: Tensor,
    activation: Activation,
    surrogate: Surrogate,
    width: float,
) -> tuple[Tensor, Tensor]:
    """One step of the leaky integrate and analog fire neuron (LIAF-Net, Wu et al., TNNLS 2021, arXiv 2011.06176).

    The membrane is that of :func:`lif_step`. Its spike resets it and stays inside; what leaves is analog::

        u[t] = tau * v[t-1] + I[t]
        f[t] = 1 if u[t] > threshold else 0
        o[t] = activation(u[t])
        v[t] = u[t] * (1 - f[t])

    It is differentiable through ``o``, and through the reset by the surrogate slope of ``f``.

    Parameters
    ----------
    potential : Tensor, shape (batch, ...)
        ``v[t-1]``.
    current : Tensor, shape (batch, ...)
        ``I[t]``.
    tau : float or Tensor
        Membrane decay factor in [0, 1].
    threshold : Tensor
        Positive thresholds; the shape broadcasts with a step.
    activation : callable
        One of :data:`ACTIVATIONS`.
    surrogate, width
        As in :func:`lif`.

    Returns
    -------
    outputs, potential : Tensor, shape (batch, ...)
        ``o[t]`` and ``v[t]``.
    """
    charged = tau * potential + current
    fired = _Spike.apply(charged, threshold, surrogate, width)  # type: ignore[no-untyped-call]
    return activation(charged), charged * (1 - fired)


def liaf(
    currents: Tensor,
    tau: float | Tensor,
    threshold: Tensor,
    activation: Activation,
    surrogate: Surrogate,
    width: float,
) -> Tensor:
    """Run :func:`liaf_step` over time from rest; currents and outputs have the shape (steps, batch, ...)."""
    outputs, potential = [], torch.zeros_like(currents[0])
    for current in currents.unbind(0):
        output, potential = liaf_step(potential, current, tau, threshold, activation, surrogate, width)
        outputs.append(output)
    return torch.stack(outputs)


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, charged: Tensor, threshold: Tensor, surrogate: Surrogate, width: float) -> Tensor:
        ctx.save_for_backward(charged, threshold)
        ctx.surrogate, ctx.width = surrogate, width
        return (charged > threshold).to(charged.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        charged, threshold = ctx.saved_tensors
        error = ctx.surrogate(charged - threshold, ctx.width) * grads[0]
        return error, -error.sum_to_size(threshold.shape) if ctx.needs_input_grad[1] else None, None, None


class _LIF(torch.autograd.Function):
    # For devices, precisions and surrogates that the compiled kernels do not support. Memory traffic dominates the
    # cost, so lif_step is inlined here and writes to existing memory.

    @staticmethod
    def forward(
        ctx: Any, currents: Tensor, tau: float, threshold: Tensor, surrogate: Surrogate, width: float
    ) -> Tensor:
        spikes, potential = torch.empty_like(currents), torch.zeros_like(currents[0])
        # Only a backward pass reads charged potentials; without one, all steps share the memory of one step.
        charged = torch.empty_like(currents) if any(ctx.needs_input_grad) else potential.expand_as(currents)
        for current, fired, level in zip(currents, spikes, charged, strict=True):
            torch.add(current, potential, alpha=tau, out=level)
            torch.gt(level, threshold, out=fired)
            torch.addcmul(level, level, fired, value=-1, out=potential)
        ctx.save_for_backward(charged, threshold)
        ctx.tau, ctx.surrogate, ctx.width = tau, surrogate, width
        return spikes

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, Tensor | None, None, None]:
        charged, threshold = ctx.saved_tensors
        error_u, error_threshold = _errors(charged, threshold, grads[0], ctx.tau, ctx.surrogate, ctx.width)
        return error_u, None, error_threshold if ctx.needs_input_grad[2] else None, None, None


def lif_errors(
    charged: Tensor,
    threshold: Tensor,
    error_o: Tensor,
    tau: float,
    surrogate: Surrogate,
    width: float,
    reset: Reset = ZERO,
) -> tuple[Tensor, Tensor]:
    """Propagate the errors of :func:`lif` backwards in time.

    Parameters
    ----------
    charged : Tensor, shape (steps, batch, ...)
        ``u``, the potentials before the reset.
    threshold, tau, surrogate, width, reset
        As in :func:`lif`.
    error_o : Tensor, shape (steps, batch, ...)
        ``dL/do``.

    Returns
    -------
    error_u : Tensor, shape (steps, batch, ...)
        ``e_u``.
    error_threshold : Tensor, shape of the threshold
        ``dL/dthreshold``.
    """
    if reset != ZERO:
        return _subtracting_errors(charged, threshold, error_o, tau, surrogate, width, reset)
    if surrogate in FUSED and kernels.fits(charged):
        return kernels.lif_errors(charged, threshold, error_o, tau, FUSED[surrogate], width)
    return _errors(charged, threshold, error_o, tau, surrogate, width)


def _errors(
    charged: Tensor, threshold: Tensor, error_o: Tensor, tau: float, surrogate: Surrogate, width: float
) -> tuple[Tensor, Tensor]:
    error_u = torch.empty_like(charged)
    error_threshold, later = torch.zeros_like(charged[0]), torch.zeros_like(charged[0])
    scratch, through_spike = torch.empty_like(later), torch.empty_like(later)
    for step in range(len(charged) - 1, -1, -1):
        slope = surrogate(torch.sub(charged[step], threshold, out=scratch), width)
        torch.addcmul(error_o[step], charged[step], later, value=-tau, out=through_spike).mul_(slope)
        kept = torch.le(charged[step], threshold, out=scratch)
        later = torch.addcmul(through_spike, kept, later, value=tau, out=error_u[step])
        error_threshold -= through_spike
    return error_u, error_threshold.sum(0).sum_to_size(threshold.shape)


def _subtracting_errors(
    charged: Tensor, threshold: Tensor, error_o: Tensor, tau: float, surrogate: Surrogate, width: float, reset: Reset
) -> tuple[Tensor, Tensor]:
    per_threshold = 1 / tau if reset == SUBTRACT_NEXT_STEP else 1.0
    error_u = torch.empty_like(charged)
    error_threshold, error_v = torch.zeros_like(charged[0]), torch.zeros_like(charged[0])
    for step in range(len(charged) - 1, -1, -1):
        fired = (charged[step] > threshold).to(charged.dtype)
        through_spike = surrogate(charged[step] - threshold, width) * (
            error_o[step] - per_threshold * threshold * error_v
        )
        error_u[step] = through_spike + error_v
        error_threshold -= through_spike + per_threshold * fired * error_v
        error_v = tau * error_u[step]
    return error_u, error_threshold.sum(0).sum_to_size(threshold.shape)
