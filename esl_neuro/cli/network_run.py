"""Options that say what a network is run on for counting, shared by the commands on energy."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from esl_neuro.cli.commands import data_option, print_status, runs_option, samples_option
from esl_neuro.cli.progress import lava_bar
from esl_neuro.pipeline.choices import BACKENDS

if TYPE_CHECKING:
    from esl_neuro.pipeline.activity import Activity
    from esl_neuro.pipeline.simulation import RunResult

Function = TypeVar("Function", bound=Callable[..., Any])


def activity_options(function: Function) -> Function:
    """Add the options that say what a network runs on; the command gets one :class:`Activity`."""

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

        return function(activity=Activity(backend, samples, spikes, rate, steps, dt_s), **others)

    options = (
        click.option(
            "--backend", type=click.Choice(BACKENDS), default="lava", show_default=True, help="Where it runs."
        ),
        samples_option,
        click.option(
            "--spikes",
            type=click.Path(dir_okay=False, exists=True, path_type=Path),
            help="Input: .npz ('input') or .npy, (samples, steps, lines): 0 and 1, or graded values (8 bits are kept).",
        ),
        click.option(
            "--rate", type=click.FloatRange(0, 1), help="Draw input spikes: probability for each line and step."
        ),
        click.option("--steps", type=click.IntRange(min=1), help="Time steps of drawn spikes.  [default: the file's]"),
        click.option(
            "--dt-s",
            type=click.FloatRange(min=0, min_open=True),
            help="Time step of a NIR file without one, in seconds.",
        ),
        data_option,
        runs_option,
    )
    result: Any = command
    for option in reversed(options):
        result = option(result)
    return result  # type: ignore[no-any-return]


placement_option = click.option(
    "--placement",
    metavar="[FILE|compiler]",
    help="Cores: 'compiler', or .npz with the core of each neuron by layer; adds messages and hops.",
)


def run_watched(path: Path, activity: Activity) -> RunResult:
    """Run a network, saying what is done and showing how far it is."""
    from esl_neuro.pipeline.activity import run_network

    with lava_bar(activity.backend) as progress:
        return run_network(path, activity, on_status=print_status, progress=progress)
