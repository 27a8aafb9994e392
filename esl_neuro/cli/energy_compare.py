"""``esl-neuro energy compare``."""

from __future__ import annotations

from pathlib import Path

import click

from esl_neuro.cli.commands import ExampleCommand, emit, json_option
from esl_neuro.cli.network_run import Activity, activity_options, run_network


@click.command(
    cls=ExampleCommand,
    short_help="Two networks on every target: ratios, and how sure they are.",
    examples=(
        ("esl-neuro energy compare runs/dense/loihi2 runs/sparse/loihi2", "dense against sparse"),
        ("esl-neuro energy compare a.nir b.nir --rate 0.05 --backend integer", "anybody's networks"),
    ),
)
@click.argument("first", type=click.Path(exists=True, path_type=Path))
@click.argument("second", type=click.Path(exists=True, path_type=Path))
@click.option("--target", "targets", multiple=True, help="Target, or path of a TOML file.  [default: as energy report]")
@click.option(
    "--tick-s",
    type=click.FloatRange(min=0, min_open=True),
    default=1e-3,
    show_default=True,
    help="Seconds per time step on a chip, for static power.",
)
@activity_options
@json_option
def compare(
    first: Path,
    second: Path,
    targets: tuple[str, ...],
    tick_s: float,
    activity: Activity,
    runs: Path,  # noqa: ARG001 (an option that all commands on networks share)
    as_json: bool,
) -> None:
    """Run FIRST and SECOND (exports or .nir files) and compare their energies by each price model.

    The constants are drawn once for both, so that what both share cancels in the ratio.
    """
    from esl_neuro.cli.energy import TARGETS
    from esl_neuro.energy.comparison import compare_counts
    from esl_neuro.energy.counts import count
    from esl_neuro.report.comparison_text import render_comparison

    ran = [run_network(path, activity) for path in (first, second)]
    counts = [count(program, trace) for program, trace, _ in ran]
    result = compare_counts((str(first), str(second)), (counts[0], counts[1]), targets or TARGETS, tick_s)
    emit({"ran_on": [words for _, _, words in ran], **result.to_dict()}, render_comparison(result), as_json)
