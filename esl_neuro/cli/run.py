"""``esl-neuro run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esl_neuro.cli.commands import (
    ExampleCommand,
    OutputPath,
    accept_loss_option,
    emit,
    json_option,
    percent,
    print_status,
)
from esl_neuro.cli.network_run import activity_options, workplace_option
from esl_neuro.cli.progress import sample_bar
from esl_neuro.cli.workspace import chosen_export
from esl_neuro.storage import write_arrays

if TYPE_CHECKING:
    from esl_neuro.backends.trace import Trace
    from esl_neuro.pipeline.activity import Activity
    from esl_neuro.pipeline.workers import Workplace


@click.command(
    cls=ExampleCommand,
    short_help="Run an export or a NIR file, in the integer simulator or in Lava.",
    examples=(
        ("esl-neuro run", "the latest export in the integer simulator, on its test set"),
        ("esl-neuro run --backend lava", "in Lava, with every spike compared with the integer simulator"),
        ("esl-neuro run --backend lava-batched", "in Lava with batched processes, much faster"),
        ("esl-neuro run --backend lava --jobs 2", "in Lava, the samples shared by two processes"),
        ("esl-neuro run net.nir --input data.npz --save out.npz", "any NIR file on your inputs; save what comes out"),
        ("esl-neuro run --samples 200 --spikes spikes.npz", "save the spikes"),
        ("esl-neuro run --samples 8 --trace golden.h5", "save spikes and potentials as NIRData, for 'esl-neuro diff'"),
    ),
)
@click.argument("network", metavar="[EXPORT|FILE.nir]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--save",
    type=OutputPath(),
    help="Write outputs, potentials of the output, spikes, classes and accuracy to this .npz file.",
)
@click.option("--spikes", type=OutputPath(), help="Write all spikes to this .npz file.")
@click.option(
    "--trace",
    "trace_file",
    type=OutputPath(),
    help="Write spikes, currents and potentials to this NIRData file.",
)
@activity_options("integer", chip=True)
@workplace_option
@accept_loss_option
@json_option
def run(
    network: Path | None,
    save: Path | None,
    spikes: Path | None,
    trace_file: Path | None,
    activity: Activity,
    where: Workplace,
    accept_loss: bool,
    runs: Path,
    as_json: bool,
) -> None:
    """Run EXPORT (the latest one if not given) on its test set, or any network on the inputs of a file.

    FILE.nir, written by any program, is compiled first; it needs --input or --rate. In the input file, the array
    'input' is (samples, steps, ...), or its order is given with --layout; events are the arrays 'sample', 'step' (or
    'time_s') and 'line' (or 'channel', 'row' and 'column'); 'labels' are the classes.

    The first samples also run in floating point, to print how far the integers are from the float network.

    --backend lava uses the synapses and neurons of Lava, lava-batched those of this project, for many samples at once.
    Both compare every spike of every layer with the integer simulator. A difference is reported with layer, neuron and
    step, and exit code 1.
    """
    path = chosen_export(network, runs)
    from esl_neuro.pipeline.activity import is_nir_file, run_recorded
    from esl_neuro.pipeline.fidelity import refuse_losses

    recorded = save is not None or trace_file is not None
    with sample_bar(activity.backend, where) as progress:
        result = run_recorded(
            path, activity, record_potentials=recorded, where=where, on_status=print_status, progress=progress
        )
    if save is not None:
        result.save(save)
    if spikes is not None:
        save_spikes(result.trace, spikes)
    if trace_file is not None:
        from esl_neuro.backends.golden import write_trace

        write_trace(trace_file, result.trace, result.program.dt_s)
    document = {"export": str(path), **result.to_dict()}
    emit(document, render(document), as_json)
    result.refuse_difference()
    if is_nir_file(path) and not accept_loss:
        refuse_losses(result.findings, str(path))


def save_spikes(trace: Trace, path: Path) -> None:
    """Write input and layer spikes, uint8 (samples, steps, neurons), as a compressed .npz."""
    write_arrays(path, {"input": trace.input_spikes, **trace.spikes})


def render(document: dict[str, Any]) -> str:
    """Write the simulator, the accuracy, and whether the simulators agree."""
    from esl_neuro.report.fidelity_text import render_fidelity, render_findings

    rate = document["samples"] / document["seconds"]
    right = "" if document["accuracy"] is None else f"accuracy {percent(document['accuracy'])}, "
    lines = [
        f"{document['export']}: {document['ran_on']} x {document['steps']} steps, {document['backend']}",
        f"{right}{document['seconds']:.2f} s ({rate:,.0f} samples/s)",
        "spikes of " + ", ".join(f"'{name}': {count:,}" for name, count in document["spikes"].items()),
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
