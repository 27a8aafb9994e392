"""``esl-neuro search``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from esl_neuro.cli.chart_options import chart_options, layout_of
from esl_neuro.cli.commands import (
    ExampleCommand,
    OutputPath,
    Whole,
    allow_code_option,
    chosen_jobs,
    data_option,
    emit,
    given_data,
    json_option,
    print_status,
    runs_option,
    training_workplace,
)
from esl_neuro.cli.energy import one_form

if TYPE_CHECKING:
    from esl_neuro.training.search import SearchPlan


@click.command(
    cls=ExampleCommand,
    short_help="Search settings for accuracy, energy and connections, with a Pareto table.",
    examples=(
        ("esl-neuro search digits-budget", "the trials that have not ended, then the Pareto table"),
        ("esl-neuro search digits-budget --list", "what is searched, and the trials so far"),
        ("esl-neuro search digits-budget --jobs 2", "two trials at a time"),
        ("esl-neuro search digits-budget --trials 40", "continue with more trials"),
        ("esl-neuro search digits-budget --plot pareto.svg", "also draw accuracy over energy and connections"),
        ("esl-neuro search digits-budget --latex", "the table for a paper; also --markdown and --csv"),
        ("esl-neuro search ./mine.toml --scheduler tcp://host:8786", "your own, on the workers of a Dask cluster"),
    ),
)
@click.argument("name", metavar="SEARCH")
@click.option("--trials", type=Whole(min=1), help="Number of trials.  [default: that of the file]")
@click.option("--set", "overrides", multiple=True, metavar="FIELD=VALUE", help="Change a field in every trial.")
@training_workplace
@click.option("--plot", type=OutputPath(), help="Draw the Pareto chart into this .svg, .png or .pdf file.")
@chart_options
@click.option("--latex", is_flag=True, help="Print the table in LaTeX.")
@click.option("--markdown", is_flag=True, help="Print the table in Markdown.")
@click.option(
    "--csv",
    "csv_file",
    type=OutputPath(standard_output=True),
    is_flag=False,
    flag_value=OutputPath.STANDARD,
    metavar="[FILE]",
    help="Also write all trials as CSV into this file; without FILE, print them as CSV.",
)
@click.option("--list", "listing", is_flag=True, help="Print what is searched and the trials so far, without training.")
@allow_code_option
@data_option
@runs_option
@json_option
def search(
    name: str,
    trials: int | None,
    overrides: tuple[str, ...],
    jobs: int | None,
    scheduler: str | None,
    plot: Path | None,
    width: str | None,
    title: str | None,
    latex: bool,
    markdown: bool,
    csv_file: Path | None,
    listing: bool,
    allow_code: bool,
    runs: Path,
    as_json: bool,
) -> None:
    """Search the space of SEARCH: a name, or the path of a TOML file.

    Optuna proposes the settings of each trial from how the earlier ones ended. Trials that are beaten early are
    stopped. The search sees the validation part only; networks of the Pareto set are exported and tested at the end.
    The same command continues an interrupted search.
    """
    from esl_neuro.pipeline.given_data import refuse_unread_by_all
    from esl_neuro.report.search_text import search_text
    from esl_neuro.training.search import load_search

    printed = csv_file is not None and str(csv_file) == OutputPath.STANDARD
    tables = {"latex": latex, "markdown": markdown, "csv": printed}
    form = one_form(tables, as_json)
    at_a_time = chosen_jobs(jobs, scheduler)
    layout = layout_of(width, title, plot, "--plot FILE")
    plan = load_search(name, runs, overrides, trials=trials, allow_code=allow_code)
    if listing:
        _list(plan, as_json)
        return
    refuse_unread_by_all([plan.first.data], given_data())
    if plot is not None:
        from esl_neuro.report.plots import check_plot

        check_plot(plot)
    from esl_neuro.cli.progress import training_view
    from esl_neuro.pipeline.searching import run_search
    from esl_neuro.report.search_text import draw_search, search_csv, search_latex, search_markdown
    from esl_neuro.storage import write

    summary = run_search(plan, at_a_time, scheduler=scheduler, on_status=print_status, view=training_view)
    if plot is not None:
        draw_search(summary, plot, layout)
    if csv_file is not None and not printed:
        write(csv_file, search_csv(summary) + "\n")
    texts = {
        "latex": lambda: search_latex(summary, plan.headings),
        "markdown": lambda: search_markdown(summary, plan.headings),
        "csv": lambda: search_csv(summary),
    }
    text = texts[form]() if form is not None else search_text(summary, plan.headings)
    emit(summary, text, as_json, verbatim=form is not None)


def _list(plan: SearchPlan, as_json: bool) -> None:
    from esl_neuro.pipeline.searching import list_trials
    from esl_neuro.report.search_text import trials_text

    document = list_trials(plan)
    emit(document, trials_text(document), as_json)
