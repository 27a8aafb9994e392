"""``esl-neuro evaluate``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from esl_neuro.cli.commands import ExampleCommand, data_option, emit, json_option, percent, runs_option
from esl_neuro.cli.workspace import latest_run


@click.command(
    cls=ExampleCommand,
    short_help="Test a trained network, optionally with noise.",
    examples=(
        ("esl-neuro evaluate", "the latest run on its test set"),
        ("esl-neuro evaluate --noise salt_and_pepper=0.1", "with a tenth of the pixels black or white"),
        ("esl-neuro evaluate --noise spike_drop=0.2 --noise jitter=1", "several kinds of noise, each alone"),
    ),
)
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option(
    "--noise",
    "noises",
    multiple=True,
    metavar="NAME=LEVEL",
    help="Add noise to the test set; may be repeated, each noise is tested alone.",
)
@click.option("--noise-seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the noise.")
@data_option
@runs_option
@json_option
def evaluate(run: Path | None, noises: tuple[str, ...], noise_seed: int, runs: Path, as_json: bool) -> None:
    """Test the network of RUN (the latest one if not given) at its best epoch.

    The kinds of noise are defined by this project; they do not reproduce the protocol of any paper.
    """
    from esl_neuro.pipeline.training import evaluate as evaluate_run

    folder = run or latest_run(runs)
    document = {"run": str(folder), **asdict(evaluate_run(folder, noises, noise_seed))}
    emit(document, render(document), as_json)


def render(document: dict[str, Any]) -> str:
    """Write the accuracies as a table."""
    from esl_neuro.report.tables import table

    clean = document["accuracy"]
    rows = [("none", "", percent(clean), "")]
    rows += [
        (entry["name"], f"{entry['level']:g}", percent(entry["accuracy"]), f"{100 * (entry['accuracy'] - clean):+.2f}")
        for entry in document["noise"]
    ]
    return f"{document['run']}: {document['samples']} test samples\n\n" + table(
        ("noise", "level", "accuracy", "points"), rows
    )
