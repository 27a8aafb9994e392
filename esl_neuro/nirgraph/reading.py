"""Read a NIR graph in named passes; each pass returns the input of the next one, and findings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import nir

from esl_neuro.errors import BadInput
from esl_neuro.nirgraph.batch_axes import read_nodes
from esl_neuro.nirgraph.findings import NO_TIME_STEP, Finding, errors, refuse
from esl_neuro.nirgraph.linear_nodes import Shape
from esl_neuro.nirgraph.reset_notes import warn_of_resets, with_reset
from esl_neuro.nirgraph.shapes import DiscreteGraph
from esl_neuro.nirgraph.structure import read_structure
from esl_neuro.nirgraph.time_step import time_step

Pass = Callable[[Any, float], tuple[Any, list[Finding]]]
"""Takes the result of the previous pass (the first one takes a graph) and the time step in seconds."""

KINDS_THAT_NEED_A_TIME_STEP = ("time-constant", "delay")

READING: Mapping[str, Pass] = {"structure": read_structure, "nodes": read_nodes}


def run_passes(
    passes: Mapping[str, Pass], graph: nir.NIRGraph, dt_s: float | None = None, reset: str | None = None
) -> tuple[Any | None, list[Finding]]:
    """Run passes in order, up to the first that finds an error. No graph raises an error.

    A missing time step is an error, but the passes still run, to find further errors. ``reset`` states the reset of all
    neurons, see :func:`~esl_neuro.nirgraph.reset_notes.with_reset`.

    Returns
    -------
    result : object or None
        Result of the last pass; None if any finding is an error.
    findings : list of Finding
        Errors and warnings of all passes that ran.
    """
    findings: list[Finding] = []
    ignored_kinds: tuple[str, ...] = ()
    try:
        step = time_step(graph, dt_s)
    except BadInput as error:
        step, ignored_kinds = 1.0, KINDS_THAT_NEED_A_TIME_STEP
        findings.append(Finding(NO_TIME_STEP, "graph", str(error)))
    result: Any = graph
    if reset is not None:
        result, conflicts = with_reset(graph, reset)
        findings += conflicts
    for each in passes.values():
        result, found = each(result, step)
        findings += [finding for finding in found if finding.kind not in ignored_kinds]
        if errors(found):
            break
    return (None if errors(findings) else result), findings


def discretise(graph: nir.NIRGraph, dt_s: float | None = None, reset: str | None = None) -> DiscreteGraph:
    """Convert a graph to discrete time, with a ``UserWarning`` if its reset is unclear.

    Parameters
    ----------
    graph : nir.NIRGraph
        Any NIR graph, including nested graphs and loops.
    dt_s : float, optional
        Time step in seconds. Default: ``dt_s`` of the graph.
    reset : {"zero", "subtract", "subtract_next_step"}, optional
        Reset of all neurons, for a graph whose metadata do not note it.

    Raises
    ------
    BadInput
        If there is no time step, or the graph is inconsistent; the message lists all findings.
    """
    discrete, findings = run_passes(READING, graph, dt_s, reset)
    refuse(findings, "the NIR graph cannot be read")
    assert isinstance(discrete, DiscreteGraph)
    warn_of_resets(findings, stacklevel=2)
    return discrete


def input_shapes(graph: nir.NIRGraph, dt_s: float | None = None) -> Shape | dict[str, Shape] | None:
    """Return the shape of the input at one step, by name if there are several; None if the graph cannot be read."""
    discrete, _ = run_passes(READING, graph, dt_s)
    if not isinstance(discrete, DiscreteGraph):
        return None
    ports = discrete.structure.ports
    return {name: node.shape for name, node in ports.items()} or discrete.shapes[discrete.structure.input]
