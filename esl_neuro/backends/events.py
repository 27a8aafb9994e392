"""The loops of the integer simulator, compiled: spikes meet their synapses, neurons step, operations are counted.

A spike costs as much as it has synapses, a neuron the same in every step. All sums are int32, which
:func:`~esl_neuro.backends.validate.validate` has proven to be enough; they hold halved weights, see
:mod:`~esl_neuro.backends.event_tables`.

The functions stand in one file because numba keeps compiled code until the file of the outermost one changes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from esl_neuro.backends.event_tables import Tables
from esl_neuro.compiled import compiled_for_threads

HALF_RANGE = np.int32(2**23)
WHOLE_RANGE = np.int32(2**24)
# So many whole rows can be added in int16: 128 * 256 = 2**15.
BATCH = 256


class Records(NamedTuple):
    """What a run leaves behind; every array is filled by the samples that it belongs to.

    Attributes
    ----------
    spikes : uint8 array
        Group after group, each (samples, steps, neurons).
    u, v : int64 array
        The same for the groups whose potentials are kept.
    spikes_at, potentials_at : int64 array, shape (groups,)
        Where each group begins in these; -1 if its potentials are not kept.
    potential : int64 array, shape (samples, output neurons)
        ``v`` of the last group after the last step.
    counting : bool
        Whether to count.
    events, operations, touched : int64 array, shape (connections, samples)
        Spikes that arrive, synapses that they meet, and neurons x steps that at least one of them reaches.
    """

    spikes: NDArray[np.uint8]
    u: NDArray[np.int64]
    v: NDArray[np.int64]
    spikes_at: NDArray[np.int64]
    potentials_at: NDArray[np.int64]
    potential: NDArray[np.int64]
    counting: bool
    events: NDArray[np.int64]
    operations: NDArray[np.int64]
    touched: NDArray[np.int64]


class Scratch(NamedTuple):
    """Memory of one thread.

    Attributes
    ----------
    u, v : int32 array, shape (neurons of all groups,)
        State.
    drive : int32 array, shape (neurons of the largest group,)
        What the connections bring to a group.
    sums : int32 array, of the same shape
        Halved weights that one connection brings; all 0 between connections.
    short_sums : int16 array, of the same shape
        The same for up to 256 whole rows; all 0 between them.
    marks : uint64 array
        A bit for each neuron that a whole row or a tap reaches; all 0 between connections.
    hits : uint8 array, shape (neurons of the largest group,)
        1 for each neuron that a single synapse reaches; all 0 between connections.
    lines, payloads : int64, int32 array, shape (lines of the largest source,)
        The spikes that arrive.
    whole : int64 array, of the same shape
        Which of them have a whole row.
    """

    u: NDArray[np.int32]
    v: NDArray[np.int32]
    drive: NDArray[np.int32]
    sums: NDArray[np.int32]
    short_sums: NDArray[np.int16]
    marks: NDArray[np.uint64]
    hits: NDArray[np.uint8]
    lines: NDArray[np.int64]
    payloads: NDArray[np.int32]
    whole: NDArray[np.int64]


@compiled_for_threads
def run_samples(
    first: int,
    last: int,
    tables: Tables,
    spikes_in: NDArray[Any],
    payloads_in: NDArray[Any],
    steps: int,
    records: Records,
    scratch: Scratch,
) -> None:
    """Run samples ``first`` to ``last - 1``, one after the other, each through one stage after the other."""
    for sample in range(first, last):
        scratch.u[:] = 0
        scratch.v[:] = 0
        for stage in tables.stages:
            for step in range(steps):
                for index in range(stage.group, stage.group_end):
                    group = tables.groups[index]
                    neurons = group.neurons
                    scratch.drive[:neurons] = 0
                    for which in range(group.connections, group.connections_end):
                        if tables.connections[which].delay <= step:
                            _carry(
                                which, sample, step, neurons, tables, spikes_in, payloads_in, steps, records, scratch
                            )
                    _advance(index, sample, step, steps, tables, records, scratch)
        output = tables.groups[len(tables.groups) - 1]
        records.potential[sample] = scratch.v[output.first : output.first + output.neurons]


@compiled_for_threads
def _carry(
    which: int,
    sample: int,
    step: int,
    neurons: int,
    tables: Tables,
    spikes_in: NDArray[Any],
    payloads_in: NDArray[Any],
    steps: int,
    records: Records,
    scratch: Scratch,
) -> None:
    """Add to ``drive`` what one connection brings in one step."""
    connection = tables.connections[which]
    when = step - connection.delay
    if connection.graded:
        count = _find_payloads(payloads_in[sample, when], scratch.lines, scratch.payloads)
    elif connection.source < 0:
        count = _find_spikes(spikes_in[sample, when], scratch.lines)
    else:
        source = tables.groups[connection.source]
        start = records.spikes_at[connection.source] + (sample * steps + when) * source.neurons
        count = _find_spikes(records.spikes[start : start + source.neurons], scratch.lines)
    if count == 0:
        return
    if connection.kernel >= 0:
        kernel = tables.kernels[connection.kernel]
        words = kernel.out_rows * kernel.out_columns * kernel.blocks * ((kernel.block_outputs + 63) // 64)
        operations = _spread(count, connection.graded, kernel, tables, records.counting, scratch)
        channels = kernel.blocks * kernel.block_outputs
        _shift_channels(channels, neurons // channels, connection.exponent, scratch.sums, scratch.drive)
    else:
        words = (neurons + 63) // 64
        operations = _deliver(count, neurons, connection, tables, records.counting, scratch)
        _shift(neurons, connection.exponent, scratch.sums, scratch.drive)
    if records.counting:
        records.events[which, sample] += count
        records.operations[which, sample] += operations
        records.touched[which, sample] += _count_reached(scratch.marks[:words], scratch.hits[:neurons])


@compiled_for_threads
def _find_spikes(spikes: NDArray[np.uint8], lines: NDArray[np.int64]) -> int:
    """List the lines that spike, and return how many do."""
    count = 0
    for line in range(spikes.size):
        lines[count] = line  # written in any case: a branch here is a coin that the processor cannot guess
        count += spikes[line]
    return count


@compiled_for_threads
def _find_payloads(spikes: NDArray[np.int32], lines: NDArray[np.int64], payloads: NDArray[np.int32]) -> int:
    """List the lines and payloads that are not zero, and return how many there are."""
    count = 0
    for line in range(spikes.size):
        if spikes[line] != 0:
            lines[count], payloads[count] = line, spikes[line]
            count += 1
    return count


@compiled_for_threads
def _deliver(count: int, neurons: int, connection: Any, tables: Tables, counting: bool, scratch: Scratch) -> int:
    """Add up in ``sums`` what the spikes bring through a matrix; return the number of synapses."""
    words = (neurons + 63) // 64
    whole = operations = 0
    for event in range(count):
        line = tables.lines[connection.lines + scratch.lines[event]]
        start, end = line.start, line.start + line.synapses
        operations += line.synapses
        if line.bits >= 0:
            scratch.whole[whole] = start
            scratch.payloads[whole] = scratch.payloads[event]
            whole += 1
            if counting:
                _mark(words, tables.marks[line.bits : line.bits + words], scratch.marks)
        else:
            payload = scratch.payloads[event] if connection.graded else np.int32(1)
            _add_single(tables.targets[start:end], tables.halves[start:end], payload, scratch.sums)
            if counting:
                _hit(tables.targets[start:end], scratch.hits)
    if connection.graded:
        for event in range(whole):
            start = scratch.whole[event]
            _add_graded(tables.whole_rows[start : start + neurons], scratch.payloads[event], scratch.sums)
    else:
        for first in range(0, whole, BATCH):
            _add_batch(scratch.whole[first : min(first + BATCH, whole)], neurons, tables.whole_rows, scratch)
    return operations


@compiled_for_threads
def _add_single(targets: NDArray[Any], halves: NDArray[np.int8], payload: Any, sums: NDArray[np.int32]) -> None:
    for synapse in range(targets.size):
        sums[targets[synapse]] += payload * halves[synapse]


@compiled_for_threads
def _hit(targets: NDArray[Any], hits: NDArray[np.uint8]) -> None:
    for target in targets:
        hits[target] = 1


@compiled_for_threads
def _add_graded(row: NDArray[np.int8], payload: Any, sums: NDArray[np.int32]) -> None:
    for target in range(row.size):
        sums[target] += np.int32(payload * row[target])


@compiled_for_threads
def _add_batch(starts: NDArray[np.int64], neurons: int, rows: NDArray[np.int8], scratch: Scratch) -> None:
    """Add up whole rows: four at a time, which saves reading and writing the sums, the last ones one by one."""
    short = scratch.short_sums[:neurons]
    fours = len(starts) // 4 * 4
    for event in range(0, fours, 4):
        a, b = rows[starts[event] :][:neurons], rows[starts[event + 1] :][:neurons]
        c, d = rows[starts[event + 2] :][:neurons], rows[starts[event + 3] :][:neurons]
        for target in range(neurons):
            short[target] += np.int16(np.int16(a[target] + b[target]) + np.int16(c[target] + d[target]))
    for event in range(fours, len(starts)):
        a = rows[starts[event] :][:neurons]
        for target in range(neurons):
            short[target] += a[target]
    sums = scratch.sums[:neurons]
    for target in range(neurons):
        sums[target] += short[target]
        short[target] = 0


@compiled_for_threads
def _spread(count: int, graded: int, kernel: Any, tables: Tables, counting: bool, scratch: Scratch) -> int:
    """Add up in ``sums``, output channels last, what the spikes bring through a kernel; return the synapses."""
    plane, outputs = kernel.rows * kernel.columns, kernel.block_outputs
    words = (outputs + 63) // 64
    operations = 0
    for event in range(count):
        line = scratch.lines[event]
        payload = scratch.payloads[event] if graded else np.int32(1)
        channel, row, column = line // plane, line % plane // kernel.columns, line % kernel.columns
        block = channel // kernel.block_inputs
        for tap_row in range(kernel.tap_rows):
            out_row = _position(row, tap_row, kernel.step_row, kernel.pad_row, kernel.stride_row, kernel.out_rows)
            if out_row < 0:
                continue
            for tap_column in range(kernel.tap_columns):
                out_column = _position(
                    column, tap_column, kernel.step_column, kernel.pad_column, kernel.stride_column, kernel.out_columns
                )
                if out_column < 0:
                    continue
                tap = (channel * kernel.tap_rows + tap_row) * kernel.tap_columns + tap_column
                place = (out_row * kernel.out_columns + out_column) * kernel.blocks + block
                weights = kernel.start + tap * outputs
                _add_graded(
                    tables.kernel_halves[weights : weights + outputs],
                    payload,
                    scratch.sums[place * outputs : (place + 1) * outputs],
                )
                operations += tables.tap_synapses[kernel.taps + tap]
                if counting:
                    bits = kernel.bits + tap * words
                    _mark(words, tables.marks[bits : bits + words], scratch.marks[place * words :])
    return operations


@compiled_for_threads
def _position(source: int, tap: int, step: int, pad: int, stride: int, size: int) -> int:
    """Where a tap carries a spike, -1 if to nowhere: ``target * stride = source + pad - tap * step``."""
    moved = source + pad - tap * step
    if moved < 0 or moved % stride != 0 or moved // stride >= size:
        return -1
    return moved // stride


@compiled_for_threads
def _mark(words: int, bits: NDArray[np.uint64], marks: NDArray[np.uint64]) -> None:
    for word in range(words):
        marks[word] |= bits[word]


@compiled_for_threads
def _count_reached(marks: NDArray[np.uint64], hits: NDArray[np.uint8]) -> int:
    """Count the neurons that are marked or hit, and clear both."""
    count = 0
    for neuron in range(hits.size):
        if hits[neuron] != 0:
            marks[neuron // 64] |= np.uint64(1) << np.uint64(neuron % 64)
            hits[neuron] = 0
    for word in range(marks.size):
        x = marks[word]  # add up neighbouring bits, pairs, fours and eights
        x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
        x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
        x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
        count += int((x * np.uint64(0x0101010101010101)) >> np.uint64(56))
        marks[word] = 0
    return count


@compiled_for_threads
def _shift(neurons: int, exponent: int, sums: NDArray[np.int32], drive: NDArray[np.int32]) -> None:
    """Shift the sums of a connection, rounding down, add them to the drive, and clear them."""
    for neuron in range(neurons):
        drive[neuron] += _shifted(sums[neuron], exponent)
        sums[neuron] = 0


@compiled_for_threads
def _shift_channels(
    channels: int, positions: int, exponent: int, sums: NDArray[np.int32], drive: NDArray[np.int32]
) -> None:
    """Do the same for sums whose channels stand last; those of the drive stand first."""
    for position in range(positions):
        for channel in range(channels):
            place = position * channels + channel
            drive[channel * positions + position] += _shifted(sums[place], exponent)
            sums[place] = 0


@compiled_for_threads
def _shifted(half: Any, exponent: int) -> Any:
    """``2 * half`` shifted left by the exponent, right by a negative one."""
    return np.int32(half << (exponent + 1)) if exponent >= -1 else np.int32(half >> (-exponent - 1))


@compiled_for_threads
def _advance(
    index: int, sample: int, step: int, steps: int, tables: Tables, records: Records, scratch: Scratch
) -> None:
    """Let the neurons of a group take one step, see :func:`~esl_neuro.backends.lif.lif_step`."""
    group = tables.groups[index]
    first, last, neurons = group.first, group.first + group.neurons, group.neurons
    u, v = scratch.u[first:last], scratch.v[first:last]
    start = (sample * steps + step) * neurons
    fired = records.spikes[records.spikes_at[index] + start :][:neurons]
    _step(
        u,
        v,
        scratch.drive[:neurons],
        tables.keep_u[first:last],
        tables.keep_v[first:last],
        tables.bias[first:last],
        tables.threshold[first:last],
        fired,
    )
    if records.potentials_at[index] >= 0:
        start += records.potentials_at[index]
        records.u[start : start + neurons] = u
        records.v[start : start + neurons] = v


@compiled_for_threads
def _step(
    u: NDArray[np.int32],
    v: NDArray[np.int32],
    drive: NDArray[np.int32],
    keep_u: NDArray[np.int32],
    keep_v: NDArray[np.int32],
    bias: NDArray[np.int32],
    threshold: NDArray[np.int32],
    fired: NDArray[np.uint8],
) -> None:
    for n in range(u.size):
        current = np.int32(_decay(u[n], keep_u[n]) + np.int32(drive[n] << 6))
        if current > HALF_RANGE:
            current = np.int32(current - WHOLE_RANGE)
        elif current <= -HALF_RANGE:
            current = np.int32(current + WHOLE_RANGE)
        potential = np.int32(np.int32(_decay(v[n], keep_v[n]) + current) + bias[n])
        potential = min(max(potential, np.int32(1 - HALF_RANGE)), np.int32(HALF_RANGE - 1))
        spike = potential > threshold[n]
        u[n] = current
        v[n] = np.int32(0) if spike else potential
        fired[n] = spike


@compiled_for_threads
def _decay(x: Any, keep: Any) -> Any:
    """``x * keep / 4096`` rounded toward zero, within 32 bits: the high part of ``x`` divides evenly."""
    size = np.int32(abs(x))
    high, low = np.int32(size >> 12), np.int32(size & 4095)
    kept = np.int32(np.int32(high * keep) + np.int32(np.int32(low * keep) >> 12))
    return kept if x >= 0 else np.int32(-kept)
