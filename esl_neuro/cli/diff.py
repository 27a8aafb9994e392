"""``esl-neuro diff``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esl_neuro.cli.commands import ExampleCommand, data_option, emit, json_option, runs_option
from esl_neuro.cli.run import BACKENDS, simulate
from esl_neuro.cli.workspace import latest_export
from esl_neuro.errors import BadInput, CheckFailed, did_you_mean

if TYPE_CHECKING:
    from esl_neuro.backends.divergence import NeuronStep, TraceDivergence
    from esl_neuro.backends.trace import Trace
    from esl_neuro.compiler.bundle import Bundle


@click.command(
    cls=ExampleCommand,
    short_help="Find the first step where two runs part, and why.",
    examples=(
        ("esl-neuro diff integer lava", "the latest export in two simulators"),
        ("esl-neuro diff golden.h5 lava --samples 4", "a recorded trace against a simulator"),
        ("esl-neuro diff a.h5 b.h5", "two recorded traces"),
    ),
)
@click.argument("first")
@click.argument("second")
@click.option("--export", type=click.Path(path_type=Path), help="Export that ran.  [default: the latest]")
@click.option(
    "--samples", type=click.IntRange(min=1), default=8, show_default=True, help="First test samples to simulate."
)
@data_option
@runs_option
@json_option
def diff(first: str, second: str, export: Path | None, samples: int, runs: Path, as_json: bool) -> None:
    """Compare FIRST and SECOND, each a simulator or a trace file, spike by spike and potential by potential.

    A trace file is what 'esl-neuro run --trace FILE' writes. Prints the first step where the two part, the neuron's
    current, potential and input in both, and the likely cause. Exit code 1 if they part.
    """
    from esl_neuro.backends.divergence import diverge

    bundle = _bundle(export, runs, needed=not all(_is_file(name) for name in (first, second)))
    traces = _traces(first, second, bundle, samples)
    try:
        found = diverge(*traces, bundle.program if bundle else None)
    except ValueError as error:
        raise BadInput(str(error)) from error
    compared = sum(fired.size for fired in traces[0].spikes.values())
    document: dict[str, Any] = {
        "first": first,
        "second": second,
        "spikes_compared": compared,
        "potentials_compared": sum(u.size for name, u in traces[0].u.items() if name in traces[1].u),
        "divergence": found and asdict(found),
    }
    emit(document, render(document, found), as_json)
    if found is not None:
        raise CheckFailed(f"{first} and {second} part in layer '{found.layer}', step {found.step}")


def _is_file(name: str) -> bool:
    return name not in BACKENDS


def _bundle(export: Path | None, runs: Path, needed: bool) -> Bundle | None:
    """Read the export; two trace files can be compared without one."""
    from esl_neuro.compiler.bundle import read_bundle

    if export is not None or needed:
        return read_bundle(export or latest_export(runs))
    try:
        return read_bundle(latest_export(runs))
    except BadInput:
        return None


def _traces(first: str, second: str, bundle: Bundle | None, samples: int) -> tuple[Trace, Trace]:
    """Read the files first: what they were given is what the simulators get."""
    from esl_neuro.backends.golden import read_trace

    read = {name: read_trace(_trace_file(name)) for name in (first, second) if _is_file(name)}
    inputs = next((trace.input_spikes for trace in read.values()), None)
    if bundle is None:
        return read[first], read[second]
    if inputs is None:
        inputs, _ = bundle.test_inputs(samples)
    inputs = inputs[:samples]
    one, two = (
        _first_samples(read[name], samples) if name in read else simulate(bundle.program, inputs, name, True)
        for name in (first, second)
    )
    return one, two


def _trace_file(name: str) -> Path:
    path = Path(name)
    if not path.is_file():
        raise BadInput(f"'{name}' is neither a trace file nor a simulator; {did_you_mean(name, BACKENDS)}")
    return path


def _first_samples(trace: Trace, samples: int) -> Trace:
    from esl_neuro.backends.trace import Trace

    def cut(records: dict[str, Any]) -> dict[str, Any]:
        return {name: values[:samples] for name, values in records.items()}

    potential = None if trace.potential is None else trace.potential[:samples]
    return Trace(
        trace.backend,
        trace.input_spikes[:samples],
        cut(trace.spikes),
        cut(trace.u),
        cut(trace.v),
        potential,
        trace.readout,
    )


def render(document: dict[str, Any], found: TraceDivergence | None) -> str:
    """Say where the runs part, or that they do not."""
    from esl_neuro.report.tables import table

    what = f"{document['spikes_compared']:,} spike values and {document['potentials_compared']:,} potentials"
    if found is None:
        return f"{document['first']} and {document['second']}: {what} compared, all equal"
    rows = [
        _row(document["first"], found.first),
        _row(document["second"], found.second),
    ]
    place = f"layer '{found.layer}', neuron {found.neuron}, step {found.step} of sample {found.sample}"
    head = ("run", "arriving", "u before", "v before", "u", "v", "spike")
    return f"first difference ({found.quantity}): {place}\n{table(head, rows)}\nlikely cause: {found.cause}"


def _row(name: str, state: NeuronStep) -> tuple[str, ...]:
    values = (state.arriving, state.u_before, state.v_before, state.u, state.v, state.spike)
    return (name, *("-" if value is None else f"{value:,}" for value in values))
