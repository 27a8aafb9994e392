"""What each node of a NIR graph does, once the shape of what arrives is known."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import nir
import numpy as np

from esl_neuro.nirgraph.findings import WARNING, Finding
from esl_neuro.nirgraph.linear_nodes import (
    LARGEST_SIGNAL,
    LINEAR,
    LinearNode,
    Shape,
    Unsupported,
    linear_node,
)
from esl_neuro.nirgraph.neuron_nodes import NEURONS, NeuronNode, neuron_node
from esl_neuro.nirgraph.structure import Structure


@dataclass(frozen=True)
class DiscreteGraph:
    """A NIR graph in discrete time: what every node does in one step.

    Attributes
    ----------
    structure : Structure
        Nodes, edges and loops.
    dt_s : float
        Time step in seconds.
    arriving, shapes : dict of str to tuple of int
        Shape of what each node gets, and of what it gives.
    linear : dict of str to LinearNode
        Nodes without state, input and output among them.
    neurons : dict of str to NeuronNode
        Nodes with state, and thresholds.
    """

    structure: Structure
    dt_s: float
    arriving: dict[str, Shape]
    shapes: dict[str, Shape]
    linear: dict[str, LinearNode]
    neurons: dict[str, NeuronNode]

    def size(self, name: str) -> int:
        """Return the number of elements of what a node gives."""
        return math.prod(self.shapes[name])

    @property
    def fires(self) -> tuple[str, ...]:
        """Nodes that fire, in order of execution."""
        order = (name for component in self.structure.components() for name in component)
        return tuple(name for name in order if name in self.neurons and self.neurons[name].fires)


def read_nodes(structure: Structure, dt_s: float) -> tuple[DiscreteGraph, list[Finding]]:
    """Read every node, following the shapes from the input; where something is wrong, what could be read, and why."""
    discrete = DiscreteGraph(structure, dt_s, {}, {}, {}, {})
    try:
        discrete.arriving[structure.input] = _declared_shape(structure.nodes[structure.input], "input")
    except Unsupported as unsupported:
        return discrete, _findings(structure.input, unsupported)
    findings = []
    waiting = deque([structure.input])
    while waiting:
        name = waiting.popleft()
        findings += _read_node(name, discrete)
        if name not in discrete.shapes:
            continue
        for target in (target for source, target in structure.edges if source == name):
            if target not in discrete.arriving:
                discrete.arriving[target] = discrete.shapes[name]
                waiting.append(target)
    return discrete, findings + _check_meeting(discrete) + _check_doors(discrete)


def _read_node(name: str, discrete: DiscreteGraph) -> list[Finding]:
    node, shape = discrete.structure.nodes[name], discrete.arriving[name]
    try:
        if type(node) in NEURONS:
            discrete.shapes[name] = shape
            discrete.neurons[name] = neuron_node(node, shape, discrete.dt_s)
            return []
        read = linear_node(node, shape, discrete.dt_s)
    except Unsupported as unsupported:
        if type(node) in LINEAR:  # go on behind it, to find what else is wrong
            discrete.shapes.update(_declared(node, name, "output"))
        return _findings(name, unsupported)
    if name in discrete.structure.held and read.delay is not None:
        read = replace(read, delay=np.maximum(read.delay, 1))
    discrete.linear[name], discrete.shapes[name] = read, read.shape
    return _contradictions(node, name, shape, read.shape)


def _findings(name: str, unsupported: Unsupported) -> list[Finding]:
    return [Finding(kind, f"node '{name}'", message) for kind, message in unsupported.reasons]


def _declared(node: Any, name: str, side: str) -> dict[str, Shape]:
    """Return the shape that a node declares, by its name; nothing where it declares none."""
    try:
        return {name: _declared_shape(node, side)}
    except Unsupported:
        return {}


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


def _check_meeting(discrete: DiscreteGraph) -> list[Finding]:
    """Compare what nodes give with what their targets take; as many elements in another shape are a warning."""
    findings = []
    for source, target in discrete.structure.edges:
        if source not in discrete.shapes or target not in discrete.arriving:
            continue
        gives, takes = discrete.shapes[source], discrete.arriving[target]
        if gives != takes:
            same = math.prod(gives) == math.prod(takes)
            message = f"has shape {gives}, another signal that '{target}' gets has {takes}"
            findings.append(
                Finding("declared-shape", f"node '{source}'", f"{message}; taken element by element", WARNING)
                if same
                else Finding("shape-mismatch", f"node '{source}'", f"{message}; signals that meet must be alike")
            )
    for name in discrete.linear:
        if type(discrete.structure.nodes[name]) in (nir.Linear, nir.Affine) and len(discrete.arriving[name]) > 1:
            message = f"gets shape {discrete.arriving[name]}, taken element by element"
            findings.append(Finding("declared-shape", f"node '{name}'", message, WARNING))
    return findings


def _check_doors(discrete: DiscreteGraph) -> list[Finding]:
    """Compare the shapes that inputs and outputs of nested graphs declare with those that pass them."""
    return [
        finding
        for door in discrete.structure.doors
        for passing in [discrete.shapes[source] for source in door.sources if source in discrete.shapes][:1]
        for finding in _contradictions(door.node, door.name, passing, passing)
    ]
