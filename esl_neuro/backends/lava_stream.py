"""Stream samples through a Lava network: distributed over copies, one after the other within a copy."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from esl_neuro.backends.lava_session import lava_session
from esl_neuro.backends.supervise import run_network
from esl_neuro.backends.trace import Payloads, Trace
from esl_neuro.backends.validate import validate
from esl_neuro.compiler.program import Program
from esl_neuro.compiler.timing import Timing, timing


@dataclass(frozen=True)
class Stream:
    """Samples in rounds: in each round every copy of the network receives one sample.

    Attributes
    ----------
    samples, steps : int
        Number of samples, and time steps of each.
    gap : int
        Steps without input after each sample, see :attr:`~esl_neuro.compiler.timing.Timing.flush`.
    copies : int
        Number of samples computed at the same time.
    """

    samples: int
    steps: int
    gap: int
    copies: int

    @property
    def period(self) -> int:
        """Steps between the starts of two rounds."""
        return self.steps + self.gap

    @property
    def rounds(self) -> int:
        """Number of rounds."""
        return -(-self.samples // self.copies)

    @property
    def length(self) -> int:
        """Total number of time steps."""
        return self.rounds * self.period

    def deal(self, spikes: Payloads) -> Payloads:
        """Arrange samples, shape (samples, steps, lines), by time: shape (length, copies, lines).

        Copies without a sample in the last round receive silence.
        """
        lines = spikes.shape[2]
        frames: Any = np.zeros((self.rounds, self.period, self.copies, lines), spikes.dtype)
        for round_, start in enumerate(range(0, self.samples, self.copies)):
            part = spikes[start : start + self.copies]
            frames[round_, : self.steps, : len(part)] = part.transpose(1, 0, 2)
        dealt: Payloads = frames.reshape(self.length, self.copies, lines)
        return dealt

    def collect(self, record: NDArray[Any]) -> NDArray[Any]:
        """Undo :meth:`deal` on a record of shape (length, copies, neurons) or (length, copies * neurons)."""
        dealt = record.reshape(self.rounds, self.period, self.copies, -1)[:, : self.steps].transpose(0, 2, 1, 3)
        return np.ascontiguousarray(dealt.reshape(-1, *dealt.shape[2:])[: self.samples])


@dataclass
class Recording:
    """Records of a network in memory shared with its processes.

    Attributes
    ----------
    clock : int64 array, shape (1,)
        Number of finished time steps.
    spikes, u, v : dict of str to integer array
        One row for each time step of the stream, by group.
    """

    clock: NDArray[np.int64] = field(default_factory=lambda: shared((1,), np.int64))
    spikes: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    u: dict[str, NDArray[np.int32]] = field(default_factory=dict)
    v: dict[str, NDArray[np.int32]] = field(default_factory=dict)

    @classmethod
    def of(cls, program: Program, stream: Stream, record_potentials: bool) -> Recording:
        """Allocate the requested records, and the output potential if it is the readout."""
        recording = cls()
        for group in program.groups:
            shape = (stream.length, stream.copies, group.neurons)
            recording.spikes[group.name] = shared(shape, np.uint8)
            if record_potentials:
                recording.u[group.name] = shared(shape, np.int32)
            if record_potentials or (group is program.output and program.readout == "potential"):
                recording.v[group.name] = shared(shape, np.int32)
        return recording

    def trace(self, backend: str, program: Program, inputs: Payloads, stream: Stream) -> Trace:
        """Return the trace, sample by sample."""
        spikes = {name: stream.collect(record) for name, record in self.spikes.items()}
        u, v = (
            {name: stream.collect(record).astype(np.int64) for name, record in state.items()}
            for state in (self.u, self.v)
        )
        potential = v[program.output.name][:, -1] if program.readout == "potential" else None
        return Trace(backend, inputs, spikes, u, v if u else {}, potential, program.readout)


Build = Callable[[Timing, Stream, Payloads, Recording], Any]
"""Builds the processes for input frames, shape (length, copies, lines), and returns one of them."""


def run_stream(
    backend: str,
    program: Program,
    input_spikes: Payloads,
    copies: int,
    build: Build,
    *,
    record_potentials: bool,
    progress: Callable[[int, int], None] | None,
    timeout_s: float | None,
) -> Trace:
    """Run samples through the network from ``build``; see :func:`~esl_neuro.backends.lava.run_lava` for the rest.

    Parameters
    ----------
    backend : str
        Name in the trace.
    copies : int
        Samples at once.
    """
    validate(program, input_spikes)
    inputs = as_payloads(np.asarray(input_spikes), program)
    schedule = timing(program)
    stream = Stream(len(inputs), program.steps, schedule.flush, min(len(inputs), copies))
    recording = Recording.of(program, stream, record_potentials)
    with lava_session():
        source = build(schedule, stream, stream.deal(inputs), recording)
        run_network(
            source, steps_to_run(stream, schedule), timeout_s, sample_counter(recording.clock, stream, progress)
        )
    if progress is not None:
        progress(stream.samples, stream.samples)
    return recording.trace(backend, program, inputs, stream)


def as_payloads(spikes: NDArray[Any], program: Program) -> Payloads:
    """Return input spikes in the data type of a trace."""
    payloads: Payloads = spikes.astype(np.int32, copy=False)
    return spikes.astype(np.uint8, copy=False) if program.input_bits == 1 else payloads


def steps_to_run(stream: Stream, schedule: Timing) -> int:
    """Return the time steps until the slowest group has processed the whole stream."""
    return stream.length + schedule.depth


def sample_counter(
    clock: NDArray[np.int64], stream: Stream, progress: Callable[[int, int], None] | None
) -> Callable[[], None] | None:
    """Return a function that reports finished samples after each round."""
    if progress is None:
        return None
    reported = 0

    def report() -> None:
        nonlocal reported
        done = min(stream.samples, int(clock[0]) // stream.period * stream.copies)
        if done > reported:
            reported = done
            progress(done, stream.samples)

    return report


def shared(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return zeros in anonymous memory shared with forked children; it needs no /dev/shm and no clean-up."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer(mmap.mmap(-1, size), dtype=dtype).reshape(shape)
