"""Raise thresholds so that no potential equals them: ``v >= threshold`` and ``v > threshold`` become the same.

With weights on a grid (multiples of one power of two), potentials are on a grid too, and often equal a threshold on
that grid: readers that fire at ``>=`` then differ from those that fire at ``>``. With a threshold half a grid step
above the largest grid point that must not fire, both agree, and the strict result is unchanged.
"""

from __future__ import annotations

from typing import Any

import nir
import numpy as np

from esl_neuro.interchange.plan import WEIGHTED, Floats, Plan
from esl_neuro.nirgraph.neuron_nodes import neuron_node

MANTISSA_BITS = 24  # of single precision, in which readers compute
NEURONS = (nir.LIF, nir.CubaLIF, nir.IF)
WITHOUT_WEIGHTS = (nir.SumPool2d, nir.Flatten)


def raise_thresholds(plan: Plan, steps: int, dt_s: float) -> None:
    """Raise every threshold, in place, to the middle between two grid points.

    ``v_threshold = (floor(v_threshold / q_T) + 1/2) q_T`` with the grid ``q_T`` of the potentials after ``steps``
    steps: the grid of the layer's weights, divided at each step by the denominator of the decay. Inputs are assumed to
    be integers, such as spikes. Layers whose grid is too fine for single precision are findings.
    """
    for name, node in plan.nodes.items():
        if isinstance(node, NEURONS):
            grid = _grid(plan, name, node, steps, dt_s)
            with np.errstate(over="ignore", invalid="ignore"):
                threshold = (np.floor(node.v_threshold / grid) + 0.5) * grid
            if not np.all(np.isfinite(threshold)) or np.any(threshold / grid >= 2 ** (MANTISSA_BITS - 1)):
                plan.findings.append(
                    f"'{name}': after {steps} steps the grid of its potentials is too fine for single precision, so "
                    "ties cannot be excluded; round weights and decays to a few bits, or export without tie_safe"
                )
            else:
                node.v_threshold = threshold


def lsb(values: Floats) -> Floats:
    """Return the largest power of two that divides each row's values, shape (rows,); 1 for rows of zeros.

    Examples
    --------
    >>> lsb(np.array([[0.75, 3.0], [8.0, 0.0]])).tolist()
    [0.25, 8.0]
    """
    rows = values.reshape(len(values), -1)
    mantissas, exponents = np.frexp(rows)
    integers = np.abs(mantissas * 2.0**53).astype(np.int64)
    lowest = np.where(integers == 0, 1 << 53, integers & -integers)
    steps = np.where(integers == 0, np.inf, np.ldexp(lowest.astype(np.float64), exponents - 53))
    smallest: Floats = np.min(steps, axis=1)
    return np.where(np.isfinite(smallest), smallest, 1.0)


def _grid(plan: Plan, name: str, node: Any, steps: int, dt_s: float) -> Floats:
    gain, decays = _discrete(node, plan.shapes[name], dt_s)
    grid: Floats = np.full(plan.shapes[name], np.inf)
    for source, _ in plan.into(name):
        grid = np.minimum(grid, _source_grid(plan, source, gain, plan.shapes[name]))
    finest = np.minimum.reduce([lsb(decay.reshape(-1, 1)).reshape(decay.shape) for decay in decays])
    with np.errstate(under="ignore"):
        reached: Floats = np.maximum(grid * np.minimum(finest, 1.0) ** (steps - 1), np.finfo(np.float64).tiny)
    return reached


def _source_grid(plan: Plan, source: str, gain: Floats, shape: tuple[int, ...]) -> Floats:
    node: Any = plan.nodes[source]
    if not isinstance(node, WEIGHTED) or not _integers(plan, source):
        return lsb(gain.reshape(-1, 1)).reshape(shape) if _integer(plan, source) else np.zeros(shape)
    rows = len(node.weight)
    per_row = gain.reshape(rows, -1)
    if np.any(per_row != per_row[:, :1]):
        return np.zeros(shape)
    both = np.concatenate(
        [node.weight.reshape(rows, -1), np.reshape(getattr(node, "bias", np.zeros(rows)), (-1, 1))], 1
    )
    grid = lsb(both.astype(np.float64) * per_row[:, :1])
    return np.broadcast_to(grid.reshape(-1, *[1] * (len(shape) - 1)), shape)


def _integers(plan: Plan, name: str) -> bool:
    """Return whether all inputs of a node are integers."""
    return all(_integer(plan, source) for source, _ in plan.into(name))


def _integer(plan: Plan, name: str) -> bool:
    node = plan.nodes[name]
    return isinstance(node, (*NEURONS, nir.Input)) or (isinstance(node, WITHOUT_WEIGHTS) and _integers(plan, name))


def _discrete(node: Any, shape: tuple[int, ...], dt_s: float) -> tuple[Floats, list[Floats]]:
    """Return the input gain and the decays of a node in single precision."""
    read = neuron_node(node, shape, dt_s)
    gain, *decays = (_single(values.reshape(shape)) for values in (read.gain, 1 - read.du, 1 - read.dv))
    return gain, decays


def _single(values: Floats) -> Floats:
    return values.astype(np.float32).astype(np.float64)
