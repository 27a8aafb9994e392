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

from collections.abc import Callable
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
        for index in range(len(self.program.connections)):
            target = neurons[self.program.connections[index].target]
            self._connect(index, outputs, target)
        self._record(neurons)
        return source

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

    def _connect(self, index: int, outputs: dict[str, Any], target: Any) -> None:
        connection, hold = self.program.connections[index], self.schedule.hold[index]
        where = f"{connection.source} to {connection.target}"
        kernel = connection.weights
        payload = 2**self.program.input_bits - 1 if connection.source == INPUT else 1
        sender = outputs[connection.source]
        if isinstance(kernel, Kernel) and self._runs_as_conv(kernel, connection.weight_exp, payload):
            # Conv has no delay, so the gate delays the spikes.
            self._conv(connection, kernel, self._gate(connection, hold, sender, where), target, where)
            return
        before = hold if hold > LONGEST_HOLD else 0
        sender = self._gate(connection, before, sender, where)
        synapses = self._sparse(connection, hold - before, where)
        sender.connect(synapses.s_in)
        synapses.a_out.connect(target.a_in)

    def _gate(self, connection: Connection, hold_steps: int, sender: Any, where: str) -> Any:
        """Add a gate after a sender if spikes could pass from one sample to another, or must be delayed."""
        from esl_neuro.backends.lava_processes.spike_gate import SpikeGate

        if hold_steps == 0 and (connection.delay == 0 or connection.source == INPUT):
            return sender
        gate = SpikeGate(
            size=int(np.prod(sender.shape)),
            latency_steps=self.schedule.latency[connection.source],
            steps=self.stream.steps,
            period=self.stream.period,
            hold_steps=hold_steps,
            name=f"gate from {where}",
        )
        sender.connect(gate.s_in)
        return gate.s_out

    def _sparse(self, connection: Connection, hold: int, where: str) -> Any:
        from lava.proc.sparse.process import DelaySparse, Sparse

        copies = sp.identity(self.stream.copies, dtype=np.int32)
        weights = sp.kron(copies, connection.matrix.astype(np.int32), format="csr")
        weights.eliminate_zeros()
        # Message bits are not 0: with 0, Lava slices the matrix in every step and takes two to three times as long.
        options = {
            "weights": weights,
            "weight_exp": connection.weight_exp,
            "num_message_bits": self.program.input_bits if connection.source == INPUT else 1,
            "name": f"weights from {where}",
        }
        if hold == 0:
            return Sparse(**options)
        # A scalar would become a full matrix, which does not fit in memory for large groups.
        delays = weights.astype(np.int64)
        delays.data[:] = hold
        return DelaySparse(delays=delays, max_delay=hold, **options)

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
