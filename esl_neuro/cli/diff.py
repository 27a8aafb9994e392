"""``esl-neuro diff``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esl_neuro.cli.commands import (
    ExampleCommand,
    Whole,
    allow_code_option,
    data_option,
    emit,
    given_data,
    json_option,
    runs_option,
)
from esl_neuro.cli.progress import lava_bar
from esl_neuro.cli.workspace import chosen_export
from esl_neuro.errors import CheckFailed

if TYPE_CHECKING:
    from esl_neuro.backends.divergence import NeuronStep, TraceDivergence
    from esl_neuro.pipeline.compiled_network import CompiledNetwork


SAMPLES = 8  # of a run in a simulator


@click.command(
    cls=ExampleCommand,
    short_help="Find the first step where two runs diverge, and the likely cause.",
    examples=(
        ("esl-neuro diff integer lava", "the latest export in two simulators"),
        ("esl-neuro diff golden.h5 lava --samples 4", "a recorded trace and a simulator"),
        ("esl-neuro diff a.h5 b.h5", "two recorded traces"),
    ),
)
@click.argument("first")
@click.argument("second")
@click.option(
    "--export",
    type=click.Path(path_type=Path),
    help="Export to run, or that two traces are of, to explain a difference.  [default: the latest one; none for two "
    "traces]",
)
@click.option("--samples", type=Whole(min=1), help="Number of samples.  [default: 8; all of two traces]")
@allow_code_option
@data_option
@runs_option
@json_option
def diff(
    first: str, second: str, export: Path | None, samples: int | None, allow_code: bool, runs: Path, as_json: bool
) -> None:
    """Compare FIRST and SECOND, each a simulator or a trace file, spike by spike and potential by potential.

    'esl-neuro run --trace FILE' writes a trace file. Prints the first step where the two diverge, the current,
    potential and input of the neuron in both, and the likely cause. Exit code 1 if they diverge.
    """
    from esl_neuro.pipeline.verification import compare_runs, is_trace_file

    recorded = all(is_trace_file(name) for name in (first, second))
    network = _network(export, runs, needed=not recorded, allow_code=allow_code)
    with lava_bar() as progress:
        compared = compare_runs(first, second, network, samples if recorded else samples or SAMPLES, progress)
    document, found = asdict(compared), compared.divergence
    emit(document, render(document, found), as_json)
    if found is not None:
        raise CheckFailed(f"{first} and {second} diverge in layer '{found.layer}', step {found.step}")


def _network(export: Path | None, runs: Path, *, needed: bool, allow_code: bool) -> CompiledNetwork | None:
    """Load the export; two trace files are compared without one, unless it is given to explain a difference."""
    from esl_neuro.pipeline.compiled_network import load_compiled
    from esl_neuro.pipeline.given_data import refuse_unread

    if export is None and not needed:  # the latest one may be of another network, whose weights explain nothing
        return None
    compiled = load_compiled(chosen_export(export, runs), allow_code=allow_code)
    if compiled.data is not None:
        refuse_unread(compiled.data, given_data())
    return compiled


def render(document: dict[str, Any], found: TraceDivergence | None) -> str:
    """Write where the runs diverge, or that all values are equal."""
    from esl_neuro.report.tables import table

    what = f"{document['spikes_compared']:,} spike values and {document['potentials_compared']:,} potentials"
    if found is None:
        return f"{document['first']} and {document['second']}: {what} compared, all equal"
    rows = [
        _row(document["first"], found.first),
        _row(document["second"], found.second),
    ]
    place = f"layer '{found.layer}', neuron {found.neuron}, step {found.step} of sample {found.sample}"
    head = ("run", "input", "u before", "v before", "u", "v", "spike")
    return f"first difference ({found.quantity}): {place}\n{table(head, rows)}\nlikely cause: {found.cause}"


def _row(name: str, state: NeuronStep) -> tuple[str, ...]:
    values = (state.arriving, state.u_before, state.v_before, state.u, state.v, state.spike)
    return (name, *("-" if value is None else f"{value:,}" for value in values))
