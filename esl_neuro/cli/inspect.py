"""``esl-neuro inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from esl_neuro.cli.commands import ExampleCommand, emit, json_option

if TYPE_CHECKING:
    from esl_neuro.pipeline.inspection import Inspected


@click.command(
    cls=ExampleCommand,
    short_help="Show what a file or a folder is, and what is in it.",
    examples=(
        ("esl-neuro inspect runs/mlp-digits-001", "a run"),
        ("esl-neuro inspect runs/mlp-digits-001/loihi2", "an export: program, accuracies, findings, files"),
        ("esl-neuro inspect net.nir", "the nodes of a NIR file, whichever program wrote it"),
        ("esl-neuro inspect samples.npz --json", "names, shapes and ranges of arrays, for a program"),
    ),
)
@click.argument("path", type=click.Path(path_type=Path))
@json_option
def inspect(path: Path, as_json: bool) -> None:
    """Show format, version, contents and sizes of PATH. Nothing of it is run.

    PATH is a run, an export, a sweep, a search or a folder of data, or a NIR, HDF5, .net, .npz, .npy, safetensors,
    JSON, TOML or image file.
    """
    from esl_neuro.pipeline.inspection import inspect_path

    found = inspect_path(path)
    emit(found.to_dict(), render(found), as_json)


def render(found: Inspected) -> str:
    """Write what it is, then one line for each part."""
    version = f", {found.version}" if found.version else ""
    width = max((len(name) for name, _ in found.contents), default=0)
    lines = [f"{found.path}: {found.format}{version}, {found.bytes:,} bytes"]
    return "\n".join([*lines, *(f"  {name:<{width}}  {said}" for name, said in found.contents)])
