"""``esl-neuro sweep``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esl_neuro.cli.chart_options import chart_options, layout_of
from esl_neuro.cli.commands import (
    ExampleCommand,
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
from esl_neuro.cli.network_run import tick_option
from esl_neuro.errors import BadInput
from esl_neuro.pipeline.choices import CHIP

if TYPE_CHECKING:
    from esl_neuro.training.sweep import SweepPlan


@click.command(
    cls=ExampleCommand,
    short_help="Train a family of runs and compare them in one table.",
    examples=(
        ("esl-neuro sweep digits-density", "every run that is not finished, then the table"),
        ("esl-neuro sweep digits-density --list", "the runs and the progress of each"),
        ("esl-neuro sweep digits-density --jobs 2", "two runs at a time"),
        ("esl-neuro sweep digits-density --scheduler tcp://host:8786", "on the workers of a Dask cluster"),
        ("esl-neuro sweep digits-density --plot density.svg", "also draw the results"),
        ("esl-neuro sweep digits-energy --pareto pareto.svg", "accuracy against energy, with the Pareto front"),
        ("esl-neuro sweep ./mine.toml --set training.epochs=1", "a sweep of your own, with a change to every run"),
    ),
)
@click.argument("name", metavar="SWEEP")
@click.option("--set", "overrides", multiple=True, metavar="FIELD=VALUE", help="Change a field in every run.")
@training_workplace
@click.option(
    "--plot",
    type=OutputPath(),
    help="Draw the results into this .svg, .png or .pdf file.",
)
@click.option(
    "--pareto",
    type=OutputPath(),
    help="Count and price every run, and draw accuracy against energy into this .svg, .png or .pdf file.",
)
@click.option(
    "--target", "targets", multiple=True, metavar="NAME", help=f"Target of --pareto; repeatable.  [default: {CHIP}]"
)
@tick_option
@chart_options
@click.option("--list", "listing", is_flag=True, help="Print the runs and the progress of each, without training.")
@allow_code_option
@data_option
@runs_option
@json_option
def sweep(
    name: str,
    overrides: tuple[str, ...],
    jobs: int | None,
    scheduler: str | None,
    plot: Path | None,
    pareto: Path | None,
    targets: tuple[str, ...],
    tick_s: float | None,
    width: str | None,
    title: str | None,
    listing: bool,
    allow_code: bool,
    runs: Path,
    as_json: bool,
) -> None:
    """Train every run of SWEEP: a name, or the path of a TOML file.

    Finished runs are kept and interrupted ones are resumed, so the same command continues an interrupted sweep. The
    result is a table with mean and spread over the seeds, saved in summary.json.
    """
    from esl_neuro.pipeline.given_data import refuse_unread_by_all
    from esl_neuro.report.sweep_text import runs_text, summary_text
    from esl_neuro.training.sweep import load_plan

    at_a_time = chosen_jobs(jobs, scheduler)
    layout = layout_of(width, title, plot or pareto, "--plot FILE or --pareto FILE")
    if pareto is None and (targets or tick_s is not None):
        raise BadInput("--target and --tick change only the chart of --pareto; add --pareto FILE")
    plan = load_plan(name, runs, overrides, allow_code=allow_code)
    if listing:
        document = list_runs(plan)
        emit(document, runs_text(document), as_json)
        return
    refuse_unread_by_all([run.recipe.data for run in plan.runs], given_data())
    plan.refuse_other_recipes()
    for path in filter(None, (plot, pareto)):
        from esl_neuro.report.plots import check_plot

        check_plot(path)
    if pareto is not None:
        from esl_neuro.pipeline.pricing import target_names

        target_names(targets)
    from esl_neuro.cli.progress import training_view
    from esl_neuro.pipeline.sweeping import run_sweep

    summary = run_sweep(plan, at_a_time, scheduler=scheduler, on_status=print_status, view=training_view)
    if plot is not None:
        from esl_neuro.pipeline.sweep_chart import draw_sweep

        draw_sweep(plan, summary, plot, layout)
    text = summary_text(summary)
    if pareto is not None:
        from esl_neuro.energy.pareto import front
        from esl_neuro.pipeline.sweep_energy import price_sweep
        from esl_neuro.report.pareto_plot import draw_pareto
        from esl_neuro.report.sweep_text import pareto_text

        cases = price_sweep(plan, targets or (CHIP,), tick_s, on_status=print_status)
        draw_pareto(cases, pareto, layout)
        best = front(cases)
        summary = {**summary, "energy": [{**each.to_dict(), "on_front": each in best} for each in cases]}
        text += "\n\n" + pareto_text(cases, tick_s)
    emit(summary, text, as_json)


def list_runs(plan: SweepPlan) -> dict[str, Any]:
    """Return every run of a sweep with its progress."""
    entries = [
        {"folder": str(run.folder.path), "case": run.case.parts, "seed": run.seed, "state": run.state()}
        for run in plan.runs
    ]
    return {"sweep": plan.name, "title": plan.sweep.title, "runs": entries}
