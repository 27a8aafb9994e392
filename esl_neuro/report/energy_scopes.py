"""The tables of an energy report by scope: operations, chips, boards; the pace of the chips; what sparsity saves."""

from __future__ import annotations

from collections.abc import Iterator

from esl_neuro.energy.estimate import BOARD, CHIP, OPERATIONS, REFUSED, Estimate
from esl_neuro.energy.fitted import OPEN, READINGS, is_open
from esl_neuro.energy.measurement import Measurement
from esl_neuro.energy.modes import Mode
from esl_neuro.energy.report import EnergyReport
from esl_neuro.energy.uncertainty import Distribution
from esl_neuro.hardware import Interval
from esl_neuro.report.energy_layout import joules, short, wrap
from esl_neuro.report.tables import annotated, table

NO_RANGE = (
    "The interval is over the published ranges of the constants and the samples of the run. A constant without a "
    "published range does not widen it: its uncertainty is unknown, not zero."
)
LOWER_BOUND = (
    "'>=': a lower bound. The total omits operations without a published price, or prices them at a published best "
    "case; the range covers only the available prices."
)
LEVELS = {
    OPERATIONS: "Operations only, energy per sample in J (no static power: not what a chip or a board draws)",
    CHIP: "Whole chip, energy per sample in J: operations and static power, {pace}",
    BOARD: "Whole board, energy per sample in J: a GPU, or a chip with the processors beside it, {pace}",
    REFUSED: "Refused",
}
PACES = (
    "free running: each step as short as the published times of the chip allow, for inputs that are stored; a step of "
    "real time is for inputs of a sensor. Latency: until the last layer has worked. The input is not included: a "
    "processor that injects it has taken 31 us a step on Loihi 2."
)
BESIDE = (
    "Board of the processor over the chip, median (probability that the chip needs less). '>=', '<=': one side is a "
    "lower bound; '~': both are."
)
SAVINGS = (
    "Measurements fix one sum of the price of a synaptic operation and that of a neuron update, so a claim about "
    "sparsity lies between these rows. Steps, cores and neurons unchanged."
)


def render_levels(report: EnergyReport) -> Iterator[str]:
    """Render one table for each scope, so that rows of different scope are never under one another."""
    pace = report.pace
    for level, rows in report.levels.items():
        measured = [_measured(each) for each in report.measurements if each.level == level]
        if rows or measured:
            headers = ("target", "model", "evidence", "", "median", "5 - 95 %", "varies most with")
            lines = [*measured, *(_row(estimate, found) for estimate, found in rows)]
            notes = [*("" for _ in measured), *(priced_as(estimate) for estimate, _ in rows)]
            yield wrap(LEVELS[level].format(pace=pace)) + "\n" + annotated(table(headers, lines, left=4), notes)
    yield wrap(LOWER_BOUND) + "\n" + wrap(NO_RANGE)


def priced_as(estimate: Estimate) -> str:
    """Say below a row what its prices are, where its source leaves them open."""
    return f"    {READINGS[estimate.reading]}" if estimate.reading in READINGS else ""


def _measured(measurement: Measurement) -> tuple[str, ...]:
    energy, low, high = measurement.energy_j_per_sample, measurement.low_j, measurement.high_j
    return (short(measurement.target), "measured", "measured", "", f"{energy:.2E}", f"{low:.2E} - {high:.2E}", "")


def _row(estimate: Estimate, found: Distribution | None) -> tuple[str, ...]:
    bound = ">=" if estimate.lower_bound else ""
    start = (short(estimate.target), estimate.model, estimate.evidence, bound)
    if found is None:
        return (*start, "refused", "", "")
    source = "" if found.leading is None else _source(found.leading)
    return (*start, joules(found.median_pj), f"{joules(found.low_pj)} - {joules(found.high_pj)}", source)


def _source(leading: str) -> str:
    return "the open prices" if leading.endswith(OPEN) else leading.split(" ")[0].split(".")[-1]


def render_modes(report: EnergyReport) -> Iterator[str]:
    """Render the time of every chip at both paces, and its energy beside the boards."""
    if not report.modes:
        return
    rows = [
        (
            short(mode.target),
            mode.asked,
            mode.refusal if mode.time is None else mode.time.mode,
            *_times(mode),
        )
        for mode in report.modes
    ]
    headers = ("target", "asked", "runs", "step", "latency", "range", "samples/s")
    yield "Time per sample\n" + table(headers, rows, 3) + "\n" + wrap(PACES)
    processors = list(
        dict.fromkeys(each.processor.name for mode in report.modes for row in mode.against for each in row)
    )
    duels = [row for mode in report.modes for row in _duels(mode)]
    if processors and duels:
        yield (
            "Whole chip beside the board of a processor, the same task, in J per sample\n"
            + table(("chip", "prices", "pace", "", "median", *processors), duels, 4)
            + "\n"
            + wrap(BESIDE)
        )


def _times(mode: Mode) -> tuple[str, ...]:
    if mode.latency_s is None:
        return "", "", "", ""
    step = "" if mode.step_median_s is None else seconds(mode.step_median_s)
    rate = "" if mode.samples_per_s is None else f"{mode.samples_per_s:,.4g}"
    latency = mode.latency_s.nominal if mode.latency_median_s is None else mode.latency_median_s
    return step, seconds(latency), _span(mode.latency_s), rate


def _span(interval: Interval) -> str:
    return "" if interval.low == interval.high else f"{seconds(interval.low)} - {seconds(interval.high)}"


def _duels(mode: Mode) -> Iterator[tuple[str, ...]]:
    for (estimate, found), others in zip(mode.energies, mode.against, strict=True):
        if others:
            bound = ">=" if estimate.lower_bound else ""
            ratios = (f"{e.relation} {e.ratio:.3g}x ({e.probability:.2f})".removeprefix("= ") for e in others)
            prices = READINGS.get(estimate.reading) or ("open" if is_open(estimate) else estimate.model)
            yield (short(estimate.target), prices, mode.asked, bound, joules(found.median_pj), *ratios)


def render_savings(report: EnergyReport) -> Iterator[str]:
    """Render what fewer operations save, for both ends of what the measurements allow."""
    if not report.savings:
        return
    rows = [
        (
            each.estimate.target,
            each.estimate.level or "",
            READINGS.get(each.estimate.reading, each.estimate.reading),
            f"{100 * each.energy:.0f} %",
        )
        for each in report.savings
    ]
    share = report.savings[0].operations
    yield (
        f"Energy saved by {100 * share:.0f} % fewer synaptic operations\n"
        + table(("target", "scope", "prices", "saves"), rows, 3)
        + "\n"
        + wrap(SAVINGS)
    )


def seconds(value: float) -> str:
    """Format a duration with a unit.

    Examples
    --------
    >>> seconds(1.77e-6)
    '1.77 us'
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value * 1e9:.3g} ns"
