"""Energy of the runs of a sweep beside their accuracy: each is exported, run in the integer simulator and priced."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev

import numpy as np

from esl_neuro.energy.core_use import core_uses
from esl_neuro.energy.counts import Counts
from esl_neuro.energy.estimate import Estimate, headline
from esl_neuro.energy.pareto import PricedCase
from esl_neuro.energy.parts import Energy
from esl_neuro.energy.prices import price
from esl_neuro.energy.uncertainty import Draws, quantiles
from esl_neuro.errors import BadInput
from esl_neuro.hardware import HardwareTarget, load_target
from esl_neuro.pipeline.activity import Activity, run_network
from esl_neuro.pipeline.choices import CHIP
from esl_neuro.pipeline.exports import export_run
from esl_neuro.pipeline.pricing import target_names
from esl_neuro.pipeline.simulation import OnStatus
from esl_neuro.training.sweep import Run, SweepCase, SweepPlan, label, place_of


@dataclass(frozen=True)
class _Counted:
    """What one run did on the test set."""

    counts: Counts
    accuracy: float
    samples: int


def price_sweep(
    plan: SweepPlan,
    targets: Sequence[str] = (CHIP,),
    tick_s: float | None = None,
    *,
    on_status: OnStatus = lambda _: None,
) -> tuple[PricedCase, ...]:
    """Price every case of a finished sweep on each target, on the whole test set.

    Accuracy and energy are those of the integer program. Constants are drawn once for all cases, and the energy of a
    case is the mean over its seeds in each draw.

    Parameters
    ----------
    plan : SweepPlan
        The sweep; every run is finished.
    targets : sequence of str
        Chips and processors.
    tick_s : float, optional
        Duration of a step of real time, in seconds. Default: the chips run freely.
    on_status : callable
        Called with a message before each long operation.

    Raises
    ------
    BadInput
        If a target is unknown, or no case has a figure on any target.
    """
    hardware = [load_target(name) for name in target_names(targets)]
    draws = Draws()
    priced = tuple(each for case in plan.cases for each in _case(plan, case, hardware, tick_s, draws, on_status))
    if all(each.energy is None for each in priced):
        raise BadInput(f"no case has a figure: {priced[0].refusal}; give another --target")
    return priced


def exported(run: Run, on_status: OnStatus = lambda _: None) -> Path:
    """Return the export of a finished run for Loihi 2, or another that it has; made here if there is none."""
    folder = run.folder.path
    exports = sorted(document.parent for document in folder.glob("*/export.json"))
    if not exports:
        on_status(f"{run.label}: compiling for Loihi 2")
        export_run(folder, accept_loss=True, any_size=True, allow_code=True)
        return folder / CHIP
    return next((each for each in exports if each.name == CHIP), exports[0])


def _case(
    plan: SweepPlan,
    case: SweepCase,
    hardware: Sequence[HardwareTarget],
    tick_s: float | None,
    draws: Draws,
    on_status: OnStatus,
) -> Iterator[PricedCase]:
    counted = [_count(run, hardware, on_status) for run in plan.runs if run.case is case]
    line, place = place_of(plan, case)
    accuracies = [each.accuracy for each in counted]
    for target in hardware:
        estimates = [price(each.counts, target, tick_s) for each in counted]
        shown = [headline(each) for each in estimates]
        energy = _mean([each for each in shown if each is not None], draws) if all(shown) else None
        refusals = (each.refusal for every in estimates for each in every if each.refusal)
        yield PricedCase(
            label(case.parts, ", "),
            line,
            place,
            target.name,
            "" if energy is None or shown[0] is None else shown[0].model,
            "" if energy is None or shown[0] is None else shown[0].level or "",
            mean(accuracies),
            stdev(accuracies) if len(accuracies) > 1 else None,
            len(counted),
            counted[0].samples,
            energy,
            "" if energy is not None else next(refusals, "no operation of the run has a price"),
        )


def _mean(estimates: Sequence[Estimate], draws: Draws) -> Energy:
    """Return the energy of a mean run; the draws are those of every run, so that constants do not average out."""
    drawn = [each.sample(draws) for each in estimates]
    low, median, high = quantiles(np.mean([each for each in drawn if each is not None], axis=0))
    return Energy(median, low, high, any(each.lower_bound for each in estimates))


def _count(run: Run, hardware: Sequence[HardwareTarget], on_status: OnStatus) -> _Counted:
    result = run_network(exported(run, on_status), Activity("integer"), on_status=on_status)
    if result.accuracy is None:
        raise BadInput(f"{run.folder.path}: its test set has no labels, so there is no accuracy to draw")
    uses = core_uses(result.program, result.trace, hardware, None)
    return _Counted(replace(result.counts, core_use=uses), result.accuracy, result.samples)
