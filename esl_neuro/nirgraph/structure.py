"""The structure of a NIR graph: nodes and edges without nesting, loops, and all inconsistencies."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import nir
import numpy as np

from esl_neuro.errors import BadInput
from esl_neuro.nirgraph.findings import WARNING, Finding, errors
from esl_neuro.nirgraph.linear_maps import LARGEST_SIGNAL
from esl_neuro.nirgraph.linear_nodes import LINEAR, Port, Unsupported, floats
from esl_neuro.nirgraph.nesting import Door, Edge, of_type, remove_doors, unpack
from esl_neuro.nirgraph.neuron_nodes import NEURONS
from esl_neuro.nirgraph.order import a_loop, execution_order, feedback_edges, loops, reachable
from esl_neuro.nirgraph.reset_notes import noted, read_resets
from esl_neuro.resets import Reset


@dataclass(frozen=True)
class Structure:
    """A graph without nested graphs.

    Attributes
    ----------
    nodes : dict of str to NIR node
        Nested nodes are named ``"graph.node"``.
    edges : tuple of (str, str)
        An edge occurs twice if a signal takes two ways through nested graphs; both count.
    input : str
        Name of the input. Several inputs are ``Port`` nodes behind one input, whose lines are theirs in order of names.
    output : str
        Name of the output from which the class is read.
    feedback : frozenset of (str, str)
        Edges that close a loop without a ``Delay``; they deliver the output of the previous step.
    held : frozenset of str
        ``Delay`` nodes that pass nothing within a step. In a loop, an element without delay takes one step.
    doors : tuple of Door
        Inputs and outputs of nested graphs, which are not among the nodes.
    resets : mapping of str to str
        What a spike does to the potential of each node that fires, see :mod:`~esl_neuro.resets`.
    outputs : dict of str to str
        Further outputs, which are not among the nodes, and the neuron node that each reads.
    """

    nodes: dict[str, Any]
    edges: tuple[Edge, ...]
    input: str
    output: str
    feedback: frozenset[Edge]
    held: frozenset[str]
    doors: tuple[Door, ...] = ()
    resets: Mapping[str, Reset] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)

    @property
    def ports(self) -> dict[str, Port]:
        """The inputs by name, if there are several, in the order of their lines."""
        ports = {name: node for name, node in self.nodes.items() if isinstance(node, Port)}
        return dict(sorted(ports.items(), key=lambda item: item[1].first))

    def before(self, name: str) -> list[str]:
        """Return the nodes that feed a node."""
        return [source for source, target in self.edges if target == name]

    def components(self) -> tuple[tuple[str, ...], ...]:
        """Return the nodes in order of execution; see :func:`~esl_neuro.nirgraph.order.execution_order`."""
        return execution_order(self.nodes, self.edges, self.feedback, self.held)


def flat_graph(structure: Structure, dt_s: float, metadata: Mapping[str, Any]) -> nir.NIRGraph:
    """Convert a structure to a flat NIR graph with the time step in its metadata, and with each reset in its node.

    Raises
    ------
    BadInput
        If the graph has several inputs or outputs, or a signal takes two ways through nested graphs, which no reader of
        a flat NIR graph supports.
    """
    several = [*structure.ports, *structure.outputs]
    if several:
        raise BadInput(f"several inputs or outputs ({', '.join(several)}) are not supported by other readers")
    doubles = sorted({edge for edge in structure.edges if structure.edges.count(edge) > 1})
    if doubles:
        found = ", ".join(f"'{source}' -> '{target}'" for source, target in doubles)
        raise BadInput(f"edges {found} are duplicated after nested graphs are unpacked, which NIR does not allow")
    nodes = noted(structure.nodes, structure.resets)
    return nir.NIRGraph(nodes, list(structure.edges), {**metadata, "dt_s": dt_s}, type_check=False)


def supported() -> str:
    """Return the types of nodes that can be read, as a sentence lists them."""
    return ", ".join(sorted({kind.__name__ for kind in (*LINEAR, *NEURONS, nir.NIRGraph) if kind is not Port}))


def read_structure(graph: nir.NIRGraph, dt_s: float) -> tuple[Structure | None, list[Finding]]:
    """Unpack a graph; return its structure (None on errors that leave none) and all findings.

    Parameters
    ----------
    graph : nir.NIRGraph
        The network.
    dt_s : float
        Time step in seconds, which determines the delays of a whole step or more.
    """
    nodes, edges, findings = unpack(graph)
    resets, of_resets = read_resets(graph)
    findings += [*of_resets, *_check_edges(nodes, edges)]
    findings += [
        Finding(
            "unsupported-node", f"node '{name}'", f"{type(node).__name__} is not supported; supported: {supported()}"
        )
        for name, node in nodes.items()
        if type(node) not in LINEAR and type(node) not in NEURONS
    ]
    starts, ends = ([name for name in of_type(graph, kind) if name in nodes] for kind in (nir.Input, nir.Output))
    if not starts or not ends:
        return None, findings
    edges = [edge for edge in edges if edge[0] in nodes and edge[1] in nodes]
    findings += _check_ends(edges, starts, ends)
    if not any(
        finding.kind in ("missing-node", "duplicate-name") for finding in findings
    ):  # else the reachability is meaningless
        findings += _check_reached(nodes, edges, starts, ends)
        findings += _check_linear_loops(nodes, edges)
    if errors(findings):
        return None, findings
    nodes, edges, doors = remove_doors(nodes, edges, (*starts, *ends))
    nodes, edges, outputs, found = _one_output(nodes, edges, ends)
    nodes, edges, start, more = _one_input(nodes, edges, starts)
    findings += [*found, *more]
    if errors(findings):
        return None, findings
    held = _held(nodes, edges, dt_s)
    feedback = feedback_edges(start, edges, held)
    readout = _readout(ends)
    return Structure(nodes, tuple(edges), start, readout, feedback, held, doors, resets, outputs), findings


def _readout(ends: Sequence[str]) -> str:
    """Choose the output from which the class is read: ``output``, else the first name."""
    return "output" if "output" in ends else min(ends)


def _one_output(
    nodes: dict[str, Any], edges: list[Edge], ends: Sequence[str]
) -> tuple[dict[str, Any], list[Edge], dict[str, str], list[Finding]]:
    """Remove all outputs but one; each must read neurons, whose spikes every run records anyway."""
    others = sorted(set(ends) - {_readout(ends)})
    read = {name: [source for source, target in edges if target == name] for name in others}
    findings = [
        Finding(
            "several-outputs",
            f"node '{name}'",
            f"is one of {len(ends)} outputs and is fed by {', '.join(map(repr, sources))}; an output beside "
            f"'{_readout(ends)}' must be fed by one node of neurons: add an LI or I node before it",
        )
        for name, sources in read.items()
        if len(sources) != 1 or type(nodes[sources[0]]) not in NEURONS
    ]
    if others and not findings:
        message = (
            f"has the outputs {', '.join(map(repr, sorted(ends)))}; the class is read from '{_readout(ends)}', and the "
            "spikes of the others are recorded under the names of their neurons"
        )
        findings = [Finding("several-outputs", "graph", message, WARNING)]
    outputs = {name: sources[0] for name, sources in read.items() if sources}
    kept = {name: node for name, node in nodes.items() if name not in others}
    return kept, [edge for edge in edges if edge[1] not in others], outputs, findings


def _one_input(
    nodes: dict[str, Any], edges: list[Edge], starts: Sequence[str]
) -> tuple[dict[str, Any], list[Edge], str, list[Finding]]:
    """Put one input before several, whose lines follow each other in order of their names."""
    if len(starts) == 1:
        return nodes, edges, starts[0], []
    shapes = {name: _shape(nodes[name]) for name in sorted(starts)}
    unknown = [name for name, shape in shapes.items() if shape is None]
    if unknown:
        message = "declares no shape; every one of several inputs must"
        return nodes, edges, starts[0], [Finding("shape-mismatch", f"node '{name}'", message) for name in unknown]
    sizes = {name: math.prod(shape or ()) for name, shape in shapes.items()}
    lines, first = sum(sizes.values()), 0
    whole = "input"
    while whole in nodes:
        whole += "_"
    merged = {whole: nir.Input({"input": np.array([lines])})} | nodes
    for name, shape in shapes.items():
        merged[name] = Port(shape or (), first, lines)
        first += sizes[name]
    order = ", ".join(f"'{name}' {shape}" for name, shape in shapes.items())
    message = f"has the inputs {order}; their lines follow each other in this order"
    return (
        merged,
        [*((whole, name) for name in shapes), *edges],
        whole,
        [Finding("several-inputs", "graph", message, WARNING)],
    )


def _shape(node: Any) -> tuple[int, ...] | None:
    try:
        sizes = np.asarray(node.input_type["input"], dtype=np.float64).ravel()
    except (TypeError, ValueError, KeyError):
        return None
    whole = sizes.size > 0 and bool(np.all((sizes == np.rint(sizes)) & (sizes >= 1)))
    return tuple(int(size) for size in sizes) if whole and math.prod(sizes) <= LARGEST_SIGNAL else None


def _check_edges(nodes: Mapping[str, Any], edges: Sequence[Edge]) -> list[Finding]:
    findings = [
        Finding(
            "missing-node", f"edge '{source}' -> '{target}'", f"node '{name}' does not exist; {_nearest(name, nodes)}"
        )
        for source, target in edges
        for name in dict.fromkeys((source, target))
        if name not in nodes
    ]
    doubles = {edge for edge in edges if edges.count(edge) > 1} if len(set(edges)) < len(edges) else set()
    findings += [
        Finding("duplicate-edge", f"edge '{source}' -> '{target}'", "is duplicated; remove one, or scale the signal")
        for source, target in sorted(doubles)
    ]
    return findings


def _nearest(name: str, nodes: Iterable[str]) -> str:
    """Suggest the node that an edge may mean."""
    close = difflib.get_close_matches(name, [str(node) for node in nodes], n=1)
    return f"did you mean '{close[0]}'?" if close else "add it, or remove the edge"


def _check_ends(edges: Sequence[Edge], starts: Sequence[str], ends: Sequence[str]) -> list[Finding]:
    into = [
        Finding(
            "fed-input", f"node '{target}'", f"is the input but is fed by '{source}'; feed the node after it instead"
        )
        for source, target in edges
        if target in starts
    ]
    out = [
        Finding(
            "feeding-output",
            f"node '{source}'",
            f"is the output but feeds '{target}'; connect '{target}' to the source of the output",
        )
        for source, target in edges
        if source in ends
    ]
    return into + out


def _check_reached(
    nodes: Mapping[str, Any], edges: Sequence[Edge], starts: Sequence[str], ends: Sequence[str]
) -> list[Finding]:
    backwards = [(target, source) for source, target in edges]
    forth: set[str] = set().union(*(reachable(start, nodes, edges) for start in starts))
    back: set[str] = set().union(*(reachable(end, nodes, backwards) for end in ends))
    return [
        Finding("unreached", f"node '{name}'", "is not on a path from input to output; remove or connect it")
        for name in sorted(nodes)
        if name not in forth & back
    ]


def _check_linear_loops(nodes: Mapping[str, Any], edges: Sequence[Edge]) -> list[Finding]:
    loop = a_loop([name for name, node in nodes.items() if type(node) in LINEAR], edges)
    if loop is None:
        return []
    message = f"is part of the loop {' -> '.join(loop)}, which has no neuron; add a LIF or IF node to it"
    return [Finding("linear-loop", f"node '{loop[0]}'", message)]


def _held(nodes: Mapping[str, Any], edges: Sequence[Edge], dt_s: float) -> frozenset[str]:
    """Return the Delay nodes that pass nothing within a step: all elements wait, or some do and a loop needs it."""
    waits = {name: _waits(node, dt_s) for name, node in nodes.items() if isinstance(node, nir.Delay)}
    held = {name for name, (every, _) in waits.items() if every}
    fast = [edge for edge in edges if edge[0] not in held]
    looping: set[str] = set().union(*loops(nodes, fast))
    return frozenset(held | {name for name, (_, some) in waits.items() if some and name in looping})


def _waits(node: Any, dt_s: float) -> tuple[bool, bool]:
    """Return whether all elements, and whether some elements, of a Delay wait a step or more."""
    try:
        delay = floats(node, "delay")
    except Unsupported:
        return False, False
    waiting = delay > 0.5 * dt_s
    return bool(waiting.size and waiting.all()), bool(waiting.any())
