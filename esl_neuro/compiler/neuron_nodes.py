"""NIR neuron nodes in discrete time, by forward Euler and a change of variable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np

from esl_neuro.compiler.linear_nodes import Shape, Unsupported, floats, spread
from esl_neuro.compiler.network import Floats


@dataclass(frozen=True)
class NeuronNode:
    """A neuron node after forward Euler: ``u[t] = (1-du) u[t-1] + gain x[t]``, ``v[t] = (1-dv) v[t-1] + u[t] + drive``.

    ``v`` is the potential above ``v_reset``, so that a reset makes it 0, as on the chip; it starts there.

    Attributes
    ----------
    du, dv, gain, drive, threshold : float64 array, shape (neurons,)
        A threshold of infinity: the node does not fire.
    """

    du: Floats
    dv: Floats
    gain: Floats
    drive: Floats
    threshold: Floats


def neuron_node(node: Any, shape: Shape, dt_s: float) -> NeuronNode:
    """Read a neuron node whose input has a shape.

    Raises
    ------
    Unsupported
        With every reason at once, if parameters are missing, contradict each other, or have no integer form.
    """
    values, reasons = _parameters(node, shape)
    if not reasons:
        reasons = [*_time_constants(values, dt_s), *_threshold_reasons(values)]
    if _resets_softly(node):
        reasons.append(("soft-reset", "resets by subtraction, as its metadata say; the chip resets to v_reset"))
    if reasons:
        raise Unsupported(*reasons[0], *reasons[1:])
    return NEURONS[type(node)](values, values.get("v_reset", np.zeros(1)), dt_s)


Reason = tuple[str, str]

_PARAMETERS: dict[type, tuple[str, ...]] = {
    nir.I: ("r",),
    nir.IF: ("r", "v_threshold", "v_reset"),
    nir.LI: ("tau", "r", "v_leak"),
    nir.LIF: ("tau", "r", "v_leak", "v_threshold", "v_reset"),
    nir.CubaLI: ("tau_syn", "tau_mem", "r", "v_leak", "w_in"),
    nir.CubaLIF: ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset", "w_in"),
    nir.Threshold: ("threshold",),
}


def _parameters(node: Any, shape: Shape) -> tuple[dict[str, Floats], list[Reason]]:
    values: dict[str, Floats] = {}
    reasons: list[Reason] = []
    for name in _PARAMETERS[type(node)]:
        if name == "v_reset" and getattr(node, name, None) is None:
            continue
        try:
            values[name] = spread(floats(node, name), shape, name)
        except Unsupported as unsupported:
            reasons += unsupported.reasons
    return values, reasons


def _time_constants(values: dict[str, Floats], dt_s: float) -> list[Reason]:
    return [
        (
            "time-constant",
            f"{name} has {values[name].min():g} s, less than the time step {dt_s:g} s; take a shorter time step",
        )
        for name in ("tau", "tau_syn", "tau_mem")
        if name in values and np.any(values[name] < dt_s * (1 - 1e-9))
    ]


def _threshold_reasons(values: dict[str, Floats]) -> list[Reason]:
    reset = values.get("v_reset", np.zeros(1))
    above = " above v_reset" if np.any(reset != 0) else ""
    return [
        ("threshold", f"{name} has {(values[name] - reset).min():g}{above}; every threshold must be positive{above}")
        for name in ("v_threshold", "threshold")
        if name in values and np.any(values[name] <= reset)
    ]


def _resets_softly(node: Any) -> bool:
    """Tell whether a writer left a note that the neuron subtracts its threshold, which NIR itself cannot say."""
    metadata = node.metadata if isinstance(getattr(node, "metadata", None), dict) else {}
    notes = [value for key, value in metadata.items() if "reset" in str(key).lower()]
    texts = [note.decode(errors="replace") if isinstance(note, bytes) else str(note) for note in notes]
    return any(text.lower() in ("subtract", "soft", "subtraction", "soft_reset") for text in texts)


def _threshold(values: dict[str, Floats], _reset: Floats, _dt_s: float) -> NeuronNode:
    one = np.ones_like(values["threshold"])
    return NeuronNode(one, one, one, 0 * one, values["threshold"])


def _integrate(values: dict[str, Floats], reset: Floats, dt_s: float) -> NeuronNode:
    gain = dt_s * values["r"]
    return NeuronNode(np.ones_like(gain), 0 * gain, gain, 0 * gain, _above(values, reset))


def _leaky(values: dict[str, Floats], reset: Floats, dt_s: float) -> NeuronNode:
    dv = _decay(values["tau"], dt_s)
    return NeuronNode(np.ones_like(dv), dv, dv * values["r"], dv * (values["v_leak"] - reset), _above(values, reset))


def _current_based(values: dict[str, Floats], reset: Floats, dt_s: float) -> NeuronNode:
    du, dv = _decay(values["tau_syn"], dt_s), _decay(values["tau_mem"], dt_s)
    gain = du * values["w_in"] * dv * values["r"]
    return NeuronNode(du, dv, gain, dv * (values["v_leak"] - reset), _above(values, reset))


def _decay(tau_s: Floats, dt_s: float) -> Floats:
    decay = dt_s / tau_s
    return np.where(decay > 1 - 1e-9, 1.0, decay)  # a time constant of one step, but for rounding


def _above(values: dict[str, Floats], reset: Floats) -> Floats:
    return values["v_threshold"] - reset if "v_threshold" in values else np.full_like(values["r"], np.inf)


NEURONS: dict[type, Callable[[dict[str, Floats], Floats, float], NeuronNode]] = {
    nir.Threshold: _threshold,
    nir.I: _integrate,
    nir.IF: _integrate,
    nir.LI: _leaky,
    nir.LIF: _leaky,
    nir.CubaLI: _current_based,
    nir.CubaLIF: _current_based,
}
