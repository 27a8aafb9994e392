"""Read a NIR graph as groups of neurons with one linear map between any two of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import nir
import numpy as np

from esl_neuro.compiler.chip_checks import check_groups, check_neurons
from esl_neuro.compiler.core_plan import read_core_plan
from esl_neuro.compiler.folding import FoldedGraph, fold
from esl_neuro.compiler.grouping import group
from esl_neuro.compiler.network import FloatNetwork
from esl_neuro.compiler.synaptic_filters import fuse_filters
from esl_neuro.nirgraph.batch_axes import read_nodes
from esl_neuro.nirgraph.findings import Finding, refuse_unsupported
from esl_neuro.nirgraph.reading import Pass, run_passes
from esl_neuro.nirgraph.shapes import DiscreteGraph
from esl_neuro.nirgraph.structure import Structure, read_structure


def read_network(graph: nir.NIRGraph, dt_s: float | None = None, reset: str | None = None) -> FloatNetwork:
    """Convert a NIR graph to groups of neurons in discrete time.

    Parameters
    ----------
    graph : nir.NIRGraph
        The network.
    dt_s : float, optional
        Time step in seconds. Default: ``dt_s`` of the graph.
    reset : {"zero", "subtract", "subtract_next_step"}, optional
        Reset of all neurons, if the metadata do not note it.

    Raises
    ------
    BadInput
        If there is no time step, or the chip cannot represent the graph; the message lists all findings.
    """
    network, findings = analyse(graph, dt_s, reset)
    refuse_unsupported(findings)
    assert network is not None  # analyse returns one unless it found an error
    return network


def analyse(
    graph: nir.NIRGraph, dt_s: float | None = None, reset: str | None = None
) -> tuple[FloatNetwork | None, list[Finding]]:
    """Convert a NIR graph to groups with :data:`PASSES`, or report everything that prevents it.

    No graph raises an error. ``reset`` is that of all neurons, if the metadata do not note it.

    Returns
    -------
    network : FloatNetwork or None
        None if any finding is an error.
    findings : list of Finding
        Errors and warnings.
    """
    network, findings = run_passes(PASSES, graph, dt_s, reset)
    if network is None:
        return None, findings
    single_spikes = bool(np.all(graph.metadata.get("single_spikes", False)))
    plan, unclear = read_core_plan(graph.metadata)
    return replace(network, single_spikes=single_spikes, core_plan=plan), [*findings, *unclear]


def _read_nodes(structure: Structure, dt_s: float) -> tuple[DiscreteGraph, list[Finding]]:
    discrete, findings = read_nodes(structure, dt_s)
    return discrete, findings + check_neurons(discrete)


def _make_groups(folded: FoldedGraph, dt_s: float) -> tuple[FloatNetwork, list[Finding]]:
    network, findings = group(folded, dt_s)
    return network, findings + check_groups(network)


PASSES: Mapping[str, Pass] = {
    "structure": read_structure,
    "synaptic filters": fuse_filters,
    "nodes": _read_nodes,
    "linear stretches": fold,
    "groups": _make_groups,
}
"""Named passes in order; each takes the result of the previous one."""
