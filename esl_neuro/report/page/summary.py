"""The figures at the top of a report page."""

from __future__ import annotations

from collections.abc import Iterator

from esl_neuro.energy.estimate import PJ_PER_J
from esl_neuro.report.energy_layout import exact, si_energy
from esl_neuro.report.page.data import EnergyRow, ReportData
from esl_neuro.report.page.energy import SCOPES
from esl_neuro.report.page.parts import Fact, percent, words


def facts(data: ReportData) -> Iterator[Fact]:
    """Return the figures of the summary."""
    found = data.accuracies
    for name, value, samples in (
        ("Accuracy, float", found.in_float, found.samples_float),
        ("Accuracy, integers", found.in_integer, found.samples_integer),
        ("Accuracy, Lava", found.in_lava, found.samples_lava),
    ):
        note = data.missing.get(name, "labels are not known") if value is None else _on(samples)
        yield Fact(name, "unknown" if value is None else percent(value), note)
    stored = f"{data.stored:,} of {data.possible:,} connections stored after rounding"
    if data.history:
        stored += f"; in training {percent(data.history[-1].density)} of the layers that it keeps sparse"
    yield Fact("Density", percent(data.density), stored)
    yield Fact("Operations", exact(round(data.energy.operations)), "effective synaptic operations per sample")
    yield _fits(data)
    yield _energy_fact(data)
    yield _checks_fact(data)


def _on(samples: int) -> str:
    return f"{samples:,} samples" if samples else "number of samples not recorded"


def _fits(data: ReportData) -> Fact:
    cores = data.cores
    unknown = (
        f"; not checked, since no limit is published: {', '.join(map(words, cores.unpublished))}"
        if cores.unpublished
        else ""
    )
    name = f"Fits {cores.chip}"
    if cores.too_large:
        over = "; ".join(f"{words(each.name)} {each.used:,} of {each.limit:,.0f}" for each in cores.too_large)
        return Fact(name, "no", over, False)
    if all(each.limit is None for each in cores.resources):
        return Fact(name, "unknown", "the target publishes no limits")
    used = f"{len(cores.cores):,} core{'' if len(cores.cores) == 1 else 's'}, no published limit exceeded"
    return Fact(name, "yes", used + unknown, True)


def _energy_fact(data: ReportData) -> Fact:
    rows = [
        (scope, row)
        for level in ("chip", "board", "operations")
        for scope in (SCOPES[level],)
        for row in data.energy.scopes.get(scope, ())
        if row.target == data.chip
    ]
    if not rows:
        return Fact("Energy per sample", "no figure", f"{data.chip} has no published price for it; see Energy")
    scope, row = rows[0]
    bound = "at least " if row.lower_bound else ""
    return Fact(
        f"Energy on {row.target}",
        bound + si_energy(row.median_j * PJ_PER_J),
        f"estimated, median per sample; 5-95 %: {_range(row)}. {scope}, {data.energy.pace}",
    )


def _range(row: EnergyRow) -> str:
    return f"{si_energy(row.low_j * PJ_PER_J)} to {si_energy(row.high_j * PJ_PER_J)}"


def _checks_fact(data: ReportData) -> Fact:
    made = [each for each in data.checks if each.passed is not None]
    passed = sum(bool(each.passed) for each in made)
    left = len(data.checks) - len(made)
    note = "; ".join(each.what for each in data.failed) or "every value compared is equal"
    more = f"; {left} not made" if left else ""
    if not made:
        return Fact("Verification", "not made", "see Verification")
    return Fact("Verification", f"{passed} of {len(made)} passed", note + more, passed == len(made))
