"""Results as text, CSV and charts."""

from typing import TYPE_CHECKING

from esl_neuro.lazy import lazily

if TYPE_CHECKING:
    from esl_neuro.report.energy_csv import write_energy_csv
    from esl_neuro.report.energy_plots import draw_energy
    from esl_neuro.report.energy_text import render_energy_report, render_explanation
    from esl_neuro.report.plots import draw_dots, draw_lines
    from esl_neuro.report.tables import table

_HOMES = {
    "write_energy_csv": "energy_csv",
    "draw_energy": "energy_plots",
    "render_energy_report": "energy_text",
    "render_explanation": "energy_text",
    "draw_dots": "plots",
    "draw_lines": "plots",
    "table": "tables",
}
__all__ = [
    "draw_dots",
    "draw_energy",
    "draw_lines",
    "render_energy_report",
    "render_explanation",
    "table",
    "write_energy_csv",
]
__getattr__ = lazily(__name__, _HOMES)
