"""Options for the simulator and the inputs of a network, shared by the energy commands."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from esl_neuro.cli.commands import data_option, dt_option, print_status, runs_option, samples_option
from esl_neuro.cli.progress import lava_bar
from esl_neuro.pipeline.choices import BACKENDS

if TYPE_CHECKING:
    from esl_neuro.pipeline.activity import Activity
    from esl_neuro.pipeline.simulation import RunResult

Function = TypeVar("Function", bound=Callable[..., Any])


def activity_options(function: Function) -> Function:
    """Add the options for simulator and inputs; the command gets one :class:`Activity`."""

    @functools.wraps(function)
    def command(
        backend: str,
        samples: int | None,
        spikes: Path | None,
        rate: float | None,
        steps: int | None,
        dt_s: float | None,
        **others: Any,
    ) -> Any:
        from esl_neuro.pipeline.activity import Activity

        return function(activity=Activity(_available(backend), samples, spikes, rate, steps, dt_s), **others)

    options = (
        click.option(
            "--backend",
            type=click.Choice(BACKENDS),
            default="lava",
            show_default="lava, or integer without Lava",
            help="Simulator.",
        ),
        samples_option,
        click.option(
            "--spikes",
            type=click.Path(dir_okay=False, exists=True, path_type=Path),
            help="Input file, .npz ('input') or .npy, (samples, steps, lines): 0 and 1, or graded values (8 bits).",
        ),
        click.option(
            "--rate", type=click.FloatRange(0, 1), help="Random input spikes: probability for each line and step."
        ),
        click.option(
            "--steps", type=click.IntRange(min=1), help="Time steps of random spikes.  [default: those of the file]"
        ),
        dt_option,
        data_option,
        runs_option,
    )
    result: Any = command
    for option in reversed(options):
        result = option(result)
    return result  # type: ignore[no-any-return]


def _available(backend: str) -> str:
    """Return the simulator; without Lava, the integer simulator instead of the default, with a status message."""
    from click.core import ParameterSource

    from esl_neuro.backends.lava_session import INSTALL, lava_installed

    chosen = click.get_current_context().get_parameter_source("backend") != ParameterSource.DEFAULT
    if chosen or backend == "integer" or lava_installed():
        return backend
    print_status(
        f"Lava is not installed, so the integer simulator runs, which gives the same counts; install Lava: {INSTALL}"
    )
    return "integer"


placement_option = click.option(
    "--placement",
    metavar="[FILE|compiler]",
    help="Cores of the neurons: 'compiler', or an .npz file by layer. Adds messages and hops to the counts.",
)


def run_watched(path: Path, activity: Activity) -> RunResult:
    """Run a network, with status messages and a progress bar."""
    from esl_neuro.pipeline.activity import run_network

    with lava_bar(activity.backend) as progress:
        return run_network(path, activity, on_status=print_status, progress=progress)
