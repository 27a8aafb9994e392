"""The compiled loops of the integer simulator: spikes reach synapses, neurons advance, operations are counted.

The cost of a spike is proportional to its synapses, the cost of a neuron is constant per step. All sums are int32,
which :func:`~esl_neuro.backends.validate.validate` ensures to be enough; they hold halved weights, see
:mod:`~esl_neuro.backends.event_tables`.

The functions are in one file because numba keeps compiled code until the file of the outermost one changes. They
allocate no arrays (:func:`~esl_neuro.compiled.compiled_for_threads`), so they copy element by element.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from esl_neuro.backends.event_tables import WORD, Tables
from esl_neuro.backends.tap_vectors import (
    add_counts_1,
    add_counts_2,
    add_counts_3,
    add_counts_4,
    add_masks_1,
    add_masks_2,
    add_masks_3,
    add_masks_4,
    merge_1,
    merge_2,
    merge_3,
    merge_4,
)
from esl_neuro.backends.taps import TILE, VECTOR
from esl_neuro.bits import BYTES, ROWS, WORDS, count_bits, lowest_bit, merge_rows, nonzero_bits
from esl_neuro.compiled import compiled_for_threads, part_of_compiled
from esl_neuro.hardware import arithmetic

HALF_RANGE = np.int32(arithmetic.HALF_RANGE)
WHOLE_RANGE = np.int32(2 * arithmetic.HALF_RANGE)
# Number of whole rows that can be added in int16: 128 * 256 = 2**15.
BATCH = 256
FULL = np.uint64(2**64 - 1)
# Number of samples that run a stage before the next stage: enough to load its synapses rarely, while their spikes stay.
SAMPLES_AT_ONCE = 8
# Number of rows added at once, to save reading and writing the sums.
ROWS_AT_ONCE = 4
# Number of spikes of a word listed at once; few words have more, so the branch is predicted well.
SPIKES_AT_ONCE = 8
# Sums of a cache line.
LINE_SUMS = 16


class Records(NamedTuple):
    """Records of a run; each sample fills its own part of every array.

    Attributes
    ----------
    spikes : uint8 array
        Group after group, each (samples, steps, neurons).
    u, v : int64 array
        The same for the groups whose potentials are recorded.
    spikes_at, potentials_at : int64 array, shape (groups,)
        Start of each group in these arrays; -1 if its potentials are not recorded.
    potential : int64 array, shape (samples, output neurons)
        ``v`` of the last group after the last step.
    counting : bool
        Whether to count.
    events, operations, touched : int64 array, shape (connections, samples, steps)
        Arriving spikes, their synapses, and the neurons that at least one spike reaches.
    emitted : int64 array, shape (groups, samples, steps)
        Spikes of each group.
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
    emitted: NDArray[np.int64]


class Scratch(NamedTuple):
    """Memory of one thread.

    Attributes
    ----------
    u, v : int32 array, shape (neurons of all groups,)
        State.
    drive : int32 array, shape (neurons of the largest group,)
        Sum over the connections of a group; all 0 between groups.
    sums : int32 array
        Sums of the halved weights of one connection; all 0 between connections.
    short_sums : int16 array
        The same for up to 256 whole rows; all 0 between them.
    marks : uint64 array
        A bit for each neuron that a whole row or a tap reaches; all 0 between connections.
    hits, eight_hits : uint8, uint64 array
        Not 0 for each neuron that a single synapse or a tap reaches; two views of the same memory; all 0 between
        connections.
    lines, payloads : uint32, int32 array, shape (lines of the largest source,)
        The arriving spikes.
    image : uint8 array
        The sources of a kernel, see :class:`~esl_neuro.backends.taps.Taps`.
    """

    u: NDArray[np.int32]
    v: NDArray[np.int32]
    drive: NDArray[np.int32]
    sums: NDArray[np.int32]
    short_sums: NDArray[np.int16]
    marks: NDArray[np.uint64]
    hits: NDArray[np.uint8]
    eight_hits: NDArray[np.uint64]
    lines: NDArray[np.uint32]
    payloads: NDArray[np.int32]
    image: NDArray[np.uint8]


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
    """Run samples ``first`` to ``last - 1``: a few of them stage by stage, so that the stage stays in the caches."""
    for begin in range(first, last, SAMPLES_AT_ONCE):
        for which in range(tables.stages.size):
            for sample in range(begin, min(begin + SAMPLES_AT_ONCE, last)):
                _run_stage(which, sample, tables, spikes_in, payloads_in, steps, records, scratch)


