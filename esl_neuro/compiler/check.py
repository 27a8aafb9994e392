"""Check whether a graph compiles and fits on a chip, without raising."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nir

from esl_neuro.compiler.chip_checks import check_resets
from esl_neuro.compiler.compile import check_rounding, check_time_step, quantise_network
from esl_neuro.compiler.fidelity import Fidelity, weigh
from esl_neuro.compiler.frontend import analyse
from esl_neuro.compiler.losses import LOSSES, check_losses
from esl_neuro.compiler.network import FloatNetwork
from esl_neuro.compiler.placement import Utilisation, check_limits, place, utilisation
from esl_neuro.compiler.program import Program
from esl_neuro.hardware import HardwareTarget, arithmetic_of, as_target
from esl_neuro.hardware.rounding import InputFormat
from esl_neuro.nirgraph.findings import Finding, errors
from esl_neuro.nirgraph.time_step import metadata_steps

STEPS = 100  # if neither the caller nor the graph gives the steps


@dataclass(frozen=True)
class Checked:
    """The verdict on a graph.

    Attributes
    ----------
    compiles, fits : bool
        Whether the graph has an integer form, and whether that fits on one chip.
    findings : tuple of Finding
        Errors and warnings.
    utilisation : tuple of Utilisation
        Resources used on one chip; empty if the graph does not compile.
    fidelity : Fidelity or None
        How closely the integers follow the graph, where it was measured.
    """

    compiles: bool
    fits: bool
    findings: tuple[Finding, ...]
    utilisation: tuple[Utilisation, ...] = ()
    fidelity: Fidelity | None = None

    @property
    def losses(self) -> tuple[Finding, ...]:
        """Errors of a graph that compiles, but whose integers are far from the float network."""
        return tuple(finding for finding in errors(self.findings) if self.compiles and finding.kind in LOSSES)


Comparison = Callable[[FloatNetwork, Program], tuple[Fidelity | None, list[Finding]]]
"""Measures how closely a program follows its network."""


def check_graph(
    graph: nir.NIRGraph,
    target: HardwareTarget | str | Path,
    steps: int | None = None,
    dt_s: float | None = None,
    reset: str | None = None,
    compare: Comparison | None = None,
    payload: InputFormat | None = None,
) -> Checked:
    """Report everything that prevents compilation, and the resources used. No graph raises an error.

    Parameters
    ----------
    graph : nir.NIRGraph
        The network.
    target : HardwareTarget, str or Path
        The chip: its name, the path of a TOML file, or the target itself.
    steps : int, optional
        Time steps per sample. Default: ``steps`` of the graph's metadata, or 100.
    dt_s : float, optional
        Time step in seconds, if the graph has none in its metadata.
    reset : {"zero", "subtract", "subtract_next_step"}, optional
        Reset of all neurons, if the metadata of the graph do not note it; see :mod:`~esl_neuro.resets`.
    compare : callable, optional
        Runs integers and floats side by side. Default: the fidelity is not measured.
    payload : InputFormat, optional
        Format of the input. Default: spikes.

    Raises
    ------
    BadInput
        If the target declares no integer arithmetic, or ``steps`` of the graph's metadata is not a whole number.
    """
    chip = as_target(target)
    arithmetic = arithmetic_of(chip)
    network, findings = analyse(graph, dt_s, reset)
    findings += [] if network is None else check_resets(network, chip)
    if network is None or errors(findings):
        return Checked(compiles=False, fits=False, findings=tuple(findings))
    count = steps or metadata_steps(graph) or STEPS
    program, rounding = quantise_network(network, chip.name, arithmetic, count, payload or InputFormat())
    placement = place(program, chip)
    too_large = check_limits(program, placement, chip)
    fidelity, differences = compare(network, program) if compare else (None, [])
    return Checked(
        compiles=True,
        fits=not errors(too_large),
        findings=(
            *findings,
            *weigh(check_losses(network, program), fidelity, program.output.name),
            *check_rounding(rounding),
            *check_time_step(network, program),
            *differences,
            *too_large,
        ),
        utilisation=tuple(utilisation(program, placement, chip)),
        fidelity=fidelity,
    )
