"""``esl-neuro runs``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from esl_neuro.cli.commands import ExampleCommand, ExampleGroup, emit, json_option, percent, runs_option
from esl_neuro.cli.workspace import latest_run

if TYPE_CHECKING:
    from esl_neuro.pipeline.runs import RunEntry


@click.group(
    cls=ExampleGroup,
    short_help="Runs that were trained here.",
    examples=(("esl-neuro runs list", "which run, with accuracy, density, date and exports"),),
)
def runs() -> None:
    """List the runs of a folder."""


@runs.command(
    "list",
    cls=ExampleCommand,
    short_help="List all runs, the latest one last.",
    examples=(
        ("esl-neuro runs list", "the runs in ./runs"),
        ("esl-neuro runs list --runs elsewhere --json", "another folder, for a program"),
    ),
)
@runs_option
@json_option
def list_command(runs: Path, as_json: bool) -> None:
    """List the runs with accuracy, density, date and exports. The finished run marked * is what other commands take."""
    from esl_neuro.pipeline.runs import list_runs

    entries = list_runs(runs)
    latest = latest_run(runs)
    document = {"runs": [entry.to_dict() for entry in entries], "latest": None if latest is None else str(latest)}
    emit(document, render(entries, latest), as_json)


def render(entries: list[RunEntry], latest: Path | None) -> str:
    """Write the runs as a table, and below it what is wrong with damaged ones."""
    from esl_neuro.report.tables import table

    if not entries:
        return "no runs; make one with 'esl-neuro train'"
    rows = [
        (
            f"{entry.folder}{' *' if latest is not None and Path(entry.folder) == latest else ''}",
            entry.changed,
            entry.state,
            Path(entry.data).name,
            ", ".join(entry.exports),
            "" if entry.seed is None else str(entry.seed),
            "" if entry.test_accuracy is None else percent(entry.test_accuracy),
            "" if entry.density is None else f"{entry.density:.3f}",
        )
        for entry in entries
    ]
    problems = "".join(f"\n{entry.problem}" for entry in entries if entry.problem)
    return table(("run", "changed", "state", "data", "exports", "seed", "test", "density"), rows, 5) + problems
