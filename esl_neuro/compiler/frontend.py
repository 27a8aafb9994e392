"""Read any NIR graph as groups of neurons with one linear map between each two of them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nir
import numpy as np
import scipy.sparse as sp

from esl_neuro.compiler.findings import WARNING, Finding, errors, refuse_unsupported
from esl_neuro.compiler.kernel import Kernel
from esl_neuro.compiler.linear_maps import Map, add, apply, as_matrix, compose, scale_outputs, split_by_delay
from esl_neuro.compiler.linear_nodes import (
    LARGEST_SIGNAL,
    LINEAR,
    LinearNode,
    Shape,
    Unsupported,
    linear_node,
)
from esl_neuro.compiler.network import FloatConnection, FloatGroup, FloatNetwork, Floats
from esl_neuro.compiler.neuron_nodes import NEURONS, NeuronNode, neuron_node
from esl_neuro.compiler.program import INPUT
from esl_neuro.compiler.structure import Structure, read_structure
from esl_neuro.compiler.timing import TooFast, latencies
from esl_neuro.errors import BadInput
from esl_neuro.time_step import time_step

NO_TIME_STEP = "no-time-step"


def read_graph(path: Path) -> nir.NIRGraph:
    """Read a NIR file. Shapes are not checked: :func:`analyse` infers them itself, and names what contradicts itself.

    Raises
    ------
    BadInput
        If there is no such file, or it is no NIR file.
    """
    if not path.is_file():
        raise BadInput(f"{path}: {'is no file' if path.exists() else 'no such file'}")
    try:
        return _unchecked(path)
    except Exception as error:  # the reader raises whatever HDF5 or a node constructor raises
        raise BadInput(f"{path}: not a readable NIR file: {error}") from error


def _unchecked(path: Path) -> nir.NIRGraph:
    """Read a file without the library's own inference of shapes, which is wrong for kernels that are not square."""
    import h5py

    def leave_unchecked(node: dict[str, Any]) -> None:
        if node.get("type") == "NIRGraph":
            node["type_check"] = False
            for nested in node["nodes"].values():
                leave_unchecked(nested)

    with h5py.File(path, "r") as file:
        document = nir.serialization.hdf2dict(file["node"])
    leave_unchecked(document)
    graph = nir.dict2NIRNode(document)
    if not isinstance(graph, nir.NIRGraph):
        raise ValueError(f"it holds a single {type(graph).__name__} node, not a graph")
    return graph


def read_network(graph: nir.NIRGraph, dt_s: float | None = None) -> FloatNetwork:
    """Turn a NIR graph into groups of neurons in discrete time.

    Parameters
    ----------
    graph : nir.NIRGraph
        The network.
    dt_s : float, optional
        Time step in seconds; without it the graph's own ``dt_s`` is used.

    Raises
    ------
    BadInput
        If there is no time step, or anything that the chip cannot represent; every finding is named.
    """
    network, findings = analyse(graph, dt_s)
    refuse_unsupported(findings)
    assert network is not None  # analyse returns one unless it found an error
    return network


def analyse(graph: nir.NIRGraph, dt_s: float | None = None) -> tuple[FloatNetwork | None, list[Finding]]:
    """Turn a NIR graph into groups, or say all that stands against it. Never raises.

    Every linear stretch between two groups becomes one map. An edge that closes a loop brings what its source gave one
    step before. Before the first step nothing fires: what a linear node gives then is its bias, so biases are constant.

    Returns
    -------
    network : FloatNetwork or None
        None if any finding is an error.
    findings : list of Finding
        Errors and warnings.
    """
    try:
        step, findings = time_step(graph, dt_s), []
    except BadInput as error:
        step, findings = 1.0, [Finding(NO_TIME_STEP, "graph", str(error))]
    structure, found = read_structure(graph, step)
    findings += found
    network = None
    if structure is not None:
        network, found = _read_nodes(structure, step)
        if findings and findings[0].kind == NO_TIME_STEP:  # what was compared with a made-up time step says nothing
            found = [finding for finding in found if finding.kind not in ("time-constant", "delay")]
        findings += found
    if network is None or errors(findings):
        return None, findings
    return replace(network, single_spikes=bool(np.all(graph.metadata.get("single_spikes", False)))), findings


