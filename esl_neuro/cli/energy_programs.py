"""``esl-neuro energy programs``."""

from __future__ import annotations

from pathlib import Path

import click

from esl_neuro.cli.commands import ExampleCommand, OutputPath, emit, json_option, print_status
from esl_neuro.storage import refusing


@click.command(
    cls=ExampleCommand,
    short_help="Write the runs on a Loihi 2 that would separate its prices, as a Lava script.",
    examples=(("esl-neuro energy programs board-hour", "a script for the owner of a board, about an hour"),),
)
@click.argument("folder", type=OutputPath(folder=True))
@json_option
def programs(folder: Path, as_json: bool) -> None:
    """Write a Lava script into FOLDER, and say how well its runs would separate the prices of operations."""
    from esl_neuro.energy.chip_fit import CORNERS
    from esl_neuro.energy.pair_programs import plan, rehearse, write_programs
    from esl_neuro.report.fit_text import render_rehearsal

    with refusing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    path = write_programs(folder)
    print_status(f"written: {path}")
    runs = plan()
    found = {corner: rehearse(runs, prices) for corner, prices in CORNERS.items()}
    document = {"script": str(path), "runs": len(runs), "rehearsal": {key: e.to_dict() for key, e in found.items()}}
    emit(document, render_rehearsal(len(runs), found), as_json)
