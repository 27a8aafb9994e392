"""The energies of a report page, by scope, from an energy report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from esl_neuro.energy.breakeven import WITH_ACTIVITY, WITH_CONNECTIONS, BreakEven, scaling
from esl_neuro.energy.estimate import BOARD, CHIP, OPERATIONS, PJ_PER_J, REFUSED, Estimate
from esl_neuro.energy.measurement import Measurement
from esl_neuro.energy.parts import Energy as Part
from esl_neuro.energy.report import EnergyReport
from esl_neuro.energy.uncertainty import Distribution, Draws, quantiles
from esl_neuro.report.energy_layout import exact
from esl_neuro.report.page.data import MEASURED, Activity, Curve, Energy, EnergyPart, EnergyRow, Meeting, Source

STATIC = "static"
SCOPES = {
    OPERATIONS: "Dynamic energy: operations only",
    STATIC: "Static energy: power while the chip works",
    CHIP: "Total of the whole chip: operations and static power",
    BOARD: "Total of the whole board",
}
PLACES = 60  # points of a curve
LOWEST = 1e-3  # left end of a curve


def energy(report: EnergyReport) -> Energy:
    """Return the energies of a report by scope, its break-evens, and the sources of its prices."""
    static = tuple((each, found) for each, found in report.rows if each.scope == STATIC)
    rows = {level: static if level == STATIC else report.levels[level] for level in SCOPES}
    return Energy(
        pace=report.pace,
        scopes={SCOPES[level]: found for level, each in rows.items() if (found := tuple(_rows(each)))},
        parts=parts_of(report),
        refused=tuple((each.target, each.refusal or "nothing is priced") for each, _ in report.levels[REFUSED]),
        meetings=tuple(_meeting(each) for each in report.break_evens),
        curves=tuple(curves(report.break_evens, Draws())),
        sources=tuple(Source(each.id, each.text, str(each.evidence), each.source) for each in report.constants),
        warnings=report.warnings,
        operations=report.counts.per_sample("sop_effective"),
    )


def every_row(report: EnergyReport) -> dict[str, tuple[EnergyRow, ...]]:
    """Return every measurement and every estimate of a report by the name of its scope."""
    found = {}
    for level, title in SCOPES.items():
        rows = [each for each in report.rows if (STATIC if each[0].scope == STATIC else each[0].level) == level]
        measured = [_measured(each) for each in report.measurements if each.level == level]
        found[title] = (*measured, *_rows(rows))
    return {title: rows for title, rows in found.items() if rows}


def activity(report: EnergyReport) -> tuple[Activity, ...]:
    """Return the counts of each layer, mean per sample."""
    samples = report.counts.samples
    return tuple(
        Activity(each.name, each.spikes_in / samples, each.spikes_out / samples, each.sop_effective / samples)
        for each in report.counts.layers
    )


def _rows(rows: Iterable[tuple[Estimate, Distribution | None]]) -> Iterator[EnergyRow]:
    for estimate, found in rows:
        if found is not None and found.median_pj > 0:
            yield _row(estimate, found, estimate.lower_bound)


def _row(estimate: Estimate, found: Distribution | Part, lower_bound: bool) -> EnergyRow:
    left_out = (f"not priced: {exact(each.count)} {each.what} per sample" for each in estimate.unpriced)
    return EnergyRow(
        estimate.target,
        estimate.model,
        estimate.evidence,
        found.median_pj / PJ_PER_J,
        found.low_pj / PJ_PER_J,
        found.high_pj / PJ_PER_J,
        lower_bound,
        (*left_out, *estimate.notes),
    )


def _measured(each: Measurement) -> EnergyRow:
    return EnergyRow(each.target, MEASURED, MEASURED, each.energy_j_per_sample, each.low_j, each.high_j, False)


def parts_of(report: EnergyReport) -> tuple[EnergyPart, ...]:
    """Return dynamic, static and total energy of each target with a figure."""
    found = report.parts
    return tuple(
        EnergyPart(
            estimate.target,
            estimate.model,
            *(
                None if part is None else _row(estimate, part, part.lower_bound)
                for part in vars(found[estimate.target]).values()
            ),
        )
        for estimate in report.headlines
    )


def _meeting(each: BreakEven) -> Meeting:
    return Meeting(
        each.chip.name,
        each.processor.name,
        each.probability,
        each.rate,
        each.rate_at,
        each.density,
        each.density_at,
    )


def curves(meetings: Iterable[BreakEven], draws: Draws) -> Iterator[Curve]:
    """Return the curves of the chips that cross the level of a processor at a possible rate or density."""
    for each in meetings:
        needed = each.processor.sample(draws)
        for quantity, now, at, units in (
            ("firing rate", each.rate, each.rate_at, WITH_ACTIVITY),
            ("density", each.density, each.density_at, WITH_CONNECTIONS),
        ):
            if at is None or not 0 < at <= 1 or now <= 0 or needed is None:
                continue
            places = np.geomspace(min(LOWEST, now / 3, at / 3), 1, PLACES)
            chip = scaling(each.chip, units, draws)
            low, median, high = zip(*(quantiles(chip.at(place / now) / PJ_PER_J) for place in places), strict=True)
            processor_low, processor, processor_high = quantiles(needed / PJ_PER_J)
            yield Curve(
                quantity,
                each.chip.name,
                each.processor.name,
                now,
                at,
                tuple(places.tolist()),
                median,
                low,
                high,
                processor,
                processor_low,
                processor_high,
            )


def by_quantity(found: Iterable[Curve]) -> Iterator[tuple[str, list[Curve]]]:
    """Return the curves of each quantity."""
    kept: dict[str, list[Curve]] = {}
    for each in found:
        kept.setdefault(each.quantity, []).append(each)
    yield from kept.items()
