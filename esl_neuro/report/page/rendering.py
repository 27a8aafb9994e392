"""A report page: one HTML file without scripts, which asks nothing of the network."""

from __future__ import annotations

from functools import partial

from jinja2 import Environment, PackageLoader, StrictUndefined

from esl_neuro.reading.names import printable
from esl_neuro.report.page import charts, cost_sections, network_sections
from esl_neuro.report.page.data import ReportData
from esl_neuro.report.page.parts import Section
from esl_neuro.report.page.summary import facts

NO_CHARTS = "charts need matplotlib, which is not installed; install it: pip install 'esl-neuro[plots]'"


def render_page(data: ReportData) -> str:
    """Return the page as HTML.

    Parameters
    ----------
    data : ReportData
        What it shows. Every text from it is escaped.
    """
    shown = sections(data)
    environment = Environment(
        loader=PackageLoader("esl_neuro.report.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plain"] = partial(printable, kept="\n")
    return environment.get_template("report.html").render(
        data=data,
        facts=tuple(facts(data)),
        sections=shown,
        film_lengths=sorted({len(chart.frames) for section in shown for chart in section.charts if chart.frames}),
        no_charts="" if charts.can_draw() else NO_CHARTS,
    )


def sections(data: ReportData) -> tuple[Section, ...]:
    """Return every section, also those without data."""
    return (
        network_sections.training(data),
        network_sections.training_cost(data),
        network_sections.rewiring(data),
        network_sections.structure(data),
        network_sections.activity(data),
        network_sections.agreement(data),
        network_sections.cores(data),
        cost_sections.energy(data),
        cost_sections.break_even(data),
        cost_sections.verification(data),
        cost_sections.commands(data),
        cost_sections.sources(data),
    )
