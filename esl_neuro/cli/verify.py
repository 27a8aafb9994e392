"""``esl-neuro verify``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from esl_neuro.cli.commands import ExampleCommand, data_option, emit, json_option, runs_option, samples_option
from esl_neuro.cli.lava_verdict import LAVA
from esl_neuro.cli.readers import install_readers, verify_export, verify_file
from esl_neuro.cli.readers import refuse_difference as refuse_reader
from esl_neuro.cli.readers import render as render_readers
from esl_neuro.cli.run import refuse_difference, run_export, simulate
from esl_neuro.cli.workspace import latest_export
from esl_neuro.errors import CheckFailed, MissingDependency

READERS = ("norse", "snntorch", "spikingjelly", "nirtorch", LAVA)


@click.command(
    cls=ExampleCommand,
    short_help="Prove an export again, or any NIR file in independent readers.",
    examples=(
        ("esl-neuro verify", "the latest export: compiled anew, golden trace, every spike in Lava"),
        ("esl-neuro verify runs/mlp-digits-001/loihi2 --golden", "by what is in the folder alone, without the data"),
        ("esl-neuro verify --install-readers", "install Norse, snnTorch, SpikingJelly and nirtorch, pinned, once"),
        ("esl-neuro verify model.nir", "any NIR file in every reader that is installed"),
    ),
)
@click.argument("what", metavar="[EXPORT|FILE.nir]", required=False, type=click.Path(path_type=Path))
@click.option("--golden", is_flag=True, help="Compare Lava on the golden trace only, which needs no data set.")
@click.option("--without-lava", is_flag=True, help="Leave Lava out, where it is not installed.")
@click.option(
    "--reader",
    "readers",
    type=click.Choice(READERS),
    multiple=True,
    help="Run the NIR graph in this reader only; several may be given.  [default: all that are installed]",
)
@click.option("--dt", "dt_s", type=click.FloatRange(min=0, min_open=True), help="Time step of a NIR file without one.")
@click.option(
    "--steps", type=click.IntRange(min=1), help="Steps of the random input of a NIR file.  [default: its own]"
)
@click.option("--install-readers", "installing", is_flag=True, help="Install the readers first; about 1.2 GB.")
@samples_option
@data_option
@runs_option
@json_option
def verify(
    what: Path | None,
    golden: bool,
    without_lava: bool,
    readers: tuple[str, ...],
    dt_s: float | None,
    steps: int | None,
    installing: bool,
    samples: int | None,
    runs: Path,
    as_json: bool,
) -> None:
    """Prove an EXPORT (the latest one if not given) again, or compare FILE.nir in independent readers.

    The NIR graph of an export is compiled anew and must give the stored program, integer for integer; the integer
    simulator must give the golden trace, spikes, currents and potentials; every spike of the test set in Lava must
    be the integer simulator's; and independent readers of NIR must fire, on the golden inputs, as the equations of the
    graph say, entry by entry. A NIR file runs in these readers on random spikes, and its integers in Lava. Exit code 1
    if anything differs.
    """
    if installing:
        install_readers()
        if what is None:
            return
    if what is not None and (what.is_file() or what.suffix == ".nir"):
        document = verify_file(what, readers, samples=samples or 8, steps=steps, dt_s=dt_s)
        emit(document, render_readers(document), as_json)
        refuse_reader(document)
        return
    folder = what or latest_export(runs)
    document = prove(folder, golden, without_lava, samples)
    document["readers"] = verify_export(folder, readers)
    emit(document, render(document), as_json)
    if "lava" in document:
        refuse_difference(document["lava"])
    refuse_reader(document["readers"])


def prove(folder: Path, golden: bool, without_lava: bool, samples: int | None) -> dict[str, Any]:
    """Compile anew, repeat the golden trace, run in Lava; return what was compared.

    Raises
    ------
    CheckFailed
        If the program or the golden trace is not what the NIR graph and the simulator give.
    MissingDependency
        If Lava is asked for and not installed.
    """
    differing = recompile(folder)
    if differing:
        raise CheckFailed(
            f"{folder}: model.nir compiles to another program than program.safetensors holds ({', '.join(differing)}); "
            "one of the files was changed after the export"
        )
    document: dict[str, Any] = {"export": str(folder), "recompiled": "equal"}
    document["golden"] = {"integer": _repeat_golden(folder, "integer")}
    if without_lava:
        return document
    try:
        if golden:
            document["golden"]["lava"] = _repeat_golden(folder, "lava")
        else:
            document["lava"], _ = run_export(folder, "lava", samples)
    except MissingDependency as missing:
        raise MissingDependency(f"{missing}; 'esl-neuro verify --without-lava' proves all the rest") from missing
    return document


def recompile(folder: Path) -> list[str]:
    """Compile the NIR graph of an export anew and return the names of what differs from the stored program."""
    from esl_neuro.compiler.bundle import read_bundle
    from esl_neuro.compiler.compile import compile_any_size
    from esl_neuro.compiler.program import differences
    from esl_neuro.compiler.quantise import Scaling
    from esl_neuro.hardware import load_target
    from esl_neuro.nirgraph.files import read_nir

    bundle = read_bundle(folder)
    stored = bundle.program
    again = compile_any_size(
        read_nir(bundle.graph_path),
        load_target(stored.target),
        stored.steps,
        input_bits=stored.input_bits,
        input_scale=stored.input_scale,
        scalings={name: Scaling(**each) for name, each in bundle.document.get("scalings", {}).items()},
    ).program
    # How the output is read is not part of a NIR graph.
    return differences(stored, replace(again, readout=stored.readout))


def _repeat_golden(folder: Path, backend: str) -> int:
    """Run the inputs of the golden trace and return how many spikes, currents and potentials are equal: all.

    Raises
    ------
    CheckFailed
        If one is not.
    """
    from esl_neuro.backends.divergence import diverge
    from esl_neuro.backends.golden import read_trace
    from esl_neuro.compiler.bundle import GOLDEN
    from esl_neuro.compiler.program import Program

    recorded, program = read_trace(folder / GOLDEN), Program.load(folder)
    found = diverge(recorded, simulate(program, recorded.input_spikes, backend, record_potentials=True), program)
    if found is not None:
        raise CheckFailed(
            f"{folder}: {backend} parts from the golden trace in layer '{found.layer}', neuron {found.neuron}, step "
            f"{found.step} of sample {found.sample} ({found.quantity}); likely cause: {found.cause}"
        )
    return 3 * sum(fired.size for fired in recorded.spikes.values())


def render(document: dict[str, Any]) -> str:
    """All verdicts as text."""
    from esl_neuro.cli.run import render as render_run

    lines = ["model.nir compiles to the stored program: every integer equal"]
    lines += [
        f"golden trace in {backend}: {values:,} spikes, currents and potentials, all equal"
        for backend, values in document["golden"].items()
    ]
    if "lava" in document:
        lines.append(render_run(document["lava"]))
    return "\n".join([*lines, "", render_readers(document["readers"])])