@part_of_compiled
def _run_stage(
    which: int,
    sample: int,
    tables: Tables,
    spikes_in: NDArray[Any],
    payloads_in: NDArray[Any],
    steps: int,
    records: Records,
    scratch: Scratch,
) -> None:
    """Run all steps of a sample in the groups of a stage."""
    stage = tables.stages[which]
    final = tables.groups[stage.group_end - 1]
    for neuron in range(tables.groups[stage.group].first, final.first + final.neurons):
        scratch.u[neuron] = scratch.v[neuron] = 0
    for step in range(steps):
        for index in range(stage.group, stage.group_end):
            group = tables.groups[index]
            neurons = group.neurons
            for each in range(group.connections, group.connections_end):
                if tables.connections[each].delay <= step:
                    _carry(each, sample, step, neurons, tables, spikes_in, payloads_in, steps, records, scratch)
            _advance(index, sample, step, steps, tables, records, scratch)
    if stage.group_end == tables.groups.size:
        for neuron in range(final.neurons):
            records.potential[sample, neuron] = scratch.v[final.first + neuron]


@part_of_compiled
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
    """Add the input over one connection in one step to ``drive``."""
    connection = tables.connections[which]
    when = step - connection.delay
    spikes = records.spikes[:0]
    if connection.graded:
        arriving = payloads_in.shape[2]
        count = _find_payloads(payloads_in[sample, when], scratch.lines, scratch.payloads)
    elif connection.source < 0:
        arriving = spikes_in.shape[2]
        spikes = spikes_in[sample, when]
        count = _find_spikes(spikes, scratch.lines)
    else:
        arriving = tables.groups[connection.source].neurons
        start = records.spikes_at[connection.source] + (sample * steps + when) * arriving
        spikes = records.spikes[start : start + arriving]
        count = _find_spikes(spikes, scratch.lines)
    if count == 0:
        return
    if connection.kernel >= 0:
        kernel = tables.kernels[connection.kernel]
        if count <= kernel.few:
            operations, touched = _add_kernel_rows(
                count, neurons, connection, kernel, tables, records.counting, scratch
            )
        else:
            operations, touched = _add_images(count, spikes, connection, kernel, tables, records.counting, scratch)
    else:
        words = (neurons + WORD - 1) // WORD
        operations = _deliver(count, arriving, words, connection, tables, records.counting, scratch)
        _shift(neurons, connection.exponent, scratch.sums, scratch.drive)
        touched = _count_marks(scratch.marks[:words]) if records.counting else 0
    if records.counting:
        records.events[which, sample, step] = count
        records.operations[which, sample, step] = operations
        records.touched[which, sample, step] = touched


@compiled_for_threads
def _find_spikes(spikes: NDArray[np.uint8], lines: NDArray[np.uint32]) -> int:
    """List the lines that spike, and return their number; later entries of ``lines`` are undefined."""
    count, size = 0, spikes.size
    if size < BYTES:
        for line in range(size):
            lines[count] = line  # written in any case, because a branch here is unpredictable
            count += spikes[line]
        return count
    for begin in range(0, size, BYTES):
        first = min(begin, size - BYTES)  # the last word overlaps the previous one
        bits = nonzero_bits(spikes, np.uint64(first)) & (FULL << np.uint64(begin - first))
        found = int(count_bits(bits))
        place = np.uint64(count)
        for _ in range(0, found, SPIKES_AT_ONCE):
            for _ in range(SPIKES_AT_ONCE):
                lines[place] = first + int(lowest_bit(bits))
                bits &= bits - np.uint64(1)
                place += np.uint64(1)
        count += found
    return count


@compiled_for_threads
def _find_payloads(spikes: NDArray[np.int32], lines: NDArray[np.uint32], payloads: NDArray[np.int32]) -> int:
    """List the lines with a non-zero payload and their payloads, and return their number."""
    count = 0
    for line in range(spikes.size):
        if spikes[line] != 0:
            lines[count], payloads[count] = line, spikes[line]
            count += 1
    return count


