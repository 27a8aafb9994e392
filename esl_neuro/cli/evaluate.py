"""``esl-neuro evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from esl_neuro.cli.commands import ExampleCommand, data_option, emit, json_option, percent, runs_option
from esl_neuro.cli.workspace import latest_run
from esl_neuro.errors import BadInput


@click.command(
    cls=ExampleCommand,
    short_help="Test a trained network, with noise on request.",
    examples=(
        ("esl-neuro evaluate", "the latest run on its test set"),
        ("esl-neuro evaluate --noise salt_and_pepper=0.1", "with a tenth of the pixels black or white"),
        ("esl-neuro evaluate --noise spike_drop=0.2 --noise jitter=1", "several kinds, one after the other"),
    ),
)
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--noise", "noises", multiple=True, metavar="NAME=LEVEL", help="Disturb the test set; may be repeated.")
@click.option("--noise-seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the noise.")
@data_option
@runs_option
@json_option
def evaluate(run: Path | None, noises: tuple[str, ...], noise_seed: int, runs: Path, as_json: bool) -> None:
    """Test the network of RUN (the latest one if not given) at its best epoch.

    The kinds of noise are definitions of this project; no paper's protocol is reproduced.
    """
    document = evaluate_run(run or latest_run(runs), noises, noise_seed)
    emit(document, render(document), as_json)


def evaluate_run(run: Path, noises: tuple[str, ...], seed: int) -> dict[str, Any]:
    """Test accuracy of a run, undisturbed and with each noise alone."""
    from esl_neuro.data import prepare
    from esl_neuro.data.inputs import Disturbance
    from esl_neuro.data.noise import NOISES
    from esl_neuro.training.run_folder import RunFolder

    source = RunFolder(run)
    recipe = source.recipe()
    disturbances = [Disturbance(*_read(noise), seed) for noise in noises]
    for disturbance in disturbances:
        NOISES[disturbance.noise]
    dataset = prepare(recipe.data)
    from esl_neuro.training.trainer import accuracy, load_network

    network = load_network(source, dataset)
    return {
        "run": str(run),
        "samples": len(dataset.test),
        "accuracy": accuracy(network, dataset, dataset.test, recipe.data),
        "noise_seed": seed,
        "noise": [
            {
                "name": disturbance.noise,
                "level": disturbance.level,
                "accuracy": accuracy(network, dataset, dataset.test, recipe.data, disturbance),
            }
            for disturbance in disturbances
        ],
    }


def _read(noise: str) -> tuple[str, float]:
    name, separator, level = noise.partition("=")
    try:
        return name, float(level if separator else "")
    except ValueError as error:
        raise BadInput(f"--noise {noise}: cannot be read; write name=level, such as salt_and_pepper=0.1") from error


def render(document: dict[str, Any]) -> str:
    """Accuracies as a table."""
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
