"""Unpack nested graphs; a nested graph has the same meaning as its flat form."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nir

from esl_neuro.nirgraph.findings import Finding

Edge = tuple[str, str]


@dataclass(frozen=True)
class Door:
    """The input or output of a nested graph, through which signals pass unchanged.

    Attributes
    ----------
    name : str
        As ``"graph.input"``.
    node : nir.Input or nir.Output
        Declares a shape.
    sources : tuple of str
        Nodes of any graph whose signals pass.
    """

    name: str
    node: Any
    sources: tuple[str, ...]


def unpack(graph: nir.NIRGraph, prefix: str = "") -> tuple[dict[str, Any], list[Edge], list[Finding]]:
    """Return the nodes of a graph and of its nested graphs, named ``"graph.node"``, their edges, and the findings.

    Signals enter nested graphs at their input and leave at their output, which remain among the nodes.
    """
    nodes: dict[str, Any] = {}
    entries: dict[str, str] = {}
    exits: dict[str, str] = {}
    edges: list[Edge] = []
    inner_edges: list[Edge]
    findings = _check_counts(graph, prefix)
    for name, node in graph.nodes.items():
        full = f"{prefix}{name}"
        inner_nodes, inner_edges = {full: node}, []
        if isinstance(node, nir.NIRGraph):
            inner_nodes, inner_edges, inner_findings = unpack(node, f"{full}.")
            findings += inner_findings
            for kind, ends in ((nir.Input, entries), (nir.Output, exits)):
                ends.update((full, f"{full}.{end}") for end in of_type(node, kind)[:1])
        findings += [
            Finding("duplicate-name", f"node '{double}'", "is duplicated after nested graphs are unpacked; rename one")
            for double in inner_nodes.keys() & nodes.keys()
        ]
        nodes |= inner_nodes
        edges += inner_edges
    pairs, malformed = _edges(graph, prefix)
    edges += [(exits.get(source, source), entries.get(target, target)) for source, target in pairs]
    return nodes, edges, findings + malformed


def of_type(graph: nir.NIRGraph, kind: type) -> list[str]:
    """Return the names of the nodes of a type, excluding nested graphs."""
    return [str(name) for name, node in graph.nodes.items() if isinstance(node, kind)]


def remove_doors(
    nodes: Mapping[str, Any], edges: Sequence[Edge], keep: Collection[str]
) -> tuple[dict[str, Any], list[Edge], tuple[Door, ...]]:
    """Replace the inputs and outputs of nested graphs by direct edges.

    Parameters
    ----------
    nodes, edges : mapping of str to NIR node, sequence of (str, str)
        As :func:`unpack` returns them; no loop consists of doors only.
    keep : collection of str
        Input and output of the whole graph.

    Returns
    -------
    nodes : dict of str to NIR node
    edges : list of (str, str)
        An edge occurs twice if its source reaches its target by two ways; both count.
    doors : tuple of Door
    """
    markers = [name for name, node in nodes.items() if isinstance(node, nir.Input | nir.Output) and name not in keep]
    left = list(edges)
    for door in markers:
        targets = [target for source, target in left if source == door]
        left = [
            (source, end)
            for source, target in left
            if source != door
            for end in (targets if target == door else [target])
        ]
    doors = tuple(Door(name, nodes[name], _sources(name, edges, set(markers))) for name in markers)
    return {name: node for name, node in nodes.items() if name not in markers}, left, doors


def _sources(door: str, edges: Sequence[Edge], markers: set[str]) -> tuple[str, ...]:
    """Return the nodes whose signals pass through a door."""
    before = [source for source, target in edges if target == door]
    return tuple(
        end for source in before for end in (_sources(source, edges, markers) if source in markers else (source,))
    )


def _edges(graph: nir.NIRGraph, prefix: str) -> tuple[list[Edge], list[Finding]]:
    pairs = [edge for edge in graph.edges if isinstance(edge, tuple | list) and len(edge) == 2]
    findings = [
        Finding("malformed", "graph", f"edge {edge!r:.60} is not a pair of node names")
        for edge in graph.edges
        if edge not in pairs
    ]
    return [(f"{prefix}{source}", f"{prefix}{target}") for source, target in pairs], findings


def _check_counts(graph: nir.NIRGraph, prefix: str) -> list[Finding]:
    """Find nested graphs with several ends, whose ports edges cannot name, and a graph without an end."""
    findings = []
    for word, kind in (("input", nir.Input), ("output", nir.Output)):
        names = of_type(graph, kind)
        if prefix and len(names) != 1:
            which = f" ({', '.join(names)})" if names else ""
            message = f"has {len(names)} {word}s{which}; a nested graph has exactly one, because edges name no port"
            findings.append(Finding(f"{word}-count", f"graph '{prefix[:-1]}'", message))
        elif not names:
            message = f"has no {word}; add an {word.capitalize()} node where signals {WAYS[word]} the network"
            findings.append(Finding(f"{word}-count", "graph", message))
    return findings


WAYS = {"input": "enter", "output": "leave"}
