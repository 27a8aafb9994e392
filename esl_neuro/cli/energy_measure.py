"""``esl-neuro energy measure``."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import click

from esl_neuro.cli.commands import ExampleCommand, Number, OutputPath, Whole, emit, json_option, print_status
from esl_neuro.storage import write


@click.command(
    cls=ExampleCommand,
    short_help="Measure the energy of a GPU through NVML while a command runs.",
    context_settings={"ignore_unknown_options": True},
    examples=(
        ("esl-neuro energy measure --samples 100000 -- python infer.py", "the energy per inference of a script"),
        ("esl-neuro energy report --measured gpu-measured.json", "show it beside the estimates"),
    ),
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--samples", type=Whole(min=1), help="Number of inferences that the command runs.  [required]")
@click.option("--gpu", type=Whole(min=0), default=0, show_default=True, help="Index of the GPU.")
@click.option("--idle-w", type=Number(min=0), default=0.0, help="Idle power to subtract, in W.")
@click.option(
    "--out",
    type=OutputPath(),
    default=Path("gpu-measured.json"),
    show_default=True,
    help="File to write.",
)
@json_option
def measure(command: tuple[str, ...], samples: int | None, gpu: int, idle_w: float, out: Path, as_json: bool) -> None:
    """Run COMMAND and measure the power of a GPU until it ends. Needs nvidia-ml-py and a driver."""
    if command[0].startswith("-"):
        raise click.NoSuchOption(command[0], possibilities=_close(command[0]), ctx=click.get_current_context())
    if samples is None:
        raise click.UsageError("Missing option '--samples'.", click.get_current_context())
    from esl_neuro.energy.measurement import measure as integrate
    from esl_neuro.energy.nvml import GpuMeter
    from esl_neuro.errors import CheckFailed
    from esl_neuro.report.comparison_text import render_measurement

    with GpuMeter(gpu) as meter:
        done = subprocess.run(command, check=False)
    if done.returncode:
        raise CheckFailed(f"'{' '.join(command)}' ended with exit code {done.returncode}; no measurement was saved")
    result = integrate(*meter.readings(), samples, meter.name, f"NVML, GPU {gpu}", idle_w)
    write(out, json.dumps(result.to_dict(), indent=2) + "\n")
    print_status(f"written: {out}")
    emit(result.to_dict(), render_measurement(result), as_json)


def _close(option: str) -> list[str]:
    from difflib import get_close_matches

    known = [name for each in click.get_current_context().command.params for name in each.opts]
    return get_close_matches(option, known)