@dataclass
class _Reading:
    """What is known of each node after its shapes were followed from the input."""

    shapes_in: dict[str, Shape] = field(default_factory=dict)
    shapes_out: dict[str, Shape] = field(default_factory=dict)
    linear: dict[str, LinearNode] = field(default_factory=dict)
    neurons: dict[str, NeuronNode] = field(default_factory=dict)


def _read_nodes(structure: Structure, dt_s: float) -> tuple[FloatNetwork | None, list[Finding]]:
    reading, findings = _follow_shapes(structure, dt_s)
    findings += _check_shapes(structure, reading)
    if errors(findings):
        return None, findings
    signals, found = _signals(structure, reading)
    findings += found
    if errors(findings):
        return None, findings
    network, found = _assemble(structure, reading, signals, dt_s)
    return network, findings + found


# --- shapes ---------------------------------------------------------------------------------------------------------


def _follow_shapes(structure: Structure, dt_s: float) -> tuple[_Reading, list[Finding]]:
    """Read every node once the shape of what arrives is known, beginning at the input."""
    reading, findings = _Reading(), []
    try:
        reading.shapes_in[structure.input] = _declared_shape(structure.nodes[structure.input], "input")
    except Unsupported as unsupported:
        return reading, _findings(structure.input, unsupported)
    after: dict[str, list[str]] = {name: [] for name in structure.nodes}
    for source, target in structure.edges:
        after[source].append(target)
    waiting = deque([structure.input])
    while waiting:
        name = waiting.popleft()
        findings += _read_node(structure.nodes[name], name, reading, dt_s)
        if name not in reading.shapes_out:
            continue
        for target in after[name]:
            if target not in reading.shapes_in:
                reading.shapes_in[target] = reading.shapes_out[name]
                waiting.append(target)
    return reading, findings


def _read_node(node: Any, name: str, reading: _Reading, dt_s: float) -> list[Finding]:
    shape = reading.shapes_in[name]
    try:
        if type(node) in NEURONS:
            reading.shapes_out[name] = shape
            reading.neurons[name] = neuron_node(node, shape, dt_s)
            return []
        read = linear_node(node, shape, dt_s)
    except Unsupported as unsupported:
        if type(node) in LINEAR:  # go on behind it, to find what else is wrong
            _assume_declared(node, name, reading)
        return _findings(name, unsupported)
    reading.linear[name], reading.shapes_out[name] = read, read.shape
    return _contradictions(node, name, shape, read.shape)


def _findings(name: str, unsupported: Unsupported) -> list[Finding]:
    return [Finding(kind, f"node '{name}'", message) for kind, message in unsupported.reasons]


def _declared_shape(node: Any, side: str) -> Shape:
    declared = getattr(node, f"{side}_type", None)
    try:
        sizes = np.asarray(declared[side], dtype=np.float64).ravel()  # type: ignore[index]
        shape = tuple(int(size) for size in sizes)
        good = bool(np.all(sizes == np.rint(sizes)))
    except (TypeError, ValueError, KeyError, IndexError, OverflowError):
        shape, good = (), False
    if not good or not shape or min(shape) < 1 or math.prod(shape) > LARGEST_SIGNAL:
        shown = " ".join(repr(declared).split())  # an array has lines
        raise Unsupported("shape-mismatch", f"declares the shape {shown:.80}; one or more whole numbers are needed")
    return shape


def _assume_declared(node: Any, name: str, reading: _Reading) -> None:
    try:
        reading.shapes_out[name] = _declared_shape(node, "output")
    except Unsupported:
        return


