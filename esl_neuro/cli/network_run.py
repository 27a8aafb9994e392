"""Run any network for counting: a run or export on its test set, or anybody's NIR file on given or drawn spikes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from esl_neuro.cli.commands import data_option, runs_option, samples_option, talk
from esl_neuro.cli.run import BACKENDS, simulate
from esl_neuro.errors import BadInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from esl_neuro.backends.trace import Payloads, Trace
    from esl_neuro.compiler.program import Program
    from esl_neuro.energy.core_map import CoreMap

Function = TypeVar("Function", bound=Callable[..., Any])

GRADED_BITS = 8
COMPILER = "compiler"
COMPILED_FOR = "loihi2"  # the integers of a NIR file; counts do not depend on the chip


@dataclass(frozen=True)
class Activity:
    """What to run a network on.

    Attributes
    ----------
    backend : str
        Simulator.
    samples : int or None
        First samples of the test set, or number of drawn samples.
    spikes : Path or None
        ``.npz`` or ``.npy`` of input spikes or graded values.
    rate : float or None
        Spikes per input line and step to draw.
    steps : int or None
        Time steps, where nothing else says.
    dt_s : float or None
        Time step of a NIR file without one.
    """

    backend: str
    samples: int | None
    spikes: Path | None
    rate: float | None
    steps: int | None
    dt_s: float | None


@dataclass(frozen=True)
class NetworkRun:
    """What ran.

    Attributes
    ----------
    program : Program
        The integer program.
    trace : Trace
        Its spikes.
    ran_on : str
        What it ran on, in words.
    accuracy : float or None
        Share of the test samples that it got right; None where there are no labels.
    """

    program: Program
    trace: Trace
    ran_on: str
    accuracy: float | None


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


def placing(given: str | None) -> Callable[[Program], CoreMap | None]:
    """Return what places a program, a file already read.

    Raises
    ------
    BadInput
        If the file cannot be read.
    """
    from esl_neuro.energy.core_map import compiled_placement, read_placement

    if given == COMPILER:
        return compiled_placement
    if given is not None and not Path(given).exists():
        raise BadInput(f"--placement '{given}' is neither '{COMPILER}' nor a file; save core numbers with numpy.savez")
    placement = None if given is None else read_placement(Path(given))
    return lambda _program: placement


def run_network(path: Path, activity: Activity) -> NetworkRun:
    """Run a network.

    A run is exported for Loihi 2 if it has no export yet; of several exports the latest counts.

    Raises
    ------
    BadInput
        If the path is neither an export, a run nor a NIR file, or nothing says what a NIR file should run on.
    """
    if activity.spikes is not None and activity.rate is not None:
        raise BadInput("--spikes and --rate are both given; keep one of the two")
    labels: NDArray[np.int64] | None = None
    if path.suffix == ".nir":
        program = _compile(path, activity)
        given = _given_inputs(program, activity)
        if given is None:
            raise BadInput("a NIR file brings no data: give --spikes FILE, or --rate with the spikes per line and step")
        inputs, words = given
    else:
        from esl_neuro.compiler.bundle import read_bundle

        path = _export_of(path)
        bundle = read_bundle(path)
        program, given = bundle.program, _given_inputs(bundle.program, activity)
        if given is None:
            inputs, labels = bundle.test_inputs(activity.samples)
            words = f"{len(inputs):,} test samples"
        else:
            inputs, words = given
    talk(f"{path}: running {words} ({activity.backend})")
    trace = _counted(program, inputs) if activity.backend == "integer" else simulate(program, inputs, activity.backend)
    accuracy = None if labels is None else float((trace.predictions() == labels).mean())
    return NetworkRun(program, trace, words, accuracy)


def _counted(program: Program, inputs: Payloads) -> Trace:
    from esl_neuro.backends.integer import count_integer

    return count_integer(program, inputs)


def _export_of(path: Path) -> Path:
    """Folder of the export of a run, made where there is none; any other path as it is."""
    from esl_neuro.training.run_folder import RunFolder

    if not RunFolder(path).result.is_file():
        return path
    exports = [document.parent for document in path.glob("*/export.json")]
    if exports:
        return max(exports, key=lambda folder: (folder / "export.json").stat().st_mtime_ns)
    from esl_neuro.cli.export import export_run

    talk(f"{path}: exporting for {COMPILED_FOR}")
    return Path(export_run(path, COMPILED_FOR, None)["folder"])


def _compile(path: Path, activity: Activity) -> Program:
    """Compile a NIR file, whether or not it fits on a chip; values that are no spikes become payloads of 8 bits."""
    from esl_neuro.compiler.compile import compile_any_size
    from esl_neuro.hardware import load_target
    from esl_neuro.nirgraph.files import read_nir
    from esl_neuro.nirgraph.findings import errors

    graph = read_nir(path)
    given = None if activity.spikes is None else _read_spikes(activity.spikes)
    steps = activity.steps or graph.metadata.get("steps") if given is None else given.shape[1]
    if not steps:
        raise BadInput(f"{path}: nothing says how many time steps a sample has; give --steps or --spikes")
    graded: dict[str, Any] = {}
    if given is not None and not _binary(given):
        graded = {"input_bits": GRADED_BITS, "input_scale": (2**GRADED_BITS - 1) / max(float(given.max()), 1.0)}
    compilation = compile_any_size(graph, load_target(COMPILED_FOR), int(steps), activity.dt_s, **graded)
    for finding in errors(compilation.findings):
        talk(f"{path}: {finding} (counted all the same)")
    return compilation.program


def _given_inputs(program: Program, activity: Activity) -> tuple[NDArray[Any], str] | None:
    """Return inputs of a file or of a rate, and what they are in words; None if neither is given."""
    if activity.spikes is not None:
        from esl_neuro.compiler.bundle import payloads

        values = _read_spikes(activity.spikes)[: activity.samples]
        if program.input_bits == 1 and not _binary(values):
            raise BadInput(f"{activity.spikes}: holds other values than 0 and 1; this program takes spikes alone")
        return payloads(values, program), f"{len(values):,} samples of {activity.spikes}"
    if activity.rate is None:
        return None
    from esl_neuro.random_streams import stream

    shape = (activity.samples or 100, activity.steps or program.steps, program.input_size)
    drawn = stream(0, "input spikes").random(shape) < activity.rate
    return drawn.astype("uint8"), f"{shape[0]} samples of random spikes at rate {activity.rate:g} (no real data)"


def _binary(values: NDArray[Any]) -> bool:
    return bool(((values == 0) | (values == 1)).all())


def _read_spikes(path: Path) -> NDArray[Any]:
    """Read (samples, steps, lines) of spikes, or of values that are none.

    Raises
    ------
    BadInput
        If the file holds something else.
    """
    import numpy as np

    try:
        loaded = np.load(path, allow_pickle=False)
        if hasattr(loaded, "files"):
            names = loaded.files
            if "input" not in names and len(names) != 1:
                raise BadInput(f"{path}: holds {names}; name one of them 'input'")
            loaded = loaded["input" if "input" in names else names[0]]
    except (OSError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{path}: no readable .npz or .npy file: {error}") from error
    if loaded.ndim == 2:
        loaded = loaded[None]
    if loaded.ndim != 3:
        raise BadInput(f"{path}: shape {loaded.shape}; spikes have the shape (samples, steps, lines)")
    if loaded.dtype.kind not in "buif" or not np.isfinite(loaded).all() or loaded.min(initial=0) < 0:
        raise BadInput(f"{path}: holds something else than numbers from 0 on; give 0 and 1, or graded values")
    return loaded  # type: ignore[no-any-return]
