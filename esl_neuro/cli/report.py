"""``esl-neuro report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from esl_neuro.cli.commands import ExampleCommand, OutputPath, emit, json_option, print_status
from esl_neuro.cli.network_run import activity_options, tick_option
from esl_neuro.cli.progress import lava_bar
from esl_neuro.cli.workspace import chosen_run, existing

if TYPE_CHECKING:
    from esl_neuro.pipeline.activity import Activity
    from esl_neuro.pipeline.report_page import WrittenReport


@click.command(
    cls=ExampleCommand,
    short_help="Write one HTML file that shows a network and its figures.",
    examples=(
        ("esl-neuro report", "the latest run, in its folder"),
        ("esl-neuro report runs/mlp-digits-001 --out digits.html", "one run, in this file"),
        ("esl-neuro report runs/mlp-digits-001/loihi2", "one of several exports of a run"),
        ("esl-neuro report net.nir --rate 0.05", "any NIR file, on random spikes of a given rate"),
        ("esl-neuro report --open", "write it, and open it in the browser"),
    ),
)
@click.argument("network", metavar="[RUN|EXPORT|FILE.nir]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=OutputPath(),
    help="File to write.  [default: report.html in the run or export, NAME-report.html for NAME.nir]",
)
@click.option("--open", "opening", is_flag=True, help="Open the file in the browser; without one, only say so.")
@tick_option
@activity_options("integer", "--spikes", chip=True)
@json_option
def report(
    network: Path | None,
    out: Path | None,
    opening: bool,
    tick_s: float | None,
    activity: Activity,
    runs: Path,
    as_json: bool,
) -> None:
    """Write a report of NETWORK (the latest run if not given) that opens in any browser, without a network.

    It shows accuracy, training, connections, spikes, fidelity, cores, energy and what was verified, with every command
    that repeats it. NETWORK is run once, and the comparisons that need no Lava are made again. A section without data
    says what would give them. Exit code 1 if a comparison fails; the report is written all the same.
    """
    nothing = "there is no such run, export or NIR file"
    chosen = chosen_run(None, runs) if network is None else existing(network, nothing)
    from esl_neuro.pipeline.report_page import write_report

    with lava_bar(activity.backend) as progress:
        written = write_report(chosen, out, activity, tick_s=tick_s, on_status=print_status, progress=progress)
    if opening and not open_in_browser(written.file):
        print_status(f"{written.file}: no browser was found; open the file in one")
    emit(written.to_dict(), render(written), as_json)
    written.refuse_difference()


def open_in_browser(file: Path) -> bool:
    """Open a file in the browser of the user; return whether there is one."""
    import webbrowser

    try:
        return webbrowser.open(file.absolute().as_uri())
    except webbrowser.Error:
        return False


def render(written: WrittenReport) -> str:
    """Say what was written, and what it lacks."""
    data = written.data
    lines = [f"{written.file}: report of {data.name}, {written.size / 1e6:.2f} MB, opens without a network"]
    lines += [f"  not in it: {name}: {reason}" for name, reason in data.missing.items()]
    return "\n".join(lines)
