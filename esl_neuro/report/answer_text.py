"""The answer of an energy report as a screen of text."""

from __future__ import annotations

from collections.abc import Sequence

from esl_neuro.energy.answer import Answer, AnswerRow, Duel
from esl_neuro.energy.modes import Against
from esl_neuro.energy.report import EnergyReport
from esl_neuro.report.answer_table import COLUMNS, Column, cells, note
from esl_neuro.report.energy_layout import wrap
from esl_neuro.report.tables import annotated, table, table_width
from esl_neuro.report.width import text_width

INDENT = "    "
DENSE = 0.995  # density that is no sparsity


def render_answer(answer: Answer, report: EnergyReport) -> str:
    """Render the network, what must be known, a row for each target, and sparse against dense."""
    return "\n".join(
        (
            wrap(identity(report)),
            *(wrap(line, "", INDENT) for line in answer.known),
            wrap(f"One sample, {report.pace}: medians, 5-95 % of the total (else of the dynamic)"),
            answer_rows(answer.rows),
            "",
            wrap(sentence(answer.duel, report)),
            wrap("Medians do not add up exactly. All counts and models: --full; sources: --explain"),
        )
    )


def identity(report: EnergyReport) -> str:
    """Name the network, its run and its accuracy in one line."""
    right = "no labels, so no accuracy" if report.accuracy is None else f"accuracy {100 * report.accuracy:.2f} %"
    named = f"{report.network}: " if report.network else ""
    where = f"{report.ran_on} x {report.steps:,} steps ({report.backend})"
    return f"{named}{right}, {where}, density {report.density:.4f} of all layers"


def answer_rows(rows: Sequence[AnswerRow]) -> str:
    """Render the table with as many columns as the width holds; notes of a row stand below it."""
    columns = _fitting(rows)
    text = table([column.heading for column in columns], cells(rows, columns))
    return annotated(text, [wrap(note(row), INDENT, INDENT) for row in rows])


def _fitting(rows: Sequence[AnswerRow]) -> tuple[Column, ...]:
    """Return the columns that fit the width; those that give way first leave first."""
    columns: tuple[Column, ...] = COLUMNS
    for last in sorted({column.gives_way for column in COLUMNS} - {0}, reverse=True):
        if table_width([column.heading for column in columns], cells(rows, columns)) <= text_width():
            break
        columns = tuple(column for column in columns if column.gives_way != last)
    return columns


def sentence(duel: Duel | None, report: EnergyReport) -> str:
    """Write the paper's question and its answer: sparse on a chip against dense on a GPU."""
    if duel is None:
        return "Sparse against dense: nothing to compare; it needs a chip with a total and a GPU among the targets."
    here, there = duel.chip.target, duel.against.processor.target
    sparse = "Sparse" if report.density < DENSE else "Not sparse"
    said = (
        f"{sparse} (density {report.density:.2f}) on {here} against dense on {there}, total against total (no dynamic "
        f"part of the GPU is published): the chip needs {_times(duel.against)} "
        f"({_factor(duel.against.low)}-{_factor(duel.against.high)}, P(less) {duel.against.probability:.2f})"
    )
    depends = f", depending most on {duel.leading} ({duel.meaning})" if duel.leading else ""
    return f"{said}{depends}{_at_best(duel)}."


def _at_best(duel: Duel) -> str:
    """Say the answer where the GPU is as good as it can be."""
    if duel.best_case is duel.against:
        return ""
    best = f"{_times(duel.best_case)} (P(less) {duel.best_case.probability:.2f})"
    return f"; at the datasheet peak of the GPU, which a small network cannot reach, {best}"


def _times(against: Against) -> str:
    """Write a ratio processor / chip in words."""
    least = {">=": "at least ", "<=": "at most ", "~": "about (both are lower bounds) "}.get(against.relation, "")
    if against.ratio >= 1:
        return f"{least}{_factor(against.ratio)} times less"
    turned = {"at least ": "at most ", "at most ": "at least "}.get(least, least)
    return f"{turned}{_factor(1 / against.ratio)} times more" if against.ratio > 0 else "infinitely more"


def _factor(value: float) -> str:
    return f"{value:,.0f}" if value >= 999.5 else f"{value:.3g}"
