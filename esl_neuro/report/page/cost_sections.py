"""The sections about costs and trust: energy, break-even, verification, commands, sources."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from esl_neuro.report.energy_axes import SCOPE_LOOKS
from esl_neuro.report.page import charts
from esl_neuro.report.page.data import Curve, Energy, EnergyRow, Meeting, ReportData
from esl_neuro.report.page.energy import by_quantity
from esl_neuro.report.page.parts import Section, Table, chart


def energy(data: ReportData) -> Section:
    """Show the energies, each scope in a chart of its own."""
    found = data.energy
    parts = Table(
        "Parts of the first price model of each target, medians in J per sample, which do not add up exactly: compare "
        "within a column",
        ("target", "model", "dynamic", "static", "total"),
        tuple(
            (
                each.target,
                each.model,
                *(
                    "" if part is None else _part(part.median_j, part.lower_bound)
                    for part in (each.dynamic, each.static, each.total)
                ),
            )
            for each in found.parts
        ),
        left=2,
    )
    return Section(
        "energy",
        "Energy per sample",
        text=(
            "Every figure is an estimate: counts are exact, prices are published or assumed. Each chart holds one "
            f"scope: compare rows of one chart only. Pace of the chips: {found.pace}.",
        ),
        charts=(
            *(
                chart(
                    scope,
                    f"Median and 5-95 % in J per sample. {_lowest(rows)}",
                    partial(charts.scope_chart, scope, rows, SCOPE_LOOKS[scope]),
                    _energy_table(scope, rows),
                )
                for scope, rows in found.scopes.items()
            ),
            *(
                (
                    chart(
                        "Dynamic, static and total energy of each target",
                        "Median and 5-95 % in J per sample. A process without a chip has a dynamic energy only, a "
                        "board a total only. Compare points of one shape.",
                        lambda: charts.parts_chart(found.parts),
                        parts,
                    ),
                )
                if found.parts
                else ()
            ),
        ),
        notes=(*found.warnings, *(f"{target}: no figure, {why}" for target, why in found.refused), *_row_notes(found)),
    )


def _row_notes(found: Energy) -> Iterator[str]:
    """Return what the rows leave out or assume; a note that several rows share appears once."""
    rows: dict[str, dict[str, None]] = {}
    for row in (row for scope in found.scopes.values() for row in scope):
        for note in row.notes:
            rows.setdefault(note, {})[f"{row.target} {row.model}"] = None
    for note, names in rows.items():
        yield f"{', '.join(names)}: {note}"


def _energy_table(scope: str, rows: Sequence[EnergyRow]) -> Table:
    return Table(
        f"{scope}, in J per sample",
        ("target", "model", "evidence", "median", "5 %", "95 %"),
        tuple(
            (each.target, each.model, each.evidence, _part(each.median_j, each.lower_bound), f"{each.low_j:.2E}",
             f"{each.high_j:.2E}")
            for each in rows
        ),
        left=3,
    )  # fmt: skip


def _lowest(rows: Sequence[EnergyRow]) -> str:
    if any(each.lower_bound for each in rows):
        return "Rows with a lower bound leave out operations without a price, so they may be higher than they look."
    first, last = min(rows, key=lambda each: each.median_j), max(rows, key=lambda each: each.median_j)
    if first is last:
        return f"{first.target}: {first.median_j:.2E} J."
    return f"From {first.median_j:.2E} J ({first.target}) to {last.median_j:.2E} J ({last.target})."


def _part(value: float, lower_bound: bool) -> str:
    return f"{'≥ ' if lower_bound else ''}{value:.2E}"


def break_even(data: ReportData) -> Section:
    """Show where chips and processors need the same energy."""
    key, title, found = "break-even", "Break-even of chip and processor", data.energy
    if not found.meetings:
        return Section(key, title, missing=(data.missing.get(key, "no chip and processor were priced together"),))
    table = Table(
        "Where the median energies are equal, all else equal",
        ("chip", "processor", "chance that the chip needs less", "firing rate", "equal at", "density", "equal at"),
        tuple(
            (
                each.chip,
                each.processor,
                "" if each.probability is None else f"{each.probability:.3f}",
                f"{each.rate:.4f}",
                _where(each.rate_at),
                f"{each.density:.4f}",
                _where(each.density_at),
            )
            for each in found.meetings
        ),
        left=2,
    )
    drawn = tuple(
        chart(
            f"Energy against {quantity}",
            f"{_crossings(curves)} All else as in this run; whole chips beside boards, medians and 5-95 %.",
            partial(charts.break_even_chart, quantity, curves),
        )
        for quantity, curves in by_quantity(found.curves)
    )
    return Section(
        key,
        title,
        text=(
            "Firing rate: spikes per source line and step. 'never': the fixed costs of the chip alone are higher than "
            "the energy of the processor; '> 1': the chip needs less even with a spike in every step, or with every "
            "connection.",
        ),
        charts=drawn,
        tables=(table,),
        missing=() if drawn else (f"a chart, because there is no break-even. {_why(found.meetings)}",),
    )


def _crossings(curves: Iterable[Curve]) -> str:
    return " ".join(f"{each.chip} and {each.processor} are equal at {each.at:.3g}." for each in curves)


def _why(meetings: Sequence[Meeting]) -> str:
    ends = [end for each in meetings for end in (each.rate_at, each.density_at)]
    if all(end is not None and end > 1 for end in ends):
        return "Every chip needs less than the processor beside it at every firing rate and density."
    if all(end is None for end in ends):
        return "Every chip needs more than the processor beside it at every firing rate and density."
    return "At every firing rate and density, each pair keeps its order; the table says which."


def _where(value: float | None) -> str:
    if value is None:
        return "never"
    return "> 1" if value > 1 else f"{value:.4f}"


def verification(data: ReportData) -> Section:
    """Show every comparison, and how to repeat it."""
    words = {True: "passed", False: "FAILED", None: "not made"}
    table = Table(
        "Comparisons",
        ("comparison", "result", "outcome", "repeat it"),
        tuple((each.what, words[each.passed], each.outcome, each.command) for each in data.checks),
        left=4,
    )
    return Section("verification", "Verification", tables=(table,))


def commands(data: ReportData) -> Section:
    """Show the commands that repeat the steps."""
    table = Table(
        "Commands, in order",
        ("step", "command"),
        tuple((each.step, each.line) for each in data.commands),
        left=2,
    )
    return Section(
        "commands", "Repeat it", text=(f"Written by esl-neuro {data.version} from {data.path}.",), tables=(table,)
    )


def sources(data: ReportData) -> Section:
    """Show every constant of the prices with its source."""
    table = Table(
        "Constants of the prices, each with its source",
        ("constant", "value", "evidence", "source"),
        tuple((each.constant, each.value, each.evidence, each.source) for each in data.energy.sources),
        left=4,
    )
    return Section("sources", "Sources of the prices", tables=(table,))
