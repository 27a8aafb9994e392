"""Discretise NIR neuron nodes by forward Euler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from esl_neuro.nirgraph.linear_maps import Floats
from esl_neuro.nirgraph.linear_nodes import Shape, Unsupported, floats, spread
from esl_neuro.resets import SUBTRACT_NEXT_STEP, ZERO, Reset


@dataclass(frozen=True)
class NeuronNode:
    """A neuron node after forward Euler.

    ``u[t] = (1-du) u[t-1] + gain x[t]``; ``v[t] = (1-dv) v[t-1] + dv leak + u[t]``; spike when ``v > threshold``, then
    ``v = reset`` or, in a reset by subtraction, ``v = v - reset_by``. It starts at ``u = 0`` and ``v = reset``, which
    NIR leaves open.

    Attributes
    ----------
    du, dv, gain, leak, threshold, reset : float64 array, shape (neurons,)
        An infinite threshold means that the node does not fire and emits ``v``.
    reset_by : float64 array, shape (neurons,), or None
        What a spike subtracts from ``v``; see :mod:`~esl_neuro.resets`. None for a reset to ``reset``.
    """

    du: Floats
    dv: Floats
    gain: Floats
    leak: Floats
    threshold: Floats
    reset: Floats
    reset_by: Floats | None = None

    @property
    def fires(self) -> bool:
        """False for a node that emits its potential."""
        return bool(np.isfinite(self.threshold).all())


def neuron_node(node: Any, shape: Shape, dt_s: float, reset: Reset = ZERO) -> NeuronNode:
    """Read a neuron node whose input has a shape, and whose metadata note a reset.

    Raises
    ------
    Unsupported
        With every reason at once, if parameters are missing or contradict each other.
    """
    values, reasons = _parameters(node, shape)
    reasons += [
        ("malformed", f"{name} is {values[name].min():g} s; it must be positive")
        for name in TIME_CONSTANTS
        if name in values and np.any(values[name] <= 0)
    ]
    if reasons:
        raise Unsupported(*reasons[0], *reasons[1:])
    neurons = NEURONS[type(node)].read(values, dt_s)
    return neurons if reset == ZERO or not neurons.fires else _subtracting(neurons, reset)


def _subtracting(neurons: NeuronNode, reset: Reset) -> NeuronNode:
    """Make every spike subtract the threshold: at once, or after the leak of the next step.

    ``(1 - dv) v - threshold`` in the next step is ``v - threshold / (1 - dv)`` at once.
    """
    if np.any(neurons.reset != 0):
        raise Unsupported(
            "reset",
            f"resets by subtraction according to its metadata, but has a v_reset of {neurons.reset.max():g}; "
            "subtract v_reset from v_leak and v_threshold, and set it to 0",
        )
    if reset != SUBTRACT_NEXT_STEP:
        return replace(neurons, reset_by=neurons.threshold)
    if np.any(neurons.dv >= 1):
        raise Unsupported(
            "reset",
            "subtracts its threshold in the step after a spike, in which nothing remains of the potential (a time "
            "constant of one time step); use the reset 'zero' or a longer time constant",
        )
    return replace(neurons, reset_by=neurons.threshold / (1 - neurons.dv))


SINGLE_PRECISION = 2**-22  # relative error of a ratio of two numbers in single precision, and a margin of 2
TIME_CONSTANTS = ("tau", "tau_syn", "tau_mem")
Reason = tuple[str, str]


@dataclass(frozen=True)
class NeuronRule:
    """How a kind of node becomes neurons.

    Attributes
    ----------
    parameters : tuple of str
        Parameters of the node, one value per neuron; a missing ``v_reset`` is 0.
    read : callable
        ``(values, dt_s) -> NeuronNode``, with the values as float64 arrays of shape (neurons,), by name.
    """

    parameters: tuple[str, ...]
    read: Callable[[dict[str, Floats], float], NeuronNode]


def _parameters(node: Any, shape: Shape) -> tuple[dict[str, Floats], list[Reason]]:
    values: dict[str, Floats] = {}
    reasons: list[Reason] = []
    for name in NEURONS[type(node)].parameters:
        if name == "v_reset" and getattr(node, name, None) is None:
            continue
        try:
            values[name] = spread(floats(node, name), shape, name)
        except Unsupported as unsupported:
            reasons += unsupported.reasons
    return values, reasons


def _threshold(values: dict[str, Floats], _dt_s: float) -> NeuronNode:
    one = np.ones_like(values["threshold"])
    return NeuronNode(one, one, one, 0 * one, values["threshold"], 0 * one)


def _integrate(values: dict[str, Floats], dt_s: float) -> NeuronNode:
    gain = dt_s * values["r"]
    return NeuronNode(np.ones_like(gain), 0 * gain, gain, 0 * gain, *_firing(values))


def _leaky(values: dict[str, Floats], dt_s: float) -> NeuronNode:
    dv = _decay(values["tau"], dt_s)
    return NeuronNode(np.ones_like(dv), dv, dv * values["r"], values["v_leak"], *_firing(values))


def _current_based(values: dict[str, Floats], dt_s: float) -> NeuronNode:
    du, dv = _decay(values["tau_syn"], dt_s), _decay(values["tau_mem"], dt_s)
    gain = du * values["w_in"] * dv * values["r"]
    return NeuronNode(du, dv, gain, values["v_leak"], *_firing(values))


def one_step(tau_s: Floats, dt_s: float) -> NDArray[np.bool_]:
    """Tell which time constants are one time step, up to single precision.

    Files hold time constants in single precision, often of neurons without memory, and ``float32(1e-4)`` is below 1e-4.
    """
    return np.asarray(np.abs(dt_s / tau_s - 1) < SINGLE_PRECISION)


def _decay(tau_s: Floats, dt_s: float) -> Floats:
    return np.where(one_step(tau_s, dt_s), 1.0, dt_s / tau_s)


def _firing(values: dict[str, Floats]) -> tuple[Floats, Floats]:
    """Return threshold and reset potential."""
    zero = np.zeros_like(values["r"])
    return values.get("v_threshold", zero + np.inf), values.get("v_reset", zero)


NEURONS: dict[type, NeuronRule] = {
    nir.Threshold: NeuronRule(("threshold",), _threshold),
    nir.I: NeuronRule(("r",), _integrate),
    nir.IF: NeuronRule(("r", "v_threshold", "v_reset"), _integrate),
    nir.LI: NeuronRule(("tau", "r", "v_leak"), _leaky),
    nir.LIF: NeuronRule(("tau", "r", "v_leak", "v_threshold", "v_reset"), _leaky),
    nir.CubaLI: NeuronRule(("tau_syn", "tau_mem", "r", "v_leak", "w_in"), _current_based),
    nir.CubaLIF: NeuronRule(("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset", "w_in"), _current_based),
}
"""Rules by node type; add an entry for another type."""
