"""The rows of an answer as a table: in Markdown, LaTeX and CSV, and as columns for the text."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from esl_neuro.energy.answer import Answer, AnswerRow
from esl_neuro.energy.cite import caption
from esl_neuro.energy.estimate import PJ_PER_J
from esl_neuro.energy.parts import Energy
from esl_neuro.energy.report import EnergyReport
from esl_neuro.reading.names import spreadsheet_cell
from esl_neuro.report.energy_layout import scaled_energy
from esl_neuro.report.energy_scopes import seconds

PARTS = ("dynamic", "static", "total")
NOT_PUBLISHED = "not published"


@dataclass(frozen=True)
class Column:
    """A column of the table: its heading, its cell in words, and the order in which it gives way (0: never)."""

    heading: str
    cell: Callable[[AnswerRow], str]
    gives_way: int = 0


def energy_cell(energy: Energy | None) -> str:
    """Write a median with its unit; ``>`` if the energy is at least this."""
    return "-" if energy is None else (">" if energy.lower_bound else "") + " ".join(scaled_energy(energy.median_pj))


def interval_cell(energy: Energy | None) -> str:
    """Write the 5 and 95 % quantile in the unit of the median; nothing if the energy does not vary."""
    if energy is None or math.isclose(energy.low_pj, energy.high_pj, rel_tol=1e-9):
        return "-"
    (low, unit), (high, _) = (scaled_energy(end, energy.median_pj) for end in (energy.low_pj, energy.high_pj))
    return f"{low}-{high} {unit}"


def _time(value: float | None) -> str:
    return "-" if value is None else seconds(value)


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 999.5 else f"{value:.3g}"


def _step(row: AnswerRow) -> str:
    if row.shortest_step_s is not None:
        return seconds(row.shortest_step_s)
    return NOT_PUBLISHED if row.chip else "-"


def _source(row: AnswerRow) -> str:
    return row.varies_most_with.split(" ")[0].split(".")[-1] or "-"


def note(row: AnswerRow) -> str:
    """Say why a row has no figure, or what its prices are where they are not the target's own."""
    if row.refusal:
        return f"no figure: {row.refusal}"
    ends = [f"{' '.join(scaled_energy(median_pj))} if {words}" for words, median_pj in row.readings]
    return f"dynamic {', '.join(ends)}" if ends else ""


COLUMNS = (
    Column("target", lambda row: row.target),
    Column("dynamic", lambda row: energy_cell(row.dynamic)),
    Column("dynamic 5-95 %", lambda row: interval_cell(row.dynamic), 2),
    Column("static", lambda row: energy_cell(row.static)),
    Column("static 5-95 %", lambda row: interval_cell(row.static), 3),
    Column("total", lambda row: energy_cell(row.total)),
    Column("5-95 %", lambda row: interval_cell(row.whole)),
    Column("latency", lambda row: _time(row.latency_s)),
    Column("per s", lambda row: _rate(row.samples_per_s)),
    Column("min step", _step),
    Column("evidence", lambda row: row.evidence or "-", 1),
    Column("varies most with", _source, 4),
)


def cells(rows: Iterable[AnswerRow], columns: Iterable[Column]) -> list[tuple[str, ...]]:
    """Return the table, without its headings."""
    shown = tuple(columns)
    return [tuple(column.cell(row) for column in shown) for row in rows]


def answer_markdown(answer: Answer) -> str:
    """Return the table in Markdown."""
    headings = (*(column.heading for column in COLUMNS), "note")
    lines = [headings, ("---",) * len(headings)]
    lines += [(*line, note(row) or "-") for row, line in zip(answer.rows, _all(answer), strict=True)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _all(answer: Answer) -> list[tuple[str, ...]]:
    return cells(answer.rows, COLUMNS)


_SPECIAL = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
}


def escaped(text: str) -> str:
    """Write a text for LaTeX."""
    return "".join(_SPECIAL.get(character, character) for character in text)


def _power_of_ten(energy: Energy | None) -> str:
    if energy is None:
        return "--"
    mantissa, exponent = f"{energy.median_pj / PJ_PER_J:.2e}".split("e")
    return f"${'>' if energy.lower_bound else ''}{mantissa} \\times 10^{{{int(exponent)}}}$"


def _between(energy: Energy | None) -> str:
    if energy is None or math.isclose(energy.low_pj, energy.high_pj, rel_tol=1e-9):
        return "--"
    power = math.floor(math.log10(energy.median_pj)) if energy.median_pj > 0 else 0
    low, high = (f"{end / 10.0**power:.3g}" for end in (energy.low_pj, energy.high_pj))
    return f"$({low}$--${high}) \\times 10^{{{power - 12}}}$"


def _latex_time(value: float | None) -> str:
    return "--" if value is None else _micro(seconds(value))


def _micro(text: str) -> str:
    return text.replace(" uJ", " \\textmu J").replace(" us", " \\textmu s")


def answer_latex(answer: Answer, report: EnergyReport) -> str:
    """Return the table in LaTeX, for the package booktabs, with a caption."""
    lines = []
    for row in answer.rows:
        step = _latex_time(row.shortest_step_s) if row.shortest_step_s or not row.chip else NOT_PUBLISHED
        parts = (*(_power_of_ten(getattr(row, part)) for part in PARTS), _between(row.whole))
        rate = _rate(row.samples_per_s).replace("-", "--")
        lines.append(" & ".join((escaped(row.target), *parts, _latex_time(row.latency_s), rate, step)) + r" \\")
        if note(row):
            said = _micro(escaped(note(row)))
            lines.append(rf"\multicolumn{{8}}{{l}}{{\quad {said}}} \\")
    heads = ("Target", "Dynamic (J)", "Static (J)", "Total (J)", r"5--95\,\% (J)", "Latency", "Samples/s", "Min. step")
    about = escaped(" ".join(caption(report.samples, report.steps, report.summary).split()))
    return "\n".join(
        (
            "% needs \\usepackage{booktabs}",
            r"\begin{table}",
            rf"\caption{{{about} Medians; the interval is that of the total, or of the dynamic energy without one.}}",
            r"\begin{tabular}{lrrrrrrr}",
            r"\toprule",
            " & ".join(heads) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        )
    )


def answer_csv(answer: Answer) -> str:
    """Return the table as CSV, energies in J and times in s."""
    text = io.StringIO(newline="")
    rows = [_record(row) for row in answer.rows]
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: spreadsheet_cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue().rstrip("\n")


def _record(row: AnswerRow) -> dict[str, Any]:
    energies: dict[str, Any] = {}
    for part in PARTS:
        energy: Energy | None = getattr(row, part)
        for name, attribute in (("median", "median_pj"), ("p05", "low_pj"), ("p95", "high_pj")):
            energies[f"{part}_{name}_j"] = None if energy is None else getattr(energy, attribute) / PJ_PER_J
        energies[f"{part}_lower_bound"] = None if energy is None else energy.lower_bound
    return {
        "target": row.target,
        "model": row.model,
        **energies,
        "latency_s": row.latency_s,
        "samples_per_s": row.samples_per_s,
        "shortest_step_s": row.shortest_step_s,
        "evidence": row.evidence,
        "varies_most_with": row.varies_most_with,
        "prices": "; ".join(words for words, _ in row.readings),
        "refusal": row.refusal,
    }
