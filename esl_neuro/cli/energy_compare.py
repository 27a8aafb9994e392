"""``esl-neuro energy compare``."""

from __future__ import annotations

from pathlib import Path

import click

from esl_neuro.cli.commands import ExampleCommand, emit, json_option
from esl_neuro.cli.network_run import Activity, activity_options, placement_option, placing, run_network


@click.command(
    cls=ExampleCommand,
    short_help="Two networks on every target: ratios, and how sure they are.",
    examples=(
        ("esl-neuro energy compare runs/dense runs/sparse", "dense against sparse, chip against GPU"),
        ("esl-neuro energy compare a.nir b.nir --rate 0.05 --backend integer", "anybody's networks"),
    ),
)
@click.argument("first", type=click.Path(exists=True, path_type=Path))
@click.argument("second", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--target", "targets", multiple=True, help="Target, path of a TOML file, or 'all'.  [default: as energy report]"
)
@click.option(
    "--tick-s",
    type=click.FloatRange(min=0, min_open=True),
    default=1e-3,
    show_default=True,
    help="Seconds per time step on a chip, for static power.",
)
@placement_option
@activity_options
@json_option
def compare(
    first: Path,
    second: Path,
    targets: tuple[str, ...],
    tick_s: float,
    placement: str | None,
    activity: Activity,
    runs: Path,  # noqa: ARG001 (an option that all commands on networks share)
    as_json: bool,
) -> None:
    """Run FIRST and SECOND (runs, exports or .nir files) and compare their energies by each price model.

    The constants are drawn once for both, so that what both share cancels in the ratio. Then the table of ESL-SNNs with
    counted operations: FIRST, the dense one, on each processor over SECOND on each chip.
    """
    from esl_neuro.cli.energy import TARGETS, target_names
    from esl_neuro.energy.comparison import Side, compare_counts
    from esl_neuro.energy.counts import count
    from esl_neuro.report.comparison_text import render_comparison

    names, cores = target_names(targets or TARGETS), placing(placement)
    ran = [run_network(path, activity) for path in (first, second)]
    one, other = (
        Side(str(path), run.ran_on, run.accuracy, count(run.program, run.trace, cores(run.program)))
        for path, run in zip((first, second), ran, strict=True)
    )
    result = compare_counts(one, other, names, tick_s)
    emit(result.to_dict(), render_comparison(result), as_json)
