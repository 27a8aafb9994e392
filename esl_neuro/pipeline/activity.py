"""Run any network to count its operations: a run or an export on its test set, a NIR file on given or random spikes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from esl_neuro.backends.trace import Payloads
from esl_neuro.errors import BadInput
from esl_neuro.nirgraph.findings import errors
from esl_neuro.pipeline.choices import CHIP
from esl_neuro.pipeline.compilation import compile
from esl_neuro.pipeline.compiled_network import CompiledNetwork, load_compiled
from esl_neuro.pipeline.exports import export_run
from esl_neuro.pipeline.inputs import Samples, payloads, random_samples, read_samples
from esl_neuro.pipeline.simulation import OnStatus, Progress, RunResult, count_program
from esl_neuro.training.run_folder import RunFolder


@dataclass(frozen=True)
class Activity:
    """The simulator and the inputs for a network.

    Attributes
    ----------
    backend : str
        Simulator.
    samples : int or None
        Number of samples: the first of the test set, or random ones.
    spikes : Path or None
        ``.npz`` or ``.npy`` file with input spikes or graded values.
    rate : float or None
        Probability of a random input spike for each line and step.
    steps : int or None
        Time steps per sample, if neither the network nor ``spikes`` determines them.
    dt_s : float or None
        Time step in seconds, for a NIR file without one.
    """

    backend: str = "integer"
    samples: int | None = None
    spikes: Path | None = None
    rate: float | None = None
    steps: int | None = None
    dt_s: float | None = None


def run_network(
    path: Path, activity: Activity, *, on_status: OnStatus = lambda _: None, progress: Progress | None = None
) -> RunResult:
    """Run a network.

    A run without an export is exported for Loihi 2 first. If a run has several exports, the latest one is used.

    Parameters
    ----------
    path : Path
        An export, a run or a NIR file.
    activity : Activity
        The simulator and the inputs.
    on_status : callable
        Called with a message before each long operation.
    progress : callable, optional
        Called with the number of finished samples and of all samples, in Lava.

    Raises
    ------
    BadInput
        If the path is neither an export, a run nor a NIR file, or no input is given for a NIR file.
    """
    if activity.spikes is not None and activity.rate is not None:
        raise BadInput("--spikes and --rate are both given; keep one of the two")
    given = None if activity.spikes is None else read_samples(activity.spikes)
    if path.suffix == ".nir":
        if given is None and activity.rate is None:
            raise BadInput(
                "a NIR file has no data set; give --spikes FILE, or --rate with the spikes per line and step"
            )
        compiled = _compile(path, activity, given, on_status)
    else:
        path = _export_of(path, on_status)
        compiled = load_compiled(path)
    samples, arriving = _inputs(compiled, activity, given)
    on_status(f"{path}: running {samples.name} ({activity.backend})")
    return count_program(compiled.program, arriving, samples.name, samples.labels, activity.backend, progress=progress)


def _inputs(compiled: CompiledNetwork, activity: Activity, given: Samples | None) -> tuple[Samples, Payloads]:
    if given is not None:
        values = given.values[: activity.samples]
        samples = Samples(values, name=f"{len(values):,} samples of {activity.spikes}")
        if compiled.program.input_bits == 1 and not samples.binary:
            raise BadInput(f"{activity.spikes}: contains values other than 0 and 1; this program accepts only spikes")
        return compiled.payloads(samples)
    if activity.rate is None:
        return compiled.payloads(compiled.test_set(activity.samples))
    steps = activity.steps or compiled.steps  # random spikes may have any number of steps; the report prints it
    drawn = random_samples(activity.samples or 100, steps, compiled.program.input_size, activity.rate)
    return drawn, payloads(drawn.values, compiled.program)


def _export_of(path: Path, on_status: OnStatus) -> Path:
    """Return the export of a run, made if there is none; return any other path unchanged."""
    if not RunFolder(path).result.is_file():
        return path
    exports = [document.parent for document in path.glob("*/export.json")]
    if exports:
        return max(exports, key=lambda folder: (folder / "export.json").stat().st_mtime_ns)
    on_status(f"{path}: exporting for {CHIP}")
    return export_run(path).folder


def _compile(path: Path, activity: Activity, given: Samples | None, on_status: OnStatus) -> CompiledNetwork:
    """Compile a NIR file, whether or not it fits on a chip. Inputs that contradict the file's steps are refused."""
    compiled = compile(path, steps=activity.steps, dt_s=activity.dt_s, inputs=given, any_size=True, accept_loss=True)
    for finding in compiled.findings:
        anyway = " (counted anyway)" if finding in errors(compiled.findings) else ""
        on_status(f"{path}: {finding}{anyway}")
    return compiled
