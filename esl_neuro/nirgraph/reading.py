"""Reading a NIR graph: named passes in order, each of which gives what the next one takes, and findings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import nir

from esl_neuro.errors import BadInput
from esl_neuro.nirgraph.findings import Finding, errors, refuse
from esl_neuro.nirgraph.shapes import DiscreteGraph, read_nodes
from esl_neuro.nirgraph.structure import read_structure
from esl_neuro.nirgraph.time_step import time_step

Pass = Callable[[Any, float], tuple[Any, list[Finding]]]
"""Takes what the pass before gave (the first one a graph) and the time step in seconds."""

NO_TIME_STEP = "no-time-step"
OF_THE_TIME_STEP = ("time-constant", "delay")

READING: Mapping[str, Pass] = {"structure": read_structure, "nodes": read_nodes}


def run_passes(
    passes: Mapping[str, Pass], graph: nir.NIRGraph, dt_s: float | None = None
) -> tuple[Any | None, list[Finding]]:
    """Run passes in order, up to the first one that finds an error. Never raises.

    Without a time step, which is an error, the passes still run, to find what else is wrong.

    Returns
    -------
    result : object or None
        Of the last pass; None if any finding is an error.
    findings : list of Finding
        Errors and warnings of all passes that ran.
    """
    findings: list[Finding] = []
    beside_the_point: tuple[str, ...] = ()
    try:
        step = time_step(graph, dt_s)
    except BadInput as error:
        step, beside_the_point = 1.0, OF_THE_TIME_STEP
        findings.append(Finding(NO_TIME_STEP, "graph", str(error)))
    result: Any = graph
    for each in passes.values():
        result, found = each(result, step)
        findings += [finding for finding in found if finding.kind not in beside_the_point]
        if errors(found):
            break
    return (None if errors(findings) else result), findings


def discretise(graph: nir.NIRGraph, dt_s: float | None = None) -> DiscreteGraph:
    """Read a graph in discrete time.

    Parameters
    ----------
    graph : nir.NIRGraph
        Any, nested or with loops.
    dt_s : float, optional
        Time step in seconds; without it the graph's own.

    Raises
    ------
    BadInput
        If there is no time step, or the graph is inconsistent; every finding is named.
    """
    discrete, findings = run_passes(READING, graph, dt_s)
    refuse(findings, "the NIR graph cannot be read")
    assert isinstance(discrete, DiscreteGraph)
    return discrete
