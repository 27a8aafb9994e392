"""Compare the spikes of a reader with those of the reference: differences, first divergence and likely cause."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from esl_neuro.nirgraph.order import loops
from esl_neuro.nirgraph.reset_notes import KEY
from esl_neuro.nirgraph.simulation import Simulation

OUTPUTS = "outputs"
CURRENT_TOLERANCE = 1e-3
"""Tolerance for outputs that do not fire, relative to their largest magnitude."""


@dataclass(frozen=True)
class ReaderDivergence:
    """The first entry in which two runs differ.

    Attributes
    ----------
    layer : str
        Node.
    step, sample, neuron : int
        Location; the neuron is a flat index into the layer's shape. -1 if a whole layer is missing.
    expected, found : float
        Spike or output of the reference and of the reader.
    potential, threshold : float
        Potential of the reference before the reset, and its threshold; NaN if there is none.
    reader_potential : float
        Potential of the reader after its reset; NaN if it does not report one.
    cause : str
        Likely cause, in words.
    """

    layer: str
    step: int
    sample: int
    neuron: int
    expected: float
    found: float
    potential: float
    threshold: float
    reader_potential: float
    cause: str


@dataclass(frozen=True)
class SpikeComparison:
    """Comparison of all entries of all layers.

    Attributes
    ----------
    compared, spikes, differing : int
        Numbers of entries, of reference spikes among them, and of entries that differ.
    latency_steps : dict of str to int
        Latency of each layer in the reader, in steps.
    divergence : ReaderDivergence or None
        The earliest difference, in the layer closest to the input.
    """

    compared: int
    spikes: int
    differing: int
    latency_steps: dict[str, int]
    divergence: ReaderDivergence | None


def compare(
    graph: nir.NIRGraph,
    fires: list[str],
    reference: Simulation,
    arrays: Mapping[str, NDArray[Any]],
) -> SpikeComparison:
    """Compare a reader's run with the reference; it may be longer by the allowed latency.

    Parameters
    ----------
    graph : nir.NIRGraph
        The graph that was run, flat.
    fires : list of str
        Nodes that fire, in order of execution.
    reference : Simulation
        The expected signals.
    arrays : mapping of str to array, shape (samples, steps, ...)
        ``spikes/<node>``, ``potentials/<node>`` and ``outputs`` from the reader.
    """
    compared = spikes = differing = 0
    latency: dict[str, int] = {}
    found: list[ReaderDivergence] = []
    for layer in fires:
        expected = reference.spikes[layer]
        compared, spikes = compared + expected.size, spikes + int(expected.sum())
        fired = arrays.get(f"spikes/{layer}")
        if fired is None or _rows(fired).shape[2] != _rows(expected).shape[2]:
            differing += int(expected.sum())
            found.append(
                _missing(
                    layer, "the reader dropped this node" if fired is None else "the reader's spikes have another shape"
                )
            )
            continue
        fired = fired.reshape(*fired.shape[:2], *expected.shape[2:])
        latency[layer], wrong = _align(expected != 0, fired != 0)
        if wrong.any():
            differing += int(wrong.sum())
            found.append(_first(graph, layer, reference, arrays, fired, wrong, latency[layer]))
    if not np.isin(reference.outputs, (0, 1)).all():
        currents = _currents(reference, arrays[OUTPUTS])
        if currents is not None:
            differing += 1
            found.append(currents)
    earliest = min(found, key=lambda divergence: divergence.step, default=None)  # ties go to the first layer
    return SpikeComparison(compared, spikes, differing, latency, earliest)


def _align(expected: NDArray[np.bool_], fired: NDArray[np.bool_]) -> tuple[int, NDArray[np.bool_]]:
    """Return the latency at which the fewest entries differ, and where they differ."""
    steps = expected.shape[1]
    best = (0, expected != fired[:, :steps])
    for late in range(1, fired.shape[1] - steps + 1):
        wrong = expected != fired[:, late : late + steps]
        if wrong.sum() < best[1].sum():
            best = (late, wrong)
    return best


def _first(
    graph: nir.NIRGraph,
    layer: str,
    reference: Simulation,
    arrays: Mapping[str, NDArray[Any]],
    fired: NDArray[Any],
    wrong: NDArray[np.bool_],
    late: int,
) -> ReaderDivergence:
    place = sample, step, neuron = _earliest(wrong)
    node: Any = graph.nodes[layer]
    limits = np.asarray(getattr(node, "v_threshold", getattr(node, "threshold", np.nan)), dtype=np.float64)
    threshold = float(np.broadcast_to(limits, wrong.shape[2:]).reshape(-1)[neuron])
    levels = _rows(reference.potentials[layer])
    told = arrays.get(f"potentials/{layer}")
    theirs = None if told is None or told.size != fired.size else _rows(told.reshape(fired.shape))[:, late:]
    return ReaderDivergence(
        layer=layer,
        step=step,
        sample=sample,
        neuron=neuron,
        expected=float(_rows(reference.spikes[layer])[place]),
        found=float(_rows(fired)[sample, step + late, neuron]),
        potential=float(levels[place]),
        threshold=threshold,
        reader_potential=float("nan") if theirs is None else float(theirs[place]),
        cause=_cause(
            graph, layer, place, levels, _rows(reference.spikes[layer]), _rows(fired)[:, late:], theirs, threshold
        ),
    )


def _cause(
    graph: nir.NIRGraph,
    layer: str,
    place: tuple[int, int, int],
    levels: NDArray[Any],
    expected: NDArray[Any],
    fired: NDArray[Any],
    theirs: NDArray[Any] | None,
    threshold: float,
) -> str:
    """Guess why a neuron differs, from the most to the least certain evidence."""
    node: Any = graph.nodes[layer]
    sample, step, neuron = place
    distance = abs(levels[place] - threshold)
    size = max(abs(threshold), 1e-30)
    if distance <= 1e-9 * size:
        return "tie: the potential equals the threshold, and the reader fires at >= (export with tie_safe)"
    if distance <= 1e-5 * size:
        return "rounding: the potential is within single precision of the threshold"
    r = np.asarray(getattr(node, "r", 1.0))
    if not fired[:, : expected.shape[1]].any() and np.any(r != 1):
        return f"silent: the reader seems to ignore r (up to {r.max():g})"
    before = np.flatnonzero(expected[sample, :step, neuron])
    reset = getattr(node, "v_reset", None)
    resets = reset is not None and np.any(reset != 0)
    if not len(before) and resets:
        return "initial state: the reference starts at v_reset, which NIR leaves open"
    if len(before):
        if "subtract" in node.metadata.get(KEY, "") and levels[sample, before, neuron].max() > 2 * threshold:
            return "reset: the potential was still above the threshold after the subtraction, where readers differ"
        if theirs is not None and abs(theirs[sample, before[-1], neuron]) > 1e-6 * size:
            return "reset: after a spike the reader's potential is not v_reset"
        if resets:
            return "reset: the reader seems to ignore v_reset"
    if np.any(np.asarray(getattr(node, "v_leak", 0.0)) != 0):
        return "v_leak: the reader may ignore it"
    if np.unique(np.asarray(getattr(node, "v_threshold", 0.0))).size > 1:
        return "thresholds: they differ between neurons, which the reader may ignore (export them folded)"
    if _has_bias_in_its_loop(graph, layer):
        return "bias in a loop: constant in the reference, in the reader present only after the first pass of the loop"
    if sum(target == layer for _, target in graph.edges) > 1:
        return "several inputs: the reader may run this node before all its inputs, with those of the previous step"
    return "unknown: its input or its integration differs before this step"


def _has_bias_in_its_loop(graph: nir.NIRGraph, layer: str) -> bool:
    looping = (loop for loop in loops(graph.nodes, graph.edges) if layer in loop)
    return any(np.any(np.asarray(getattr(graph.nodes[name], "bias", 0.0)) != 0) for loop in looping for name in loop)


def _missing(layer: str, cause: str) -> ReaderDivergence:
    nan = float("nan")
    return ReaderDivergence(layer, 0, -1, -1, nan, nan, nan, nan, nan, cause)


def _currents(reference: Simulation, outputs: NDArray[Any]) -> ReaderDivergence | None:
    """Compare outputs that do not fire."""
    expected, outputs = _rows(reference.outputs), _rows(outputs)
    steps = expected.shape[1]
    if outputs.shape[2] != expected.shape[2]:
        return _missing(OUTPUTS, "another shape")
    tolerance = CURRENT_TOLERANCE * max(float(np.abs(expected).max()), 1e-30)
    for late in range(outputs.shape[1] - steps + 1):
        wrong = np.abs(outputs[:, late : late + steps] - expected) > tolerance
        if not wrong.any():
            return None
    place = sample, step, neuron = _earliest(np.abs(outputs[:, :steps] - expected) > tolerance)
    one, other, nan = float(expected[place]), float(outputs[place]), float("nan")
    return ReaderDivergence(OUTPUTS, step, sample, neuron, one, other, nan, nan, nan, "the last connection differs")


def _earliest(wrong: NDArray[np.bool_]) -> tuple[int, int, int]:
    """Return (sample, step, neuron) of the first wrong entry: the earliest step, then the first sample."""
    step, sample, neuron = (int(index) for index in np.argwhere(_rows(wrong).swapaxes(0, 1))[0])
    return sample, step, neuron


def _rows(values: NDArray[Any]) -> NDArray[Any]:
    """Return signals as (samples, steps, neurons)."""
    return values.reshape(*values.shape[:2], -1)