def _contradictions(node: Any, name: str, arriving: Shape, leaving: Shape) -> list[Finding]:
    """Compare the shapes that a node declares with those it has; the markers are taken at their word."""
    marker = isinstance(node, (nir.Input, nir.Output))
    findings = []
    for side, shape in (("input", arriving),) if marker else (("output", leaving),):
        try:
            declared = _declared_shape(node, side)
        except Unsupported:
            continue
        if declared != shape and (marker or not isinstance(node, (nir.Linear, nir.Affine))):
            same = math.prod(declared) == math.prod(shape)
            what = f"declares the shape {declared}, but {'gets' if marker else 'gives'} {shape}"
            findings.append(
                Finding("shape-mismatch", f"node '{name}'", what)
                if marker and not same
                else Finding("declared-shape", f"node '{name}'", f"{what}, which is taken", WARNING)
            )
    return findings


def _check_shapes(structure: Structure, reading: _Reading) -> list[Finding]:
    """Compare what nodes give with what their targets take; as many elements in another shape are a warning."""
    findings = []
    for source, target in structure.edges:
        if source not in reading.shapes_out or target not in reading.shapes_in:
            continue
        gives, takes = reading.shapes_out[source], reading.shapes_in[target]
        if gives != takes:
            same = math.prod(gives) == math.prod(takes)
            message = f"has shape {gives}, another signal that '{target}' gets has {takes}"
            findings.append(
                Finding("declared-shape", f"node '{source}'", f"{message}; taken element by element", WARNING)
                if same
                else Finding("shape-mismatch", f"node '{source}'", f"{message}; signals that meet must be alike")
            )
    for name in reading.linear:
        if type(structure.nodes[name]) in (nir.Linear, nir.Affine) and len(reading.shapes_in[name]) > 1:
            message = f"gets shape {reading.shapes_in[name]}, taken element by element"
            findings.append(Finding("declared-shape", f"node '{name}'", message, WARNING))
    return findings


# --- linear stretches -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Signal:
    """What a node gives or gets: a sum of maps of the groups' spikes, each late by its delay, and a constant."""

    size: int
    terms: Mapping[tuple[str, int], Map]
    bias: Floats | None = None


def _signals(structure: Structure, reading: _Reading) -> tuple[dict[str, _Signal], list[Finding]]:
    """Return what each group and the output get."""
    sizes = {name: math.prod(shape) for name, shape in reading.shapes_out.items()}
    given = {name: _Signal(sizes[name], {(name, 0): None}) for name in reading.neurons}
    given[structure.input] = _Signal(sizes[structure.input], {(INPUT, 0): None})
    lines = {INPUT: sizes[structure.input], **sizes}
    before: dict[str, list[str]] = {name: [] for name in structure.nodes}
    for source, target in structure.edges:
        before[target].append(source)

    def arriving(name: str) -> _Signal:
        parts = [_late(given[source], (source, name) in structure.late) for source in before[name]]
        return _sum(parts, math.prod(reading.shapes_in[name]), lines)

    waiting = [name for name in reading.linear if name not in (structure.input, structure.output)]
    while waiting:
        ready = [name for name in waiting if all(source in given for source in before[name])]
        if not ready:
            return {}, [_linear_loop(waiting, before)]
        for name in ready:
            given[name] = _through(reading.linear[name], arriving(name), lines)
        waiting = [name for name in waiting if name not in given]
    return {name: arriving(name) for name in (*reading.neurons, structure.output)}, []


def _linear_loop(waiting: list[str], before: Mapping[str, list[str]]) -> Finding:
    """Name the loop that the first waiting node waits for."""
    path = [waiting[0]]
    while path[-1] not in path[:-1]:
        path.append(next(source for source in before[path[-1]] if source in waiting))
    loop = list(reversed(path[path.index(path[-1]) + 1 :]))
    return Finding(
        "linear-loop",
        f"node '{loop[0]}'",
        f"is part of the loop {' -> '.join(loop)} without a neuron; put a LIF or IF node into it",
    )


