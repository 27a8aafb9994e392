"""The structure of a NIR graph: nodes and edges without nesting, loops, and all inconsistencies."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import nir

from esl_neuro.errors import BadInput
from esl_neuro.nirgraph.findings import Finding, errors
from esl_neuro.nirgraph.linear_nodes import LINEAR, Unsupported, floats
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
    input, output : str
        Name of the only input and of the only output.
    feedback : frozenset of (str, str)
        Edges that close a loop without a ``Delay``; they deliver the output of the previous step.
    held : frozenset of str
        ``Delay`` nodes that pass nothing within a step. In a loop, an element without delay takes one step.
    doors : tuple of Door
        Inputs and outputs of nested graphs, which are not among the nodes.
    resets : mapping of str to str
        What a spike does to the potential of each node that fires, see :mod:`~esl_neuro.resets`.
    """

    nodes: dict[str, Any]
    edges: tuple[Edge, ...]
    input: str
    output: str
    feedback: frozenset[Edge]
    held: frozenset[str]
    doors: tuple[Door, ...] = ()
    resets: Mapping[str, Reset] = field(default_factory=dict)

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
        If a signal takes two ways through nested graphs, which a flat NIR graph cannot express.
    """
    doubles = sorted({edge for edge in structure.edges if structure.edges.count(edge) > 1})
    if doubles:
        found = ", ".join(f"'{source}' -> '{target}'" for source, target in doubles)
        raise BadInput(f"edges {found} are duplicated after nested graphs are unpacked, which NIR does not allow")
    nodes = noted(structure.nodes, structure.resets)
    return nir.NIRGraph(nodes, list(structure.edges), {**metadata, "dt_s": dt_s}, type_check=False)


def supported() -> str:
    """Return the types of nodes that can be read, as a sentence lists them."""
    return ", ".join(sorted({kind.__name__ for kind in (*LINEAR, *NEURONS, nir.NIRGraph)}))


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
    ends = [[name for name in of_type(graph, kind) if name in nodes] for kind in (nir.Input, nir.Output)]
    if any(len(names) != 1 for names in ends):
        return None, findings
    (start,), (end,) = ends
    edges = [edge for edge in edges if edge[0] in nodes and edge[1] in nodes]
    findings += _check_ends(edges, start, end)
    if not any(
        finding.kind in ("missing-node", "duplicate-name") for finding in findings
    ):  # else the reachability is meaningless
        findings += _check_reached(nodes, edges, start, end)
        findings += _check_linear_loops(nodes, edges)
    if errors(findings):
        return None, findings
    nodes, edges, doors = remove_doors(nodes, edges, (start, end))
    held = _held(nodes, edges, dt_s)
    return Structure(nodes, tuple(edges), start, end, feedback_edges(start, edges, held), held, doors, resets), findings


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


def _check_ends(edges: Sequence[Edge], start: str, end: str) -> list[Finding]:
    into = [
        Finding(
            "fed-input", f"node '{start}'", f"is the input but is fed by '{source}'; feed the node after it instead"
        )
        for source, target in edges
        if target == start
    ]
    out = [
        Finding(
            "feeding-output",
            f"node '{end}'",
            f"is the output but feeds '{target}'; connect '{target}' to the source of the output",
        )
        for source, target in edges
        if source == end
    ]
    return into + out


def _check_reached(nodes: Mapping[str, Any], edges: Sequence[Edge], start: str, end: str) -> list[Finding]:
    backwards = [(target, source) for source, target in edges]
    way = reachable(start, nodes, edges) & reachable(end, nodes, backwards)
    return [
        Finding("unreached", f"node '{name}'", "is not on a path from input to output; remove or connect it")
        for name in sorted(nodes)
        if name not in way
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
