"""The energies of a report page, by scope, from an energy report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from esl_neuro.energy.breakeven import WITH_ACTIVITY, WITH_CONNECTIONS, BreakEven, scaled
from esl_neuro.energy.estimate import BOARD, CHIP, OPERATIONS, PJ_PER_J, REFUSED, Estimate, parts_pj
from esl_neuro.energy.report import EnergyReport
from esl_neuro.energy.uncertainty import Distribution
from esl_neuro.report.energy_layout import exact
from esl_neuro.report.page.data import Activity, Curve, Energy, EnergyPart, EnergyRow, Meeting, Source

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
        parts=tuple(_parts(report)),
        refused=tuple((each.target, each.refusal or "nothing is priced") for each, _ in report.levels[REFUSED]),
        meetings=tuple(_meeting(each) for each in report.break_evens),
        curves=tuple(curves(report.break_evens)),
        sources=tuple(Source(each.id, each.text, str(each.evidence), each.source) for each in report.constants),
        warnings=report.warnings,
        operations=report.counts.per_sample("sop_effective"),
    )


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
            yield EnergyRow(
                estimate.target,
                estimate.model,
                estimate.evidence,
                found.median_pj / PJ_PER_J,
                found.low_pj / PJ_PER_J,
                found.high_pj / PJ_PER_J,
                estimate.lower_bound,
                (
                    *(f"not priced: {exact(each.count)} {each.what} per sample" for each in estimate.unpriced),
                    *estimate.notes,
                ),
            )


def _parts(report: EnergyReport) -> Iterator[EnergyPart]:
    for estimate, _ in report.summary:
        dynamic, static, total = (None if part is None else part / PJ_PER_J for part in parts_pj(estimate))
        if (dynamic, static, total) != (None, None, None):
            yield EnergyPart(estimate.target, estimate.model, dynamic, static, total, estimate.lower_bound)


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


def curves(meetings: Iterable[BreakEven]) -> Iterator[Curve]:
    """Return the curves of the chips that cross the level of a processor at a possible rate or density."""
    for each in meetings:
        for quantity, now, at, units in (
            ("firing rate", each.rate, each.rate_at, WITH_ACTIVITY),
            ("density", each.density, each.density_at, WITH_CONNECTIONS),
        ):
            if at is None or not 0 < at <= 1 or now <= 0 or each.processor.energy_pj is None:
                continue
            places = np.geomspace(min(LOWEST, now / 3, at / 3), 1, PLACES)
            yield Curve(
                quantity,
                each.chip.name,
                each.processor.name,
                now,
                at,
                tuple(places.tolist()),
                tuple(scaled(each.chip, units, place / now) / PJ_PER_J for place in places),
                each.processor.energy_pj.nominal / PJ_PER_J,
            )
