"""``esl-neuro energy``: the group, and ``energy report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esl_neuro.cli.chart_options import chart_options, layout_of
from esl_neuro.cli.commands import (
    ExampleCommand,
    ExampleGroup,
    ExistingPath,
    OneOf,
    OutputPath,
    emit,
    json_option,
    print_status,
)
from esl_neuro.cli.energy_compare import compare
from esl_neuro.cli.energy_fit import fit
from esl_neuro.cli.energy_import import import_log
from esl_neuro.cli.energy_measure import measure
from esl_neuro.cli.energy_programs import programs
from esl_neuro.cli.energy_validate import validate
from esl_neuro.cli.network_run import activity_options, placement_option, run_watched, tick_option, workplace_option
from esl_neuro.cli.workspace import chosen_export
from esl_neuro.errors import BadInput
from esl_neuro.pipeline.choices import ENERGY_TARGETS
from esl_neuro.storage import refusing

if TYPE_CHECKING:
    from esl_neuro.energy.report import EnergyReport
    from esl_neuro.pipeline.activity import Activity
    from esl_neuro.pipeline.workers import Workplace

ALL = "all"  # the rows to explain


@click.group(
    cls=ExampleGroup,
    short_help="Count operations exactly and price them with published constants.",
    examples=(
        ("esl-neuro energy report", "count and price the latest export"),
        ("esl-neuro energy compare runs/dense runs/sparse", "two networks on every target"),
        ("esl-neuro energy report --preset esl2023", "Table 1 of ESL-SNNs, recomputed"),
        ("esl-neuro energy validate", "predictions beside published measurements"),
    ),
)
def energy() -> None:
    """Count operations exactly and price them with published constants."""


for command in (compare, fit, import_log, measure, programs, validate):
    energy.add_command(command)


@energy.command(
    cls=ExampleCommand,
    short_help="Run an export or a NIR file, count its operations and price them.",
    examples=(
        ("esl-neuro energy report", "the answer in one screen: the latest export, run in Lava"),
        ("esl-neuro energy report --full", "every count, price model and note"),
        ("esl-neuro energy report --backend integer", "the same counts without Lava"),
        ("esl-neuro energy report net.nir --input spikes.npz", "any network, on given spikes"),
        ("esl-neuro energy report net.nir --rate 0.05", "any network, on random spikes of a given rate"),
        ("esl-neuro energy report --explain 4", "the arithmetic and the sources of row 4"),
        ("esl-neuro energy report --target all", "every target; or one of your own: --target ./my-chip.toml"),
        ("esl-neuro energy report --plots figures", "charts of intervals, parts, layers and break-evens"),
        ("esl-neuro energy report --plots figures --plot-format pdf --width single", "for one column of a paper"),
        ("esl-neuro energy report --latex", "the table for a paper; also --markdown and --csv"),
        ("esl-neuro energy report --cite", "BibTeX of the constants used, and a caption"),
        ("esl-neuro energy report --preset esl2023", "Table 1 of ESL-SNNs, recomputed"),
    ),
)
@click.argument("network", required=False, type=click.Path(path_type=Path))
@click.option(
    "--target",
    "targets",
    multiple=True,
    default=ENERGY_TARGETS,
    show_default=True,
    help="Target, path of a TOML file, or 'all'.",
)
@tick_option
@click.option(
    "--explain",
    is_flag=False,
    flag_value=ALL,
    metavar="[ROW]",
    help="Print constants, sources and arithmetic of all rows, of one row number, or of target:model.",
)
@click.option("--full", is_flag=True, help="Print every count, price model and note.")
@click.option("--latex", is_flag=True, help="Print the table in LaTeX.")
@click.option("--markdown", is_flag=True, help="Print the table in Markdown.")
@click.option("--cite", is_flag=True, help="Print BibTeX of the constants used, and a caption, instead.")
@click.option(
    "--csv",
    "csv_file",
    type=OutputPath(standard_output=True),
    is_flag=False,
    flag_value=OutputPath.STANDARD,
    metavar="[FILE]",
    help="Also write all rows as CSV into this file; without FILE, print the table as CSV.",
)
@click.option("--plots", type=OutputPath(folder=True), help="Also draw charts into this folder.")
@click.option(
    "--plot-format",
    type=OneOf(("png", "pdf", "svg")),
    default="png",
    show_default=True,
    help="Format of the charts.",
)
@chart_options
@click.option(
    "--measured",
    multiple=True,
    type=ExistingPath(dir_okay=False),
    help="Measurement from 'energy import' or 'energy measure', shown as a row.",
)
@placement_option
@click.option(
    "--preset", help="A published comparison: esl2023 (needs no network), hu2018, kerasspiking, horowitz-ac-mac."
)
@activity_options("lava", "--spikes")
@workplace_option
@json_option
def report(
    network: Path | None,
    targets: tuple[str, ...],
    tick_s: float | None,
    explain: str | None,
    full: bool,
    latex: bool,
    markdown: bool,
    cite: bool,
    csv_file: Path | None,
    plots: Path | None,
    plot_format: str,
    width: str | None,
    title: str | None,
    measured: tuple[Path, ...],
    placement: str | None,
    preset: str | None,
    activity: Activity,
    where: Workplace,
    runs: Path,
    as_json: bool,
) -> None:
    """Run NETWORK (the latest export if not given), count its operations and price them.

    NETWORK is an export, a run or a .nir file. An export runs on its test set. A run without an export is exported
    first. A .nir file needs --input or --rate.
    """
    printed = csv_file is not None and str(csv_file) == OutputPath.STANDARD
    asked = {"full": full, "explain": explain is not None, "cite": cite}
    tables = {"latex": latex, "markdown": markdown, "csv": printed}
    form = one_form({**asked, **tables}, as_json and any(tables.values()))
    layout = layout_of(width, title, plots, "--plots FOLDER")
    if preset is not None:
        _refuse_beside_preset(form, {"csv": csv_file, "plots": plots, "measured": measured or None})
        document, text = recompute(preset, network, activity, where, runs)
        emit(document, text, as_json)
        return
    if explain is not None and explain != ALL:
        check_row(explain, targets, tick_s)
    folder = chosen(network, runs, activity)
    result = report_network(folder, activity, where, targets, tick_s, measured, placement)
    if csv_file is not None and not printed:
        from esl_neuro.report.energy_csv import write_energy_csv

        for written in write_energy_csv(result, csv_file):
            print_status(f"written: {written}")
    if plots is not None:
        from esl_neuro.report.energy_plots import draw_energy

        with refusing(plots):
            plots.mkdir(parents=True, exist_ok=True)
        drawn = draw_energy(result, plots, plot_format, layout)
        for path in drawn.files:
            print_status(f"written: {path}")
        for left_out in drawn.left_out:
            print_status(left_out)
    from esl_neuro.energy.answer import answer
    from esl_neuro.report.energy_forms import render_form

    found = answer(result)
    document = {"export": str(folder), **result.to_dict(), "answer": found.to_dict()}
    if cite:
        document["citation"] = render_form(result, found, form)
    text = render_form(result, found, form, None if explain == ALL else explain)
    emit(document, text, as_json, verbatim=form in ("cite", *tables))


def one_form(asked: dict[str, bool], with_json: bool) -> str | None:
    """Return the form of the text that was asked for; several at once are rejected, and a table beside JSON."""
    given = [name for name, is_given in asked.items() if is_given]
    if len(given) + with_json > 1:
        named = " and ".join(f"--{name}" for name in [*given, *(["json"] if with_json else [])])
        raise BadInput(f"{named} each print another text; give one of them")
    return given[0] if given else None


def _refuse_beside_preset(form: str | None, others: dict[str, Any]) -> None:
    """Reject what a published comparison does not have, rather than leave it out; its text is always full."""
    given = {form, *(name for name, value in others.items() if value is not None)} - {None, "full"}
    if given:
        options = ", ".join(f"--{name}" for name in sorted(map(str, given)))
        raise BadInput(f"--preset prints a published comparison, which has no {options}; omit it")


def chosen(network: Path | None, runs: Path, activity: Activity) -> Path:
    """Return the network to price: a given one, the export of a run, or the latest export."""
    found = chosen_export(network, runs)
    from esl_neuro.pipeline.activity import export_of

    return export_of(found, print_status, allow_code=activity.allow_code)


def check_row(row: str, targets: tuple[str, ...], tick_s: float | None) -> None:
    """Reject a row that the report will not have."""
    from esl_neuro.pipeline.pricing import row_names
    from esl_neuro.report.energy_text import row_index

    row_index(row, row_names(targets, tick_s))


def report_network(
    folder: Path,
    activity: Activity,
    where: Workplace,
    targets: tuple[str, ...] = ENERGY_TARGETS,
    tick_s: float | None = None,
    measured: tuple[Path, ...] = (),
    placement: str | None = None,
) -> EnergyReport:
    """Run, count and price a network; invalid options are reported before anything runs."""
    from esl_neuro.energy.measurement import Measurement
    from esl_neuro.pipeline.pricing import energy_report, placing, target_names

    names, cores = target_names(targets), placing(placement)
    measurements = [Measurement.load(path) for path in measured]
    return energy_report(
        run_watched(folder, activity, where),
        names,
        tick_s=tick_s,
        placement=cores,
        measurements=measurements,
        network=str(folder),
    )


def recompute(
    preset: str, network: Path | None, activity: Activity, where: Workplace, runs: Path
) -> tuple[dict[str, Any], str]:
    """Recompute a published comparison, and return it as a document and as text."""
    from esl_neuro.energy.literature import LITERATURE, literature
    from esl_neuro.energy.presets import PRESETS
    from esl_neuro.errors import did_you_mean
    from esl_neuro.report.comparison_text import render_literature, render_preset

    if preset in PRESETS:
        result = PRESETS[preset]()
        return result.to_dict(), render_preset(result)
    if preset not in LITERATURE:
        raise BadInput(f"--preset '{preset}' is unknown; {did_you_mean(preset, [*PRESETS, *LITERATURE])}")
    folder = chosen(network, runs, activity)
    run = run_watched(folder, activity, where)
    applied = literature(preset, run.counts)
    return {"export": str(folder), "ran_on": run.ran_on, **applied.to_dict()}, render_literature(applied)
