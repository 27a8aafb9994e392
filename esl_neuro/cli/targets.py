"""``esl-neuro targets``."""

from __future__ import annotations

import click

from esl_neuro.cli.commands import ExampleCommand, ExampleGroup, emit, json_option


@click.group(
    cls=ExampleGroup,
    short_help="Chips and processors, for energy and export.",
    examples=(
        ("esl-neuro targets list", "all of them"),
        ("esl-neuro targets show loihi", "every constant with its source"),
        ("esl-neuro targets new mychip --from loihi2", "write mychip.toml, a chip of your own, to edit"),
        ("esl-neuro targets validate ./mychip.toml", "check a file of your own"),
    ),
)
def targets() -> None:
    """List, show and check the target files of chips and processors."""


@targets.command(
    "list",
    cls=ExampleCommand,
    short_help="List all targets.",
    examples=(("esl-neuro targets list", "names, price models and the number of published constants"),),
)
@json_option
def list_targets(as_json: bool) -> None:
    """List every target of the package."""
    from esl_neuro.hardware import KIND, load_target
    from esl_neuro.report.target_text import list_rows, render_target_list
    from esl_neuro.resources import resource_names

    rows = list_rows([load_target(name) for name in resource_names(KIND)])
    emit({"targets": rows}, render_target_list(rows), as_json)


@targets.command(
    cls=ExampleCommand,
    short_help="Show the limits and constants of a target.",
    examples=(("esl-neuro targets show truenorth", "with ranges, scopes, grades and sources"),),
)
@click.argument("target")
@json_option
def show(target: str, as_json: bool) -> None:
    """Show TARGET, a name or the path of a TOML file."""
    from esl_neuro.hardware import load_target
    from esl_neuro.report.target_text import render_target

    chip = load_target(target)
    emit(chip.model_dump(), render_target(chip), as_json)


@targets.command(
    cls=ExampleCommand,
    short_help="Write the file of a chip of your own, as a copy to edit.",
    examples=(
        ("esl-neuro targets new mychip --from loihi2", "writes mychip.toml"),
        ("esl-neuro targets validate ./mychip.toml", "check it after each change"),
        ("esl-neuro export --target mychip.toml", "compile for it"),
    ),
)
@click.argument("name")
@click.option("--from", "source", required=True, metavar="TARGET", help="The target to copy: a name, or a TOML file.")
@json_option
def new(name: str, source: str, as_json: bool) -> None:
    """Write NAME.toml into the current folder: a copy of a target under its own name, with all its sources.

    Whatever is not changed is still of the copied target, and every report says so. A file with other
    contents is never overwritten.
    """
    from esl_neuro.hardware.copying import copy_target

    path = copy_target(name, source)
    text = (
        f"{path}: a copy of {source}. Change limits, [arithmetic] and constants, each with its source, then run "
        f"'esl-neuro targets validate ./{path}' and 'esl-neuro export --target {path}'"
    )
    emit({"file": str(path), "copied_from": source}, text, as_json)


@targets.command(
    cls=ExampleCommand,
    short_help="Check target files, and report all findings at once.",
    examples=(
        ("esl-neuro targets validate ./mychip.toml", "a file of your own"),
        ("esl-neuro targets validate", "all files of the package"),
    ),
)
@click.argument("targets", nargs=-1)
@json_option
def validate(targets: tuple[str, ...], as_json: bool) -> None:
    """Check TARGETS (all of the package if none is given). Exit code 2 if there are findings."""
    from esl_neuro.energy.target_check import findings
    from esl_neuro.errors import BadInput
    from esl_neuro.hardware import KIND
    from esl_neuro.resources import resource_names

    names = targets or tuple(resource_names(KIND))
    found = {name: findings(name) for name in names}
    wrong = [finding for name in names for finding in found[name]]
    text = "\n".join(f"{name}: ok" for name in names)
    if not wrong or as_json:
        emit({"findings": found}, text, as_json)
    if wrong:
        raise BadInput("; ".join(wrong))
