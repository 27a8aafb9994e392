"""Read files that keep the axes of batch and time in their inputs and outputs, which NIR shapes do not have.

Rockpool declares (batch, time, features) for every input and output, other writers keep the batch of their example. The
nodes tell: a linear node takes a number of elements, a convolution a number of axes. A shape that fits as it stands is
not changed. Otherwise leading axes are dropped until the graph is consistent, and a warning says so.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import nir
import numpy as np

from esl_neuro.nirgraph.findings import ERROR, WARNING, Finding, errors
from esl_neuro.nirgraph.linear_nodes import Shape, Unsupported, whole_numbers
from esl_neuro.nirgraph.shapes import DiscreteGraph, declared_shape, read_nodes_as_declared
from esl_neuro.nirgraph.structure import Structure

KIND = "batch-axes"
SHAPES = ("shape-mismatch", "declared-shape")


def read_nodes(structure: Structure, dt_s: float) -> tuple[DiscreteGraph, list[Finding]]:
    """Read every node; on errors return the nodes read so far and the findings."""
    whole, findings = read_nodes_as_declared(structure, dt_s)
    shape = declared_shape(structure.nodes[structure.input], "input")
    if shape is None or not any(each.kind in SHAPES for each in findings):
        return whole, findings
    tried = {count: read_nodes_as_declared(_without(structure, shape[:count]), dt_s) for count in range(1, len(shape))}
    # A shape that fits with warnings is changed only if another one fits without.
    clean = [count for count, read in tried.items() if not read[1]]
    fitting = clean or [count for count, read in tried.items() if errors(findings) and not errors(read[1])]
    if not fitting:  # report the errors of the reading that comes furthest
        further = [count for count, read in tried.items() if _reach(read) > _reach((whole, findings))]
        fitting = sorted(further, key=lambda count: _reach(tried[count]))
    if not fitting:
        return whole, findings
    count = fitting[-1]  # readings that fit differ in axes of one element only
    discrete, others = tried[count]
    return discrete, [_dropped(structure.input, shape, count, ERROR if errors(others) else WARNING), *others]


def _reach(read: tuple[DiscreteGraph, list[Finding]]) -> tuple[int, int]:
    """Order readings with errors: by the number of nodes that could be read, then by the number of errors."""
    discrete, findings = read
    return len(discrete.linear) + len(discrete.neurons), -len(errors(findings))


def _dropped(name: str, shape: Shape, count: int, severity: str) -> Finding:
    axes = "the batch" if count == 1 else "batch and time"
    message = (
        f"declares the shape {shape}, but the nodes after it take {shape[count:]}: {shape[:count]} is read as {axes}, "
        "which does not belong to a shape in NIR"
    )
    return Finding(KIND, f"node '{name}'", message, severity)


def _without(structure: Structure, leading: Shape) -> Structure:
    """Return a structure whose declared shapes do not begin with these axes."""
    nodes = {name: _cut(node, leading) for name, node in structure.nodes.items()}
    return replace(
        structure, nodes=nodes, doors=tuple(replace(door, node=_cut(door.node, leading)) for door in structure.doors)
    )


def _cut(node: Any, leading: Shape) -> Any:
    if not isinstance(node, nir.Input | nir.Output | nir.Flatten):
        return node
    side, count = "output" if isinstance(node, nir.Output) else "input", len(leading)
    shape = declared_shape(node, side)
    if shape is None or len(shape) <= count or shape[:count] != leading:
        return node
    left = np.array(shape[count:])
    if not isinstance(node, nir.Flatten):
        return type(node)({side: left})
    try:
        (start,), (end,) = (whole_numbers(node, name, 1, -len(shape)) for name in ("start_dim", "end_dim"))
    except Unsupported:  # which the reading of the node reports
        return node
    # Dimensions from the front count the dropped axes, those from the end do not.
    first = max(start - count, 0) if start >= 0 else start
    return nir.Flatten({"input": left}, first, end - count if end >= 0 else end)