def _late(signal: _Signal, late: bool) -> _Signal:
    if not late:
        return signal
    return _Signal(
        signal.size, {(source, delay + 1): part for (source, delay), part in signal.terms.items()}, signal.bias
    )


def _sum(parts: Iterable[_Signal], size: int, lines: Mapping[str, int]) -> _Signal:
    terms: dict[tuple[str, int], Map] = {}
    bias: Floats | None = None
    for part in parts:
        for key, linear in part.terms.items():
            terms[key] = add(terms[key], linear, lines[key[0]]) if key in terms else linear
        if part.bias is not None:
            bias = part.bias if bias is None else bias + part.bias
    return _Signal(size, terms, bias)


def _through(node: LinearNode, signal: _Signal, lines: Mapping[str, int]) -> _Signal:
    size = math.prod(node.shape)
    terms = {key: compose(node.weights, linear, lines[key[0]]) for key, linear in signal.terms.items()}
    bias = None if signal.bias is None else apply(node.weights, signal.bias[:, None])[:, 0]
    if node.bias is not None and np.any(node.bias != 0):
        bias = node.bias if bias is None else bias + node.bias
    if node.delay is None:
        return _Signal(size, terms, bias)
    delayed = [
        _Signal(size, {(source, delay + more): part})
        for (source, delay), linear in terms.items()
        for more, part in split_by_delay(linear, node.delay, lines[source])
    ]
    return _sum([*delayed, _Signal(size, {}, bias)], size, lines)


# --- groups ---------------------------------------------------------------------------------------------------------


def _assemble(
    structure: Structure, reading: _Reading, signals: Mapping[str, _Signal], dt_s: float
) -> tuple[FloatNetwork | None, list[Finding]]:
    lines = {INPUT: math.prod(reading.shapes_out[structure.input])}
    lines |= {name: math.prod(reading.shapes_out[name]) for name in reading.neurons}
    groups: dict[str, FloatGroup] = {}
    connections: list[FloatConnection] = []
    constant = "bias"
    while constant in structure.nodes:
        constant += "_"
    for name, node in reading.neurons.items():
        group, incoming = _group(name, node, signals[name], lines, constant)
        groups[name] = group
        connections += incoming
    output = _output(structure, signals[structure.output], groups)
    if output not in groups:
        signal = signals[structure.output]
        groups[output], incoming = _group(output, _accumulator(signal.size), signal, lines, constant)
        connections += incoming
    if any(connection.source == constant for connection in connections):
        groups = {constant: _always_on(constant), **groups}
        connections.append(FloatConnection(INPUT, constant, sp.csr_matrix((1, lines[INPUT]))))
    findings = [*_check_names(groups), *_check_readouts(groups, connections)]
    findings += _check_loops(groups, connections, dt_s)
    order = _order(groups, connections, output)
    if order is None:
        findings.append(
            Finding(
                "output-order",
                f"node '{output}'",
                "is the output and feeds, within the same step, groups that feed it back; put a Delay of one step "
                "behind it and take one off the way back",
            )
        )
    if errors(findings) or order is None:
        return None, findings
    placed = sorted(connections, key=lambda connection: order.index(connection.target))
    shape = reading.shapes_out[structure.input]
    return FloatNetwork(shape, dt_s, tuple(groups[name] for name in order), tuple(placed)), findings


def _group(
    name: str, node: NeuronNode, signal: _Signal, lines: Mapping[str, int], constant: str
) -> tuple[FloatGroup, list[FloatConnection]]:
    """Fold the gain of the neurons into what they get.

    A constant that enters a synaptic filter builds up over time, as the bias of the chip, which enters the potential,
    does not. It comes exactly from a neuron that fires at every step.
    """
    connections = [
        FloatConnection(source, name, _stored(scale_outputs(linear, node.gain, lines[source]), lines[source]), delay)
        for (source, delay), linear in signal.terms.items()
    ]
    constants = node.gain * (0 if signal.bias is None else signal.bias)
    filtered = np.where(node.du < 1, constants, 0)
    if filtered.any():
        connections.append(FloatConnection(constant, name, _stored(sp.csr_matrix(filtered[:, None]), 1)))
    return FloatGroup(name, node.drive + constants - filtered, node.du, node.dv, node.threshold), connections


