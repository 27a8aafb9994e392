"""Run a program without Lava, bit for bit like Lava 0.10.0 ``fixed_pt``, and count its operations.

The work at synapses is proportional to the spikes (:mod:`~esl_neuro.backends.events`). Samples are independent, so they
are distributed over threads. Step ``t`` of a group uses the spikes of step ``t - delay`` of its sources; the latencies
of a chip (:mod:`~esl_neuro.compiler.timing`) do not occur here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esl_neuro.backends.event_tables import NEVER, WORD, Tables, lay_out
from esl_neuro.backends.events import Records, Scratch, run_samples
from esl_neuro.backends.lif import GroupConstants, lif_step
from esl_neuro.backends.taps import VECTOR
from esl_neuro.backends.trace import ConnectionCounts, Payloads, RunCounts, Trace
from esl_neuro.backends.validate import validate
from esl_neuro.compiled import most_threads
from esl_neuro.compiler.program import IntArray, Program
from esl_neuro.errors import BadInput, did_you_mean

__all__ = ["GroupConstants", "count_integer", "lif_step", "run_integer"]

# Chunks of samples per thread: with several, a thread with quiet samples takes chunks from a busy one.
SHARES = 4


def run_integer(
    program: Program,
    input_spikes: NDArray[Any],
    record_potentials: bool | Collection[str] = False,
    threads: int | None = None,
) -> Trace:
    """Run a program on samples, each from ``u = v = 0``.

    Parameters
    ----------
    program : Program
        Output of :mod:`esl_neuro.compiler`.
    input_spikes : integer or bool array, shape (samples, steps, input lines)
        0 or 1, or payloads up to ``2**input_bits - 1``.
    record_potentials : bool or names of groups
        Also record ``u`` and ``v`` of every neuron (of these groups) after every step: 16 bytes each.
    threads : int, optional
        Number of threads. Default: one per processor. The result does not depend on it.

    Returns
    -------
    Trace
        Spikes of every group; step ``t`` of every group belongs to input step ``t``.

    Raises
    ------
    BadInput
        If :func:`~esl_neuro.backends.validate.validate` rejects the program or the input, or a group does not exist.
    """
    return _run(program, input_spikes, record_potentials, threads, counting=False)[0]


def count_integer(program: Program, input_spikes: NDArray[Any], threads: int | None = None) -> Trace:
    """Run a program like :func:`run_integer`, and count the operations in ``counts`` of the trace."""
    trace, records = _run(program, input_spikes, False, threads, counting=True)
    sizes = {group.name: group.neurons for group in program.groups}
    connections = tuple(
        ConnectionCounts(
            source=connection.source,
            target=connection.target,
            spikes_in=events,
            sop_effective=operations,
            neuron_updates_touched=touched,
            neuron_updates_idle=sizes[connection.target] - touched,
        )
        for connection, events, operations, touched in zip(
            program.connections, records.events, records.operations, records.touched, strict=True
        )
    )
    return replace(trace, counts=RunCounts(connections, dict(zip(trace.spikes, records.emitted, strict=True))))


def _run(
    program: Program,
    input_spikes: NDArray[Any],
    record_potentials: bool | Collection[str],
    threads: int | None,
    counting: bool,
) -> tuple[Trace, Records]:
    validate(program, input_spikes)
    names = [group.name for group in program.groups]
    recorded = _recorded(names, record_potentials)
    arriving: Any = np.ascontiguousarray(input_spikes, dtype=np.uint8 if program.input_bits == 1 else np.int32)
    tables = lay_out(program)
    records, spikes, u, v = _records(program, len(arriving), recorded, counting)
    _run_in_threads(program, tables, arriving, records, threads or most_threads())
    potential = records.potential if program.readout == "potential" else None
    return Trace("integer", arriving, spikes, u, v, potential, program.readout), records


def _recorded(names: list[str], record_potentials: bool | Collection[str]) -> list[str]:
    if isinstance(record_potentials, bool):
        return names if record_potentials else []
    unknown = [name for name in record_potentials if name not in names]
    if unknown:
        raise BadInput(f"cannot record group '{unknown[0]}', which does not exist; {did_you_mean(unknown[0], names)}")
    return [name for name in names if name in record_potentials]


def _records(
    program: Program, samples: int, recorded: list[str], counting: bool
) -> tuple[Records, dict[str, NDArray[np.uint8]], dict[str, IntArray], dict[str, IntArray]]:
    """Allocate the records of a run, with views of each group."""
    shapes = {group.name: (samples, program.steps, group.neurons) for group in program.groups}
    spikes_at, length = _places(shapes)
    potentials_at, potentials_length = _places({name: shapes[name] for name in recorded})
    spikes = np.empty(length, np.uint8)
    u, v = (np.empty(potentials_length, np.int64) for _ in range(2))
    runs = (samples, program.steps) if counting else (0, 0)
    events, operations, touched = (np.zeros((len(program.connections), *runs), np.int64) for _ in range(3))
    emitted = np.zeros((len(program.groups), *runs), np.int64)
    records = Records(
        spikes=spikes,
        u=u,
        v=v,
        spikes_at=np.array(list(spikes_at.values())),
        potentials_at=np.array([potentials_at.get(name, -1) for name in shapes]),
        potential=np.empty((samples, program.output.neurons), np.int64),
        counting=counting,
        events=events,
        operations=operations,
        touched=touched,
        emitted=emitted,
    )
    parts: list[dict[str, Any]] = [
        {name: flat[at : at + math.prod(shapes[name])].reshape(shapes[name]) for name, at in places.items()}
        for flat, places in ((spikes, spikes_at), (u, potentials_at), (v, potentials_at))
    ]
    return records, parts[0], parts[1], parts[2]


def _places(shapes: dict[str, tuple[int, int, int]]) -> tuple[dict[str, int], int]:
    """Return the start of each array in their concatenation, and the total length."""
    places, length = {}, 0
    for name, shape in shapes.items():
        places[name] = length
        length += math.prod(shape)
    return places, length


def _run_in_threads(program: Program, tables: Tables, arriving: Payloads, records: Records, threads: int) -> None:
    samples = len(arriving)
    nothing = (0, program.steps, program.input_size)
    spikes_in = arriving if program.input_bits == 1 else np.zeros(nothing, np.uint8)
    payloads_in = arriving if program.input_bits > 1 else np.zeros(nothing, np.int32)

    def run(share: tuple[int, int]) -> None:
        run_samples(*share, tables, spikes_in, payloads_in, program.steps, records, _scratch(program, tables))

    parts = max(1, min(samples, SHARES * threads if threads > 1 else 1))
    edges = [samples * part // parts for part in range(parts + 1)]
    shares = list(itertools.pairwise(edges))
    if parts == 1:
        run(shares[0])
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, shares))


def _scratch(program: Program, tables: Tables) -> Scratch:
    largest = max(group.neurons for group in program.groups)
    kernels = tables.kernels[tables.kernels["few"] < NEVER]
    padded = (kernels["blocks"] * kernels["block_outputs"] * kernels["positions"]).max(initial=0)
    image = (kernels["blocks"] * kernels["block_inputs"] * kernels["channel_size"]).max(initial=0)
    lines = max(program.input_size, largest) + WORD
    hits = np.zeros(max(largest + WORD, padded), np.uint8)
    return Scratch(
        u=np.zeros(program.neurons, np.int32),
        v=np.zeros(program.neurons, np.int32),
        drive=np.zeros(largest, np.int32),
        sums=np.zeros(max(largest + WORD, padded), np.int32),
        short_sums=np.zeros(largest + WORD, np.int16),
        marks=np.zeros(largest + WORD, np.uint64),
        hits=hits,
        eight_hits=hits[: len(hits) // 8 * 8].view(np.uint64),
        lines=np.zeros(lines, np.uint32),
        payloads=np.zeros(lines, np.int32),
        image=np.zeros(image + VECTOR, np.uint8),  # a tap of the last vector reads beyond its row
    )
