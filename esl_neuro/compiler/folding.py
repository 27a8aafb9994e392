"""Fold the linear nodes of a graph: the input of each group is a sum of linear maps of the spikes of other groups."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter

import numpy as np

from esl_neuro.compiler.program import INPUT
from esl_neuro.nirgraph.findings import Finding
from esl_neuro.nirgraph.linear_maps import Floats, Map, add, apply, compose, split_by_delay
from esl_neuro.nirgraph.linear_nodes import LinearNode
from esl_neuro.nirgraph.shapes import DiscreteGraph


@dataclass(frozen=True)
class Signal:
    """Input or output of a node: a sum of linear maps of spikes, each with a delay, plus a constant.

    Attributes
    ----------
    size : int
        Number of elements.
    terms : mapping of (str, int) to Map
        Linear map by name of the group (``"input"`` for the input) and delay in steps.
    bias : float64 array, shape (size,), or None
        The same at every step, also after a delay or in a loop.
    """

    size: int
    terms: Mapping[tuple[str, int], Map]
    bias: Floats | None = None


@dataclass(frozen=True)
class FoldedGraph:
    """A graph reduced to its neuron nodes.

    Attributes
    ----------
    discrete : DiscreteGraph
        The nodes.
    arriving : mapping of str to Signal
        Input of each neuron node, and of the output.
    lines : mapping of str to int
        Number of elements that the input (``"input"``) and each neuron node emit.
    """

    discrete: DiscreteGraph
    arriving: Mapping[str, Signal]
    lines: Mapping[str, int]


def fold(discrete: DiscreteGraph, _dt_s: float) -> tuple[FoldedGraph, list[Finding]]:
    """Compose the linear nodes between neurons without rounding; a feedback edge is a delay of one step."""
    structure = discrete.structure
    lines = {INPUT: discrete.size(structure.input), **{name: discrete.size(name) for name in discrete.neurons}}
    given = {name: Signal(size, {(name, 0): None}) for name, size in lines.items() if name in discrete.neurons}
    given[structure.input] = Signal(lines[INPUT], {(INPUT, 0): None})

    def arriving(name: str) -> Signal:
        parts = [
            _one_step_later(given[source]) if (source, name) in structure.feedback else given[source]
            for source in structure.before(name)
        ]
        return _sum(parts, math.prod(discrete.arriving[name]), lines)

    linear = discrete.linear.keys() - {structure.input, structure.output}
    needs = {name: [source for source in structure.before(name) if source in linear] for name in linear}
    for name in TopologicalSorter(needs).static_order():
        given[name] = _through(discrete.linear[name], arriving(name), lines)
    return FoldedGraph(discrete, {name: arriving(name) for name in (*discrete.neurons, structure.output)}, lines), []


def _one_step_later(signal: Signal) -> Signal:
    terms = {(source, delay + 1): part for (source, delay), part in signal.terms.items()}
    return Signal(signal.size, terms, signal.bias)


def _sum(parts: Iterable[Signal], size: int, lines: Mapping[str, int]) -> Signal:
    terms: dict[tuple[str, int], Map] = {}
    bias: Floats | None = None
    for part in parts:
        for key, linear in part.terms.items():
            terms[key] = add(terms[key], linear, lines[key[0]]) if key in terms else linear
        if part.bias is not None:
            bias = part.bias if bias is None else bias + part.bias
    return Signal(size, terms, bias)


def _through(node: LinearNode, signal: Signal, lines: Mapping[str, int]) -> Signal:
    size = math.prod(node.shape)
    terms = {key: compose(node.weights, linear, lines[key[0]]) for key, linear in signal.terms.items()}
    bias = None if signal.bias is None else apply(node.weights, signal.bias[:, None])[:, 0]
    if node.bias is not None and np.any(node.bias != 0):
        bias = node.bias if bias is None else bias + node.bias
    if node.delay is None:
        return Signal(size, terms, bias)
    delayed = [
        Signal(size, {(source, delay + more): part})
        for (source, delay), linear in terms.items()
        for more, part in split_by_delay(linear, node.delay, lines[source])
    ]
    return _sum([*delayed, Signal(size, {}, bias)], size, lines)
