"""Open any network (a run, an export, a NIR or ``.net`` file) and run it on test set, given inputs or random spikes."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from esl_neuro.backends.lava_session import INSTALL, lava_installed
from esl_neuro.backends.netx_reading import from_netx
from esl_neuro.backends.trace import Payloads
from esl_neuro.errors import BadInput
from esl_neuro.nirgraph.files import read_nir
from esl_neuro.nirgraph.findings import errors
from esl_neuro.pipeline.choices import CHIP
from esl_neuro.pipeline.compilation import compile
from esl_neuro.pipeline.compiled_network import CompiledNetwork, load_compiled
from esl_neuro.pipeline.export_folder import DOCUMENT
from esl_neuro.pipeline.exports import export_run
from esl_neuro.pipeline.given_data import refuse_unread
from esl_neuro.pipeline.inputs import Layout, Samples, payloads, random_samples
from esl_neuro.pipeline.sharded_networks import trace_elsewhere
from esl_neuro.pipeline.shards import Elsewhere
from esl_neuro.pipeline.simulation import OnStatus, Progress, RunResult, count_program, run_program
from esl_neuro.pipeline.workers import HERE, Workplace
from esl_neuro.storage import write
from esl_neuro.training.run_folder import RunFolder

RANDOM_SAMPLES = 100
NETX = ".net"  # suffix of the files of lava-dl


@dataclass(frozen=True)
class Activity:
    """The simulator and the inputs for a network.

    Attributes
    ----------
    backend : str or None
        Simulator. None: Lava if it is installed, else the integer simulator.
    samples : int or None
        Number of samples: the first of the test set or of ``inputs``, or random ones.
    inputs : Path or None
        ``.npz`` or ``.npy`` file with spikes, graded values or events, and labels; see
        :mod:`~esl_neuro.pipeline.sample_files`.
    layout : str or None
        Order of the first axes of ``inputs``.
    rate : float or None
        Probability of a random input spike for each line and step.
    steps : int or None
        Time steps per sample, if the network does not determine them.
    dt_s : float or None
        Time step in seconds, for a NIR file without one.
    target : str
        The chip that a NIR file is compiled for.
    reset : str or None
        Reset of all neurons, for a NIR file that does not note it; see :mod:`esl_neuro.resets`.
    data : Path or None
        The path given for the test set; refused if the data set is not read from it.
    allow_code : bool
        Consent to the code that a run or an export outside the current folder names.
    """

    backend: str | None = "integer"
    samples: int | None = None
    inputs: Path | None = None
    layout: Layout | None = None
    rate: float | None = None
    steps: int | None = None
    dt_s: float | None = None
    target: str = CHIP
    reset: str | None = None
    data: Path | None = None
    allow_code: bool = False


def simulator(activity: Activity, on_status: OnStatus = lambda _: None) -> str:
    """Return the chosen simulator; without a choice Lava if it is installed, else the integer one, with a message."""
    if activity.backend is not None:
        return activity.backend
    if lava_installed():
        return "lava"
    on_status(
        f"Lava is not installed, so the integer simulator runs, which gives the same counts; install Lava: {INSTALL}"
    )
    return "integer"


def is_nir_file(path: Path) -> bool:
    """Return whether a path names a file, NIR or ``.net``, rather than the folder of a run or an export."""
    return path.suffix in (".nir", NETX) or path.is_file()


def folder_of(path: Path) -> Path:
    """Return the folder of a run or an export, or that of a file."""
    return path if path.is_dir() else path.parent


def is_run(path: Path) -> bool:
    """Return whether a path is not a file and not an export, so that it can only be a run."""
    return not is_nir_file(path) and not (path / DOCUMENT).is_file()


def run_network(
    path: Path,
    activity: Activity,
    *,
    where: Workplace = HERE,
    on_status: OnStatus = lambda _: None,
    progress: Progress | None = None,
) -> RunResult:
    """Run a network to count its operations.

    A run without an export is exported for Loihi 2 first. A run with several exports is rejected.

    Parameters
    ----------
    path : Path
        An export, a run or a NIR file.
    activity : Activity
        The simulator and the inputs.
    where : Workplace
        Where the samples run: in this process, or in shards in several; the result is the same.
    on_status : callable
        Called with a message before each long operation.
    progress : callable, optional
        Called with the number of finished samples and of all samples, in Lava and in several processes.

    Raises
    ------
    BadInput
        If the path is neither an export, a run nor a NIR file, or no input is given for a NIR file; and as in
        :meth:`~esl_neuro.pipeline.shards.Elsewhere.compute`.
    """
    backend = simulator(activity, on_status)
    compiled, samples, arriving = prepare(path, activity, on_status)
    on_status(f"{path}: running {samples.name} ({backend})")
    elsewhere = Elsewhere(where, folder_of(path), on_status, progress)
    result = count_program(
        compiled.program,
        arriving,
        samples.name,
        samples.labels,
        backend,
        progress=progress,
        elsewhere=trace_elsewhere(elsewhere, compiled.program, arriving, backend, counting=True),
    )
    return replace(result, findings=compiled.findings)


def run_recorded(
    path: Path,
    activity: Activity,
    *,
    record_potentials: bool = False,
    where: Workplace = HERE,
    on_status: OnStatus = lambda _: None,
    progress: Progress | None = None,
) -> RunResult:
    """Run a network and return every spike, and with ``record_potentials`` every current and potential.

    The result of an export on its test set is saved in its folder as JSON. A difference from the integer simulator is
    returned, not raised.

    Parameters
    ----------
    path, activity, where, on_status, progress
        As in :func:`run_network`.
    record_potentials : bool
        Also record currents and potentials of every neuron and step.

    Raises
    ------
    BadInput
        As in :func:`run_network`.
    MissingDependency
        If Lava is needed and not installed.
    """
    backend = simulator(activity, on_status)
    compiled, samples, arriving = prepare(path, activity, on_status)
    elsewhere = Elsewhere(where, folder_of(path), on_status, progress)
    result = run_program(
        compiled.program,
        arriving,
        samples.name,
        samples.labels,
        backend,
        record_potentials=record_potentials,
        progress=progress,
        elsewhere=trace_elsewhere(elsewhere, compiled.program, arriving, backend, record_potentials=record_potentials),
    )
    if compiled.graph is not None:
        fidelity, findings = compiled.compare(samples)
        result = replace(result, fidelity=fidelity, findings=tuple(findings))
    if (path / DOCUMENT).is_file() and activity.inputs is None and activity.rate is None:
        document = json.dumps({"export": str(path), **result.to_dict()}, indent=2)
        try:
            write(path / f"run-{backend}.json", document + "\n")
        except BadInput as error:  # the result is complete; only its copy in the export is not
            on_status(f"{error}; the result is not saved in the export")
    return result


def prepare(
    path: Path, activity: Activity, on_status: OnStatus = lambda _: None
) -> tuple[CompiledNetwork, Samples, Payloads]:
    """Open or compile a network, and return it with its inputs, in the units given and as payloads.

    Raises
    ------
    BadInput
        As in :func:`run_network`.
    """
    if activity.inputs is not None and activity.rate is not None:
        raise BadInput("--input and --rate are both given; keep one of the two")
    if activity.layout is not None and activity.inputs is None:
        raise BadInput("--layout describes --input, which is not given; omit it")
    compiled = _open(path, activity, on_status)
    return compiled, *_inputs(compiled, activity)


def _open(path: Path, activity: Activity, on_status: OnStatus) -> CompiledNetwork:
    if not is_nir_file(path):
        if (activity.dt_s, activity.steps, activity.reset, activity.target) != (None, None, None, CHIP):
            raise BadInput(
                f"{path}: an export has its time step, steps, reset and chip; omit --dt, --steps, --reset and --target"
            )
        where = export_of(path, on_status, allow_code=activity.allow_code)
        return load_compiled(where, allow_code=activity.allow_code)
    if path.suffix == NETX:
        return _read_netx(path, activity)
    if activity.inputs is None and activity.rate is None:
        read_nir(path)  # refuses a file of another kind, for which --input would be the wrong advice
        raise BadInput(
            f"{path}: a NIR file has no data set; give --input FILE, or --rate with the spikes per line and step"
        )
    options: dict[str, Any] = {"inputs": activity.inputs, "layout": activity.layout, "reset": activity.reset}
    compiled = compile(
        path,
        activity.target,
        steps=activity.steps,
        dt_s=activity.dt_s,
        any_size=True,
        accept_loss=True,  # whoever runs it sees the findings
        **options,
    )
    for finding in compiled.findings:
        anyway = " (simulated anyway)" if finding in errors(compiled.findings) else ""
        on_status(f"{path}: {finding}{anyway}")
    return compiled


def _read_netx(path: Path, activity: Activity) -> CompiledNetwork:
    if activity.steps is None:
        raise BadInput(f"{path}: a .net file does not determine the number of time steps per sample; give --steps")
    program = from_netx(path, activity.steps, target=activity.target, dt_s=activity.dt_s or 1e-3)
    return CompiledNetwork(path.name, None, program, (), ())


def _inputs(compiled: CompiledNetwork, activity: Activity) -> tuple[Samples, Payloads]:
    if activity.inputs is not None:
        given, arriving = compiled.payloads(activity.inputs, activity.layout)
        return given.part(activity.samples), arriving[: activity.samples]
    if activity.rate is None:
        if compiled.data is not None:
            refuse_unread(compiled.data, activity.data)
        return compiled.payloads(compiled.test_set(activity.samples))
    drawn = random_samples(
        activity.samples or RANDOM_SAMPLES, compiled.steps, compiled.program.input_size, activity.rate
    )
    return drawn, payloads(drawn.values, compiled.program)


def export_of(path: Path, on_status: OnStatus = lambda _: None, *, allow_code: bool = False) -> Path:
    """Return the export of a run, made if there is none; return any other path unchanged.

    Raises
    ------
    BadInput
        If the run has several exports; none of them is chosen silently.
    """
    if not RunFolder(path).result.is_file():
        return path
    exports = sorted(document.parent for document in path.glob("*/export.json"))
    if len(exports) > 1:
        raise BadInput(f"{path}: has {len(exports)} exports; give one of them: {', '.join(map(str, exports))}")
    if exports:
        on_status(f"{exports[0]}: the export of {path}")
        return exports[0]
    on_status(f"{path}: exporting for {CHIP}")
    return export_run(path, allow_code=allow_code).folder
