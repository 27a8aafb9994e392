"""A NIR file in independent readers: ``python -m esl_neuro.cli.readers FILE.nir``, and part of ``esl-neuro verify``."""

from __future__ import annotations

import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from esl_neuro.cli.commands import ExampleCommand, emit, json_option, talk
from esl_neuro.errors import CheckFailed, MissingDependency


@click.command(
    cls=ExampleCommand,
    short_help="Run a NIR file in Norse, snnTorch, SpikingJelly and nirtorch, and compare every spike.",
    examples=(
        ("python -m esl_neuro.cli.readers --install", "install the readers, in pinned versions, once"),
        ("python -m esl_neuro.cli.readers model.nir", "compare on random spikes"),
        ("python -m esl_neuro.cli.readers model.nir --reader norse --json", "one reader, as JSON"),
    ),
)
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--install", "installing", is_flag=True, help="Install the readers first; about 1.2 GB.")
@click.option("--reader", "names", multiple=True, help="Which readers.  [default: all of them]")
@click.option("--readers", "folder", type=click.Path(path_type=Path), help="Their folder (or ESL_NEURO_READERS).")
@click.option("--steps", type=click.IntRange(min=1), help="Steps of the random input.  [default: the file's]")
@click.option("--samples", type=click.IntRange(min=1), default=8, show_default=True, help="Random samples.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the random input.")
@click.option("--dt", "dt_s", type=click.FloatRange(min=0, min_open=True), help="Time step in seconds.")
@json_option
def readers(
    file: Path | None,
    installing: bool,
    names: tuple[str, ...],
    folder: Path | None,
    steps: int | None,
    samples: int,
    seed: int,
    dt_s: float | None,
    as_json: bool,
) -> None:
    """Run FILE in every reader installed and compare its spikes with those of the reference.

    Exit code 1 if any differs, 3 if no reader is installed.
    """
    if file is None and not installing:
        raise click.UsageError("give a NIR file, or --install")
    if installing:
        install_readers(names, folder)
    if file is not None:
        document = verify_file(file, names, folder, steps=steps, samples=samples, seed=seed, dt_s=dt_s)
        emit(document, render(document), as_json)
        refuse_difference(document)


def install_readers(names: tuple[str, ...] = (), folder: Path | None = None) -> None:
    """Install readers (all if none is named), saying what is done."""
    from esl_neuro.interchange.readers import READERS, default_folder, install

    install(folder or default_folder(), names or READERS, talk)


def verify_file(file: Path, names: tuple[str, ...] = (), folder: Path | None = None, **options: Any) -> dict[str, Any]:
    """Run a file in readers (all if none is named) and return what there is to say, fit for JSON."""
    from esl_neuro.interchange.readers import READERS, verify

    verdicts = verify(file, names=names or READERS, folder=folder, **options)
    return {"file": str(file), "readers": [_without_nan(asdict(verdict)) for verdict in verdicts]}


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def render(document: dict[str, Any]) -> str:
    """Verdicts as a table, then the first divergence of each reader that differs."""
    from esl_neuro.report.tables import table

    rows, more = [], []
    for verdict in document["readers"]:
        ran = verdict["status"] in ("equal", "different")
        figures = [f"{verdict[name]:,}" if ran else "" for name in ("compared", "spikes", "differing")]
        rows.append((verdict["reader"], verdict["version"], verdict["status"], *figures))
        if verdict["reason"]:
            more.append(f"{verdict['reader']} {verdict['status']}: {verdict['reason']}")
        if verdict["divergence"]:
            more.append(f"{verdict['reader']} differs first at {_place(verdict['divergence'])}")
    headers = ("reader", "version", "result", "entries", "spikes", "differing")
    return "\n".join([document["file"], "", table(headers, rows, left=3), *([""] if more else []), *more])


def _place(divergence: dict[str, Any]) -> str:
    if divergence["neuron"] < 0:
        return f"'{divergence['layer']}': {divergence['cause']}"
    found, expected, potential, threshold, theirs = (
        _figure(divergence[name]) for name in ("found", "expected", "potential", "threshold", "reader_potential")
    )
    return (
        f"'{divergence['layer']}', step {divergence['step']}, sample {divergence['sample']}, neuron "
        f"{divergence['neuron']}: {found} instead of {expected}; potential {potential}, threshold {threshold}, "
        f"in the reader after the reset {theirs}\n  likely cause: {divergence['cause']}"
    )


def _figure(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.9g}"


def refuse_difference(document: dict[str, Any]) -> None:
    """Fail if a reader differs or breaks, or if none is there to tell.

    Raises
    ------
    CheckFailed
        If spikes differ, or a reader's process died.
    MissingDependency
        If no reader is installed.
    """
    by_status: dict[str, list[str]] = {}
    for verdict in document["readers"]:
        by_status.setdefault(verdict["status"], []).append(verdict["reader"])
    if set(by_status) == {"absent"}:
        raise MissingDependency(document["readers"][0]["reason"])
    wrong = by_status.get("different", []) + by_status.get("broken", [])
    if wrong:
        raise CheckFailed(f"{document['file']}: not confirmed by {', '.join(wrong)}")


if __name__ == "__main__":
    from esl_neuro.cli.main import cli, main

    cli.add_command(readers)
    sys.exit(main(["readers", *sys.argv[1:]]))
