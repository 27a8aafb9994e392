"""Find where two runs diverge, the state of the neuron there, and the likely cause."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esl_neuro.backends.trace import Trace
from esl_neuro.compiler.program import INPUT, Group, Program
from esl_neuro.errors import BadInput
from esl_neuro.hardware.arithmetic import HALF_RANGE

# Largest tested time shift; at most a third of the steps, else a few equal spikes would count as a shift.
MOST_STEPS_LATE = 8


@dataclass(frozen=True)
class NeuronStep:
    """One neuron in one step of one run.

    Attributes
    ----------
    spike : int
        0 or 1.
    u, v : int or None
        Synaptic current and membrane potential after the step, if recorded.
    u_before, v_before : int or None
        The same after the previous step; 0 in the first step.
    arriving : int or None
        Sum of the arriving weights, if the program is known.
    """

    spike: int
    u: int | None
    v: int | None
    u_before: int | None
    v_before: int | None
    arriving: int | None

    @property
    def known(self) -> tuple[int | None, ...]:
        """Values that can be compared with another run."""
        return self.spike, self.u, self.v


@dataclass(frozen=True)
class TraceDivergence:
    """The first divergence of two runs.

    Attributes
    ----------
    quantity : str
        The first quantity that differs there: ``"u"``, ``"v"`` or ``"spike"``.
    layer, sample, step, neuron
        Where.
    first, second : NeuronStep
        The neuron in both runs.
    cause : str
        Likely cause, in words.
    """

    quantity: str
    layer: str
    sample: int
    step: int
    neuron: int
    first: NeuronStep
    second: NeuronStep
    cause: str


def diverge(first: Trace, second: Trace, program: Program | None = None) -> TraceDivergence | None:
    """Find the first step in which two runs of one network on the same input diverge.

    This is the earliest step of the first sample that differs, there the group closest to the input, and the lowest
    neuron. Within a step ``u`` comes before ``v`` and ``v`` before the spike, the order of the arithmetic.

    Parameters
    ----------
    first, second : Trace
        The two runs. ``u`` and ``v`` are compared if both have them.
    program : Program, optional
        The program that both ran; it provides the arriving sums and the thresholds.

    Returns
    -------
    TraceDivergence or None
        None if everything recorded by both is equal.

    Raises
    ------
    BadInput
        If the traces have different inputs, groups or shapes.
    """
    _check_comparable(first, second)
    places: list[tuple[int, int, int, int, int, str, str]] = []
    for depth, name in enumerate(first.spikes):
        for rank, (quantity, one, two) in enumerate(_records(first, second, name)):
            found = np.argwhere(one != two)
            if found.size:
                sample, step, neuron = (int(index) for index in found[0])
                places.append((sample, step, depth, rank, neuron, name, quantity))
    if not places:
        return None
    sample, step, _, _, neuron, name, quantity = min(places)
    states = [_neuron_step(trace, program, name, sample, step, neuron) for trace in (first, second)]
    group = next((group for group in program.groups if group.name == name), None) if program else None
    cause = _cause(quantity, step, neuron, states[0], states[1], group)
    if not cause.startswith("a tie"):
        cause = _shift(first, second, name) or cause
    return TraceDivergence(quantity, name, sample, step, neuron, states[0], states[1], cause)


def _check_comparable(first: Trace, second: Trace) -> None:
    shapes = [{name: fired.shape for name, fired in trace.spikes.items()} for trace in (first, second)]
    if shapes[0] != shapes[1]:
        raise BadInput(f"the runs cannot be compared: groups and shapes are {shapes[0]} and {shapes[1]}")
    if not np.array_equal(first.input_spikes, second.input_spikes):
        raise BadInput("the runs cannot be compared: their inputs differ; run both on the same input")


def _records(first: Trace, second: Trace, name: str) -> list[tuple[str, NDArray[Any], NDArray[Any]]]:
    pairs: list[tuple[str, Mapping[str, NDArray[Any]], Mapping[str, NDArray[Any]]]] = [
        ("u", first.u, second.u),
        ("v", first.v, second.v),
        ("spike", first.spikes, second.spikes),
    ]
    return [(quantity, one[name], two[name]) for quantity, one, two in pairs if name in one and name in two]


def _neuron_step(trace: Trace, program: Program | None, name: str, sample: int, step: int, neuron: int) -> NeuronStep:
    def recorded(records: Mapping[str, NDArray[Any]], at: int) -> int | None:
        if name not in records:
            return None
        return int(records[name][sample, at, neuron]) if at >= 0 else 0

    return NeuronStep(
        spike=int(trace.spikes[name][sample, step, neuron]),
        u=recorded(trace.u, step),
        v=recorded(trace.v, step),
        u_before=recorded(trace.u, step - 1),
        v_before=recorded(trace.v, step - 1),
        arriving=None if program is None else _arriving(trace, program, name, sample, step, neuron),
    )


def _arriving(trace: Trace, program: Program, name: str, sample: int, step: int, neuron: int) -> int:
    """Sum the weights of the spikes that reach a neuron, shifted by the exponent of each connection."""
    total = 0
    for connection in program.incoming(name):
        at = step - connection.delay
        if at < 0:
            continue
        source = trace.input_spikes if connection.source == INPUT else trace.spikes[connection.source]
        sources, weights = connection.row(neuron)
        weighted = int((weights.astype(np.int64) * source[sample, at, sources].astype(np.int64)).sum())
        shift = connection.weight_exp
        total += weighted << shift if shift >= 0 else weighted >> -shift
    return total


def _shift(first: Trace, second: Trace, name: str) -> str | None:
    """Return a cause if one run equals the other some steps later."""
    one, two = first.spikes[name], second.spikes[name]
    if np.array_equal(one, two):
        return None
    if not one.any() or not two.any():
        silent = first.backend if not one.any() else second.backend
        return f"silence: '{name}' does not fire in {silent}; its input, weights or thresholds were lost"
    for late in range(1, min(MOST_STEPS_LATE, one.shape[1] // 3) + 1):
        for early, later, who in ((one, two, second), (two, one, first)):
            if early[:, :-late].any() and np.array_equal(early[:, :-late], later[:, late:]):
                return f"latency: '{name}' is {late} step{'s' * (late > 1)} late in {who.backend} and otherwise equal"
    return None


def _cause(quantity: str, step: int, neuron: int, first: NeuronStep, second: NeuronStep, group: Group | None) -> str:
    """Guess the cause from what is equal and what is not."""
    if first.arriving != second.arriving:
        return "different inputs: an earlier spike of a source differs, or a delayed one was lost or kept"
    if quantity == "u" and first.u is not None and second.u is not None:
        return _cause_of_u(step, first.u, second.u)
    if quantity == "v" and first.v is not None and second.v is not None:
        return _cause_of_v(step, neuron, (first, first.v), (second, second.v), group)
    threshold = int(group.vth[neuron]) << 6 if group is not None else None
    charged = _charge(first, neuron, group)
    if threshold is not None and charged == threshold:
        return f"tie: the potential equals the threshold {threshold}; one run fires at >=, the other at >"
    if charged is not None and threshold is not None:
        return f"different thresholds or comparisons: the potential is {charged}, the threshold {threshold}"
    return "unknown: record u and v in both runs to find out"


def _cause_of_u(step: int, first: int, second: int) -> str:
    if step == 0:
        return "initial state or weights: u differs in the first step (no reset between samples, or other weights)"
    if abs(first - second) == 2 * HALF_RANGE:
        return f"overflow: the synaptic current exceeds +-{HALF_RANGE}; one run wraps it, the other does not"
    if abs(first - second) == 1:
        return "rounding: u differs by 1; one run rounds the decay toward zero, the other down"
    return "different parameters: u differs for equal input spikes; check du, weight exponents and weights"


def _cause_of_v(
    step: int, neuron: int, first: tuple[NeuronStep, int], second: tuple[NeuronStep, int], group: Group | None
) -> str:
    (one, v), (two, other_v) = first, second
    if one.spike != two.spike:
        charged = _charge(one, neuron, group)
        if group is not None and charged == int(group.vth[neuron]) << 6:
            return f"tie: the potential equals the threshold {charged}; one run fires at >=, the other at >"
        return "different thresholds or comparisons: one run fires and resets v, the other does not"
    if one.spike == 1:
        return "reset: both fire, but v is reset to different values; one run resets to 0, the other does not"
    if max(abs(v), abs(other_v)) >= HALF_RANGE - 1:
        return f"overflow: the potential reaches +-{HALF_RANGE - 1}; one run saturates it, the other does not"
    if abs(v - other_v) == 1:
        return "rounding: v differs by 1; one run rounds the decay toward zero, the other down"
    if step == 0:
        return "initial state or bias: v differs in the first step (no reset between samples, or another bias)"
    return "different parameters: v differs for equal u; check dv and biases"


def _charge(state: NeuronStep, neuron: int, group: Group | None) -> int | None:
    """Return the membrane potential before the threshold test, from the previous step."""
    if group is None or state.v_before is None or state.u is None:
        return None
    product = state.v_before * (4096 - int(group.dv[neuron]))
    kept = (abs(product) >> 12) * (1 if product >= 0 else -1)
    bias = int(group.bias_mant[neuron]) << int(group.bias_exp[neuron])
    return max(-(HALF_RANGE - 1), min(HALF_RANGE - 1, kept + state.u + bias))
