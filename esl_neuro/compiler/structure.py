"""The structure of a NIR graph: nested graphs unpacked, everything that does not hang together named."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nir

from esl_neuro.compiler.findings import Finding, errors
from esl_neuro.compiler.linear_nodes import LINEAR, Unsupported, floats
from esl_neuro.compiler.neuron_nodes import NEURONS
from esl_neuro.compiler.synaptic_filters import fuse_filters

Edge = tuple[str, str]


@dataclass(frozen=True)
class Structure:
    """A graph without nested graphs. Inputs and outputs of nested ones remain as nodes that pass everything on.

    Attributes
    ----------
    nodes : dict of str to NIR node
        Nested nodes are named ``"graph.node"``.
    edges : tuple of (str, str)
    input, output : str
        Names of the input and the output of the whole graph.
    late : frozenset of (str, str)
        Edges that close a loop without delay: they bring what their source gave one step before, as NIR readers do.
    """

    nodes: dict[str, Any]
    edges: tuple[Edge, ...]
    input: str
    output: str
    late: frozenset[Edge]

    def before(self, name: str) -> list[str]:
        """Return the nodes that feed a node."""
        return [source for source, target in self.edges if target == name]


def read_structure(graph: nir.NIRGraph, dt_s: float) -> tuple[Structure | None, list[Finding]]:
    """Unpack a graph; return its structure (None if it has none) and all findings."""
    nodes, edges, findings = _unpack(graph, "")
    findings += _check_edges(nodes, edges)
    findings += [
        Finding("unsupported-node", f"node '{name}'", f"{_class_name(node)} is not supported; supported: {SUPPORTED}")
        for name, node in nodes.items()
        if type(node) not in LINEAR and type(node) not in NEURONS
    ]
    ends = [[name for name in _of_type(graph, kind) if name in nodes] for kind in (nir.Input, nir.Output)]
    if any(len(names) != 1 for names in ends):
        return None, findings
    (start,), (end,) = ends
    edges = [edge for edge in edges if edge[0] in nodes and edge[1] in nodes]
    findings += _check_ends(edges, start, end)
    if not any(finding.kind == "missing-node" for finding in findings):  # else what lies behind seems unreached
        findings += _check_reached(nodes, edges, start, end)
    if errors(findings):
        return None, findings
    nodes, edges = fuse_filters(nodes, edges)
    late = closing_edges(start, [edge for edge in edges if not _delays(nodes[edge[0]], dt_s)], nodes)
    return Structure(nodes, tuple(edges), start, end, frozenset(late)), findings


SUPPORTED = ", ".join(sorted({kind.__name__ for kind in (*LINEAR, *NEURONS, nir.NIRGraph)}))


def closing_edges(start: str, edges: Sequence[Edge], nodes: Iterable[str]) -> set[Edge]:
    """Return the edges that close a loop, met by a depth-first walk from the start in the order of the edges."""
    after = _neighbours(edges)
    on_path: set[str] = set()
    seen: set[str] = set()
    closing: set[Edge] = set()
    for root in (start, *sorted(nodes)):
        path = [] if root in seen else [(root, iter(after.get(root, ())))]
        on_path.update(name for name, _ in path)
        seen.update(on_path)
        while path:
            name, targets = path[-1]
            target = next(targets, None)
            if target is None:
                on_path.discard(name)
                path.pop()
            elif target in on_path:
                closing.add((name, target))
            elif target not in seen:
                seen.add(target)
                on_path.add(target)
                path.append((target, iter(after.get(target, ()))))
    return closing


def _unpack(graph: nir.NIRGraph, prefix: str) -> tuple[dict[str, Any], list[Edge], list[Finding]]:
    nodes: dict[str, Any] = {}
    entries: dict[str, str] = {}  # nested graphs are entered at their input and left at their output
    exits: dict[str, str] = {}
    edges: list[Edge] = []
    inner_edges: list[Edge]
    findings = _check_counts(graph, prefix)
    for name, node in _nodes(graph).items():
        full = f"{prefix}{name}"
        inner_nodes, inner_edges = {full: node}, []
        if isinstance(node, nir.NIRGraph):
            inner_nodes, inner_edges, inner_findings = _unpack(node, f"{full}.")
            findings += inner_findings
            for kind, ends in ((nir.Input, entries), (nir.Output, exits)):
                ends.update((full, f"{full}.{end}") for end in _of_type(node, kind)[:1])
        findings += [
            Finding("duplicate-name", f"node '{double}'", "is there twice once nested graphs are unpacked; rename one")
            for double in inner_nodes.keys() & nodes.keys()
        ]
        nodes |= inner_nodes
        edges += inner_edges
    pairs, malformed = _edges(graph, prefix)
    edges += [(exits.get(source, source), entries.get(target, target)) for source, target in pairs]
    return nodes, edges, findings + malformed


def _nodes(graph: nir.NIRGraph) -> dict[str, Any]:
    return {str(name): node for name, node in graph.nodes.items()}


def _edges(graph: nir.NIRGraph, prefix: str) -> tuple[list[Edge], list[Finding]]:
    pairs = [edge for edge in graph.edges if isinstance(edge, tuple | list) and len(edge) == 2]
    findings = [
        Finding("malformed", "graph", f"edge {edge!r:.60} is no pair of node names")
        for edge in graph.edges
        if edge not in pairs
    ]
    return [(f"{prefix}{source}", f"{prefix}{target}") for source, target in pairs], findings


def _of_type(graph: nir.NIRGraph, kind: type) -> list[str]:
    return [name for name, node in _nodes(graph).items() if isinstance(node, kind)]


def _check_counts(graph: nir.NIRGraph, prefix: str) -> list[Finding]:
    place = f"graph '{prefix[:-1]}'" if prefix else "graph"
    return [
        Finding(f"{word}-count", place, f"has {count} {word}s; exactly one is supported")
        for word, kind in (("input", nir.Input), ("output", nir.Output))
        if (count := len(_of_type(graph, kind))) != 1
    ]


def _check_edges(nodes: Mapping[str, Any], edges: Sequence[Edge]) -> list[Finding]:
    findings = [
        Finding("missing-node", f"edge '{source}' -> '{target}'", f"there is no node '{name}'; {_nearest(name, nodes)}")
        for source, target in edges
        for name in dict.fromkeys((source, target))
        if name not in nodes
    ]
    doubles = {edge for edge in edges if edges.count(edge) > 1} if len(set(edges)) < len(edges) else set()
    findings += [
        Finding("duplicate-edge", f"edge '{source}' -> '{target}'", "is there twice; remove one, or scale the signal")
        for source, target in sorted(doubles)
    ]
    return findings


def _nearest(name: str, nodes: Iterable[str]) -> str:
    """Suggest the node that an edge may mean."""
    close = difflib.get_close_matches(name, [str(node) for node in nodes], n=1)
    return f"did you mean '{close[0]}'?" if close else "add it, or remove the edge"


def _check_ends(edges: Sequence[Edge], start: str, end: str) -> list[Finding]:
    into = [
        Finding("fed-input", f"node '{start}'", f"is the input, yet '{source}' feeds it; feed the node behind it")
        for source, target in edges
        if target == start
    ]
    out = [
        Finding("feeding-output", f"node '{end}'", f"is the output, yet feeds '{target}'; take what feeds the output")
        for source, target in edges
        if source == end
    ]
    return into + out


def _check_reached(nodes: Mapping[str, Any], edges: Sequence[Edge], start: str, end: str) -> list[Finding]:
    after, before = _neighbours(edges), _neighbours([(target, source) for source, target in edges])
    way = _reachable(start, after) & _reachable(end, before)
    return [
        Finding("unreached", f"node '{name}'", "is not on the way from input to output; remove it, or connect it")
        for name in sorted(nodes)
        if name not in way
    ]


def _neighbours(edges: Sequence[Edge]) -> dict[str, list[str]]:
    result: dict[str, list[str]] = {}
    for source, target in edges:
        result.setdefault(source, []).append(target)
    return result


def _reachable(start: str, after: Mapping[str, Sequence[str]]) -> set[str]:
    seen, waiting = {start}, [start]
    while waiting:
        for name in after.get(waiting.pop(), ()):
            if name not in seen:
                seen.add(name)
                waiting.append(name)
    return seen


def _delays(node: Any, dt_s: float) -> bool:
    """Tell whether a node holds everything back by a step or more, so that a loop through it can be computed."""
    if not isinstance(node, nir.Delay):
        return False
    try:
        delay = floats(node, "delay")
    except Unsupported:
        return False
    return delay.size > 0 and bool(delay.min() > 0.5 * dt_s)


def _class_name(node: Any) -> str:
    return type(node).__name__
