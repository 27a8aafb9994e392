"""The forms in which an energy report is printed, by the option that asks for each."""

from __future__ import annotations

from collections.abc import Callable

from esl_neuro.energy.answer import Answer
from esl_neuro.energy.report import EnergyReport
from esl_neuro.report.answer_table import answer_csv, answer_latex, answer_markdown
from esl_neuro.report.answer_text import render_answer
from esl_neuro.report.energy_text import (
    render_citation,
    render_energy_report,
    render_explanation,
    render_one_explanation,
)


def render_form(report: EnergyReport, found: Answer, form: str | None = None, row: str | None = None) -> str:
    """Render a report.

    Parameters
    ----------
    report : EnergyReport
        The report.
    found : Answer
        Its answer.
    form : str, optional
        ``"full"``, ``"explain"``, ``"cite"``, ``"latex"``, ``"markdown"`` or ``"csv"``. Default: one screen.
    row : str, optional
        The row to explain. Default: all of them.
    """
    if form == "explain":
        if row is not None:
            return render_one_explanation(report, row)
        return render_energy_report(report) + "\n\n" + render_explanation(report)
    writers: dict[str | None, Callable[[], str]] = {
        None: lambda: render_answer(found, report),
        "full": lambda: render_energy_report(report),
        "cite": lambda: render_citation(report),
        "latex": lambda: answer_latex(found, report),
        "markdown": lambda: answer_markdown(found),
        "csv": lambda: answer_csv(found),
    }
    return writers[form]()
