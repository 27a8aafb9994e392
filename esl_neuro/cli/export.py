"""``esl-neuro export``."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from esl_neuro.cli.commands import ExampleCommand, data_option, emit, json_option, percent, runs_option
from esl_neuro.cli.workspace import latest_run
from esl_neuro.errors import CheckFailed

if TYPE_CHECKING:
    from esl_neuro.compiler.compile import Compilation
    from esl_neuro.compiler.program import Program
    from esl_neuro.compiler.quantise import Payload, Scaling
    from esl_neuro.data import Dataset
    from esl_neuro.hardware import HardwareTarget
    from esl_neuro.interchange.writing import Thresholds
    from esl_neuro.nirgraph.files import read_nir
    from esl_neuro.recipes import Recipe
    from esl_neuro.snn.integer_network import QuantisedNetwork

# What an export can hold besides the NIR graph and the integer program, and the file that it is written to.
FORMATS = {"netx": "network.net", "lava-script": "network.py"}

GOLDEN_SAMPLES = 4
SINGLE_SPIKE_DT_S = 1e-3  # a tenth of the synaptic time constant; 5e-4 is closer to exact times and takes twice as long


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
    "compatibility",
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
    document = export_run(run or latest_run(runs), target, out, Options(**how))
    emit(document, render(document), as_json)
    loss = 100 * (document["accuracy"]["float"] - document["accuracy"]["integer"])
    if loss > max_loss:
        raise CheckFailed(
            f"quantisation costs {loss:.2f} points of test accuracy, more than --max-loss {max_loss:g}; "
            f"the export in {document['folder']} is complete but loses accuracy"
        )


@dataclass(frozen=True)
class Options:
    """How a run is exported.

    Attributes
    ----------
    formats : tuple of str
        Further formats, see :data:`FORMATS`.
    thresholds : str
        ``"native"`` or ``"folded"``.
    tie_safe : bool
        Whether thresholds are kept off the grid of the weights.
    compatibility : str
        Version of NIR whose readers can open ``model.nir``.
    dt_s : float or None
        Time step in seconds of the NIR graph.
    input_bits : int or None
        Payload of graded input.
    calibrate : int or None
        Training samples on which scales are searched.
    any_size : bool
        Whether a network that does not fit is compiled all the same.
    """

    formats: tuple[str, ...] = ()
    thresholds: Thresholds = "native"
    tie_safe: bool = False
    compatibility: str = "current"
    dt_s: float | None = None
    input_bits: int | None = None
    calibrate: int | None = None
    any_size: bool = False


def export_run(run: Path, target: str, out: Path | None, options: Options | None = None) -> dict[str, Any]:
    """Export a run; return what ``export.json`` holds, with the folder."""
    from esl_neuro.data import prepare
    from esl_neuro.hardware import load_target
    from esl_neuro.training.run_folder import RunFolder, environment

    chip, source = load_target(target), RunFolder(run)
    recipe = source.recipe()

    from esl_neuro.backends.golden import write_trace
    from esl_neuro.backends.integer import run_integer
    from esl_neuro.compiler.bundle import GOLDEN, program_inputs, write_bundle
    from esl_neuro.compiler.calibrate import check_activity
    from esl_neuro.training.trainer import accuracy, load_network

    options, dataset = options or Options(), prepare(recipe.data)
    network = load_network(source, dataset)
    folder = out or run / chip.name
    with TemporaryDirectory() as scratch:
        # An earlier export stays until this one compiles.
        compilation, scalings, input_steps = _compile(network, dataset, recipe, chip, options, Path(scratch))
        program = compilation.program
        write_formats(program, Path(scratch), options.formats)
        _replace_files(Path(scratch), folder)
    inputs, labels = program_inputs(dataset, recipe.data, program, input_steps), dataset.test.labels
    trace = run_integer(program, inputs)
    predictions, ties = trace.predictions(), float(trace.ties().mean())
    del trace  # large
    golden = run_integer(program, inputs[:GOLDEN_SAMPLES], record_potentials=True)
    write_trace(folder / GOLDEN, golden, program.dt_s)
    findings = [*compilation.findings, *check_activity(program, golden.input_spikes, golden)]
    document = {
        "recipe": recipe.name,
        "run": str(run),
        "target": chip.name,
        "quantisation": [asdict(error) for error in compilation.errors],
        "input_steps": input_steps,
        "readout": program.readout,
        "scalings": {name: asdict(scaling) for name, scaling in scalings.items()},
        "findings": [asdict(finding) for finding in findings],
        "accuracy": {
            "samples": len(labels),
            "float": accuracy(network, dataset, dataset.test, recipe.data),
            "integer": float((predictions == labels).mean()),
            "ties": ties,
        },
        "environment": environment(),
    }
    bundle = write_bundle(folder, program, recipe.data, document)
    return {"folder": str(folder), **bundle.document}


def _compile(
    network: Any, dataset: Dataset, recipe: Recipe, chip: HardwareTarget, options: Options, folder: Path
) -> tuple[Compilation, dict[str, Scaling], list[int] | None]:
    """Write ``model.nir`` and compile what was written: the file, read back.

    A network of single spikes has no steps of its own: the time step says how many, and when its inputs arrive.
    """
    from esl_neuro.compiler.compile import compile_any_size, compile_graph, input_payload
    from esl_neuro.data.encodings import ENCODINGS
    from esl_neuro.interchange import to_nir, write_nir
    from esl_neuro.interchange.single_spikes import arrival_steps, steps_needed
    from esl_neuro.interchange.to_nir import DT_S
    from esl_neuro.snn.integer_network import QuantisedNetwork
    from esl_neuro.snn.temporal import TemporalNetwork

    steps, dt_s, input_steps, readout = recipe.data.steps, options.dt_s or DT_S, None, None
    if isinstance(network, TemporalNetwork):
        dt_s, readout = options.dt_s or SINGLE_SPIKE_DT_S, "first_spike"
        steps, input_steps = steps_needed(dt_s), arrival_steps(dt_s)
    graph = to_nir(
        network,
        steps,
        dt_s,
        shape=dataset.shape,
        thresholds=options.thresholds,
        tie_safe=options.tie_safe,
    )
    write_nir(folder / "model.nir", graph, options.compatibility)
    graph = read_nir(folder / "model.nir")
    encoding = ENCODINGS[recipe.data.encoding]
    bits = (options.input_bits or recipe.training.input_bits) if encoding.signal == "graded" else 1
    payload = input_payload(bits, 1.0 if encoding.timed else None)  # counts of events are payloads already
    compiler = partial(
        compile_any_size if options.any_size else compile_graph,
        graph,
        chip,
        steps,
        input_bits=payload.bits,
        input_scale=payload.scale,
    )
    scalings: dict[str, Scaling] = {}
    if isinstance(network, QuantisedNetwork):
        scalings = _trained_scalings(network, compiler().program)
    elif options.calibrate is not None:
        scalings = _calibrate(graph, dataset, recipe, chip, payload, options.calibrate)
    compilation = compiler(scalings=scalings)
    if readout is not None:
        compilation = replace(compilation, program=replace(compilation.program, readout=readout))
    return compilation, scalings, input_steps


def _trained_scalings(network: QuantisedNetwork, program: Program) -> dict[str, Scaling]:
    """Return what makes the compiler choose the scales and exponents with which a network learned.

    Parameters
    ----------
    network : QuantisedNetwork
        The trained network.
    program : Program
        What the compiler's formula makes of it.
    """
    from esl_neuro.compiler.quantise import Scaling

    scalings = {}
    for stage, group in zip(network.stages, program.groups, strict=True):
        integers, (connection,) = network.integers(stage), program.incoming(group.name)
        factor, shift = integers.constants.scale / group.scale, integers.weight_exp - connection.weight_exp
        if shift or abs(factor - 1) > 1e-9:
            scalings[group.name] = Scaling(factor, shift)
    return scalings


def _calibrate(
    graph: Any, dataset: Dataset, recipe: Recipe, chip: HardwareTarget, payload: Payload, samples: int
) -> dict[str, Scaling]:
    """Search the scale of each layer on the first training samples."""
    import numpy as np

    from esl_neuro.backends.integer import run_integer
    from esl_neuro.compiler.calibrate import search_scalings
    from esl_neuro.compiler.frontend import analyse
    from esl_neuro.data.inputs import evaluation_inputs
    from esl_neuro.hardware import arithmetic_of
    from esl_neuro.nirgraph.findings import refuse_unsupported

    float_network, findings = analyse(graph)
    refuse_unsupported(findings)
    assert float_network is not None  # analyse returns one unless it found an error
    steps, part = recipe.data.steps, dataset.train.select(np.arange(min(samples, len(dataset.train))))
    inputs = evaluation_inputs(dataset, part, recipe.data.encoding, steps)
    chosen = search_scalings(
        float_network,
        arithmetic_of(chip),
        steps,
        inputs.reshape(*inputs.shape[:2], -1),
        run_integer,
        payload,
    )
    return {each.group: each.scaling for each in chosen}


def _replace_files(scratch: Path, folder: Path) -> None:
    """Begin an export with the files written so far; those of an earlier export hold another network."""
    from esl_neuro.compiler.bundle import GOLDEN, begin_bundle

    begin_bundle(folder)
    for name in (*FORMATS.values(), "network.npz", GOLDEN):
        (folder / name).unlink(missing_ok=True)
    for path in scratch.iterdir():
        shutil.copyfile(path, folder / path.name)


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
