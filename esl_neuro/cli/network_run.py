"""Options for the simulator and the inputs of a network, shared by the energy commands."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import click

from esl_neuro.cli.commands import (
    ExistingPath,
    Number,
    OneOf,
    Whole,
    allow_code_option,
    chosen_jobs,
    data_option,
    dt_option,
    given_data,
    print_status,
    reset_option,
    runs_option,
    samples_option,
    workplace_options,
)
from esl_neuro.cli.progress import sample_bar
from esl_neuro.pipeline.choices import BACKENDS, CHIP, LAYOUTS

if TYPE_CHECKING:
    from esl_neuro.pipeline.activity import Activity
    from esl_neuro.pipeline.simulation import RunResult
    from esl_neuro.pipeline.workers import Workplace

Function = TypeVar("Function", bound=Callable[..., Any])


def layout_option(function: Function) -> Function:
    """Add ``--layout`` to a command."""
    return click.option(
        "--layout",
        type=OneOf(LAYOUTS),
        help="Order of the first axes of the input.  [default: samples,steps,... if only that fits]",
    )(function)


def activity_options(simulator: str | None, *names: str, chip: bool = False) -> Callable[[Function], Function]:
    """Add the options for simulator and inputs; the command gets one :class:`Activity`.

    Parameters
    ----------
    simulator : str or None
        The default simulator; None for a command that compares the integers with the equations, on given inputs.
    *names : str
        Further names of ``--input``.
    chip : bool
        Whether the command has ``--target``, the chip that a NIR file is compiled for.
    """

    def add(function: Function) -> Function:
        @functools.wraps(function)
        def command(
            samples: int | None,
            inputs: Path | None,
            layout: str | None,
            steps: int | None,
            dt_s: float | None,
            reset: str | None,
            rate: float | None = None,
            backend: str | None = "integer",
            target: str = CHIP,
            allow_code: bool = False,
            **others: Any,
        ) -> Any:
            from esl_neuro.pipeline.activity import Activity

            given = samples, inputs, layout, rate, steps, dt_s, target, reset
            activity = Activity(backend, *given, given_data(), allow_code)  # type: ignore[arg-type]
            return function(activity=activity, **others)

        options = (
            *(() if simulator is None else (backend_option(simulator), rate_option)),
            samples_option,
            input_option(*names),
            layout_option,
            click.option("--steps", type=Whole(min=1), help="Time steps per sample.  [default: those of the file]"),
            dt_option,
            reset_option,
            *((chip_option,) if chip else ()),
            data_option,
            allow_code_option,
            runs_option,
        )
        result: Any = command
        for option in reversed(options):
            result = option(result)
        return result  # type: ignore[no-any-return]

    return add


def workplace_option(function: Function) -> Function:
    """Add ``--jobs`` and ``--scheduler`` to a command on samples; it gets one :class:`Workplace`."""

    @functools.wraps(function)
    def command(jobs: int | None, scheduler: str | None, **others: Any) -> Any:
        from esl_neuro.pipeline.workers import Workplace, address_of

        where = Workplace(chosen_jobs(jobs, scheduler), scheduler)
        if scheduler is not None:
            address_of(scheduler)  # refuses what is none, before anything is read
        return function(where=where, **others)

    return workplace_options(
        "Processes on this machine that share the samples; starting them takes seconds, and one process uses every "
        "core for the integers.",
        "Compute the samples",
    )(command)  # type: ignore[return-value]


def input_option(*names: str) -> Callable[[Function], Function]:
    """Add ``--input`` to a command, also under other names."""
    return click.option(
        "--input",
        *names,
        "inputs",
        type=ExistingPath(dir_okay=False),
        help="Input file, .npz or .npy: spikes, graded values or events, and 'labels'.",
    )


def backend_option(default: str) -> Callable[[Function], Function]:
    """Add ``--backend`` to a command."""
    chosen, shown = (None, "lava, or integer without Lava") if default == "lava" else (default, True)
    return click.option("--backend", type=OneOf(BACKENDS), default=chosen, show_default=shown, help="Simulator.")


rate_option = click.option("--rate", type=Number(0, 1), help="Random input spikes: probability for each line and step.")


def refuse_without_arithmetic(target: str) -> None:
    """Reject a target that nothing can be compiled for, before anything slow is loaded."""
    from esl_neuro.hardware import arithmetic_of, load_target

    arithmetic_of(load_target(target))


def _compilable(_context: click.Context, _option: click.Parameter, target: str) -> str:
    if target != CHIP:
        refuse_without_arithmetic(target)
    return target


chip_option = click.option(
    "--target",
    default=CHIP,
    show_default=True,
    callback=_compilable,
    help="Chip that a NIR file is compiled for: a name, or a TOML file.",
)

placement_option = click.option(
    "--placement",
    metavar="[FILE|compiler|fewer-hops]",
    help="Cores of the neurons: 'compiler', 'fewer-hops' (the same, ordered on the mesh), or an .npz file by layer. "
    "Adds messages and hops to the counts.",
)


class Tick(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """``free``, or the duration of a step such as ``1ms``; a number without unit is in seconds."""

    name = "free|DURATION"
    SECONDS: ClassVar[dict[str, float]] = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        """Return seconds, None for ``free``, or fail."""
        if value == FREE or isinstance(value, float):
            return None if value == FREE else value
        match = re.fullmatch(r"([-+0-9.eE]+)\s*([a-z]*)", str(value))
        try:
            seconds = float(match[1]) * self.SECONDS[match[2]] if match else math.nan
        except (ValueError, KeyError):
            seconds = math.nan
        if not (math.isfinite(seconds) and seconds > 0):
            self.fail(f"'{value}' is neither '{FREE}' nor a duration above 0, such as 1ms or 20us.", param, ctx)
        return seconds


FREE = "free"
tick_option = click.option(
    "--tick",
    "--tick-s",
    "tick_s",
    type=Tick(),
    default=FREE,
    show_default=True,
    help="Pace of the chips: 'free' (each step as short as published times allow, for stored inputs such as images) or "
    "the step of real time that a sensor dictates, such as 1ms. Decides static power; both are shown beside a GPU.",
)


def run_watched(path: Path, activity: Activity, where: Workplace) -> RunResult:
    """Run a network, with status messages and a progress bar."""
    from esl_neuro.pipeline.activity import run_network, simulator

    activity = replace(activity, backend=simulator(activity, print_status))
    with sample_bar(activity.backend, where) as progress:
        return run_network(path, activity, where=where, on_status=print_status, progress=progress)
