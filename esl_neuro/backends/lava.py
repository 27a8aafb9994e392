"""Run a program in Lava's CPU simulator with Lava's own synapses and neurons, the oracle of the other backends.

Neurons with a reset by subtraction, which Lava does not have, are Lava's ``LIFReset`` with that one rule replaced
(:mod:`~esl_neuro.backends.lava_processes.subtracting_lif`).

Lava spends most of its time on messages between processes, not on arithmetic. So several copies of the network run in
one Lava network, each with its own samples: a block-diagonal weight matrix, and the parameters of the neurons once per
copy. The copies share no synapse and do not influence each other.

Each copy runs its samples one after the other. A group works ``latency`` steps after the input, so its state is reset
``latency`` steps later, and the first ``latency`` steps of its record are dropped. With delays, spikes of one sample
could arrive in the next, and spikes caused by a bias before the first step of a group would count. A gap between the
samples and a gate before each connection with delay prevent both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from esl_neuro.backends.lava_conv import conv_arguments, conv_computes
from esl_neuro.backends.lava_stream import Recording, Stream, run_stream
from esl_neuro.backends.trace import Payloads, Trace
from esl_neuro.compiler.program import INPUT, Connection, Group, Program
from esl_neuro.compiler.timing import Timing
from esl_neuro.nirgraph.kernel import Kernel

# Above these sizes, further copies cost more arithmetic than they save in messages.
COPIES_NEURONS = 2**15
COPIES_SYNAPSES = 2**21
# A kernel with more synapses than this is not expanded.
EXPAND_SYNAPSES = 2**24
# Longest delay of Lava's DelaySparse, in steps.
LONGEST_HOLD = 63


def run_lava(
    program: Program,
    input_spikes: Payloads,
    record_potentials: bool = False,
    progress: Callable[[int, int], None] | None = None,
    timeout_s: float | None = None,
    copies: int | None = None,
    expand_synapses: int = EXPAND_SYNAPSES,
) -> Trace:
    """Run a program on samples in the Lava simulator, each from ``u = v = 0``.

    Parameters
    ----------
    program : Program
        What :mod:`esl_neuro.compiler` made.
    input_spikes : uint8 or int32 array, shape (samples, steps, input lines)
        0 or 1, or payloads of ``program.input_bits`` bits.
    record_potentials : bool
        Also record ``u`` and ``v`` of every neuron after every step; slower, for small networks.
    progress : callable, optional
        Called with the number of finished samples and the total, whenever samples finish.
    timeout_s : float, optional
        Timeout of the run in seconds.
    copies : int, optional
        Copies of the network that run in parallel. Default: as many as pay off. The result does not depend on it.
    expand_synapses : int, optional
        Kernels with more synapses run in Lava's ``Conv``, smaller ones as ``Sparse``; with 0, all run in ``Conv``. A
        kernel that ``Conv`` would compute wrongly (24-bit sums, 8-bit sizes) is always expanded.

    Returns
    -------
    Trace
        Spikes of every layer, latency removed: step ``t`` of every layer belongs to input step ``t``.

    Raises
    ------
    BadInput
        If :func:`~esl_neuro.backends.validate.validate` rejects the program or the input.
    MissingDependency
        If lava-nc is not installed.
    LavaError
        If a process of Lava fails, or the timeout is reached.
    """
    return run_stream(
        "lava",
        program,
        input_spikes,
        copies or _copies_that_pay(program),
        lambda *how: _Network(program, expand_synapses, *how).build(),
        record_potentials=record_potentials,
        progress=progress,
        timeout_s=timeout_s,
    )


@dataclass(frozen=True)
class _Held:
    """A connection, the delay of its process in steps, and whether that is a ``Conv``."""

    connection: Connection
    hold: int
    as_conv: bool


class _Network:
    """Builds the Lava processes of a program."""

    def __init__(
        self,
        program: Program,
        expand_synapses: int,
        schedule: Timing,
        stream: Stream,
        frames: Payloads,
        recording: Recording,
    ) -> None:
        self.program = program
        self.expand_synapses = expand_synapses
        self.schedule = schedule
        self.stream = stream
        self.frames = frames
        self.recording = recording

    def build(self) -> Any:
        """Make and connect all processes; return one of them."""
        from esl_neuro.backends.lava_processes.spike_source import SpikeSource

        source = SpikeSource(frames=self.frames.reshape(len(self.frames), -1), name=INPUT)
        neurons = {group.name: self._neurons(group) for group in self.program.groups}
        outputs = {INPUT: source.s_out, **{name: process.s_out for name, process in neurons.items()}}
        for delays in self._synapse_lists():
            self._connect(delays, outputs, neurons[delays[0].connection.target])
        self._record(neurons)
        return source

    def _synapse_lists(self) -> list[list[_Held]]:
        """Return the connections, those together that share their synapse processes: they differ in their delays only.

        Lava forms the matrix of every possible delay in every step, so one process for all delays saves most of it.
        """
        lists: dict[tuple[Any, ...], list[_Held]] = {}
        for index, (connection, hold) in enumerate(zip(self.program.connections, self.schedule.hold, strict=True)):
            payload = 2**self.program.input_bits - 1 if connection.source == INPUT else 1
            kernel = connection.weights
            as_conv = isinstance(kernel, Kernel) and self._runs_as_conv(kernel, connection.weight_exp, payload)
            # A negative exponent rounds the sum of each delay, so its synapses must stay together.
            alone = index if as_conv or hold > LONGEST_HOLD or connection.weight_exp < 0 else None
            key = connection.source, connection.target, connection.weight_exp, alone
            lists.setdefault(key, []).append(_Held(connection, hold, as_conv))
        return list(lists.values())

    def _neurons(self, group: Group) -> Any:
        from lava.proc.lif.process import LIFReset

        from esl_neuro.backends.lava_processes.subtracting_lif import SubtractingLIF

        keys = ["du", "dv", "vth", "bias_mant", "bias_exp"] + ["reset_by"] * (group.reset_by is not None)
        per_copy = {key: np.tile(np.asarray(getattr(group, key), dtype=np.int32), self.stream.copies) for key in keys}
        process = LIFReset if group.reset_by is None else SubtractingLIF
        return process(
            shape=(self.stream.copies * group.neurons,),
            reset_interval=self.stream.period,
            # Lava counts steps from 1, and resets before the step.
            reset_offset=self.schedule.latency[group.name] + 1,
            name=f"neurons of {group.name}",
            **per_copy,
        )

    def _connect(self, delays: Sequence[_Held], outputs: dict[str, Any], target: Any) -> None:
        connection, hold = delays[0].connection, delays[0].hold
        where = f"{connection.source} to {connection.target}"
        sender = outputs[connection.source]
        if delays[0].as_conv:
            assert isinstance(connection.weights, Kernel)
            # Conv has no delay, so the gate delays the spikes.
            gated = self._gate(delays, hold, sender, where)
            self._conv(connection, connection.weights, gated, target, where)
            return
        before = hold if hold > LONGEST_HOLD else 0
        sender = self._gate(delays, before, sender, where)
        for synapses in self._sparse(delays, before, where):
            sender.connect(synapses.s_in)
            synapses.a_out.connect(target.a_in)

    def _gate(self, delays: Sequence[_Held], hold_steps: int, sender: Any, where: str) -> Any:
        """Add a gate after a sender if spikes could pass from one sample to another, or must be delayed."""
        from esl_neuro.backends.lava_processes.spike_gate import SpikeGate

        source = delays[0].connection.source
        if hold_steps == 0 and (source == INPUT or not any(each.connection.delay for each in delays)):
            return sender
        gate = SpikeGate(
            size=int(np.prod(sender.shape)),
            latency_steps=self.schedule.latency[source],
            steps=self.stream.steps,
            period=self.stream.period,
            hold_steps=hold_steps,
            name=f"gate from {where}",
        )
        sender.connect(gate.s_in)
        return gate.s_out

    def _sparse(self, delays: Sequence[_Held], before: int, where: str) -> Iterator[Any]:
        """Yield the processes of a list of synapses; a process has one synapse of a pair of neurons, with its delay."""
        from lava.proc.sparse.process import DelaySparse, Sparse

        connection = delays[0].connection
        copies = sp.identity(self.stream.copies, dtype=np.int32)
        # Message bits are not 0: with 0, Lava slices the matrix in every step and takes two to three times as long.
        options = {
            "weight_exp": connection.weight_exp,
            "num_message_bits": self.program.input_bits if connection.source == INPUT else 1,
            "name": f"weights from {where}",
        }
        for weights, holds in _one_of_each_pair(delays, before):
            longest = int(holds.data.max(initial=0))
            weights = sp.kron(copies, weights, format="csr")
            if longest == 0:
                yield Sparse(weights=weights, **options)
            else:
                # A scalar would become a full matrix, which does not fit in memory for large groups.
                late = sp.kron(sp.identity(self.stream.copies, dtype=np.int64), holds, format="csr")
                yield DelaySparse(weights=weights, delays=late, max_delay=longest, **options)

    def _runs_as_conv(self, kernel: Kernel, weight_exp: int, payload: int) -> bool:
        """Return whether a kernel is too large to be expanded, and Conv computes it correctly."""
        return kernel.nnz > self.expand_synapses and conv_computes(kernel, weight_exp, payload, self.stream.copies)

    def _conv(self, connection: Connection, kernel: Kernel, sender: Any, target: Any, where: str) -> None:
        """Connect through Lava's Conv, with the copies as groups of channels."""
        from lava.proc.conv.process import Conv

        from esl_neuro.backends.lava_processes.right_shift import RightShift

        copies = self.stream.copies
        channels, rows, columns = kernel.input_shape
        conv = Conv(
            num_message_bits=self.program.input_bits if connection.source == INPUT else 1,
            name=f"kernel from {where}",
            **conv_arguments(kernel, connection.weight_exp, copies),
        )
        sender.reshape((copies * channels, rows, columns)).transpose([2, 1, 0]).connect(conv.s_in)
        sums = conv.a_out.transpose([2, 1, 0]).flatten()
        if connection.weight_exp >= 0:
            sums.connect(target.a_in)
            return
        shift = RightShift(size=copies * kernel.shape[0], bits=-connection.weight_exp, name=f"shift from {where}")
        sums.connect(shift.a_in)
        shift.a_out.connect(target.a_in)

    def _record(self, neurons: dict[str, Any]) -> None:
        from esl_neuro.backends.lava_processes.spike_sink import SpikeSink
        from esl_neuro.backends.lava_processes.state_sink import StateSink

        recording, latency = self.recording, self.schedule.latency
        # A record has one row per time step, with the copies side by side.
        SpikeSink(
            ports=[process.s_out for process in neurons.values()],
            records=[recording.spikes[name].reshape(self.stream.length, -1) for name in neurons],
            latency_steps=[latency[name] for name in neurons],
            clock=recording.clock,
            name="spikes",
        )
        for quantity, records in (("u", recording.u), ("v", recording.v)):
            for name, record in records.items():
                state = record.reshape(self.stream.length, -1)
                probe = StateSink(record=state, latency_steps=latency[name], name=f"{quantity} of {name}")
                probe.state.connect_var(getattr(neurons[name], quantity))


