"""``esl-neuro predict``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from esl_neuro.cli.commands import ExampleCommand, ExistingPath, allow_code_option, emit, json_option, print_status

if TYPE_CHECKING:
    from esl_neuro.pipeline.prediction import Prediction


@click.command(
    cls=ExampleCommand,
    short_help="Classify one sample with the integers of an export.",
    examples=(
        ("esl-neuro predict runs/mlp-digits-001/loihi2 digit.npy", "an array"),
        ("esl-neuro predict runs/mlp-digits-001 digit.png", "an image; a run without an export is exported first"),
        ("esl-neuro predict runs/mlp-digits-001 digit.csv --json", "numbers separated by commas; for a program"),
        ("esl-neuro predict runs/mlp-digits-002 cat.aedat", "an event recording, for a network of own recordings"),
    ),
)
@click.argument("network", metavar="EXPORT|RUN", type=ExistingPath(file_okay=False))
@click.argument("sample", metavar="FILE", type=ExistingPath(dir_okay=False))
@allow_code_option
@json_option
def predict(network: Path, sample: Path, allow_code: bool, as_json: bool) -> None:
    """Print the class of one sample, the score of every class, and the spikes of every layer.

    FILE is .npy, .csv or an image of the size of the input. Images and uint8 are pixels, divided by 255; other numbers
    are taken as they are, in the unit of the training samples. A network trained on your own recordings also takes a
    recording: .aedat, .aedat4, or .npz with t, x, y and p. The sample is encoded as in every evaluation.
    """
    from esl_neuro.pipeline.prediction import predict_sample

    predicted = predict_sample(network, sample, print_status, allow_code=allow_code)
    emit(predicted.to_dict(), render(predicted), as_json)


def render(predicted: Prediction) -> str:
    """Write the class, then scores and spikes."""
    from esl_neuro.report.tables import table

    named = bool(predicted.class_names)
    rows = [
        (str(label), *([predicted.name_of(label)] * named), f"{score:,}", "<" if label == predicted.predicted else "")
        for label, score in enumerate(predicted.scores)
    ]
    name = f" ({predicted.name_of(predicted.predicted)})" if named else ""
    tie = ", tied with another class, of which the first is taken" if predicted.tie else ""
    spikes = ", ".join(f"{name} {count:,}" for name, count in predicted.spikes.items())
    return (
        f"{predicted.sample} ({predicted.read_as}): class {predicted.predicted}{name}{tie}\n\n"
        f"{table(('class', *['name'] * named, 'score', ''), rows, left=1 + named)}\n\n"
        f"score: {predicted.score}, {predicted.steps} steps\nspikes: {spikes}"
    )
