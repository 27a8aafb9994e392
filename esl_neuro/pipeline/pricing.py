"""Price a run on every target, and compare the energy of two networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from esl_neuro.compiler.program import Program
from esl_neuro.energy import core_map, core_order
from esl_neuro.energy import report as reports
from esl_neuro.energy.comparison import ComparisonReport, Side, compare_counts
from esl_neuro.energy.core_map import CoreMap
from esl_neuro.energy.core_use import core_uses
from esl_neuro.energy.counts import Counts, count
from esl_neuro.energy.measurement import Measurement
from esl_neuro.energy.prices import price
from esl_neuro.energy.report import EnergyReport
from esl_neuro.energy.target_check import PROBE
from esl_neuro.errors import BadInput
from esl_neuro.hardware import KIND, load_target
from esl_neuro.pipeline.choices import ALL_TARGETS, ENERGY_TARGETS
from esl_neuro.pipeline.simulation import RunResult
from esl_neuro.resources import resource_names

COMPILER = "compiler"
FEWER_HOPS = "fewer-hops"
Placing = Callable[[Program], CoreMap | None]


def energy_report(
    result: RunResult,
    targets: Sequence[str | Path] = ENERGY_TARGETS,
    *,
    tick_s: float | None = None,
    placement: Placing | None = None,
    measurements: Sequence[Measurement] = (),
    network: str = "",
) -> EnergyReport:
    """Price a run on each target.

    Parameters
    ----------
    result : RunResult
        The run, of at least one sample.
    targets : sequence of str or Path
        Chips and processors: names, or paths of TOML files; ``"all"`` for every target.
    tick_s : float, optional
        Duration of one time step of real time on a chip, in seconds. Default: the chips run freely.
    placement : callable, optional
        Assigns the cores of a program, to count messages and hops; see :func:`placing`.
    measurements : sequence of Measurement
        Measured energies to show beside the estimates.
    network : str
        Name or path of the network, for the report.

    Raises
    ------
    BadInput
        If a target is unknown, the run has no samples, or the tick is not positive.
    """
    return reports.energy_report(
        result.program,
        result.trace,
        target_names(targets),
        tick_s,
        None if placement is None else placement(result.program),
        measurements,
        ran_on=result.ran_on,
        accuracy=result.accuracy,
        network=network,
        findings=result.findings,
    )


def compare_energy(
    first: RunResult,
    second: RunResult,
    targets: Sequence[str | Path] = ENERGY_TARGETS,
    *,
    names: tuple[str, str] = ("first", "second"),
    tick_s: float | None = None,
    placement: Placing | None = None,
) -> ComparisonReport:
    """Compare the energies of two runs with each price model; constants that both share cancel in the ratios.

    Parameters
    ----------
    first, second : RunResult
        The runs.
    targets, tick_s, placement
        As in :func:`energy_report`.
    names : (str, str)
        Names of the two in the report.

    Raises
    ------
    BadInput
        As in :func:`energy_report`.
    """
    chosen = target_names(targets)
    one, other = (
        Side(name, result.ran_on, result.accuracy, _on_cores(result, chosen, placement))
        for name, result in zip(names, (first, second), strict=True)
    )
    return compare_counts(one, other, chosen, tick_s)


def _on_cores(result: RunResult, targets: Sequence[str], placement: Placing | None) -> Counts:
    """Return the counts of a run with its use of the cores of each target."""
    cores = None if placement is None else placement(result.program)
    counts = result.counts if cores is None else count(result.program, result.trace, cores)
    return replace(counts, core_use=core_uses(result.program, result.trace, map(load_target, targets), cores))


def target_names(targets: Sequence[str | Path]) -> tuple[str, ...]:
    """Return the names of the given targets; each is loaded and tried once, to find errors before anything runs.

    Raises
    ------
    BadInput
        If a target is unknown, or its file is invalid.
    """
    asked = (targets,) if isinstance(targets, str) else tuple(map(str, targets))
    names = tuple(resource_names(KIND)) if ALL_TARGETS in asked else asked
    for name in names:
        price(PROBE, load_target(name), 1e-3)
    return names


def row_names(targets: Sequence[str | Path] = ENERGY_TARGETS, tick_s: float | None = None) -> list[str]:
    """Return the names of the rows of an energy report, ``"target:model"``, in its order.

    Raises
    ------
    BadInput
        If a target is unknown, or its file is invalid.
    """
    return [each.name for name in target_names(targets) for each in price(PROBE, load_target(name), tick_s)]


def placing(given: str | None) -> Placing:
    """Return a function that assigns the cores of a program.

    ``"compiler"`` gives those of the compiler, ``"fewer-hops"`` the same in another order
    (:func:`~esl_neuro.energy.core_order.fewer_hops`), a path those of a file, which is read here, and None none.

    Raises
    ------
    BadInput
        If the file cannot be read.
    """
    if given == COMPILER:
        return core_map.compiled_placement
    if given == FEWER_HOPS:
        return core_order.ordered_placement
    if given is not None and not Path(given).exists():
        raise BadInput(
            f"--placement '{given}' is neither '{COMPILER}' nor '{FEWER_HOPS}' nor a file; save core numbers with "
            "numpy.savez"
        )
    placement = None if given is None else core_map.read_placement(Path(given))
    return lambda _program: placement
