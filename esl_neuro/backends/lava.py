"""Run a program in Lava's CPU simulator, with Lava's own synapses (``Sparse``) and neurons (``LIFReset``).

Most of Lava's time goes into messages between its processes, not into arithmetic. So several copies of the network
run side by side in one Lava network, each with its own samples: a block-diagonal weight matrix, and the neurons'
parameters once per copy. The copies share no synapse and cannot influence each other.

In each copy the samples follow each other without a gap. Layer ``k`` (from 1) works ``k`` steps behind the input, so
its state is reset ``k`` steps later, and the first ``k`` steps of its record are left out.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import DTypeLike, NDArray

from esl_neuro.backends.lava_door import lava_session
from esl_neuro.backends.supervise import run_network
from esl_neuro.backends.trace import Payloads, Spikes, Trace
from esl_neuro.backends.validate import validate
from esl_neuro.compiler.program import Connection, Group, Program

# More copies than these sizes cost more in arithmetic than they save in messages.
COPIES_NEURONS = 2**15
COPIES_SYNAPSES = 2**21


@dataclass
class _Network:
    """A Lava network and the shared memory in which its records appear."""

    source: Any
    clock: NDArray[np.int64]
    spikes: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    u: dict[str, NDArray[np.int32]] = field(default_factory=dict)
    v: dict[str, NDArray[np.int32]] = field(default_factory=dict)


def run_lava(
    program: Program,
    input_spikes: Payloads,
    record_potentials: bool = False,
    progress: Callable[[int, int], None] | None = None,
    timeout_s: float | None = None,
    copies: int | None = None,
) -> Trace:
    """Run a program on samples in the Lava simulator, each from ``u = v = 0``.

    Parameters
    ----------
    program : Program
        What :mod:`esl_neuro.compiler` made.
    input_spikes : uint8 array, shape (samples, steps, input lines)
        0 or 1.
    record_potentials : bool
        Also keep ``u`` and ``v`` of every neuron after every step; slower, meant for small networks.
    progress : callable, optional
        Called with the samples done and the samples in all, whenever more are done.
    timeout_s : float, optional
        Seconds after which the run is given up.
    copies : int, optional
        Copies of the network that run side by side; as many as pay if not given. The result does not depend on it.

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
    validate(program, input_spikes)
    spikes_in = np.asarray(input_spikes, dtype=np.uint8)
    samples, steps, _ = spikes_in.shape
    copies = min(samples, copies or _copies_that_pay(program))
    frames = _side_by_side(spikes_in, copies)
    with lava_session():
        network = _build(program, frames, copies, record_potentials)
        run_network(
            network.source,
            steps=len(frames) + len(program.groups),
            timeout_s=timeout_s,
            on_poll=_sample_counter(network.clock, samples, steps, copies, progress),
        )
    if progress is not None:
        progress(samples, samples)
    spikes, u, v = (
        {name: _one_by_one(record, samples, steps, copies) for name, record in records.items()}
        for records in (network.spikes, network.u, network.v)
    )
    u, v = ({name: values.astype(np.int64) for name, values in state.items()} for state in (u, v))
    return Trace("lava", spikes_in, spikes, u, v)


def _build(program: Program, frames: Spikes, copies: int, record_potentials: bool) -> _Network:
    from esl_neuro.backends.lava_processes.spike_sink import SpikeSink
    from esl_neuro.backends.lava_processes.spike_source import SpikeSource
    from esl_neuro.backends.lava_processes.state_sink import StateSink

    source = SpikeSource(frames=frames, name="input")
    network = _Network(source, clock=_shared((1,), np.int64))
    upstream = source.s_out
    for depth, (connection, group) in enumerate(program.layers(), start=1):
        synapses, neurons = _layer(connection, group, copies, program.steps, depth)
        upstream.connect(synapses.s_in)
        synapses.a_out.connect(neurons.a_in)
        upstream = neurons.s_out
        shape = (len(frames), copies * group.neurons)
        network.spikes[group.name] = record = _shared(shape, np.uint8)
        sink = SpikeSink(record=record, clock=network.clock, latency_steps=depth, name=f"spikes of {group.name}")
        neurons.s_out.connect(sink.a_in)
        if record_potentials:
            for quantity, records in (("u", network.u), ("v", network.v)):
                records[group.name] = state = _shared(shape, np.int32)
                probe = StateSink(record=state, latency_steps=depth, name=f"{quantity} of {group.name}")
                probe.state.connect_var(getattr(neurons, quantity))
    return network


def _layer(connection: Connection, group: Group, copies: int, steps: int, depth: int) -> tuple[Any, Any]:
    """Lava's processes for one layer."""
    from lava.proc.lif.process import LIFReset
    from lava.proc.sparse.process import Sparse

    weights = sp.kron(sp.identity(copies, dtype=np.int32), connection.matrix.astype(np.int32), format="csr")
    weights.eliminate_zeros()
    synapses = Sparse(
        weights=weights,
        weight_exp=connection.weight_exp,
        # Not 0: with 0 Lava slices the matrix in every step, which takes two to three times as long.
        num_message_bits=1,
        name=f"weights of {group.name}",
    )
    per_copy = {
        key: np.tile(np.asarray(getattr(group, key), dtype=np.int32), copies)
        for key in ("du", "dv", "vth", "bias_mant", "bias_exp")
    }
    neurons = LIFReset(
        shape=(copies * group.neurons,),
        reset_interval=steps,
        # Lava counts steps from 1, and resets before the step.
        reset_offset=depth + 1,
        name=f"neurons of {group.name}",
        **per_copy,
    )
    return synapses, neurons


def _copies_that_pay(program: Program) -> int:
    widest = max(program.input_size, *(group.neurons for group in program.groups))
    return max(1, min(COPIES_NEURONS // widest, COPIES_SYNAPSES // max(1, program.synapses)))


def _side_by_side(spikes: Spikes, copies: int) -> Spikes:
    """Deal samples out to copies: (samples, steps, lines) -> (rounds * steps, copies * lines), silence at the end.

    Sample ``i`` runs in copy ``i % copies``, in round ``i // copies``.
    """
    samples, steps, lines = spikes.shape
    rounds = -(-samples // copies)
    padded = np.zeros((rounds * copies, steps, lines), np.uint8)
    padded[:samples] = spikes
    dealt = padded.reshape(rounds, copies, steps, lines).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(dealt).reshape(rounds * steps, copies * lines)


def _one_by_one(record: NDArray[Any], samples: int, steps: int, copies: int) -> NDArray[Any]:
    """Undo :func:`_side_by_side` on a record."""
    rounds = len(record) // steps
    dealt = record.reshape(rounds, steps, copies, -1).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(dealt).reshape(rounds * copies, steps, -1)[:samples]


def _sample_counter(
    clock: NDArray[np.int64], samples: int, steps: int, copies: int, progress: Callable[[int, int], None] | None
) -> Callable[[], None] | None:
    """Make the function that reports samples when a further round of them is done."""
    if progress is None:
        return None
    reported = 0

    def report() -> None:
        nonlocal reported
        done = min(samples, int(clock[0]) // steps * copies)
        if done > reported:
            reported = done
            progress(done, samples)

    return report


def _shared(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Zeros in anonymous memory that forked children share; it needs no room in /dev/shm and no clean-up."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer(mmap.mmap(-1, size), dtype=dtype).reshape(shape)
