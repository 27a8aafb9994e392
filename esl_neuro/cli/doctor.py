"""``esl-neuro doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from esl_neuro.cli.commands import ExampleCommand, data_option, emit, json_option, runs_option

if TYPE_CHECKING:
    from esl_neuro.pipeline.doctor import Examined


@click.command(
    cls=ExampleCommand,
    short_help="Show what is installed, what is missing, and the command that installs it.",
    examples=(
        ("esl-neuro doctor", "versions, optional packages, folders, data sets"),
        ("esl-neuro doctor --data elsewhere", "look for data sets in another folder"),
        ("esl-neuro doctor --json", "the same for a program, or for a report of a problem"),
    ),
)
@data_option
@runs_option
@json_option
def doctor(runs: Path, as_json: bool) -> None:
    """Examine this installation. Exit code 1 if something that every command needs is broken."""
    from esl_neuro.errors import CheckFailed
    from esl_neuro.pipeline.doctor import PROBLEM, examine

    found = examine(runs)
    problems = [each for each in found if each.state == PROBLEM]
    emit({"problems": len(problems), "examined": [each.to_dict() for each in found]}, render(found), as_json)
    if problems:
        raise CheckFailed("; ".join(f"{each.name}: {each.detail}; {each.fix}" for each in problems))


def render(found: list[Examined]) -> str:
    """Write what was found by topic, one line each; what is missing with its command."""
    lines: list[str] = []
    width = max(len(each.name) for each in found)
    for each, before in zip(found, [None, *found], strict=False):
        if before is not None and before.topic != each.topic:
            lines.append("")
        fix = f": {each.fix}" if each.fix else ""
        lines.append(f"{each.state:<8}{each.name:<{width}}  {each.detail}{fix}")
    return "\n".join(lines)
