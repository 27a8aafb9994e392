"""Products of a sparse matrix with a signal, compiled for the CPU: forward, and both gradients.

A matrix with one row per neuron is stored by its connections only (CSR): the connections ``starts[i]`` to before
``starts[i + 1]`` end at neuron ``i``; connection ``p`` comes from input line ``lines[p]`` with weight ``values[p]``. A
signal has one row per line and one column per step and sample (:mod:`esl_neuro.neuron_major`), so a connection adds one
row to another, whatever the pattern of the connections. Spikes have one byte.

Each number of a result is summed by one thread in a fixed order, so results do not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from esl_neuro.compiled import compiled, compiled_for_threads, compiled_sums
from esl_neuro.sparsity.vector_loops import LANES, WIDE, dot, prefetch, sum_narrow, sum_wide

NEURONS = 64
"""Neurons of one task."""
BLOCK = 256
"""Columns of one task of a sum: those of all lines stay in the cache."""
DOT_BLOCK = 512
"""Columns of one dot product, after which it continues with the next connection."""
AHEAD = 4
"""For how many connections ahead the memory of the line is asked."""


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
        Signal of the type of the weights, or uint8; a row has room for the next multiple of 16 columns.
    bias : shape (neurons,)
        Start of each sum.
    y : shape (neurons, length)
        Result, with the same room.
    columns : int
        Columns of the signal.
    """
    neurons = len(y)
    tasks, blocks = (neurons + NEURONS - 1) // NEURONS, (columns + BLOCK - 1) // BLOCK
    for task in numba.prange(tasks * blocks):
        begin, row = task // tasks * BLOCK, task % tasks * NEURONS
        end = min(begin + BLOCK, columns)
        for i in range(row, min(row + NEURONS, neurons)):
            column = begin
            while column + WIDE <= end:
                sum_wide(y, i, column, bias[i], x, lines, values, starts[i], starts[i + 1])
                column += WIDE
            while column < end:
                sum_narrow(y, i, column, bias[i], x, lines, values, starts[i], starts[i + 1])
                column += LANES


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
    lines, starts, x, columns
        As in :func:`multiply`.
    errors : shape (neurons, length)
        Derivatives of the loss by y.
    gradient : shape (connections,)
        Result.
    """
    neurons, final = len(starts) - 1, len(lines) - 1
    whole = columns // LANES * LANES
    for task in numba.prange((neurons + NEURONS - 1) // NEURONS):
        row, stop = task * NEURONS, min((task + 1) * NEURONS, neurons)
        for p in range(starts[row], starts[stop]):
            gradient[p] = 0
        for begin in range(0, whole, DOT_BLOCK):
            end = min(begin + DOT_BLOCK, whole)
            for i in range(row, stop):
                for p in range(starts[i], starts[i + 1]):
                    prefetch(x, lines[min(p + AHEAD, final)], begin, end)
                    gradient[p] += dot(x, lines[p], errors, i, begin, end)
        if whole < columns:
            for i in range(row, stop):
                for p in range(starts[i], starts[i + 1]):
                    total = gradient[p]
                    for column in range(whole, columns):
                        total += errors[i, column] * x[lines[p], column]
                    gradient[p] = total


@compiled
def take(values: NDArray[Any], places: NDArray[Any], taken: NDArray[Any]) -> None:
    """Write ``taken[p] = values[places[p]]``."""
    for p in numba.prange(len(places)):
        taken[p] = values[places[p]]


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
        Result: where each ends.
    places : shape (connections,)
        Result: its place in ``lines``.
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
            neurons[place], places[place] = i, p


@compiled
def as_bytes(signal: NDArray[Any], x: NDArray[np.uint8]) -> bool:
    """Write a signal of shape (columns, lines) as rows of bytes; return False if a value is no integer of 0 to 255.

    Rows of ``x`` that end a multiple of 16 columns are filled with zeros.
    """
    columns, lines = signal.shape
    tile = 64
    others = 0
    for task in numba.prange((lines + tile - 1) // tile):
        first, last = task * tile, min((task + 1) * tile, lines)
        bad = 0
        for begin in range(0, columns, tile):
            for line in range(first, last):
                row = x[line]
                for column in range(begin, min(begin + tile, columns)):
                    value = signal[column, line]
                    # the comparison also rejects NaN, whose conversion is undefined
                    whole = np.uint8(value) if 0 <= value <= 255 else np.uint8(0)
                    bad += whole != value
                    row[column] = whole
        for line in range(first, last):
            x[line, columns:] = 0
        others += bad
    return others == 0


@compiled
def rows_as_bytes(signal: NDArray[Any], x: NDArray[np.uint8], columns: int) -> bool:
    """Do the same as :func:`as_bytes` for a signal that has one row per line."""
    others = 0
    for line in numba.prange(len(signal)):
        values, row = signal[line], x[line]
        bad = 0
        for column in range(columns):
            value = values[column]
            whole = np.uint8(value) if 0 <= value <= 255 else np.uint8(0)
            bad += whole != value
            row[column] = whole
        row[columns:] = 0
        others += bad
    return others == 0
