"""A filter in front of a neuron is the neuron's synapse: ``LI`` -> ``LIF`` is one ``CubaLIF``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import nir
import numpy as np

Edge = tuple[str, str]


def fuse_filters(nodes: Mapping[str, Any], edges: Sequence[Edge]) -> tuple[dict[str, Any], list[Edge]]:
    """Replace every ``LI`` that feeds nothing but one ``LIF``, which hears nothing else, by the synapse of that neuron.

    ``tau I' = -I + r S`` before ``tau_mem v' = v_leak - v + R I`` is, name by name, ``CubaLIF`` with ``tau_syn = tau``
    and ``w_in = r``. Potentials do not travel on the chip, so that the pair itself could not be represented. A filter
    with a leak potential of its own is left alone.

    Returns
    -------
    nodes : dict of str to NIR node
        Without the filters; the neurons keep their names.
    edges : list of (str, str)
    """
    nodes, edges = dict(nodes), list(edges)
    for source, target in tuple(edges):
        alone = sum(edge[0] == source for edge in edges) == 1 == sum(edge[1] == target for edge in edges)
        fused = _fused(nodes[source], nodes[target]) if alone else None
        if fused is not None:
            nodes[target] = fused
            del nodes[source]
            edges = [(start, target if end == source else end) for start, end in edges if start != source]
    return nodes, edges


def _fused(before: Any, neuron: Any) -> nir.CubaLIF | None:
    if type(before) is not nir.LI or type(neuron) is not nir.LIF:
        return None
    try:
        if np.any(before.v_leak != 0):
            return None
        fused = nir.CubaLIF(
            tau_syn=before.tau,
            tau_mem=neuron.tau,
            r=neuron.r,
            v_leak=neuron.v_leak,
            v_threshold=neuron.v_threshold,
            v_reset=getattr(neuron, "v_reset", None),
            w_in=before.r,
        )
    except Exception:  # parameters that are no arrays or do not fit: the reading of the nodes will name them
        return None
    fused.metadata = getattr(neuron, "metadata", {})
    return fused
