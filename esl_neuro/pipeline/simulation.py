"""Run a program in one of the simulators."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esl_neuro.backends import integer, lava, lava_batched
from esl_neuro.backends.trace import Payloads, Trace, first_difference
from esl_neuro.compiler.fidelity import Fidelity
from esl_neuro.compiler.program import Program
from esl_neuro.energy.counts import Counts, count
from esl_neuro.errors import BadInput, CheckFailed, did_you_mean
from esl_neuro.nirgraph.findings import Finding
from esl_neuro.storage import write_arrays

SCHEMA = 1

Progress = Callable[[int, int], None]
"""Called with the number of finished samples and of all samples."""

OnStatus = Callable[[str], None]
"""Called with a message before each long operation."""


@dataclass(frozen=True)
class Parity:
    """The comparison of every spike of a run with the integer simulator.

    Attributes
    ----------
    values_compared : int
        Spike values of all layers, samples and steps.
    first_difference : str or None
        The earliest place where a spike differs; None if all are equal.
    """

    values_compared: int
    first_difference: str | None

    @property
    def equal(self) -> bool:
        """Whether all values are equal."""
        return self.first_difference is None


@dataclass(frozen=True)
class RunResult:
    """The result of running a program on samples.

    Attributes
    ----------
    program : Program
        The program.
    trace : Trace
        Every spike of every layer, shape (samples, steps, neurons).
    ran_on : str
        Description of the samples.
    labels : int64 array, shape (samples,), or None
        Class of each sample, if known.
    seconds : float
        Duration of the run.
    parity : Parity or None
        Comparison with the integer simulator; None if there was none.
    fidelity : Fidelity or None
        Comparison with the float network; None if there was none.
    findings : tuple of Finding
        Where the integers are far from the float network.
    """

    program: Program = field(repr=False)
    trace: Trace = field(repr=False)
    ran_on: str
    labels: NDArray[np.int64] | None = field(repr=False)
    seconds: float
    parity: Parity | None = None
    fidelity: Fidelity | None = field(default=None, repr=False)
    findings: tuple[Finding, ...] = field(default=(), repr=False)

    @property
    def backend(self) -> str:
        """Name of the simulator."""
        return self.trace.backend

    @property
    def samples(self) -> int:
        """Number of samples."""
        return self.trace.samples

    @property
    def steps(self) -> int:
        """Time steps per sample."""
        return self.trace.steps

    @property
    def predictions(self) -> NDArray[np.int64]:
        """Class of each sample by the readout of the program, shape (samples,)."""
        return self.trace.predictions()

    @cached_property
    def accuracy(self) -> float | None:
        """Fraction of the samples with the right class; None without labels."""
        return None if self.labels is None else float((self.predictions == self.labels).mean())

    @cached_property
    def spikes(self) -> dict[str, int]:
        """Number of spikes of each layer, over all samples and steps."""
        return {name: int(fired.sum(dtype=np.int64)) for name, fired in self.trace.spikes.items()}

    @cached_property
    def counts(self) -> Counts:
        """Exact counts of all operations."""
        return count(self.program, self.trace)

    def __str__(self) -> str:
        right = "" if self.accuracy is None else f", accuracy {100 * self.accuracy:.2f} %"
        fired = ", ".join(f"'{name}': {number:,}" for name, number in self.spikes.items())
        lines = [f"{self.ran_on} x {self.steps} steps, {self.backend}{right}", f"spikes of {fired}"]
        if self.parity is not None:
            equal = "all equal" if self.parity.equal else f"DIFFERENT: {self.parity.first_difference}"
            lines.append(f"compared with the integer simulator: {self.parity.values_compared:,} spike values, {equal}")
        return "\n".join(lines)

    def refuse_difference(self) -> None:
        """Raise an error if a spike differs from the integer simulator.

        Raises
        ------
        CheckFailed
            With layer, neuron, step and sample of the first difference.
        """
        if self.parity is not None and not self.parity.equal:
            raise CheckFailed(f"{self.backend} differs from integer: {self.parity.first_difference}")

    def save(self, path: str | Path) -> None:
        """Write the result as a compressed ``.npz`` file.

        Arrays: ``input``, ``spikes/<layer>`` (samples, steps, neurons), ``output_spikes``, ``output_potential`` (of
        every step if potentials were recorded, else of the last one, if it is the readout), ``predictions``, and with
        labels ``labels`` and ``accuracy``.

        Raises
        ------
        BadInput
            If the folder of the file does not exist.
        """
        trace, name = self.trace, self.program.output.name
        arrays: dict[str, Any] = {"input": trace.input_spikes, "predictions": self.predictions}
        arrays |= {f"spikes/{layer}": fired for layer, fired in trace.spikes.items()}
        arrays["output_spikes"] = trace.spikes[name]
        potential = trace.v.get(name, trace.potential)
        if potential is not None:
            arrays["output_potential"] = potential
        if self.labels is not None:
            arrays |= {"labels": self.labels, "accuracy": np.float64(self.accuracy)}
        write_arrays(Path(path), arrays)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "backend": self.backend,
            "ran_on": self.ran_on,
            "samples": self.samples,
            "steps": self.steps,
            "seconds": self.seconds,
            "accuracy": self.accuracy,
            "spikes": self.spikes,
        }
        if self.parity is not None:
            document["parity"] = {
                "with": "integer",
                "values_compared": self.parity.values_compared,
                "equal": self.parity.equal,
                "first_difference": self.parity.first_difference,
            }
        if self.fidelity is not None:
            document["fidelity"] = asdict(self.fidelity)
        if self.fidelity is not None or self.findings:
            document["findings"] = [asdict(finding) for finding in self.findings]
        return document


def simulate(
    program: Program,
    inputs: Payloads,
    backend: str = "integer",
    record_potentials: bool = False,
    progress: Progress | None = None,
) -> Trace:
    """Run a program on payloads.

    Parameters
    ----------
    program : Program
        The integer program.
    inputs : uint8 or int32 array, shape (samples, steps, lines)
        Spikes or payloads, from :func:`~esl_neuro.pipeline.inputs.payloads`.
    backend : str
        A name of :data:`SIMULATORS`.
    record_potentials : bool
        Also record currents and potentials of every neuron and step.
    progress : callable, optional
        Called with the number of finished samples and of all samples, in Lava.

    Raises
    ------
    BadInput
        If the simulator is unknown, or does not accept the program or the inputs.
    MissingDependency
        If Lava is needed and not installed.
    """
    if backend not in SIMULATORS:
        raise BadInput(f"backend '{backend}' is unknown; {did_you_mean(backend, SIMULATORS)}")
    return SIMULATORS[backend](program, inputs, record_potentials, progress)


def _integer(program: Program, inputs: Payloads, record_potentials: bool, _progress: Progress | None) -> Trace:
    return integer.run_integer(program, inputs, record_potentials)


def _lava(program: Program, inputs: Payloads, record_potentials: bool, progress: Progress | None) -> Trace:
    return lava.run_lava(program, inputs, record_potentials, progress=progress)


def _lava_batched(program: Program, inputs: Payloads, record_potentials: bool, progress: Progress | None) -> Trace:
    return lava_batched.run_lava_batched(program, inputs, record_potentials, progress=progress)


Simulator = Callable[[Program, Payloads, bool, Progress | None], Trace]
"""``(program, inputs, record_potentials, progress) -> trace``, with every spike of every group."""

SIMULATORS: dict[str, Simulator] = {"integer": _integer, "lava": _lava, "lava-batched": _lava_batched}
"""Simulators by name; add an entry for your own. The commands offer those of :mod:`~esl_neuro.pipeline.choices`."""


def run_program(
    program: Program,
    inputs: Payloads,
    ran_on: str,
    labels: NDArray[np.int64] | None = None,
    backend: str = "integer",
    *,
    record_potentials: bool = False,
    compare: bool = True,
    progress: Progress | None = None,
    elsewhere: Callable[[], Trace] | None = None,
) -> RunResult:
    """Run a program and, in Lava, compare every spike with the integer simulator; see :func:`simulate`.

    With ``elsewhere``, which returns the trace, the program does not run in this process.
    """
    started = time.perf_counter()
    trace = simulate(program, inputs, backend, record_potentials, progress) if elsewhere is None else elsewhere()
    seconds = time.perf_counter() - started
    parity = _parity(trace, program, inputs) if compare and backend != "integer" else None
    return RunResult(program, trace, ran_on, labels, seconds, parity)


def count_program(
    program: Program,
    inputs: Payloads,
    ran_on: str,
    labels: NDArray[np.int64] | None = None,
    backend: str = "integer",
    progress: Progress | None = None,
    elsewhere: Callable[[], Trace] | None = None,
) -> RunResult:
    """Run a program to count its operations; the integer simulator counts during the run, which is faster."""
    if backend != "integer":
        return run_program(
            program, inputs, ran_on, labels, backend, compare=False, progress=progress, elsewhere=elsewhere
        )
    started = time.perf_counter()
    trace = integer.count_integer(program, inputs) if elsewhere is None else elsewhere()
    return RunResult(program, trace, ran_on, labels, time.perf_counter() - started)


def _parity(trace: Trace, program: Program, inputs: Payloads) -> Parity:
    difference = first_difference(trace, simulate(program, inputs))
    compared = sum(fired.size for fired in trace.spikes.values())
    return Parity(compared, None if difference is None else difference.describe(trace.backend, "integer"))