@part_of_compiled
def _deliver(
    count: int, silent: int, words: int, connection: Any, tables: Tables, counting: bool, scratch: Scratch
) -> int:
    """Add the weights of the spikes through a matrix to ``sums``; return the number of synapses reached.

    The line ``silent`` has no synapses.
    """
    lines, payloads, sums = scratch.lines, scratch.payloads, scratch.sums
    fan_out, graded = tables.fan_out[connection.lines :], connection.graded
    if connection.rows >= 0:
        rows, width = np.uint64(connection.rows), np.uint64(words * WORD)
        for event in range(count, count + ROWS - 1):  # pad to whole groups of rows
            lines[event] = silent
        if graded:
            operations = _add_graded_rows(count, lines, payloads, rows, width, tables.rows, sums, fan_out)
        else:
            operations = _add_rows(count, lines, rows, width, tables.rows, scratch.short_sums, sums, fan_out)
        if counting:
            first_mark, mark_words = np.uint64(connection.marks), np.uint64(connection.mark_words)
            _mark_rows(count, lines, first_mark, mark_words, tables.marks, scratch.marks)
    else:
        first = connection.starts
        operations = _add_singles(
            count, lines, payloads, first, graded, tables.starts, tables.targets, tables.halves, sums
        )
        if counting:
            _hit(count, lines, first, tables.starts, tables.targets, scratch.hits)
            _mark_hits(words, scratch.eight_hits, scratch.marks)
    return operations


@compiled_for_threads
def _add_rows(
    count: int,
    lines: NDArray[np.uint32],
    first: Any,
    width: Any,
    rows: NDArray[np.int8],
    short_sums: NDArray[np.int16],
    sums: NDArray[np.int32],
    fan_out: NDArray[np.int64],
) -> int:
    """Add whole rows, four at a time to save reading and writing the sums; return their synapses."""
    operations = 0
    for begin in range(0, count, BATCH):
        for event in range(begin, min(begin + BATCH, count), ROWS_AT_ONCE):
            i, j, k, m = lines[event], lines[event + 1], lines[event + 2], lines[event + 3]
            operations += (fan_out[i] + fan_out[j]) + (fan_out[k] + fan_out[m])
            a, b, c, d = first + i * width, first + j * width, first + k * width, first + m * width
            for target in range(width):
                short_sums[target] += np.int16(
                    np.int16(rows[a + target] + rows[b + target]) + np.int16(rows[c + target] + rows[d + target])
                )
        for target in range(width):
            sums[target] += short_sums[target]
            short_sums[target] = 0
    return operations


@compiled_for_threads
def _add_graded_rows(
    count: int,
    lines: NDArray[np.uint32],
    payloads: NDArray[np.int32],
    first: Any,
    width: Any,
    rows: NDArray[np.int8],
    sums: NDArray[np.int32],
    fan_out: NDArray[np.int64],
) -> int:
    operations = 0
    for event in range(count):
        start, payload = first + lines[event] * width, payloads[event]
        operations += fan_out[lines[event]]
        for target in range(width):
            sums[target] += np.int32(payload * rows[start + target])
    return operations


@compiled_for_threads
def _mark_rows(
    count: int, lines: NDArray[np.uint32], first: Any, words: Any, bits: NDArray[np.uint64], marks: NDArray[np.uint64]
) -> None:
    """Mark the neurons that whole rows reach: narrow rows word by word, wide rows many at a time."""
    if words < WORDS:
        for word in range(words):
            reached = np.uint64(0)
            for event in range(count):
                reached |= bits[first + lines[event] * words + word]
            marks[word] |= reached
        return
    for event in range(0, count, ROWS):
        for word in range(np.uint64(0), words, np.uint64(WORDS)):
            merge_rows(marks, word, bits, first, words, lines, np.uint64(event))


@compiled_for_threads
def _add_singles(
    count: int,
    lines: NDArray[np.uint32],
    payloads: NDArray[np.int32],
    first: int,
    graded: int,
    starts: NDArray[np.uint64],
    targets: NDArray[np.uint32],
    halves: NDArray[np.int8],
    sums: NDArray[np.int32],
) -> int:
    operations = 0
    for event in range(count):
        line = first + int(lines[event])
        payload = payloads[event] if graded else np.int32(1)
        operations += int(starts[line + 1] - starts[line])
        for synapse in range(starts[line], starts[line + 1]):
            sums[targets[synapse]] += payload * halves[synapse]
    return operations


