"""Infer the shape of every signal of a NIR graph, and read every node with the shape of its input."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import nir
import numpy as np

from esl_neuro.nirgraph.findings import WARNING, Finding
from esl_neuro.nirgraph.linear_maps import LARGEST_SIGNAL
from esl_neuro.nirgraph.linear_nodes import LINEAR, LinearNode, Shape, Unsupported, linear_node
from esl_neuro.nirgraph.neuron_nodes import NEURONS, NeuronNode, neuron_node
from esl_neuro.nirgraph.sparse_nodes import SparseAffine
from esl_neuro.nirgraph.structure import Structure
from esl_neuro.resets import ZERO

MATRICES = (nir.Linear, nir.Affine, SparseAffine)


@dataclass(frozen=True)
class DiscreteGraph:
    """A NIR graph in discrete time, with the operation of every node in one step.

    Attributes
    ----------
    structure : Structure
        Nodes, edges and loops.
    dt_s : float
        Time step in seconds.
    arriving, shapes : dict of str to tuple of int
        Input shape and output shape of each node.
    linear : dict of str to LinearNode
        Nodes without state, including input and output.
    neurons : dict of str to NeuronNode
        Nodes with state or a threshold.
    """

    structure: Structure
    dt_s: float
    arriving: dict[str, Shape]
    shapes: dict[str, Shape]
    linear: dict[str, LinearNode]
    neurons: dict[str, NeuronNode]

    def size(self, name: str) -> int:
        """Return the number of output elements of a node."""
        return math.prod(self.shapes[name])

    @property
    def fires(self) -> tuple[str, ...]:
        """Nodes that fire, in order of execution."""
        order = (name for component in self.structure.components() for name in component)
        return tuple(name for name in order if name in self.neurons and self.neurons[name].fires)


def read_nodes_as_declared(structure: Structure, dt_s: float) -> tuple[DiscreteGraph, list[Finding]]:
    """Read every node, following the shapes from the input; on errors return the nodes read so far and the findings."""
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
            discrete.neurons[name] = neuron_node(node, shape, discrete.dt_s, discrete.structure.resets.get(name, ZERO))
            return []
        read = linear_node(node, shape, discrete.dt_s)
    except Unsupported as unsupported:
        if type(node) in LINEAR:  # continue with its target, to find further errors
            discrete.shapes.update(_declared(node, name, "output"))
        return _findings(name, unsupported)
    if name in discrete.structure.held and read.delay is not None:
        read = replace(read, delay=np.maximum(read.delay, 1))
    discrete.linear[name], discrete.shapes[name] = read, read.shape
    return _contradictions(node, name, shape, read.shape)


def _findings(name: str, unsupported: Unsupported) -> list[Finding]:
    return [Finding(kind, f"node '{name}'", message) for kind, message in unsupported.reasons]


def _declared(node: Any, name: str, side: str) -> dict[str, Shape]:
    """Return the shape that a node declares by the name of the node, or an empty dict."""
    shape = declared_shape(node, side)
    return {} if shape is None else {name: shape}


def declared_shape(node: Any, side: str) -> Shape | None:
    """Return the ``"input"`` or ``"output"`` shape that a node declares; None if it declares none."""
    try:
        return _declared_shape(node, side)
    except Unsupported:
        return None


def _declared_shape(node: Any, side: str) -> Shape:
    declared = getattr(node, f"{side}_type", None)
    try:
        sizes = np.asarray(declared[side], dtype=np.float64).ravel()  # type: ignore[index]
        shape = tuple(int(size) for size in sizes)
        good = bool(np.all(sizes == np.rint(sizes)))
    except (TypeError, ValueError, KeyError, IndexError, OverflowError):
        shape, good = (), False
    if not good or not shape or min(shape) < 1 or math.prod(shape) > LARGEST_SIGNAL:
        shown = " ".join(repr(declared).split())  # on one line
        raise Unsupported("shape-mismatch", f"declares the shape {shown:.80}; expected one or more whole numbers")
    return shape


def _contradictions(node: Any, name: str, arriving: Shape, leaving: Shape) -> list[Finding]:
    """Compare the declared shapes of a node with its inferred ones; inputs and outputs keep the declared shape."""
    marker = isinstance(node, (nir.Input, nir.Output))
    findings = []
    for side, shape in (("input", arriving),) if marker else (("output", leaving),):
        declared = declared_shape(node, side)
        if declared not in (None, shape) and (marker or not isinstance(node, MATRICES)):
            same = math.prod(declared or ()) == math.prod(shape)
            what = f"declares the shape {declared}, but its {'input' if marker else 'output'} has shape {shape}"
            findings.append(
                Finding("shape-mismatch", f"node '{name}'", what)
                if marker and not same
                else Finding("declared-shape", f"node '{name}'", f"{what}, which is used", WARNING)
            )
    return findings


def _check_meeting(discrete: DiscreteGraph) -> list[Finding]:
    """Compare output shapes with the input shapes of the targets; equal sizes in different shapes are a warning."""
    findings = []
    for source, target in discrete.structure.edges:
        if source not in discrete.shapes or target not in discrete.arriving:
            continue
        gives, takes = discrete.shapes[source], discrete.arriving[target]
        if gives != takes:
            same = math.prod(gives) == math.prod(takes)
            message = f"has shape {gives}, another input of '{target}' has shape {takes}"
            findings.append(
                Finding("declared-shape", f"node '{source}'", f"{message}; the elements are matched in order", WARNING)
                if same
                else Finding(
                    "shape-mismatch", f"node '{source}'", f"{message}; inputs of one node must have the same size"
                )
            )
    for name in discrete.linear:
        if type(discrete.structure.nodes[name]) in MATRICES and len(discrete.arriving[name]) > 1:
            message = f"receives shape {discrete.arriving[name]}; the elements are matched in order"
            findings.append(Finding("declared-shape", f"node '{name}'", message, WARNING))
    return findings


def _check_doors(discrete: DiscreteGraph) -> list[Finding]:
    """Compare the declared shapes of the inputs and outputs of nested graphs with those of their signals."""
    return [
        finding
        for door in discrete.structure.doors
        for passing in [discrete.shapes[source] for source in door.sources if source in discrete.shapes][:1]
        for finding in _contradictions(door.node, door.name, passing, passing)
    ]
