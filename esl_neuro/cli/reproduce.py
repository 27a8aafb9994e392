"""``esl-neuro reproduce``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from esl_neuro.cli.chart_options import chart_options, layout_of
from esl_neuro.cli.commands import (
    ExampleCommand,
    OneOf,
    OutputPath,
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
from esl_neuro.pipeline.choices import SCALES, Scale


@click.command(
    cls=ExampleCommand,
    short_help="Reproduce a published table or figure, published beside measured.",
    examples=(
        ("esl-neuro reproduce table1 --scale smoke", "the whole road in seconds, on the embedded digits"),
        ("esl-neuro reproduce table1 --list", "what would run, and what exists already"),
        ("esl-neuro reproduce fig2 --jobs 2 --plot fig2.svg", "a budget for two cores, and a chart"),
        ("esl-neuro reproduce table2 --scale full", "networks, data and epochs of the paper; needs a GPU"),
    ),
)
@click.argument("name", metavar="EXPERIMENT")
@click.option(
    "--scale",
    type=OneOf(SCALES),
    default="short",
    show_default=True,
    help="smoke: seconds, on the embedded digits. short: MNIST, Fashion-MNIST and CIFAR-10, on two cores. full: the "
    "paper's networks, data and epochs.",
)
@training_workplace
@click.option("--plot", type=OutputPath(), help="Draw the figures into this .svg, .png or .pdf file.")
@chart_options
@click.option("--record", type=OutputPath(), help="Also write the result as JSON into this file.")
@click.option(
    "--list", "--dry-run", "listing", is_flag=True, help="Print what would run and what is measured, without training."
)
@allow_code_option
@data_option
@runs_option
@json_option
def reproduce(
    name: str,
    scale: Scale,
    jobs: int | None,
    scheduler: str | None,
    plot: Path | None,
    width: str | None,
    title: str | None,
    record: Path | None,
    listing: bool,
    allow_code: bool,
    runs: Path,
    as_json: bool,
) -> None:
    """Reproduce EXPERIMENT: table1, table2, fig2, fig3a, fig3b, fig4 (ESL-SNNs), stl (STL-SNN), or a TOML file.

    Finished runs are kept and interrupted ones are resumed, so the same command continues. Each published figure stands
    beside the measured one, with the source of both; what was not run is listed with the reason.
    """
    from esl_neuro.pipeline.given_data import refuse_unread_by_all
    from esl_neuro.pipeline.reproduction import describe, load_reproduction, obstacles
    from esl_neuro.pipeline.reproduction import reproduce as run_reproduction
    from esl_neuro.report.plots import check_plot
    from esl_neuro.report.reproduction_text import draw_reproduction, reproduction_text
    from esl_neuro.storage import write

    at_a_time = chosen_jobs(jobs, scheduler)
    layout = layout_of(width, title, plot, "--plot FILE")
    plan = load_reproduction(name, scale, runs, allow_code=allow_code)
    refuse_unread_by_all([run.recipe.data for sweep in plan.plans.values() for run in sweep.runs], given_data())
    if plot is not None:
        check_plot(plot)
    if listing:
        for obstacle in obstacles(plan):
            print_status(f"cannot run yet: {obstacle}")
        document = describe(plan)
    else:
        from esl_neuro.cli.progress import training_view

        document = run_reproduction(plan, at_a_time, scheduler=scheduler, on_status=print_status, view=training_view)
    if plot is not None:
        draw_reproduction(document, plot, layout)
    if record is not None:
        write(record, json.dumps(document, indent=2) + "\n")
    emit(document, reproduction_text(document), as_json)
