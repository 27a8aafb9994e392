"""``esl-neuro export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from esl_neuro.cli.commands import (
    ExampleCommand,
    Number,
    OneOf,
    OutputPath,
    Whole,
    accept_loss_option,
    allow_code_option,
    any_size_option,
    data_option,
    emit,
    formats_option,
    given_data,
    json_option,
    max_loss_option,
    percent,
    print_status,
    refuse_both_bits,
    runs_option,
    stored_bits_option,
    weight_bits_option,
)
from esl_neuro.cli.network_run import refuse_without_arithmetic
from esl_neuro.cli.workspace import chosen_run


@click.command(
    cls=ExampleCommand,
    short_help="Write a run as a NIR graph and an integer program.",
    examples=(
        ("esl-neuro export", "the latest run, for Loihi 2"),
        ("esl-neuro export runs/mlp-digits-001 --target loihi2", "a given run"),
        ("esl-neuro export --out somewhere", "into another folder"),
        ("esl-neuro export --format netx --format lava-script", "also for lava-dl, and as a Lava script"),
        ("esl-neuro export --calibrate 64", "search each layer's scale on 64 training samples"),
        ("esl-neuro export --weight-bits 4", "weights of 4 bits"),
        ("esl-neuro export --thresholds folded", "a NIR graph for readers that support one threshold per layer"),
    ),
)
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--target", default="loihi2", show_default=True, help="Chip: a name, or the path of a TOML file.")
@click.option("--out", type=OutputPath(folder=True), help="Folder to write.  [default: RUN/TARGET]")
@max_loss_option
@formats_option
@click.option(
    "--thresholds",
    type=OneOf(["native", "folded"]),
    default="native",
    show_default=True,
    help="Thresholds unchanged, or folded into the weights, for readers that support one per layer.",
)
@click.option(
    "--tie-safe", is_flag=True, help="Move thresholds off the grid of the weights, so that '>' and '>=' agree."
)
@click.option(
    "--nir",
    "nir_version",
    type=OneOf(["current", "1.0.4"]),
    default="current",
    show_default=True,
    help="Version of model.nir; sinabs and Rockpool need 1.0.4.",
)
@click.option(
    "--dt",
    "dt_s",
    type=Number(min=0, min_open=True),
    help="Time step in seconds.  [default: 1e-4; for single spikes chosen on validation samples]",
)
@click.option(
    "--input-bits",
    type=Whole(1, 16),
    help="Payload of graded input, in bits.  [default: training.input_bits of the recipe]",
)
@click.option(
    "--calibrate",
    type=Whole(min=1),
    metavar="SAMPLES",
    help="Search the scale of each layer on this number of training samples; kept if better on validation.",
)
@weight_bits_option
@stored_bits_option
@any_size_option
@accept_loss_option
@allow_code_option
@data_option
@runs_option
@json_option
def export(
    run: Path | None,
    target: str,
    out: Path | None,
    max_loss: float,
    allow_code: bool,
    runs: Path,
    as_json: bool,
    **how: Any,
) -> None:
    """Export RUN (the latest one if not given) as a NIR graph and an integer program.

    Prints the quantisation error of each layer, how far the integers are from the float network on validation samples,
    and the test accuracy before and after. Exit code 1 if the integers lose too much.
    """
    refuse_without_arithmetic(target)
    refuse_both_bits(how)
    folder = chosen_run(run, runs)
    print_status(f"{folder}: exporting for {target}")
    from esl_neuro.pipeline.exports import export_run
    from esl_neuro.pipeline.given_data import refuse_unread
    from esl_neuro.pipeline.training import load_run

    given = given_data()
    if given is not None:
        refuse_unread(load_run(folder, allow_code=allow_code).recipe.data, given)
    exported = export_run(folder, target, out, allow_code=allow_code, **how)
    document = exported.to_dict()
    emit(document, render(document), as_json)
    exported.refuse_loss(max_loss)


def render(document: dict[str, Any]) -> str:
    """Write quantisation errors and accuracies as text."""
    from esl_neuro.report.fidelity_text import render_fidelity, render_findings
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
    said = [_decision(each) for each in document.get("decisions", ())]
    if document["findings"]:
        said.append(render_findings(document["findings"]))
    return (
        f"{document.get('run', document.get('source'))} -> {document['folder']} (NIR graph and integer program for "
        f"{document['target']})\n\n"
        f"Quantisation error\n{table(headers, rows)}\n\n"
        f"{render_fidelity(document.get('fidelity'))}\n\n"
        + "".join(f"{line}\n" for line in said)
        + render_accuracy(document)
    )


def render_accuracy(document: dict[str, Any]) -> str:
    """Write the accuracies before and after quantisation."""
    accuracy = document.get("accuracy")
    if accuracy is None:
        return "No labels, so no accuracy was measured"
    loss = 100 * (accuracy["float"] - accuracy["integer"])
    ties = (
        f"\nIn {percent(accuracy['ties'])} of the samples several outputs fire first in the same step, and the first "
        "of them is taken; a smaller --dt gives fewer of these ties"
        if document["readout"] == "first_spike" and accuracy["ties"]
        else ""
    )
    return (
        f"Test accuracy, {accuracy['samples']} samples: float {percent(accuracy['float'])}, "
        f"integer {percent(accuracy['integer'])} (loss {loss:.2f} points){ties}"
    )


def _decision(document: dict[str, Any]) -> str:
    from esl_neuro.pipeline.decisions import read_decision

    return str(read_decision(document))
