"""``esl-neuro compile``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from esl_neuro.cli.commands import (
    ExampleCommand,
    ExistingPath,
    Number,
    OutputPath,
    Whole,
    accept_loss_option,
    any_size_option,
    dt_option,
    emit,
    formats_option,
    json_option,
    max_loss_option,
    refuse_both_bits,
    reset_option,
    stored_bits_option,
    weight_bits_option,
)
from esl_neuro.cli.export import render
from esl_neuro.cli.network_run import chip_option, input_option, layout_option
from esl_neuro.cli.workspace import existing


@click.command(
    cls=ExampleCommand,
    short_help="Compile any NIR file to an integer program, with everything that an export has.",
    examples=(
        ("esl-neuro compile net.nir --steps 50", "write the folder net-loihi2: program, golden trace and more"),
        ("esl-neuro compile net.nir --input data.npz", "with your inputs: steps, graded values, accuracy if labelled"),
        ("esl-neuro compile net.nir --input data.npz --layout steps,samples,...", "inputs with the steps first"),
        ("esl-neuro compile net.nir --steps 50 --dt 1e-4 --format lava-script", "also a script for Lava alone"),
        ("esl-neuro run net-loihi2 --input data.npz --save out.npz", "then run it"),
    ),
)
@click.argument("file", metavar="FILE.nir", type=click.Path(path_type=Path))
@chip_option
@input_option()
@layout_option
@click.option(
    "--calibrate",
    type=ExistingPath(dir_okay=False),
    metavar="FILE",
    help="Search the scale of each layer on the inputs of this file, .npz or .npy.",
)
@dt_option
@click.option(
    "--steps",
    type=Whole(min=1),
    help="Time steps per sample.  [default: those of the file, else of the input with --layout]",
)
@click.option("--out", type=OutputPath(folder=True), help="Folder to write.  [default: FILE-TARGET]")
@formats_option
@click.option(
    "--input-bits",
    type=Whole(1, 16),
    help="Bits of the payload of graded input.  [default: as the input needs]",
)
@click.option("--input-scale", type=Number(min=0, min_open=True), help="Payload per unit of graded input.")
@weight_bits_option
@stored_bits_option
@max_loss_option
@any_size_option
@reset_option
@accept_loss_option
@json_option
def compile(file: Path, target: str, out: Path | None, max_loss: float, as_json: bool, **how: Any) -> None:
    """Compile FILE.nir, written by any program, for a chip, and write the same folder as 'esl-neuro export'.

    'run', 'evaluate', 'energy report' and 'verify' accept that folder. The first inputs of --input are those of its
    golden trace; without --input, the golden trace has random spikes. Prints how far the integers are from FILE.nir on
    these inputs; exit code 1 if they lose too much.
    """
    existing(file, "no such file")
    refuse_both_bits(how)
    from esl_neuro.pipeline.exports import compile_file

    compiled = compile_file(file, target, out, **how)
    document = compiled.to_dict()
    emit(document, render(document), as_json)
    compiled.refuse_loss(max_loss)
