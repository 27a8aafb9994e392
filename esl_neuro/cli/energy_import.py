"""``esl-neuro energy import``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click

from esl_neuro.cli.commands import (
    ExampleCommand,
    ExistingPath,
    Number,
    OutputPath,
    Whole,
    emit,
    json_option,
    print_status,
)
from esl_neuro.storage import write


@click.command(
    "import",
    cls=ExampleCommand,
    short_help="Import a power log as a measurement.",
    examples=(
        ("esl-neuro energy import power.csv --samples 5000 --target loihi2", "a log from Lava's profiler"),
        (
            "esl-neuro energy import gpu.csv --samples 100000 --idle-w 25 --target v100-pcie",
            "a log from nvidia-smi, without idle power",
        ),
        ("esl-neuro energy report --measured loihi2-measured.json", "show it beside the estimates"),
        (
            "esl-neuro energy import power.csv --samples 5000 --target loihi2 --idle-w 0.21 --steps 16 --cores 3 "
            "--sop 1.8e4 --neuron-updates 4256",
            "with its counts, for 'energy fit'",
        ),
    ),
)
@click.argument("log", type=ExistingPath(dir_okay=False))
@click.option("--samples", type=Whole(min=1), required=True, help="Inferences that the log covers.")
@click.option("--target", required=True, help="Name of the chip or processor that was measured.")
@click.option("--idle-w", type=Number(min=0), default=0.0, help="Idle power to subtract, in W.")
@click.option(
    "--from",
    "start",
    help="Start of the load, in seconds or in the time format of the log.  [default: start of the log]",
)
@click.option("--to", "end", help="End of the load.  [default: end of the log]")
@click.option("--steps", type=Whole(min=1), help="Time steps of an inference; with the next three, for 'energy fit'.")
@click.option("--cores", type=Whole(min=1), help="Occupied cores.")
@click.option("--sop", type=Number(min=0), help="Synaptic operations of an inference.")
@click.option("--neuron-updates", type=Number(min=0), help="Neurons x steps of an inference.")
@click.option("--out", type=OutputPath(), help="File to write.  [default: TARGET-measured.json]")
@json_option
def import_log(
    log: Path,
    samples: int,
    target: str,
    idle_w: float,
    start: str | None,
    end: str | None,
    steps: int | None,
    cores: int | None,
    sop: float | None,
    neuron_updates: float | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Integrate the power in LOG, a CSV file with columns for time and power, and divide it by the inferences."""
    from esl_neuro.energy.measurement import clock, measure, read_power_log, window
    from esl_neuro.errors import BadInput
    from esl_neuro.report.comparison_text import render_measurement

    given = {"--steps": steps, "--cores": cores, "--sop": sop, "--neuron-updates": neuron_updates}
    missing = [name for name, value in given.items() if value is None]
    if 0 < len(missing) < len(given):
        raise BadInput(f"{', '.join(missing)} missing: a fit needs all of the four counts; give all of them or none")
    times, watts = read_power_log(log)
    try:
        bounds = [None if text is None else clock(text) for text in (start, end)]
    except ValueError as error:
        raise BadInput(f"--from, --to: {error}; use seconds or the time format of the log") from error
    begin, finish = bounds
    times, watts = window(times, watts, begin, finish)
    duration = None if begin is None or finish is None else finish - begin
    measured = measure(times, watts, samples, target, log.name, idle_w, duration)
    result = replace(measured, steps=steps, cores=cores, sop=sop, neuron_updates=neuron_updates)
    path = out or Path(f"{target}-measured.json")
    write(path, json.dumps(result.to_dict(), indent=2) + "\n")
    print_status(f"written: {path}")
    emit(result.to_dict(), render_measurement(result), as_json)
