"""Verify an export from the files in its folder, and find the first step where two runs diverge."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from esl_neuro.backends.divergence import TraceDivergence, diverge
from esl_neuro.backends.golden import read_trace
from esl_neuro.backends.trace import Trace
from esl_neuro.compiler.compile import input_payload, quantise_network
from esl_neuro.compiler.frontend import read_network
from esl_neuro.compiler.program import Program, differences
from esl_neuro.compiler.quantise import round_as_0_1_0
from esl_neuro.errors import BadInput, CheckFailed, MissingDependency, did_you_mean
from esl_neuro.nirgraph.files import read_nir
from esl_neuro.pipeline.activity import Activity, run_recorded
from esl_neuro.pipeline.choices import BACKENDS
from esl_neuro.pipeline.compiled_network import CompiledNetwork
from esl_neuro.pipeline.export_folder import GOLDEN, read_export
from esl_neuro.pipeline.inputs import Layout
from esl_neuro.pipeline.simulation import Progress, RunResult, simulate


@dataclass(frozen=True)
class Proof:
    """The comparisons made on an export. A difference raises an error, so everything listed here is equal.

    Attributes
    ----------
    folder : Path
        The export. Its NIR graph compiles to its program, with every integer equal.
    golden : dict of str to int
        Number of spikes, currents and potentials compared, for each simulator that repeated the golden trace.
    lava : RunResult or None
        The test set in Lava, with the comparison of every spike; None if Lava did not run, or ran the golden trace.
    """

    folder: Path
    golden: dict[str, int]
    lava: RunResult | None = None

    def refuse_difference(self) -> None:
        """Raise an error if a spike of the test set in Lava differs from the integer simulator."""
        if self.lava is not None:
            self.lava.refuse_difference()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        document: dict[str, Any] = {"export": str(self.folder), "recompiled": "equal", "golden": self.golden}
        if self.lava is not None:
            document["lava"] = {"export": str(self.folder), **self.lava.to_dict()}
        return document


def verify(
    folder: str | Path,
    *,
    golden: bool = False,
    with_lava: bool = True,
    samples: int | None = None,
    inputs: str | Path | None = None,
    layout: Layout | None = None,
    allow_code: bool = False,
    progress: Progress | None = None,
) -> Proof:
    """Verify an export: compile its graph again, repeat its golden trace, run its test set in Lava.

    Parameters
    ----------
    folder : str or Path
        The export, written by ``CompiledNetwork.save`` or ``esl-neuro export``.
    golden : bool
        Run the golden trace in Lava instead of the test set; this needs no data set. A network without a data set is
        always verified in this way.
    with_lava : bool
        Whether to run Lava; set it to False if Lava is not installed.
    samples : int, optional
        Number of samples of the test set, or of ``inputs``; all by default.
    inputs : path, optional
        File of inputs to run in Lava instead of the test set, see :mod:`~esl_neuro.pipeline.sample_files`.
    layout : {"samples,steps,...", "steps,samples,...", "steps,..."}, optional
        Order of the first axes of ``inputs``.
    allow_code : bool
        Consent to the code that an export outside the current folder names as its data.
    progress : callable, optional
        Called with the number of finished samples and of all samples, in Lava.

    Raises
    ------
    CheckFailed
        If the NIR graph compiles to another program, or a simulator diverges from the golden trace or from the other.
    BadInput
        If the folder is not an export, or is damaged.
    MissingDependency
        If Lava is needed and not installed.
    """
    given = None if inputs is None else Path(inputs)
    activity = Activity("lava", samples, given, layout, allow_code=allow_code)
    proof = prove(Path(folder), activity, golden=golden, with_lava=with_lava, progress=progress)
    proof.refuse_difference()
    return proof


def prove(
    folder: Path, activity: Activity, *, golden: bool, with_lava: bool, progress: Progress | None = None
) -> Proof:
    """Verify an export like :func:`verify`, but return a run in Lava that differs instead of raising an error."""
    changed = recompile(folder)
    if changed:
        raise CheckFailed(
            f"{folder}: model.nir compiles to another program than program.safetensors ({', '.join(changed)} differ); "
            "one of the files was changed after the export; export again"
        )
    repeated = {"integer": repeat_golden(folder, "integer")}
    if not with_lava:
        return Proof(folder, repeated)
    try:
        if golden or (read_export(folder).data is None and activity.inputs is None):
            return Proof(folder, repeated | {"lava": repeat_golden(folder, "lava", progress)})
        return Proof(folder, repeated, run_recorded(folder, activity, progress=progress))
    except MissingDependency as missing:
        raise MissingDependency(f"{missing}; 'esl-neuro verify --without-lava' verifies the rest") from missing


def recompile(folder: Path) -> list[str]:
    """Compile the NIR graph of an export again; return the names of the fields that differ from the stored program.

    The program carries the integer formats of its chip, so the chip's own file is not needed. One with a scale for each
    group, as version 0.1.0 wrote it, keeps its scales and exponents.
    """
    files = read_export(folder)
    stored, network = files.program, read_network(read_nir(files.graph_path))
    payload = input_payload(stored.input_bits, stored.input_scale)
    if stored.one_scale_per_group:
        names = [(each.source, each.target) for each in network.connections]
        if names != [(each.source, each.target) for each in stored.connections]:
            return ["connections"]
        connections, groups = round_as_0_1_0(network, stored, payload)
        return differences(stored, replace(stored, connections=connections, groups=groups))
    again, _ = quantise_network(
        network,
        stored.target,
        stored.formats,
        stored.steps,
        payload,
        files.contents.scalings,
    )
    # A NIR graph does not contain the readout.
    return differences(stored, replace(again, readout=stored.readout))


def repeat_golden(folder: Path, backend: str, progress: Progress | None = None) -> int:
    """Run the inputs of the golden trace and return the number of spikes, currents and potentials compared.

    Raises
    ------
    CheckFailed
        If one of them differs.
    """
    recorded, program = read_trace(folder / GOLDEN), Program.load(folder)
    again = simulate(program, recorded.input_spikes, backend, record_potentials=True, progress=progress)
    found = diverge(recorded, again, program)
    if found is not None:
        raise CheckFailed(
            f"{folder}: {backend} diverges from the golden trace in layer '{found.layer}', neuron {found.neuron}, step "
            f"{found.step} of sample {found.sample} ({found.quantity}); likely cause: {found.cause}"
        )
    return 3 * sum(fired.size for fired in recorded.spikes.values())


# Comparison of two runs.


@dataclass(frozen=True)
class RunDifference:
    """The comparison of two runs of one network.

    Attributes
    ----------
    first, second : str
        Simulators or trace files.
    spikes_compared, potentials_compared : int
        Number of values that both runs have.
    divergence : TraceDivergence or None
        The first step where the runs diverge; None if all values are equal.
    """

    first: str
    second: str
    spikes_compared: int
    potentials_compared: int
    divergence: TraceDivergence | None


def compare_runs(
    first: str,
    second: str,
    compiled: CompiledNetwork | None,
    samples: int | None,
    progress: Progress | None = None,
) -> RunDifference:
    """Compare two runs, each a simulator or a trace file, spike by spike and potential by potential.

    Parameters
    ----------
    first, second : str
        One of :data:`~esl_neuro.pipeline.choices.BACKENDS`, or the path of a trace.
    compiled : CompiledNetwork or None
        The network to simulate, on the inputs of a trace or on its test set; for two traces, the one they are of, which
        explains a difference, or None.
    samples : int or None
        Number of samples to compare; all if it is None.
    progress : callable, optional
        Called with the number of finished samples and of all samples, in Lava.

    Raises
    ------
    BadInput
        If a name is neither a simulator nor a trace file, or the traces belong to different networks.
    """
    traces = _traces(first, second, compiled, samples, progress)
    if compiled is not None:
        _refuse_other_network(compiled, traces[0])
    try:
        found = diverge(*traces, compiled.program if compiled else None)
    except ValueError as error:
        raise BadInput(str(error)) from error
    one, two = traces
    return RunDifference(
        first,
        second,
        sum(fired.size for fired in one.spikes.values()),
        sum(u.size for name, u in one.u.items() if name in two.u),
        found,
    )


def _refuse_other_network(compiled: CompiledNetwork, trace: Trace) -> None:
    sizes = {group.name: group.neurons for group in compiled.program.groups}
    found = {name: fired.shape[-1] for name, fired in trace.spikes.items()}
    if found != sizes:
        raise BadInput(f"the trace is not of {compiled.name}: it has the layers {found}, the network has {sizes}")


def is_trace_file(name: str) -> bool:
    """Return whether an argument of :func:`compare_runs` names a file."""
    return name not in BACKENDS


def _traces(
    first: str, second: str, compiled: CompiledNetwork | None, samples: int | None, progress: Progress | None
) -> tuple[Trace, Trace]:
    """Read the files first, because the simulators get the same inputs."""
    read = {name: read_trace(_trace_path(name)) for name in (first, second) if is_trace_file(name)}
    if compiled is None:
        return _first_samples(read[first], samples), _first_samples(read[second], samples)
    inputs = next((trace.input_spikes[:samples] for trace in read.values()), None)
    if inputs is None:
        _, inputs = compiled.payloads(compiled.test_set(samples))
    one, two = (
        _first_samples(read[name], samples)
        if name in read
        else simulate(compiled.program, inputs, name, record_potentials=True, progress=progress)
        for name in (first, second)
    )
    return one, two


def _trace_path(name: str) -> Path:
    path = Path(name)
    if not path.is_file():
        raise BadInput(f"'{name}' is neither a trace file nor a simulator; {did_you_mean(name, BACKENDS)}")
    return path


def _first_samples(trace: Trace, samples: int | None) -> Trace:
    def cut(records: dict[str, Any]) -> dict[str, Any]:
        return {name: values[:samples] for name, values in records.items()}

    return replace(
        trace,
        input_spikes=trace.input_spikes[:samples],
        spikes=cut(trace.spikes),
        u=cut(trace.u),
        v=cut(trace.v),
        potential=None if trace.potential is None else trace.potential[:samples],
        counts=None,
    )
