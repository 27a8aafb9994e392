"""``esl-neuro export``."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from esl_neuro.cli.commands import ExampleCommand, data_option, emit, json_option, percent, runs_option
from esl_neuro.cli.workspace import latest_run
from esl_neuro.errors import CheckFailed

if TYPE_CHECKING:
    from esl_neuro.compiler.program import Program

# What an export can hold besides the NIR graph and the integer program, and the file that it is written to.
FORMATS = {"netx": "network.net", "lava-script": "network.py"}


@click.command(
    cls=ExampleCommand,
    short_help="Write a run as NIR graph and integer program.",
    examples=(
        ("esl-neuro export", "the latest run, for Loihi 2"),
        ("esl-neuro export runs/mlp-digits-001 --target loihi2", "a certain run"),
        ("esl-neuro export --out somewhere", "into another folder"),
        ("esl-neuro export --format netx --format lava-script", "also for lava-dl, and as a script for Lava"),
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
@data_option
@runs_option
@json_option
def export(
    run: Path | None,
    target: str,
    out: Path | None,
    max_loss: float,
    formats: tuple[str, ...],
    runs: Path,
    as_json: bool,
) -> None:
    """Export RUN (the latest one if not given) as a NIR graph and an integer program.

    Prints the quantisation error of each layer and the test accuracy before and after.
    """
    document = export_run(run or latest_run(runs), target, out, formats)
    emit(document, render(document), as_json)
    loss = 100 * (document["accuracy"]["float"] - document["accuracy"]["integer"])
    if loss > max_loss:
        raise CheckFailed(
            f"quantisation costs {loss:.2f} points of test accuracy, more than --max-loss {max_loss:g}; "
            f"the export in {document['folder']} is complete but loses accuracy"
        )


def export_run(run: Path, target: str, out: Path | None, formats: tuple[str, ...] = ()) -> dict[str, Any]:
    """Export a run, also in other formats; return what ``export.json`` holds, with the folder."""
    from esl_neuro.data import prepare
    from esl_neuro.hardware import load_target
    from esl_neuro.training.run_folder import RunFolder, environment

    chip, source = load_target(target), RunFolder(run)
    recipe = source.recipe()

    import nir

    from esl_neuro.backends.integer import run_integer
    from esl_neuro.compiler.bundle import begin_bundle, program_inputs, write_bundle
    from esl_neuro.compiler.compile import compile_graph
    from esl_neuro.compiler.frontend import read_graph
    from esl_neuro.interchange import to_nir
    from esl_neuro.training.trainer import accuracy, load_network

    dataset = prepare(recipe.data)
    network = load_network(source, dataset)
    folder = out or run / chip.name
    with TemporaryDirectory() as scratch:
        # What is compiled is what was written: the file, read back. An earlier export stays until this one compiles.
        written = Path(scratch) / "model.nir"
        nir.write(written, to_nir(network, recipe.data.steps))
        compilation = compile_graph(read_graph(written), chip, recipe.data.steps)
        write_formats(compilation.program, Path(scratch), formats)
        begin_bundle(folder)
        for name in (*FORMATS.values(), "network.npz"):  # those of an earlier export hold another network
            (folder / name).unlink(missing_ok=True)
        for path in Path(scratch).iterdir():
            shutil.copyfile(path, folder / path.name)
    test = dataset.test
    inputs = program_inputs(dataset, recipe.data, compilation.program)
    predictions = run_integer(compilation.program, inputs).predictions()
    document = {
        "recipe": recipe.name,
        "run": str(run),
        "target": chip.name,
        "quantisation": [asdict(error) for error in compilation.errors],
        "accuracy": {
            "samples": len(test),
            "float": accuracy(network, dataset, test, recipe.data),
            "integer": float((predictions == test.labels).mean()),
        },
        "environment": environment(),
    }
    bundle = write_bundle(folder, compilation.program, recipe.data, document)
    return {"folder": str(folder), **bundle.document}


def write_formats(program: Program, folder: Path, formats: tuple[str, ...]) -> None:
    """Write a program into a folder in each of the formats, see :data:`FORMATS`."""
    from esl_neuro.backends.lava_script import write_lava_script
    from esl_neuro.backends.netx import write_netx

    if "netx" in formats:
        write_netx(program, folder / FORMATS["netx"])
    if "lava-script" in formats:
        write_lava_script(program, folder / FORMATS["lava-script"])


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
    return (
        f"{document['run']} -> {document['folder']} (NIR graph and integer program for {document['target']})\n\n"
        f"Quantisation error\n{table(headers, rows)}\n\n"
        f"Test accuracy, {accuracy['samples']} samples: float {percent(accuracy['float'])}, "
        f"integer {percent(accuracy['integer'])} (loss {loss:.2f} points)"
    )
