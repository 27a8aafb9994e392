"""``esl-neuro energy compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from esl_neuro.cli.commands import ExampleCommand, ExistingPath, emit, json_option, print_status
from esl_neuro.cli.network_run import activity_options, placement_option, run_watched, tick_option, workplace_option
from esl_neuro.pipeline.choices import ENERGY_TARGETS

if TYPE_CHECKING:
    from esl_neuro.pipeline.activity import Activity
    from esl_neuro.pipeline.workers import Workplace


@click.command(
    cls=ExampleCommand,
    short_help="Compare two networks on every target: ratios and their uncertainty.",
    examples=(
        ("esl-neuro energy compare runs/dense runs/sparse", "dense against sparse, chip against GPU"),
        ("esl-neuro energy compare a.nir b.nir --rate 0.05 --backend integer", "any two NIR files"),
    ),
)
@click.argument("first", type=ExistingPath())
@click.argument("second", type=ExistingPath())
@click.option(
    "--target", "targets", multiple=True, help="Target, path of a TOML file, or 'all'.  [default: as in energy report]"
)
@tick_option
@placement_option
@activity_options("lava", "--spikes")
@workplace_option
@json_option
def compare(
    first: Path,
    second: Path,
    targets: tuple[str, ...],
    tick_s: float | None,
    placement: str | None,
    activity: Activity,
    where: Workplace,
    runs: Path,  # noqa: ARG001 (an option of all commands on networks)
    as_json: bool,
) -> None:
    """Run FIRST and SECOND (runs, exports or .nir files) and compare their energies with each price model.

    Both networks use the same draws of the constants, so that shared constants cancel in the ratio. A second table
    corresponds to that of ESL-SNNs, with counted operations: FIRST, the dense network, on each processor over SECOND on
    each chip.
    """
    from esl_neuro.pipeline.activity import export_of
    from esl_neuro.pipeline.pricing import compare_energy, placing, target_names
    from esl_neuro.report.comparison_text import render_comparison

    targets, cores = target_names(targets or ENERGY_TARGETS), placing(placement)
    first, second = (export_of(path, print_status, allow_code=activity.allow_code) for path in (first, second))
    one, other = (run_watched(path, activity, where) for path in (first, second))
    result = compare_energy(one, other, targets, names=(str(first), str(second)), tick_s=tick_s, placement=cores)
    emit(result.to_dict(), render_comparison(result), as_json)
