"""NIR graphs as graphs: without nesting, in order of execution, with their cycles."""

from __future__ import annotations

from dataclasses import dataclass

import nir
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from esl_neuro.errors import BadInput

NEURONS = (nir.LIF, nir.CubaLIF, nir.IF, nir.Threshold)
"""Nodes that fire."""


@dataclass(frozen=True)
class Order:
    """In which order a graph is executed.

    Attributes
    ----------
    input, output : str
        The only ones.
    components : tuple of tuple of str
        Nodes in order; those on a common cycle are one component.
    delayed : frozenset of (str, str)
        Edges that close a cycle: what they carry arrives a step later.
    """

    input: str
    output: str
    components: tuple[tuple[str, ...], ...]
    delayed: frozenset[tuple[str, str]]


def flat(graph: nir.NIRGraph) -> nir.NIRGraph:
    """Return the graph with its subgraphs dissolved, ``<subgraph>_<node>`` being the names of their nodes.

    Raises
    ------
    BadInput
        If two nodes get the same name, or an edge leads into nowhere.
    """
    nodes: dict[str, nir.NIRNode] = {}
    edges: list[tuple[str, str]] = []
    inner = _collect(graph, "", nodes, edges)
    for name in inner:
        before = [source for source, target in edges if target == name]
        after = [target for source, target in edges if source == name]
        edges = [edge for edge in edges if name not in edge]
        edges += [(source, target) for source in before for target in after]
        nodes.pop(name, None)
    lost = sorted({end for edge in edges for end in edge if end not in nodes})
    if lost:
        raise BadInput(f"the NIR graph has edges to nodes that are not there: {', '.join(lost)}")
    return nir.NIRGraph(nodes, list(dict.fromkeys(edges)), dict(graph.metadata), type_check=False)


def _collect(
    graph: nir.NIRGraph, prefix: str, nodes: dict[str, nir.NIRNode], edges: list[tuple[str, str]]
) -> list[str]:
    """Add the nodes of a graph and of those in it; return the doors between them, which are to disappear."""
    doors = []
    enter, leave = {}, {}
    for name, node in graph.nodes.items():
        path = prefix + name
        if isinstance(node, nir.NIRGraph):
            doors += _collect(node, f"{path}_", nodes, edges)
            enter[name], leave[name] = f"{path}/in", f"{path}/out"
            doors += [enter[name], leave[name]]
            edges += [(enter[name], f"{path}_{inner}") for inner in node.inputs]
            edges += [(f"{path}_{inner}", leave[name]) for inner in node.outputs]
            continue
        if path in nodes:
            raise BadInput(f"the NIR graph has two nodes that are called '{path}' once its subgraphs are dissolved")
        nodes[path] = node
        if prefix and isinstance(node, nir.Input | nir.Output):
            doors.append(path)
    edges += [(leave.get(a, prefix + a), enter.get(b, prefix + b)) for a, b in graph.edges]
    return doors


def order(graph: nir.NIRGraph) -> Order:
    """Find the order of execution of a flat graph: depth first from the input, cycles closed a step later.

    Raises
    ------
    BadInput
        If there is not exactly one input and one output, or a node that the input does not reach.
    """
    inputs, outputs = ([name for name, node in graph.nodes.items() if isinstance(node, kind)] for kind in _ENDS)
    if len(inputs) != 1 or len(outputs) != 1:
        raise BadInput(f"the NIR graph has {len(inputs)} inputs and {len(outputs)} outputs; one of each is supported")
    following: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for source, target in graph.edges:
        following[source].append(target)
    names = _depth_first(inputs[0], following)
    unreached = [f"'{name}'" for name in graph.nodes if name not in names]
    if unreached:
        raise BadInput(f"the input of the NIR graph does not reach {', '.join(unreached)}")
    place = {name: index for index, name in enumerate(names)}
    delayed = frozenset((a, b) for a, b in graph.edges if place[a] >= place[b])
    return Order(inputs[0], outputs[0], _components(names, graph.edges, place), delayed)


def _depth_first(start: str, following: dict[str, list[str]]) -> list[str]:
    """Nodes in reverse order of leaving them."""
    left: list[str] = []
    seen, stack = {start}, [(start, iter(following[start]))]
    while stack:
        name, targets = stack[-1]
        target = next((target for target in targets if target not in seen), None)
        if target is None:
            left.append(name)
            stack.pop()
        else:
            seen.add(target)
            stack.append((target, iter(following[target])))
    return left[::-1]


def _components(names: list[str], edges: list[tuple[str, str]], place: dict[str, int]) -> tuple[tuple[str, ...], ...]:
    sources, targets = ([place[edge[end]] for edge in edges] for end in (0, 1))
    adjacency = coo_array((np.ones(len(edges)), (sources, targets)), shape=(len(names), len(names)))
    _, labels = connected_components(adjacency.tocsr(), directed=True, connection="strong")
    members: dict[int, list[str]] = {}
    for name, label in zip(names, labels, strict=True):
        members.setdefault(int(label), []).append(name)
    return tuple(tuple(component) for component in members.values())


_ENDS = (nir.Input, nir.Output)
