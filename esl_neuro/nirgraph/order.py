"""Order of execution of the nodes of a graph, and its feedback edges."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import breadth_first_order, connected_components

Edge = tuple[str, str]


def reachable(start: str, nodes: Iterable[str], edges: Sequence[Edge]) -> set[str]:
    """Return the nodes reachable from a node, including itself."""
    names = list(nodes)
    found = breadth_first_order(_adjacency(names, edges), names.index(start), return_predecessors=False)
    return {names[index] for index in found}


def loops(nodes: Iterable[str], edges: Sequence[Edge]) -> list[set[str]]:
    """Return the strongly connected components that are loops: several nodes, or one that feeds itself."""
    parts: dict[int, set[str]] = {}
    names = list(nodes)
    for name, label in _labels(names, edges).items():
        parts.setdefault(label, set()).add(name)
    return [part for part in parts.values() if len(part) > 1 or any((name, name) in edges for name in part)]


def a_loop(nodes: Collection[str], edges: Sequence[Edge]) -> list[str] | None:
    """Return a loop among these nodes, in the direction of its edges, or None if there is none."""
    needs: dict[str, list[str]] = {name: [] for name in nodes}
    for source, target in edges:
        if source in needs and target in needs:
            needs[target].append(source)
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        return list(error.args[1][:-1])
    return None


def feedback_edges(start: str, edges: Sequence[Edge], held: Collection[str]) -> frozenset[Edge]:
    """Return the edges that close a loop without a ``held`` node.

    A depth-first walk from the start, in the order of the edges, finds them: they lead back to a node on the current
    path. The targets of ``held`` nodes are visited last, so that a loop is entered where signals enter it. The order of
    the edges determines where a loop with several entries closes; no library walks in this order.
    """
    after: dict[str, list[str]] = {}
    behind_held: dict[str, list[str]] = {}
    for source, target in edges:
        (behind_held if source in held else after).setdefault(source, []).append(target)
    closing: set[Edge] = set()
    seen: set[str] = set()
    roots = [start]
    for root in roots:  # the loop appends to roots
        path = {} if root in seen else {root: iter(after.get(root, ()))}
        seen.add(root)
        while path:
            name = next(reversed(path))
            ahead = next(path[name], None)
            if ahead is None:
                del path[name]
                roots += behind_held.get(name, ())
            elif ahead in path:
                closing.add((name, ahead))
            elif ahead not in seen:
                seen.add(ahead)
                path[ahead] = iter(after.get(ahead, ()))
    return frozenset(closing)


def execution_order(
    nodes: Iterable[str], edges: Sequence[Edge], feedback: Collection[Edge], held: Collection[str]
) -> tuple[tuple[str, ...], ...]:
    """Return the nodes in order of execution; the nodes of a common loop are one component.

    Within a component, the order is that of one step: inputs over a feedback edge, or to a ``held`` node, were computed
    in an earlier step.
    """
    names = list(nodes)
    labels = _labels(names, edges)
    between: dict[int, set[int]] = {labels[name]: set() for name in names}
    within: dict[str, list[str]] = {name: [] for name in names}
    for source, target in edges:
        if labels[source] != labels[target]:
            between[labels[target]].add(labels[source])
        elif (source, target) not in feedback and target not in held:
            within[target].append(source)
    members: dict[int, list[str]] = {label: [] for label in between}
    for name in TopologicalSorter(within).static_order():
        members[labels[name]].append(name)
    return tuple(tuple(members[label]) for label in TopologicalSorter(between).static_order())


def first_ready(needs: Mapping[str, Collection[str]], last: str) -> list[str] | None:
    """Order nodes so that each comes after the nodes it needs, otherwise in the given order, with one node last.

    Returns
    -------
    list of str or None
        None if another node needs the last one.
    """
    rank = {name: index for index, name in enumerate(needs)} | {last: len(needs)}
    sorter = TopologicalSorter(needs)
    sorter.prepare()
    order: list[str] = []
    ready: list[str] = []
    while sorter.is_active():
        ready += sorter.get_ready()
        name = min(ready, key=rank.__getitem__)
        ready.remove(name)
        order.append(name)
        sorter.done(name)
    return order if order[-1] == last else None


def _labels(names: list[str], edges: Sequence[Edge]) -> dict[str, int]:
    """Return for each node the number of its strongly connected component."""
    _, labels = connected_components(_adjacency(names, edges), directed=True, connection="strong")
    return dict(zip(names, labels.tolist(), strict=True))


def _adjacency(names: list[str], edges: Sequence[Edge]) -> sp.csr_matrix:
    place = {name: index for index, name in enumerate(names)}
    sources, targets = ([place[edge[end]] for edge in edges] for end in (0, 1))
    return sp.csr_matrix((np.ones(len(edges)), (sources, targets)), shape=(len(names), len(names)))
