"""Prove an export by what is in its folder, and find the first step where two runs diverge."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from esl_neuro.backends.divergence import TraceDivergence, diverge
from esl_neuro.backends.golden import read_trace
from esl_neuro.backends.trace import Trace
from esl_neuro.compiler.compile import compile_any_size
from esl_neuro.compiler.program import Program, differences
from esl_neuro.compiler.quantise import Scaling
from esl_neuro.errors import BadInput, CheckFailed, MissingDependency, did_you_mean
from esl_neuro.nirgraph.files import read_nir
from esl_neuro.pipeline.bundle import GOLDEN, read_bundle
from esl_neuro.pipeline.choices import BACKENDS
from esl_neuro.pipeline.compiled_network import CompiledNetwork
from esl_neuro.pipeline.exports import run_export
from esl_neuro.pipeline.simulation import Progress, RunResult, simulate


@dataclass(frozen=True)
class Proof:
    """What was compared in an export; a difference raises, so that what stands here was equal.

    Attributes
    ----------
    folder : Path
        The export. Its NIR graph compiles to its program, integer for integer.
    golden : dict of str to int
        For each simulator that repeated the golden trace: spikes, currents and potentials compared.
    lava : RunResult or None
        The test set in Lava, with the comparison of every spike; None where Lava was left out or ran the golden trace.
    """

    folder: Path
    golden: dict[str, int]
    lava: RunResult | None = None

    def refuse_difference(self) -> None:
        """Fail if a spike of the test set in Lava is another one than the integer simulator's."""
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
    progress: Progress | None = None,
) -> Proof:
    """Prove an export: compile it anew, repeat its golden trace, run its test set in Lava.

    Parameters
    ----------
    folder : str or Path
        What ``CompiledNetwork.save`` or ``esl-neuro export`` wrote.
    golden : bool
        Run the golden trace in Lava instead of the test set, which needs no data. A network that was saved without a
        data set is proven so in any case.
    with_lava : bool
        False where Lava is not installed.
    samples : int, optional
        First test samples; all by default.
    progress : callable, optional
        Called with the samples done and the samples in all, by Lava.

    Raises
    ------
    CheckFailed
        If the program or the golden trace is not what the NIR graph and the simulators give.
    BadInput
        If the folder is no export, or is damaged.
    MissingDependency
        If Lava is asked for and not installed.
    """
    proof = prove(Path(folder), golden=golden, with_lava=with_lava, samples=samples, progress=progress)
    proof.refuse_difference()
    return proof


def prove(
    folder: Path, *, golden: bool, with_lava: bool, samples: int | None, progress: Progress | None = None
) -> Proof:
    """Do what :func:`verify` does, but return a run in Lava that differs."""
    changed = recompile(folder)
    if changed:
        raise CheckFailed(
            f"{folder}: model.nir compiles to another program than program.safetensors holds ({', '.join(changed)}); "
            "one of the files was changed after the export"
        )
    repeated = {"integer": _repeat_golden(folder, "integer")}
    if not with_lava:
        return Proof(folder, repeated)
    try:
        if golden or read_bundle(folder).data is None:
            return Proof(folder, repeated | {"lava": _repeat_golden(folder, "lava", progress)})
        return Proof(folder, repeated, run_export(folder, "lava", samples, progress=progress))
    except MissingDependency as missing:
        raise MissingDependency(f"{missing}; 'esl-neuro verify --without-lava' proves all the rest") from missing


def recompile(folder: Path) -> list[str]:
    """Compile the NIR graph of an export anew and return the names of what differs from the stored program."""
    bundle = read_bundle(folder)
    stored = bundle.program
    again = compile_any_size(
        read_nir(bundle.graph_path),
        stored.target,
        stored.steps,
        input_bits=stored.input_bits,
        input_scale=stored.input_scale,
        scalings={name: Scaling(**each) for name, each in bundle.document.get("scalings", {}).items()},
    ).program
    # How the output is read is not part of a NIR graph.
    return differences(stored, replace(again, readout=stored.readout))


def _repeat_golden(folder: Path, backend: str, progress: Progress | None = None) -> int:
    """Run the inputs of the golden trace and return how many spikes, currents and potentials are equal: all.

    Raises
    ------
    CheckFailed
        If one is not.
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


# Two runs.


@dataclass(frozen=True)
class RunDifference:
    """Two runs of one network beside each other.

    Attributes
    ----------
    first, second : str
        Simulators or trace files.
    spikes_compared, potentials_compared : int
        Values that both have.
    divergence : TraceDivergence or None
        The first step where they diverge; None if all values are equal.
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
    samples: int,
    progress: Progress | None = None,
) -> RunDifference:
    """Compare two runs, each a simulator or a trace file, spike by spike and potential by potential.

    Parameters
    ----------
    first, second : str
        One of :data:`~esl_neuro.pipeline.choices.BACKENDS`, or the path of a trace.
    compiled : CompiledNetwork or None
        What runs in a simulator, on the inputs of a trace or on its test set; two traces can do without.
    samples : int
        First samples to compare.
    progress : callable, optional
        Called with the samples done and the samples in all, by Lava.

    Raises
    ------
    BadInput
        If a name is neither, or the traces are of different networks.
    """
    traces = _traces(first, second, compiled, samples, progress)
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


def is_trace_file(name: str) -> bool:
    """Tell whether a name of :func:`compare_runs` is that of a file."""
    return name not in BACKENDS


def _traces(
    first: str, second: str, compiled: CompiledNetwork | None, samples: int, progress: Progress | None
) -> tuple[Trace, Trace]:
    """Read the files first: what they were given is what the simulators get."""
    read = {name: read_trace(_trace_path(name)) for name in (first, second) if is_trace_file(name)}
    if compiled is None:
        return read[first], read[second]
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


def _first_samples(trace: Trace, samples: int) -> Trace:
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
