"""Run a program in Lava's CPU simulator with our own processes, which compute many samples at once.

The processes replace Lava's ``Sparse`` and ``LIFReset``, exchange the same messages through the same runtime and return
the same integers. A message holds one step of a whole batch, which amortises the cost of messages. Neurons write their
records to shared memory themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from esl_neuro.backends.lava_stream import Recording, Stream, run_stream
from esl_neuro.backends.trace import Payloads, Trace
from esl_neuro.compiler.program import INPUT, Program
from esl_neuro.compiler.timing import Timing

# Batch size: large enough that a step costs more than its messages, small enough for short messages.
BATCH = 256
MESSAGE_VALUES = 2**20


def run_lava_batched(
    program: Program,
    input_spikes: Payloads,
    record_potentials: bool = False,
    progress: Callable[[int, int], None] | None = None,
    timeout_s: float | None = None,
    batch: int | None = None,
) -> Trace:
    """Run a program on samples in Lava with batched processes, each sample from ``u = v = 0``.

    Parameters
    ----------
    program : Program
        What :mod:`esl_neuro.compiler` made.
    input_spikes : uint8 or int32 array, shape (samples, steps, input lines)
        0 or 1, or payloads of ``program.input_bits`` bits.
    record_potentials : bool
        Also record ``u`` and ``v`` of every neuron after every step: 8 bytes each during the run, 16 in the trace.
    progress : callable, optional
        Called with the samples done and the samples in all, whenever more are done.
    timeout_s : float, optional
        Seconds after which the run is given up.
    batch : int, optional
        Samples per batch. Default: as many as pay off. The result does not depend on it.

    Returns
    -------
    Trace
        Spikes of every layer, latency removed: step ``t`` of every layer belongs to input step ``t``.

    Raises
    ------
    BadInput
        If the program or the input is not what :func:`~esl_neuro.backends.validate.validate` allows.
    MissingDependency
        If lava-nc is not installed.
    LavaError
        If a process of Lava fails, or the time is over.
    """
    return run_stream(
        "lava-batched",
        program,
        input_spikes,
        batch or _batch_that_pays(program),
        partial(_build, program),
        record_potentials=record_potentials,
        progress=progress,
        timeout_s=timeout_s,
    )


def _build(program: Program, schedule: Timing, stream: Stream, frames: Payloads, recording: Recording) -> Any:
    from esl_neuro.backends.batched_kernels import BatchConstants
    from esl_neuro.backends.batched_processes.neurons import BatchedNeurons
    from esl_neuro.backends.batched_processes.synapses import BatchedSynapses
    from esl_neuro.backends.lava_processes.spike_source import SpikeSource
    from esl_neuro.backends.synapses import synapses_of

    source = SpikeSource(frames=frames, name=INPUT)
    neurons = {
        group.name: BatchedNeurons(
            constants=BatchConstants.of(group),
            latency_steps=schedule.latency[group.name],
            steps=stream.steps,
            period=stream.period,
            spikes=recording.spikes[group.name],
            u=recording.u.get(group.name),
            v=recording.v.get(group.name),
            clock=recording.clock,
            name=f"neurons of {group.name}",
        )
        for group in program.groups
    }
    outputs = {INPUT: source.s_out, **{name: process.s_out for name, process in neurons.items()}}
    for connection, hold in zip(program.connections, schedule.hold, strict=True):
        synapses = BatchedSynapses(
            synapses=synapses_of(connection),
            batch=stream.copies,
            weight_exp=connection.weight_exp,
            hold_steps=hold,
            name=f"weights from {connection.source} to {connection.target}",
        )
        outputs[connection.source].connect(synapses.s_in)
        synapses.a_out.connect(neurons[connection.target].a_in)
    return source


def _batch_that_pays(program: Program) -> int:
    widest = max(program.input_size, *(group.neurons for group in program.groups))
    return max(1, min(BATCH, MESSAGE_VALUES // widest))
