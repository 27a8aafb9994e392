"""Products of a sparse matrix with a signal, compiled for the CPU: forward, and both gradients.

A matrix with one row per neuron is stored by its connections only (CSR): the connections ``starts[i]`` to before
``starts[i + 1]`` end at neuron ``i``; connection ``p`` comes from input line ``lines[p]`` with weight ``values[p]``. A
signal has one row per line and one column per step and sample (:mod:`esl_neuro.neuron_major`), so a connection adds one
row to another, whatever the pattern of the connections. Spikes are bits (:mod:`esl_neuro.spike_bits`).

Each number of a result is summed by one thread in a fixed order, so results do not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from esl_neuro.compiled import compiled, compiled_for_threads, compiled_sums, part_of_compiled
from esl_neuro.sparsity.vector_loops import LANES, MIDDLE, ROWS, WIDE, dots, sum_far, sum_middle, sum_narrow, sum_wide

NEURONS = 64
"""Neurons of one task."""
NEURONS_OF_NUMBERS = 4096
"""Neurons of one task that adds numbers, of which it makes a copy that stays in the cache."""
COPIED_LINES = 8192
"""Most lines of such a copy."""
COLUMNS = 512
"""Columns of one dot product, after which it continues with the next connections."""
CACHE_LINE = 64


@compiled_sums
def add_spikes(
    values: NDArray[Any],
    lines: NDArray[np.int32],
    starts: NDArray[np.int64],
    bits: NDArray[np.uint16],
    bias: NDArray[Any],
    y: NDArray[Any],
    columns: int,
) -> None:
    """Do the same as :func:`multiply` for spikes.

    Parameters
    ----------
    values, lines, starts, bias, y, columns
        As there.
    bits : uint16 array, shape (lines, ceil(columns / 16))
        Spikes of 16 columns in each number.
    """
    neurons = len(y)
    tasks, blocks = (neurons + NEURONS - 1) // NEURONS, (columns + WIDE - 1) // WIDE
    for task in numba.prange(tasks * blocks):
        begin, row = task // tasks * WIDE, task % tasks * NEURONS
        end = min(begin + WIDE, columns)
        for i in range(row, min(row + NEURONS, neurons)):
            if begin + WIDE == end:
                sum_wide(y, i, begin, bias[i], bits, begin, lines, values, starts[i], starts[i + 1])
                continue
            for column in range(begin, end, LANES):
                sum_narrow(y, i, column, bias[i], bits, column, lines, values, starts[i], starts[i + 1])


@compiled_sums
def multiply(
    values: NDArray[Any],
    lines: NDArray[np.int32],
    starts: NDArray[np.int64],
    x: NDArray[Any],
    bias: NDArray[Any],
    y: NDArray[Any],
    columns: int,
) -> None:
    """Write ``y[i, c] = bias[i] + sum_p values[p] x[lines[p], c]`` over the connections p of neuron i.

    Parameters
    ----------
    values : shape (connections,)
        Weights, float32 or float64.
    lines : shape (connections,)
        Rows of x.
    starts : shape (neurons + 1,)
        Where the connections of a neuron begin.
    x : shape (lines, length)
        Signal of the type of the weights; a row has room for the next multiple of 16 columns.
    bias : shape (neurons,)
        Start of each sum.
    y : shape (neurons, length)
        Result, with the same room.
    columns : int
        Columns of the signal.
    """
    neurons, rows, copied = len(y), NEURONS_OF_NUMBERS, len(x) <= COPIED_LINES
    width = MIDDLE if copied else WIDE
    tasks, blocks = (neurons + rows - 1) // rows, (columns + width - 1) // width
    for task in numba.prange(tasks * blocks):
        begin, row = task // tasks * width, task % tasks * rows
        end = min(begin + width, columns)
        block, first = x, begin
        if copied:
            block, first = aligned_copy(x, begin, end), 0
        for i in range(row, min(row + rows, neurons)):
            if begin + WIDE == end:
                sum_far(y, i, begin, bias[i], block, first, lines, values, starts[i], starts[i + 1])
                continue
            for column in range(begin, end, MIDDLE):
                there = first + column - begin
                if column + LANES < end:
                    sum_middle(y, i, column, bias[i], block, there, lines, values, starts[i], starts[i + 1])
                else:
                    sum_narrow(y, i, column, bias[i], block, there, lines, values, starts[i], starts[i + 1])


@part_of_compiled
def aligned_copy(x: NDArray[Any], begin: int, end: int) -> NDArray[Any]:
    """Return at most 32 columns of a matrix as one whose rows do not cross lines of the cache."""
    scratch = np.empty(len(x) * MIDDLE + CACHE_LINE // x.itemsize, x.dtype)
    first = -scratch.ctypes.data % CACHE_LINE // x.itemsize
    copy = scratch[first : first + len(x) * MIDDLE].reshape(len(x), MIDDLE)
    for line in range(len(x)):
        source, target = x[line, begin:end], copy[line]
        for column in range(end - begin):
            target[column] = source[column]
    return copy


@compiled_sums
def weight_gradient(
    lines: NDArray[np.int32],
    starts: NDArray[np.int64],
    x: NDArray[Any],
    errors: NDArray[Any],
    gradient: NDArray[Any],
    columns: int,
) -> None:
    """Write ``gradient[p] = sum_c errors[i, c] x[lines[p], c]`` for the connections p of every neuron i.

    Parameters
    ----------
    lines, starts, columns
        As in :func:`multiply`.
    x : shape (lines, length)
        Signal, or the bits of spikes as in :func:`add_spikes`, with zeros after the last column.
    errors : shape (neurons, length)
        Derivatives of the loss by y.
    gradient : shape (connections,)
        Result.
    """
    neurons = len(starts) - 1
    whole = columns // LANES * LANES
    bits = x.itemsize == 2
    stop = (columns + LANES - 1) // LANES * LANES if bits else whole
    for task in numba.prange((neurons + NEURONS - 1) // NEURONS):
        row, final = task * NEURONS, min((task + 1) * NEURONS, neurons)
        gradient[starts[row] : starts[final]] = 0
        for begin in range(0, stop, COLUMNS):
            end = min(begin + COLUMNS, stop)
            for i in range(row, final):
                for p in range(starts[i], starts[i + 1], ROWS):
                    dots(gradient, p, starts[i + 1], x, lines, errors, i, begin, end)
        if not bits and whole < columns:
            for i in range(row, final):
                for p in range(starts[i], starts[i + 1]):
                    total = gradient[p]
                    for column in range(whole, columns):
                        total += errors[i, column] * x[lines[p], column]
                    gradient[p] = total


@compiled
def move(values: NDArray[Any], places: NDArray[Any], moved: NDArray[Any]) -> None:
    """Write ``moved[places[p]] = values[p]``."""
    for p in numba.prange(len(places)):
        moved[places[p]] = values[p]


@compiled_for_threads
def transpose(
    lines: NDArray[np.int32],
    starts: NDArray[np.int64],
    starts_back: NDArray[np.int64],
    free: NDArray[np.int64],
    neurons: NDArray[np.int32],
    places: NDArray[Any],
) -> None:
    """Sort the connections by line (counting sort): those that leave a line, in the order of their neurons.

    Parameters
    ----------
    lines, starts
        As in :func:`multiply`.
    starts_back : shape (lines + 1,)
        Result, zero before: where the connections of a line begin.
    free : shape (lines,)
        Scratch.
    neurons : shape (connections,)
        Result: where each ends, sorted by line.
    places : shape (connections,)
        Result: the place of each connection among the sorted ones.
    """
    for p in range(len(lines)):
        starts_back[lines[p] + 1] += 1
    for line in range(len(starts_back) - 1):
        starts_back[line + 1] += starts_back[line]
        free[line] = starts_back[line]
    for i in range(len(starts) - 1):
        for p in range(starts[i], starts[i + 1]):
            place = free[lines[p]]
            free[lines[p]] = place + 1
            neurons[place], places[p] = i, place
