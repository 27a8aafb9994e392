"""``esl-neuro export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from esl_neuro.cli.commands import ExampleCommand, data_option, emit, json_option, percent, runs_option
from esl_neuro.cli.workspace import latest_run
from esl_neuro.pipeline.choices import FORMATS


@click.command(
    cls=ExampleCommand,
    short_help="Write a run as NIR graph and integer program.",
    examples=(
        ("esl-neuro export", "the latest run, for Loihi 2"),
        ("esl-neuro export runs/mlp-digits-001 --target loihi2", "a certain run"),
        ("esl-neuro export --out somewhere", "into another folder"),
        ("esl-neuro export --format netx --format lava-script", "also for lava-dl, and as a script for Lava"),
        ("esl-neuro export --calibrate 64", "search each layer's scale on 64 training samples"),
        ("esl-neuro export --thresholds folded", "a NIR graph for readers that know one threshold per layer"),
    ),
)
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--target", default="loihi2", show_default=True, help="Chip: a name, or the path of a TOML file.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder to write.  [default: RUN/TARGET]")
@click.option(
    "--max-loss",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Points of test accuracy that quantisation may cost before the export fails.",
)
@click.option(
    "--format",
    "formats",
    type=click.Choice(list(FORMATS)),
    multiple=True,
    help="Also write network.net for lava-dl (netx), or network.py for Lava alone (lava-script).",
)
@click.option(
    "--thresholds",
    type=click.Choice(["native", "folded"]),
    default="native",
    show_default=True,
    help="Thresholds as they are, or divided out of the weights, for readers that know one per layer.",
)
@click.option("--tie-safe", is_flag=True, help="Keep thresholds off the grid of weights: '>' and '>=' then agree.")
@click.option(
    "--nir",
    "nir_version",
    type=click.Choice(["current", "1.0.4"]),
    default="current",
    show_default=True,
    help="Form of model.nir; 1.0.4 can be opened by sinabs and Rockpool.",
)
@click.option(
    "--dt",
    "dt_s",
    type=click.FloatRange(min=0, min_open=True),
    help="Time step in seconds.  [default: 1e-4; 1e-3 for single spikes]",
)
@click.option(
    "--input-bits",
    type=click.IntRange(1, 16),
    help="Payload of graded input, in bits.  [default: training.input_bits of the recipe, 8]",
)
@click.option(
    "--calibrate",
    type=click.IntRange(min=1),
    metavar="SAMPLES",
    help="Search the scale of each layer on so many training samples.",
)
@click.option("--any-size", is_flag=True, help="Compile for the simulators although it does not fit on one chip.")
@data_option
@runs_option
@json_option
def export(
    run: Path | None, target: str, out: Path | None, max_loss: float, runs: Path, as_json: bool, **how: Any
) -> None:
    """Export RUN (the latest one if not given) as a NIR graph and an integer program.

    Prints the quantisation error of each layer and the test accuracy before and after.
    """
    from esl_neuro.pipeline.exports import export_run

    exported = export_run(run or latest_run(runs), target, out, **how)
    document = exported.to_dict()
    emit(document, render(document), as_json)
    exported.refuse_loss(max_loss)


def render(document: dict[str, Any]) -> str:
    """Quantisation errors and accuracies as text."""
    from esl_neuro.report.tables import table

    rows = [
        (
            error["layer"],
            f"{error['scale']:.2f}",
            percent(error["weight_error"]),
            percent(error["threshold_error"]),
            f"{error['decay_error']:.1e}",
            f"{error['bias_error']:.1e}",
            f"{error['declared']:,}",
            f"{error['lost']:,}",
            percent(error["headroom"]),
        )
        for error in document["quantisation"]
    ]
    headers = (
        "layer",
        "scale",
        "weights (rms)",
        "threshold (max)",
        "decay",
        "bias",
        "connections",
        "lost",
        "u range used",
    )
    accuracy = document["accuracy"]
    loss = 100 * (accuracy["float"] - accuracy["integer"])
    ties = (
        f"\nIn {percent(accuracy['ties'])} of the samples several outputs fire first, in one step, and the lowest "
        "counts; a smaller --dt has fewer of them"
        if document["readout"] == "first_spike" and accuracy["ties"]
        else ""
    )
    warnings = [f"warning: {finding['place']}: {finding['message']}" for finding in document["findings"]]
    return (
        f"{document['run']} -> {document['folder']} (NIR graph and integer program for {document['target']})\n\n"
        f"Quantisation error\n{table(headers, rows)}\n\n"
        + "".join(f"{line}\n" for line in warnings)
        + f"Test accuracy, {accuracy['samples']} samples: float {percent(accuracy['float'])}, "
        f"integer {percent(accuracy['integer'])} (loss {loss:.2f} points){ties}"
    )