def _copies_that_pay(program: Program) -> int:
    widest = max(program.input_size, *(group.neurons for group in program.groups))
    return max(1, min(COPIES_NEURONS // widest, COPIES_SYNAPSES // max(1, program.synapses)))


def _one_of_each_pair(delays: Sequence[_Held], before: int) -> Iterator[tuple[sp.csr_matrix, sp.csr_matrix]]:
    """Divide synapses into matrices of weights and delays with at most one synapse of each pair of neurons."""
    parts = [each.connection.matrix.tocoo() for each in delays]
    shape = parts[0].shape
    rows, columns, weights = (
        np.concatenate([getattr(each, name) for each in parts]) for name in ("row", "col", "data")
    )
    holds = np.repeat([each.hold - before for each in delays], [each.nnz for each in parts])
    order = np.lexsort((holds, columns, rows))
    order = order[weights[order] != 0]
    first = np.flatnonzero(np.diff(rows[order], prepend=-1) | np.diff(columns[order], prepend=-1))
    rank = np.arange(len(order)) - np.repeat(first, np.diff(first, append=len(order)))
    for each in range(max(1, 1 + int(rank.max(initial=0)))):
        own = order[rank == each]
        places = rows[own], columns[own]
        yield (
            sp.csr_matrix((weights[own].astype(np.int32), places), shape=shape),
            sp.csr_matrix((holds[own].astype(np.int64), places), shape=shape),
        )
