"""Fuse a synaptic filter with the neuron that it feeds: ``LI`` -> ``LIF`` becomes one ``CubaLIF``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import nir
import numpy as np

from esl_neuro.nirgraph.findings import Finding
from esl_neuro.nirgraph.nesting import Edge
from esl_neuro.nirgraph.sparse_nodes import SparseAffine
from esl_neuro.nirgraph.structure import Structure


def fuse_filters(structure: Structure, _dt_s: float) -> tuple[Structure, list[Finding]]:
    """Replace every ``LI`` that is the only input of one ``LIF`` and feeds nothing else by the synapse of that neuron.

    ``tau I' = -I + r S`` before ``tau_mem v' = v_leak - v + R I`` is, name by name, ``CubaLIF`` with ``tau_syn = tau``
    and ``w_in = r``. A factor per neuron in between, a ``Scale`` or a diagonal matrix, goes into ``w_in``. The chip
    does not transmit potentials, so it cannot represent the pair itself. A filter with its own leak potential is left
    unchanged.

    Returns
    -------
    structure : Structure
        Without the filters; the neurons keep their names.
    findings : list of Finding
        None.
    """
    nodes, edges, feedback = dict(structure.nodes), list(structure.edges), set(structure.feedback)
    for name in [name for name, node in nodes.items() if type(node) is nir.LI]:
        way = [name, *_only_targets(name, edges)]
        if len(way) > 2 and type(nodes[way[1]]) is nir.LIF:
            way = way[:2]
        fused = _fused(nodes[name], [nodes[each] for each in way[1:-1]], nodes[way[-1]])
        if fused is not None:
            nodes[way[-1]] = fused
            edges = [(start, way[-1] if end == name else end) for start, end in edges if start not in way[:-1]]
            feedback = {(start, way[-1] if end == name else end) for start, end in feedback}
            for each in way[:-1]:
                del nodes[each]
    return replace(structure, nodes=nodes, edges=tuple(edges), feedback=frozenset(feedback)), []


def _only_targets(name: str, edges: Sequence[Edge]) -> list[str]:
    """Follow a node for up to two edges, as long as each is the only edge at both of its ends."""
    way: list[str] = []
    while len(way) < 2:
        targets = [end for start, end in edges if start == name]
        if len(targets) != 1 or sum(end == targets[0] for _, end in edges) != 1 or targets[0] in way:
            break
        (name,) = targets
        way.append(name)
    return way


def _fused(before: Any, between: Sequence[Any], neuron: Any) -> nir.CubaLIF | None:
    if type(neuron) is not nir.LIF:
        return None
    try:
        factors = [_factor(node) for node in between]
        if np.any(before.v_leak != 0) or any(factor is None for factor in factors):
            return None
        fused = nir.CubaLIF(
            tau_syn=before.tau,
            tau_mem=neuron.tau,
            r=neuron.r,
            v_leak=neuron.v_leak,
            v_threshold=neuron.v_threshold,
            v_reset=getattr(neuron, "v_reset", None),
            w_in=before.r * np.prod(factors, axis=0),
        )
    except Exception:  # malformed parameters, which the pass that reads the nodes reports
        return None
    fused.metadata = getattr(neuron, "metadata", {})
    return fused


def _factor(node: Any) -> Any:
    """Return the factor by which a node multiplies each signal, None if it does anything else."""
    if type(node) is nir.Scale:
        return node.scale
    if type(node) is SparseAffine:
        return None if np.any(node.bias != 0) else node.diagonal
    if type(node) not in (nir.Linear, nir.Affine) or np.any(getattr(node, "bias", 0) != 0):
        return None
    values = np.diag(node.weight)
    return values if np.array_equal(np.diag(values), node.weight) else None
