"""An intermediate graph between torch and NIR, with factors on its edges that are folded into weights.

NIR edges have no weights. A factor between two nodes (the gain of a neuron, a folded threshold, the 1/k^2 of an average
pool) is stored on the edge. :func:`settle` moves it into the weights at one end of the edge, or inserts a diagonal
connection.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from esl_neuro.nirgraph.sparse_nodes import SparseAffine, diagonal_node

Floats = NDArray[np.float64]
CONVOLUTIONS = (nir.Conv1d, nir.Conv2d)
WEIGHTED = (nir.Affine, nir.Linear, SparseAffine, *CONVOLUTIONS)


@dataclass
class Plan:
    """A graph under construction.

    Attributes
    ----------
    nodes : dict of str to NIRNode
        By name.
    shapes : dict of str to tuple of int
        Shape of the output of each node, without steps and batch.
    edges : dict of (str, str) to float64 array
        Factor of each edge; its shape broadcasts with the output of the source.
    findings : list of str
        Parts that have no NIR form.
    """

    nodes: dict[str, nir.NIRNode] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    edges: dict[tuple[str, str], Floats] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)

    def add(self, name: str, node: nir.NIRNode, shape: Iterable[int]) -> None:
        """Add a node."""
        self.nodes[name], self.shapes[name] = node, tuple(int(side) for side in shape)

    def connect(self, source: str, target: str, factor: Any = 1.0) -> None:
        """Add an edge; a second one between the same nodes adds its factor, because NIR has no duplicate edges."""
        factor = np.asarray(factor, dtype=np.float64)
        self.edges[source, target] = factor + self.edges.get((source, target), np.zeros(()))

    def into(self, name: str) -> list[tuple[str, Floats]]:
        """List sources and factors of the edges into a node."""
        return [(source, factor) for (source, target), factor in self.edges.items() if target == name]

    def out_of(self, name: str) -> list[str]:
        """List the targets of a node."""
        return [target for source, target in self.edges if source == name]


def settle(plan: Plan) -> None:
    """Fold the factors of all edges into weights; afterwards all factors are one.

    A factor that all edges into a connection share is folded into its weights. Any other factor is folded into the
    weights and the bias of the source, if the source feeds nothing else. If neither is possible, a diagonal connection
    ``<target>_from_<source>`` is inserted.
    """
    for name, node in plan.nodes.items():
        factors = [factor for _, factor in plan.into(name)]
        if isinstance(node, WEIGHTED) and factors and all(f.size == 1 and f == factors[0] for f in factors):
            _scale_weights(node, float(factors[0]))
            for source, _ in plan.into(name):
                plan.edges[source, name] = np.ones(())
    for (source, target), factor in list(plan.edges.items()):
        if np.all(factor == 1):
            continue
        if len(plan.out_of(source)) == 1 and _scale_outputs(plan, source, factor):
            plan.edges[source, target] = np.ones(())
        else:
            del plan.edges[source, target]
            _insert_diagonal(plan, source, target, factor)


def diagonal(shape: tuple[int, ...], factor: Floats) -> nir.NIRNode | None:
    """Return a one-to-one connection with a factor, None if a convolution cannot express the factor."""
    if len(shape) == 1:
        return diagonal_node(np.broadcast_to(factor, shape))
    channels = per_channel(shape, factor)
    if channels is None:
        return None
    kernel = np.diag(channels).reshape(len(channels), len(channels), *[1] * (len(shape) - 1))
    if len(shape) == 2:
        return nir.Conv1d(shape[1], kernel, 1, 0, 1, 1, np.zeros(len(channels)))
    return convolution(kernel, np.zeros(len(channels)), shape[1:])


def convolution(
    weight: NDArray[Any],
    bias: NDArray[Any],
    input_shape: tuple[int, ...],
    stride: tuple[int, ...] = (1, 1),
    padding: tuple[int, ...] = (0, 0),
    dilation: tuple[int, ...] = (1, 1),
) -> nir.Conv2d:
    """Return a convolution without groups, which all readers support."""
    return nir.Conv2d(tuple(input_shape), weight, tuple(stride), tuple(padding), tuple(dilation), 1, bias)


def per_channel(shape: tuple[int, ...], factor: Floats) -> Floats | None:
    """Return a factor of a (channels, ...) signal as one number per channel, None if positions differ."""
    full = np.broadcast_to(factor, shape).reshape(shape[0], -1)
    return np.array(full[:, 0]) if np.all(full == full[:, :1]) else None


def _scale_weights(node: Any, factor: float) -> None:
    if factor == 1:
        return
    field = "values" if isinstance(node, SparseAffine) else "weight"
    weights = getattr(node, field)
    setattr(node, field, (weights * np.float64(factor)).astype(weights.dtype))


def _scale_outputs(plan: Plan, name: str, factor: Floats) -> bool:
    node, shape = plan.nodes[name], plan.shapes[name]
    if not isinstance(node, WEIGHTED):
        return False
    if isinstance(node, CONVOLUTIONS):
        rows = per_channel(shape, factor)
        if rows is None:
            return False
    else:
        rows = np.broadcast_to(factor, shape)
    if isinstance(node, SparseAffine):
        node.values = (node.values * np.repeat(rows, np.diff(node.row_starts))).astype(node.values.dtype)
    else:
        node.weight = (node.weight * rows.reshape(-1, *[1] * (node.weight.ndim - 1))).astype(node.weight.dtype)
    if not isinstance(node, nir.Linear):
        node.bias = (node.bias * rows).astype(node.bias.dtype)
    return True


def _insert_diagonal(plan: Plan, source: str, target: str, factor: Floats) -> None:
    node = diagonal(plan.shapes[source], factor)
    if node is None:
        plan.findings.append(
            f"'{target}': a factor per position cannot be folded into a convolution; "
            "keep native thresholds, or train one threshold per channel"
        )
        return
    name = f"{target}_from_{source}"
    plan.add(name, node, plan.shapes[source])
    plan.connect(source, name)
    plan.connect(name, target)