def _stored(linear: Map, size: int) -> sp.csr_matrix | Kernel:
    if isinstance(linear, Kernel):
        return linear
    matrix = sp.csr_matrix(as_matrix(linear, size), copy=True)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def _accumulator(size: int) -> NeuronNode:
    one = np.ones(size)
    return NeuronNode(one, 0 * one, one, 0 * one, np.full(size, np.inf))


def _always_on(name: str) -> FloatGroup:
    return FloatGroup(name, bias=np.ones(1), du=np.ones(1), dv=np.ones(1), threshold=np.full(1, 0.5))


def _output(structure: Structure, signal: _Signal, groups: Mapping[str, FloatGroup]) -> str:
    """Name the group that is read: the one whose signal reaches the output unchanged, else a new accumulator."""
    if signal.bias is None and len(signal.terms) == 1:
        ((source, delay), linear) = next(iter(signal.terms.items()))
        if delay == 0 and linear is None and source in groups:
            return source
    sources = structure.before(structure.output)
    alone = len(sources) == 1 and sources[0] not in groups and sources[0] != structure.input
    return sources[0] if alone else structure.output


def _check_names(groups: Iterable[str]) -> list[Finding]:
    return [
        Finding("reserved-name", f"node '{name}'", f"'{INPUT}' stands for the input lines; give the node another name")
        for name in groups
        if name == INPUT
    ]


def _check_readouts(groups: Mapping[str, FloatGroup], connections: Iterable[FloatConnection]) -> list[Finding]:
    """Find groups that never fire and yet feed something: a potential is no message of the chip."""
    feeding = {connection.source: connection.target for connection in connections}
    return [
        Finding(
            "potential-travels",
            f"node '{name}'",
            f"does not fire, and its potential feeds '{feeding[name]}'; the chip sends spikes only. Make it a LIF or "
            "IF node, or let it feed nothing but the output",
        )
        for name, group in groups.items()
        if not group.fires and name in feeding
    ]


def _check_loops(groups: Mapping[str, FloatGroup], connections: list[FloatConnection], dt_s: float) -> list[Finding]:
    """Find every loop that has fewer steps of delay than connections, each of which takes a step on the chip."""
    findings: list[Finding] = []
    left = list(connections)
    while (loop := _fast_loop(list(groups), left)) is not None:
        pairs = set(zip(loop, (*loop[1:], loop[0]), strict=True))
        inside = [each for each in left if (each.source, each.target) in pairs]
        length = len(loop)
        findings.append(
            Finding(
                "fast-loop",
                f"groups {', '.join(repr(name) for name in loop)}",
                f"form a loop of {length} connections with too few steps of delay; each connection takes one step "
                f"on the chip: put a Delay node of {length} steps ({length * dt_s:g} s) into the loop",
            )
        )
        cut = max(inside, key=lambda each: each.delay)
        left = [each for each in left if each is not cut]
    return findings


def _fast_loop(groups: list[str], connections: list[FloatConnection]) -> tuple[str, ...] | None:
    try:
        latencies(groups, connections)
    except TooFast as loop:
        return loop.groups
    return None


def _order(groups: Mapping[str, FloatGroup], connections: Iterable[FloatConnection], output: str) -> list[str] | None:
    """Put every group behind those that feed it without delay, and the output last; None if that is impossible."""
    needs: dict[str, set[str]] = {name: set() for name in groups}
    for connection in connections:
        if connection.delay == 0 and connection.source != INPUT:
            needs[connection.target].add(connection.source)
    order: list[str] = []
    while len(order) < len(groups):
        left = [name for name in groups if name not in order]
        ready = next((name for name in left if name != output and needs[name] <= set(order)), None)
        if ready is None and left != [output]:
            return None
        order.append(ready or output)
    return order