@compiled_for_threads
def _hit(
    count: int,
    lines: NDArray[np.uint32],
    first: int,
    starts: NDArray[np.uint64],
    targets: NDArray[np.uint32],
    hits: NDArray[np.uint8],
) -> None:
    for event in range(count):
        line = first + int(lines[event])
        for synapse in range(starts[line], starts[line + 1]):
            hits[targets[synapse]] = 1


@part_of_compiled
def _add_kernel_rows(
    count: int, neurons: int, connection: Any, kernel: Any, tables: Tables, counting: bool, scratch: Scratch
) -> tuple[int, int]:
    """Add the weights of each spike through a kernel to ``drive``; return the numbers of synapses and neurons."""
    operations = _spread(
        count,
        connection.graded,
        kernel,
        scratch.lines,
        scratch.payloads,
        tables.kernel_halves,
        scratch.sums,
        tables.fan_out[connection.lines :],
        counting,
        tables.kernel_marks,
        scratch.marks,
    )
    channels = kernel.blocks * kernel.block_outputs
    _shift_channels(channels, neurons // channels, connection.exponent, scratch.sums, scratch.drive)
    words = kernel.row_outputs * kernel.column_outputs * kernel.blocks * ((kernel.block_outputs + WORD - 1) // WORD)
    return operations, _count_marks(scratch.marks[:words]) if counting else 0


@compiled_for_threads
def _spread(
    count: int,
    graded: int,
    kernel: Any,
    lines: NDArray[np.uint32],
    payloads: NDArray[np.int32],
    halves: NDArray[np.int8],
    sums: NDArray[np.int32],
    fan_out: NDArray[np.int64],
    counting: bool,
    bits: NDArray[np.uint64],
    marks: NDArray[np.uint64],
) -> int:
    """Add the weights of the spikes through a kernel to ``sums``, output channels last; return the synapses."""
    operations = 0
    plane, outputs = kernel.row_sources * kernel.column_sources, kernel.block_outputs
    words = (outputs + WORD - 1) // WORD
    for event in range(count):
        line = int(lines[event])
        operations += fan_out[line]
        payload = payloads[event] if graded else np.int32(1)
        channel, row, column = line // plane, line % plane // kernel.column_sources, line % kernel.column_sources
        row = (row + kernel.row_pad) // kernel.row_pool
        column = (column + kernel.column_pad) // kernel.column_pool
        block = channel // kernel.block_inputs
        for tap_row in range(kernel.row_taps):
            out_row = _position(row - tap_row * kernel.row_step, kernel.row_stride, kernel.row_outputs)
            if out_row < 0:
                continue
            for tap_column in range(kernel.column_taps):
                out_column = _position(
                    column - tap_column * kernel.column_step, kernel.column_stride, kernel.column_outputs
                )
                if out_column < 0:
                    continue
                tap = (channel * kernel.row_taps + tap_row) * kernel.column_taps + tap_column
                place = (out_row * kernel.column_outputs + out_column) * kernel.blocks + block
                start, first = np.uint64(kernel.start + tap * outputs), np.uint64(place * outputs)
                for output in range(np.uint64(outputs)):
                    sums[first + output] += np.int32(payload * halves[start + output])
                if counting:
                    start, first = np.uint64(kernel.marks + tap * words), np.uint64(place * words)
                    for word in range(np.uint64(words)):
                        marks[first + word] |= bits[start + word]
    return operations


@compiled_for_threads
def _position(moved: int, stride: int, size: int) -> int:
    """Return the output that starts at a place, -1 if there is none."""
    if moved < 0 or moved % stride != 0 or moved // stride >= size:
        return -1
    return moved // stride


@part_of_compiled
def _add_images(
    count: int,
    spikes: NDArray[np.uint8],
    connection: Any,
    kernel: Any,
    tables: Tables,
    counting: bool,
    scratch: Scratch,
) -> tuple[int, int]:
    """Do the same for many spikes: each tap adds an image of all sources, see :mod:`~esl_neuro.backends.taps`."""
    lines, image = scratch.lines, scratch.image
    operations = touched = 0
    pooled = kernel.row_pool * kernel.column_pool > 1
    for place in range(kernel.blocks * kernel.block_inputs * kernel.channel_size):
        image[place] = 0
    if pooled or kernel.column_stride > 1:
        _draw_spikes(count, kernel, pooled, lines, tables.places, image)
    else:
        _draw_rows(spikes, kernel, tables.places, image)
    channels = kernel.blocks * kernel.block_outputs
    first_parts = tables.first_parts[kernel.first_parts :][: channels + 1]
    if counting:
        fan_out = tables.fan_out[connection.lines :]
        for event in range(count):
            operations += fan_out[lines[event]]
        _merge_taps(
            kernel.positions, first_parts, tables.tap_parts, tables.tap_offsets, tables.tap_sizes, image, scratch.hits
        )
        touched = _count_image(kernel, channels, scratch.hits)
    _add_taps(
        pooled,
        kernel.positions,
        first_parts,
        tables.tap_parts,
        tables.tap_signs,
        tables.tap_offsets,
        tables.tap_sizes,
        image,
        scratch.sums,
    )
    _shift_image(kernel, channels, connection.exponent, scratch.sums, scratch.drive)
    return operations, touched


@compiled_for_threads
def _draw_spikes(
    count: int,
    kernel: Any,
    pooled: bool,
    lines: NDArray[np.uint32],
    places: NDArray[np.int64],
    image: NDArray[np.uint8],
) -> None:
    """Write spikes to empty images: how many there are in a window of pooling, else 255 for a spike."""
    rows, columns = kernel.row_sources, kernel.column_sources
    spike = np.uint8(1 if pooled else 255)
    first = end = start = 0
    for event in range(count):
        line = int(lines[event])
        if line >= end:  # the lines are sorted
            row = line // columns
            first, end = row * columns, (row + 1) * columns
            start = row // rows * kernel.channel_size + places[kernel.row_places + row % rows]
        image[start + places[kernel.column_places + line - first]] += spike


@compiled_for_threads
def _draw_rows(spikes: NDArray[np.uint8], kernel: Any, places: NDArray[np.int64], image: NDArray[np.uint8]) -> None:
    """Do the same where each source has its place, and those of a row are adjacent."""
    columns = np.uint64(kernel.column_sources)
    for row in range(spikes.size // kernel.column_sources):
        channel = row // kernel.row_sources
        start = channel * kernel.channel_size + places[kernel.row_places + row - channel * kernel.row_sources]
        to, line = np.uint64(start + places[kernel.column_places]), np.uint64(row * kernel.column_sources)
        for column in range(columns):
            image[to + column] = np.uint8(0) - spikes[line + column]


@compiled_for_threads
def _add_taps(
    pooled: bool,
    positions: int,
    first_parts: NDArray[np.int64],
    parts: NDArray[np.uint64],
    signs: NDArray[np.int32],
    offsets: NDArray[np.uint32],
    sizes: NDArray[np.uint8],
    image: NDArray[np.uint8],
    sums: NDArray[np.int32],
) -> None:
    """Add up the images of all taps for each output channel.

    All output channels use a tile of the image before the next, so that it stays in the nearest cache.
    """
    for tile in range(0, positions, TILE):
        vectors, place = (positions - tile) // VECTOR, np.uint64(tile)
        for output in range(first_parts.size - 1):
            at = np.uint64(output * positions + tile)
            for part in range(first_parts[output], first_parts[output + 1]):
                first, last, sign = parts[part], parts[part + 1], signs[part]
                if pooled:
                    if vectors >= 4:
                        add_counts_4(sums, at, image, place, offsets, sizes, first, last, sign)
                    elif vectors == 3:
                        add_counts_3(sums, at, image, place, offsets, sizes, first, last, sign)
                    elif vectors == 2:
                        add_counts_2(sums, at, image, place, offsets, sizes, first, last, sign)
                    else:
                        add_counts_1(sums, at, image, place, offsets, sizes, first, last, sign)
                elif vectors >= 4:
                    add_masks_4(sums, at, image, place, offsets, sizes, first, last, sign)
                elif vectors == 3:
                    add_masks_3(sums, at, image, place, offsets, sizes, first, last, sign)
                elif vectors == 2:
                    add_masks_2(sums, at, image, place, offsets, sizes, first, last, sign)
                else:
                    add_masks_1(sums, at, image, place, offsets, sizes, first, last, sign)


@compiled_for_threads
def _merge_taps(
    positions: int,
    first_parts: NDArray[np.int64],
    parts: NDArray[np.uint64],
    offsets: NDArray[np.uint32],
    sizes: NDArray[np.uint8],
    image: NDArray[np.uint8],
    hits: NDArray[np.uint8],
) -> None:
    """Mark the outputs that at least one tap reaches, in the same order."""
    sign = np.int32(0)
    for tile in range(0, positions, TILE):
        vectors, place = (positions - tile) // VECTOR, np.uint64(tile)
        for output in range(first_parts.size - 1):
            at = np.uint64(output * positions + tile)
            first, last = parts[first_parts[output]], parts[first_parts[output + 1]]
            if vectors >= 4:
                merge_4(hits, at, image, place, offsets, sizes, first, last, sign)
            elif vectors == 3:
                merge_3(hits, at, image, place, offsets, sizes, first, last, sign)
            elif vectors == 2:
                merge_2(hits, at, image, place, offsets, sizes, first, last, sign)
            else:
                merge_1(hits, at, image, place, offsets, sizes, first, last, sign)


@compiled_for_threads
def _count_image(kernel: Any, channels: int, hits: NDArray[np.uint8]) -> int:
    """Count the outputs that are hit, and clear the hits."""
    count = 0
    for channel in range(channels):
        first = channel * kernel.positions
        for row in range(kernel.row_outputs):
            start = np.uint64(first + row * kernel.pitch)
            for column in range(np.uint64(kernel.column_outputs)):
                count += hits[start + column] != 0
    for place in range(channels * kernel.positions):
        hits[place] = 0
    return count


@compiled_for_threads
def _shift_image(kernel: Any, channels: int, exponent: int, sums: NDArray[np.int32], drive: NDArray[np.int32]) -> None:
    """Shift the sums of a connection like :func:`_shift`, without what lies between the rows."""
    for channel in range(channels):
        first = channel * kernel.positions
        for row in range(kernel.row_outputs):
            start = np.uint64(first + row * kernel.pitch)
            to = np.uint64((channel * kernel.row_outputs + row) * kernel.column_outputs)
            for column in range(np.uint64(kernel.column_outputs)):
                drive[to + column] += _shifted(sums[start + column], exponent)
    for place in range(channels * kernel.positions):
        sums[place] = 0


@compiled_for_threads
def _mark_hits(words: int, eight_hits: NDArray[np.uint64], marks: NDArray[np.uint64]) -> None:
    """Mark the hit neurons, and clear the hits."""
    for word in range(words):
        for byte in range(8):
            # Eight bytes of 0 or 1 become eight adjacent bits.
            bits = (eight_hits[8 * word + byte] * np.uint64(0x0102040810204080)) >> np.uint64(56)
            marks[word] |= bits << np.uint64(8 * byte)
            eight_hits[8 * word + byte] = 0


@compiled_for_threads
def _count_marks(marks: NDArray[np.uint64]) -> int:
    """Count the marked neurons, and clear the marks."""
    count = 0
    for word in range(marks.size):
        count += int(count_bits(marks[word]))
        marks[word] = 0
    return count


@compiled_for_threads
def _count_ones(spikes: NDArray[np.uint8]) -> int:
    """Count the spikes of a step."""
    total = 0
    whole = spikes.size // BYTES * BYTES
    for begin in range(0, whole, BYTES):
        total += int(count_bits(nonzero_bits(spikes, np.uint64(begin))))
    for place in range(whole, spikes.size):
        total += spikes[place]
    return total


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
    """Do the same for sums with channels last and a drive with channels first, a cache line of a channel at a time."""
    for begin in range(0, positions, LINE_SUMS):
        end = min(begin + LINE_SUMS, positions)
        for channel in range(channels):
            for position in range(begin, end):
                drive[channel * positions + position] += _shifted(sums[position * channels + channel], exponent)
    for place in range(positions * channels):
        sums[place] = 0


@compiled_for_threads
def _shifted(half: Any, exponent: int) -> Any:
    """Return ``2 * half`` shifted left by the exponent, or right if it is negative."""
    return np.int32(half << (exponent + 1)) if exponent >= -1 else np.int32(half >> (-exponent - 1))


@part_of_compiled
def _advance(
    index: int, sample: int, step: int, steps: int, tables: Tables, records: Records, scratch: Scratch
) -> None:
    """Advance the neurons of a group by one step, see :func:`~esl_neuro.backends.lif.lif_step`."""
    group = tables.groups[index]
    first, last, neurons = group.first, group.first + group.neurons, group.neurons
    u, v = scratch.u[first:last], scratch.v[first:last]
    start = (sample * steps + step) * neurons
    fired = records.spikes[records.spikes_at[index] + start :][:neurons]
    drive, rows = scratch.drive[:neurons], neurons // group.alike
    where = slice(group.constants, group.constants + rows)
    keep_u, keep_v, bias = tables.keep_u[where], tables.keep_v[where], tables.bias[where]
    threshold, reset_by = tables.threshold[where], tables.reset_by[where]
    if group.alike == 1:
        _step(u, v, drive, keep_u, keep_v, bias, threshold, reset_by, fired)
    else:
        for row in range(rows):
            own = slice(row * group.alike, (row + 1) * group.alike)
            constants = (keep_u[row], keep_v[row], bias[row], threshold[row], reset_by[row])
            _step_alike(u[own], v[own], drive[own], constants, fired[own])
    if records.counting:
        records.emitted[index, sample, step] = _count_ones(fired)
    if records.potentials_at[index] >= 0:
        start += records.potentials_at[index]
        for neuron in range(neurons):
            records.u[start + neuron], records.v[start + neuron] = u[neuron], v[neuron]


@compiled_for_threads
def _step(
    u: NDArray[np.int32],
    v: NDArray[np.int32],
    drive: NDArray[np.int32],
    keep_u: NDArray[np.int32],
    keep_v: NDArray[np.int32],
    bias: NDArray[np.int32],
    threshold: NDArray[np.int32],
    reset_by: NDArray[np.int32],
    fired: NDArray[np.uint8],
) -> None:
    for n in range(u.size):
        constants = (keep_u[n], keep_v[n], bias[n], threshold[n], reset_by[n])
        u[n], v[n], fired[n] = _step_neuron(u[n], v[n], drive[n], constants)
        drive[n] = 0


@compiled_for_threads
def _step_alike(
    u: NDArray[np.int32], v: NDArray[np.int32], drive: NDArray[np.int32], constants: Any, fired: NDArray[np.uint8]
) -> None:
    """Advance neurons with the same constants."""
    if constants[0] == 0:  # most neurons keep no current
        for n in range(u.size):
            u[n], v[n], fired[n] = _step_neuron(np.int32(0), v[n], drive[n], constants)
            drive[n] = 0
    else:
        for n in range(u.size):
            u[n], v[n], fired[n] = _step_neuron(u[n], v[n], drive[n], constants)
            drive[n] = 0


@compiled_for_threads
def _step_neuron(u: Any, v: Any, drive: Any, constants: Any) -> tuple[Any, Any, Any]:
    """Return current, potential and spike of a neuron after a step."""
    keep_u, keep_v, bias, threshold, reset_by = constants
    current = np.int32(_decay(u, keep_u) + np.int32(drive << 6))
    if current > HALF_RANGE:
        current = np.int32(current - WHOLE_RANGE)
    elif current <= -HALF_RANGE:
        current = np.int32(current + WHOLE_RANGE)
    potential = np.int32(np.int32(_decay(v, keep_v) + current) + bias)
    potential = min(max(potential, np.int32(1 - HALF_RANGE)), np.int32(HALF_RANGE - 1))
    spike = potential > threshold
    after = np.int32(potential - reset_by) if reset_by >= 0 else np.int32(0)
    return current, after if spike else potential, spike


@compiled_for_threads
def _decay(x: Any, keep: Any) -> Any:
    """Return ``x * keep / 4096`` rounded toward zero, within 32 bits: the high part of ``x`` divides evenly."""
    size = np.int32(abs(x))
    high, low = np.int32(size >> 12), np.int32(size & 4095)
    kept = np.int32(np.int32(high * keep) + np.int32(np.int32(low * keep) >> 12))
    return kept if x >= 0 else np.int32(-kept)
