"""``esl-neuro run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esl_neuro.cli.commands import ExampleCommand, data_option, emit, json_option, percent, runs_option, samples_option
from esl_neuro.cli.progress import lava_bar
from esl_neuro.cli.workspace import latest_export
from esl_neuro.pipeline.choices import BACKENDS

if TYPE_CHECKING:
    from esl_neuro.backends.trace import Trace


@click.command(
    cls=ExampleCommand,
    short_help="Run an export on its test set, in the integer simulator or in Lava.",
    examples=(
        ("esl-neuro run", "the latest export in the integer simulator"),
        ("esl-neuro run --backend lava", "in Lava, with every spike compared with the integer simulator"),
        ("esl-neuro run --backend lava-batched", "in Lava with batched processes, much faster"),
        ("esl-neuro run --samples 200 --spikes spikes.npz", "save the spikes"),
        ("esl-neuro run --samples 8 --trace golden.h5", "save spikes and potentials as NIRData, for 'esl-neuro diff'"),
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

    The first samples also run in floating point, to print how far the integers are from the float network.

    --backend lava uses the synapses and neurons of Lava, lava-batched those of this project, for many samples at once.
    Both compare every spike of every layer with the integer simulator. A difference is reported with layer, neuron and
    step, and exit code 1.
    """
    from esl_neuro.pipeline.exports import run_export

    folder = export or latest_export(runs)
    with lava_bar(backend) as progress:
        result = run_export(folder, backend, samples, record_potentials=trace_file is not None, progress=progress)
    if spikes is not None:
        save_spikes(result.trace, spikes)
    if trace_file is not None:
        from esl_neuro.backends.golden import write_trace

        write_trace(trace_file, result.trace, result.program.dt_s)
    document = {"export": str(folder), **result.to_dict()}
    emit(document, render(document), as_json)
    result.refuse_difference()


def save_spikes(trace: Trace, path: Path) -> None:
    """Write input and layer spikes, uint8 (samples, steps, neurons), as a compressed .npz."""
    import numpy as np

    arrays: dict[str, Any] = {"input": trace.input_spikes, **trace.spikes}
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)


def render(document: dict[str, Any]) -> str:
    """Write the simulator, the accuracy, and whether the simulators agree."""
    from esl_neuro.report.fidelity_text import render_fidelity, render_findings

    rate = document["samples"] / document["seconds"]
    lines = [
        f"{document['export']}: {document['samples']} test samples x {document['steps']} steps, {document['backend']}",
        f"accuracy {percent(document['accuracy'])}, {document['seconds']:.2f} s ({rate:,.0f} samples/s)",
        "spikes " + ", ".join(f"{name} {count:,}" for name, count in document["spikes"].items()),
    ]
    if "parity" in document:
        parity = document["parity"]
        outcome = "all equal" if parity["equal"] else f"DIFFERENT: {parity['first_difference']}"
        lines.append(f"compared with the integer simulator: {parity['values_compared']:,} spike values, {outcome}")
    if document.get("fidelity"):
        lines += ["", render_fidelity(document["fidelity"])]
    if document.get("findings"):
        lines += ["", render_findings(document["findings"])]
    return "\n".join(lines)
