"""``esl-neuro evaluate``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esl_neuro.cli.commands import SEED, ExampleCommand, emit, json_option, percent, print_status
from esl_neuro.cli.network_run import activity_options, workplace_option
from esl_neuro.cli.progress import sample_bar
from esl_neuro.cli.workspace import chosen_run

if TYPE_CHECKING:
    from esl_neuro.pipeline.activity import Activity
    from esl_neuro.pipeline.workers import Workplace


@click.command(
    cls=ExampleCommand,
    short_help="Test a trained network, optionally with noise, or an export, or a NIR file.",
    examples=(
        ("esl-neuro evaluate", "the latest run on its test set"),
        (
            "esl-neuro evaluate net.nir --input data.npz",
            "any NIR file: integers and equations, on your samples",
        ),
        ("esl-neuro evaluate --noise salt_and_pepper=0.1", "with a tenth of the pixels black or white"),
        ("esl-neuro evaluate --jobs 2", "the samples shared by two processes"),
        ("esl-neuro evaluate --noise spike_drop=0.2 --noise jitter=1", "several kinds of noise, each alone"),
    ),
)
@click.argument("network", metavar="[RUN|EXPORT|FILE.nir]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--noise",
    "noises",
    multiple=True,
    metavar="NAME=LEVEL",
    help="Add noise to the test set; may be repeated, each noise is tested alone.",
)
@click.option("--noise-seed", type=SEED, default=0, show_default=True, help="Seed of the noise.")
@activity_options(None, chip=True)
@workplace_option
@json_option
def evaluate(
    network: Path | None,
    noises: tuple[str, ...],
    noise_seed: int,
    activity: Activity,
    where: Workplace,
    runs: Path,
    as_json: bool,
) -> None:
    """Test the network of RUN (the latest one if not given) at its best epoch, or the integers of EXPORT or FILE.nir.

    The integers are compared with the equations of the graph on the same samples: the test set of EXPORT, or --input
    with an array 'labels'.

    The kinds of noise are defined by this project; they do not reproduce the protocol of any paper.
    """
    folder = chosen_run(network, runs)
    from esl_neuro.errors import BadInput
    from esl_neuro.pipeline.activity import Activity, is_run
    from esl_neuro.pipeline.given_data import refuse_unread
    from esl_neuro.pipeline.training import evaluate as evaluate_run
    from esl_neuro.pipeline.training import load_run

    if activity.inputs is not None or not is_run(folder):
        from esl_neuro.pipeline.evaluation import evaluate_network

        if noises:
            raise BadInput(f"--noise: {folder} is not a run; noise is added to the data set of a run")
        with sample_bar("integer", where) as progress:
            tested = evaluate_network(folder, activity, print_status, where=where, progress=progress)
        emit(tested.to_dict(), render_network(tested.to_dict()), as_json)
        return
    if activity != Activity(data=activity.data, allow_code=activity.allow_code):
        raise BadInput(f"{folder}: is a run, tested on its test set; give its export (esl-neuro export) other inputs")
    print_status(f"{folder}: testing")
    tested_run = load_run(folder, allow_code=activity.allow_code)
    refuse_unread(tested_run.recipe.data, activity.data)
    with sample_bar("integer", where) as progress:
        figures = evaluate_run(tested_run, noises, noise_seed, where=where, on_status=print_status, progress=progress)
    document = {"run": str(folder), **asdict(figures)}
    emit(document, render(document), as_json)


def render_network(document: dict[str, Any]) -> str:
    """Write the accuracies of a compiled network."""
    return (
        f"{document['network']}: {document['ran_on']} x {document['steps']} steps\n"
        f"accuracy: float {percent(document['accuracy_float'])}, integer {percent(document['accuracy_integer'])} "
        f"(loss {document['loss_points']:.2f} points), {document['moved']} of {document['samples']} classes differ"
    )


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
