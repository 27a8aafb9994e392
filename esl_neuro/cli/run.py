"""``esl-neuro run``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esl_neuro.cli.commands import ExampleCommand, data_option, emit, json_option, percent, runs_option, samples_option
from esl_neuro.cli.workspace import latest_export
from esl_neuro.errors import CheckFailed

if TYPE_CHECKING:
    from esl_neuro.backends.trace import Payloads, Trace
    from esl_neuro.compiler.program import Program

BACKENDS = ("integer", "lava", "lava-batched")


@click.command(
    cls=ExampleCommand,
    short_help="Run an export on its test set, in our simulator or in Lava.",
    examples=(
        ("esl-neuro run", "the latest export in the integer simulator"),
        ("esl-neuro run --backend lava", "in Lava, every spike compared with the integer simulator"),
        ("esl-neuro run --backend lava-batched", "in Lava with batched processes, many times faster"),
        ("esl-neuro run --samples 200 --spikes spikes.npz", "keep the spikes"),
        ("esl-neuro run --samples 8 --trace golden.h5", "keep spikes and potentials as NIRData, for 'esl-neuro diff'"),
    ),
)
@click.argument("export", required=False, type=click.Path(path_type=Path))
@click.option("--backend", type=click.Choice(BACKENDS), default="integer", show_default=True, help="Simulator.")
@click.option("--spikes", type=click.Path(dir_okay=False, path_type=Path), help="Write all spikes to this .npz file.")
@click.option(
    "--trace",
    "trace_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write spikes, currents and potentials to this NIRData file.",
)
@samples_option
@data_option
@runs_option
@json_option
def run(
    export: Path | None,
    backend: str,
    spikes: Path | None,
    trace_file: Path | None,
    samples: int | None,
    runs: Path,
    as_json: bool,
) -> None:
    """Run EXPORT (the latest one if not given) on its test set.

    With --backend lava (Lava's own synapses and neurons) and lava-batched (ours, for many samples at once) every spike
    of every layer is compared with the integer simulator; a difference ends with exit code 1 and names layer, neuron
    and step.
    """
    folder = export or latest_export(runs)
    document, trace = run_export(folder, backend, samples, record_potentials=trace_file is not None)
    if spikes is not None:
        save_spikes(trace, spikes)
    if trace_file is not None:
        from esl_neuro.backends.golden import write_trace
        from esl_neuro.compiler.program import Program

        write_trace(trace_file, trace, Program.load(folder).dt_s)
    emit(document, render(document), as_json)
    refuse_difference(document)


def run_export(
    folder: Path, backend: str, samples: int | None, record_potentials: bool = False
) -> tuple[dict[str, Any], Trace]:
    """Run an export; return the result, which is also kept beside the export, and the trace."""
    from esl_neuro.backends.trace import first_difference
    from esl_neuro.compiler.bundle import read_bundle

    bundle = read_bundle(folder)
    inputs, labels = bundle.test_inputs(samples)
    started = time.perf_counter()
    trace = simulate(bundle.program, inputs, backend, record_potentials)
    seconds = time.perf_counter() - started
    document: dict[str, Any] = {
        "export": str(folder),
        "backend": backend,
        "samples": trace.samples,
        "steps": trace.steps,
        "seconds": seconds,
        "accuracy": float((trace.predictions() == labels).mean()),
        "spikes": {name: int(fired.sum(dtype="int64")) for name, fired in trace.spikes.items()},
    }
    if backend != "integer":
        difference = first_difference(trace, simulate(bundle.program, inputs, "integer"))
        compared = sum(fired.size for fired in trace.spikes.values())
        document["parity"] = {
            "with": "integer",
            "values_compared": compared,
            "equal": difference is None,
            "first_difference": difference and difference.describe(backend, "integer"),
        }
    (folder / f"run-{backend}.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return document, trace


def simulate(program: Program, inputs: Payloads, backend: str, record_potentials: bool = False) -> Trace:
    """Run a program in one of the simulators, with a progress bar where there is a terminal."""
    if backend == "integer":
        from esl_neuro.backends.integer import run_integer

        return run_integer(program, inputs, record_potentials)
    from esl_neuro.backends.lava import run_lava
    from esl_neuro.backends.lava_batched import run_lava_batched
    from esl_neuro.cli.progress import samples_bar

    run_in_lava = run_lava_batched if backend == "lava-batched" else run_lava
    with samples_bar("Lava") as progress:
        return run_in_lava(program, inputs, record_potentials, progress=progress)


def refuse_difference(document: dict[str, Any]) -> None:
    """Raise :class:`CheckFailed` if the backends differ."""
    parity = document.get("parity")
    if parity is not None and not parity["equal"]:
        raise CheckFailed(f"{document['backend']} and integer differ: {parity['first_difference']}")


def save_spikes(trace: Trace, path: Path) -> None:
    """Write input and layer spikes, uint8 (samples, steps, neurons), as a compressed .npz."""
    import numpy as np

    with path.open("wb") as file:
        np.savez_compressed(file, **{"input": trace.input_spikes, **trace.spikes})


def render(document: dict[str, Any]) -> str:
    """Say what ran, how well, and whether the simulators agree."""
    rate = document["samples"] / document["seconds"]
    lines = [
        f"{document['export']}: {document['samples']} test samples x {document['steps']} steps, {document['backend']}",
        f"accuracy {percent(document['accuracy'])}, {document['seconds']:.2f} s ({rate:,.0f} samples/s)",
        "spikes " + ", ".join(f"{name} {count:,}" for name, count in document["spikes"].items()),
    ]
    if "parity" in document:
        parity = document["parity"]
        verdict = "all equal" if parity["equal"] else f"DIFFERENT: {parity['first_difference']}"
        lines.append(f"compared with the integer simulator: {parity['values_compared']:,} spike values, {verdict}")
    return "\n".join(lines)
