"""Products of a sparse kernel with images, compiled for the CPU: forward, and both gradients.

The weights of a convolution are a matrix in CSR, as in :mod:`esl_neuro.sparsity.sparse_kernels`: line
``(channel * height + y) * width + x`` of output channel ``i`` is the weight of an input channel at a place of the
kernel. An image has one row per neuron (channel, y, x) and one column per step and sample
(:mod:`esl_neuro.neuron_major`), so a connection adds a row to the row of every position, and where it reads is
arithmetic: no image with a column for each position (im2col) is made.

A task copies what one row of positions reads, with zeros beside the image, to memory that stays in the cache. Each
number of a result is summed by one thread in a fixed order, so results do not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from esl_neuro.compiled import compiled_sums, part_of_compiled
from esl_neuro.sparsity.vector_loops import LANES, MIDDLE, ROWS, WIDE, dots_of_rows, sum_middle, sum_narrow, sum_wide

CACHED = 2**20
"""Bytes of a copy of numbers that has 128 columns; a larger one has 32."""
CACHE_LINE = 64
NOTHING = -(2**30)
"""Where a weight of the kernel reads nothing, further away than any padding."""

Pair = tuple[int, int]
Table = NDArray[np.int32]


class Geometry(NamedTuple):
    """Which position of an image a weight reads at each position of the result.

    Attributes
    ----------
    y_source : int32 array, shape (height, kernel height)
        Row of the image that a row of the kernel reads at each row of the result, -1 outside.
    x_source : int32 array, shape (step, kernel width)
        Column, from ``lowest`` on, that a column of the kernel reads at each of the first positions; -1 for none.
    step, move : int
        If the position is ``step`` columns further in the result, it is ``move`` columns further in the image.
    lowest, columns : int
        First column that is read, which may be outside, and number of columns.
    height, width, source_height, source_width : int
        Of the result, and of the image.
    """

    y_source: Table
    x_source: Table
    step: int
    move: int
    lowest: int
    columns: int
    height: int
    width: int
    source_height: int
    source_width: int


def forward_geometry(source: Pair, kernel: Pair, stride: Pair, padding: Pair) -> Geometry:
    """Return what a convolution reads: ``source = stride * position + k - padding``."""
    sizes = zip(source, kernel, stride, padding, strict=True)
    height, width = ((side + 2 * pad - k) // step + 1 for side, k, step, pad in sizes)
    y_source = np.arange(height)[:, None] * stride[0] + np.arange(kernel[0]) - padding[0]
    x_source = np.arange(kernel[1])[None] - padding[1]
    return _geometry(y_source, x_source, stride[1], (height, width), source)


def backward_geometry(source: Pair, kernel: Pair, stride: Pair, padding: Pair, size: Pair) -> Geometry:
    """Return what the errors of an image of a size read: ``stride * source = position + padding - k``."""
    tables = []
    for positions, k, step, pad in zip((size[0], stride[1]), kernel, stride, padding, strict=True):
        scaled = np.arange(positions)[:, None] + pad - np.arange(k)
        tables.append(np.where(scaled % step == 0, scaled // step, NOTHING))
    return _geometry(tables[0], tables[1], 1, size, source)


def _geometry(
    y_source: NDArray[np.int64], x_source: NDArray[np.int64], move: int, size: Pair, source: Pair
) -> Geometry:
    step, reads = len(x_source), x_source > NOTHING
    lowest = int(x_source[reads].min(initial=0))
    highest = int(x_source[reads].max(initial=0)) + move * ((size[1] - 1) // step)
    return Geometry(
        np.where((y_source >= 0) & (y_source < source[0]), y_source, -1).astype(np.int32),
        np.where(reads, x_source - lowest, -1).astype(np.int32),
        step,
        move,
        lowest,
        highest - lowest + 1,
        *size,
        *source,
    )


@compiled_sums
def convolve(
    values: NDArray[Any],
    lines: NDArray[np.int32],
    starts: NDArray[np.int64],
    geometry: Geometry,
    x: NDArray[Any],
    bias: NDArray[Any],
    y: NDArray[Any],
    columns: int,
) -> None:
    """Write ``y[(i, position), c] = bias[i] + sum_p values[p] x[what p reads there, c]`` over the connections of i.

    Parameters
    ----------
    values : shape (connections,)
        Weights, float32 or float64.
    lines : shape (connections,)
        Input channel and place in the kernel of each connection.
    starts : shape (channels + 1,)
        Where the connections of an output channel begin.
    geometry : Geometry
        What each place of the kernel reads.
    x : shape (input channels * height * width, length)
        Image of the type of the weights, or the bits of spikes.
    bias : shape (channels,)
        Start of each sum.
    y : shape (channels * height * width, length)
        Result; a row has room for the next multiple of 16 columns.
    columns : int
        Columns of the image.
    """
    height, width, step = geometry.height, geometry.width, geometry.step
    y_source, x_source, lowest, beside = geometry.y_source, geometry.x_source, geometry.lowest, geometry.columns
    source_height, source_width = geometry.source_height, geometry.source_width
    outputs, channels = len(starts) - 1, len(x) // (source_height * source_width)
    most = np.diff(starts).max()
    word = LANES if x.itemsize == 2 else 1
    wide = columns_at_a_time(channels * y_source.shape[1] * beside, x.itemsize)
    along = geometry.move * wide
    for task in numba.prange(height * ((columns + wide - 1) // wide)):
        row, begin = task % height, task // height * wide
        end = min(begin + wide, columns)
        strip = aligned_rows(x, channels * y_source.shape[1] * beside, wide // word)
        copy_strip(x, strip, y_source[row], lowest, beside, source_height, source_width, begin // word, -(-end // word))
        source = np.empty(channels * y_source.shape[1] * x_source.shape[1], np.int32)
        places, weights = np.empty(most + 1, np.int32), np.empty(most + 1, values.dtype)
        for start in range(step):
            locate(source, y_source[row], x_source[start], channels, beside)
            for i in range(outputs):
                found = 0
                for p in range(starts[i], starts[i + 1]):
                    places[found], weights[found] = source[lines[p]], values[p]
                    found += source[lines[p]] >= 0
                for k in range((width - start + step - 1) // step):
                    target, column = (i * height + row) * width + start + k * step, begin
                    while column + WIDE <= end:
                        first = column - begin + k * along
                        sum_wide(y, target, column, bias[i], strip, first, places, weights, 0, found)
                        column += WIDE
                    while column + MIDDLE <= end:
                        first = column - begin + k * along
                        sum_middle(y, target, column, bias[i], strip, first, places, weights, 0, found)
                        column += MIDDLE
                    while column < end:
                        first = column - begin + k * along
                        sum_narrow(y, target, column, bias[i], strip, first, places, weights, 0, found)
                        column += LANES


@part_of_compiled
def columns_at_a_time(rows: int, itemsize: int) -> int:
    """Return how many columns of a copy of so many rows stay in the cache; of bits, it is small."""
    return WIDE if itemsize == 2 or rows * WIDE * itemsize <= CACHED else MIDDLE


@part_of_compiled
def aligned_rows(x: NDArray[Any], rows: int, length: int) -> NDArray[Any]:
    """Return memory for some rows of the type of x, which begins at a line of the cache."""
    scratch = np.empty(rows * length + CACHE_LINE // x.itemsize, x.dtype)
    first = -scratch.ctypes.data % CACHE_LINE // x.itemsize
    return scratch[first : first + rows * length].reshape(rows, length)


@part_of_compiled
def copy_strip(
    x: NDArray[Any],
    strip: NDArray[Any],
    y_source: Table,
    lowest: int,
    beside: int,
    height: int,
    width: int,
    begin: int,
    end: int,
) -> None:
    """Copy what a row of positions reads: for every channel and row of the kernel ``beside`` columns of the image."""
    for channel in range(len(x) // (height * width)):
        for ky in range(len(y_source)):
            target, first = (channel * len(y_source) + ky) * beside, (channel * height + y_source[ky]) * width + lowest
            for column in range(beside if y_source[ky] >= 0 else 0):  # what is above and below is not read
                if lowest + column < 0 or lowest + column >= width:
                    strip[target + column] = 0
                    continue
                into, read = strip[target + column], x[first + column, begin:end]
                for k in range(end - begin):
                    into[k] = read[k]


@part_of_compiled
def locate(source: Table, y_source: Table, x_source: Table, channels: int, beside: int) -> None:
    """Write the row of the copy that each line reads, -1 for none."""
    line, first = 0, 0
    for _ in range(channels):
        for ky in range(len(y_source)):
            for kx in range(len(x_source)):
                nothing = y_source[ky] < 0 or x_source[kx] < 0
                source[line] = -1 if nothing else first + x_source[kx]
                line += 1
            first += beside


@compiled_sums
def weight_gradient(
    lines: NDArray[np.int32],
    starts: NDArray[np.int64],
    geometry: Geometry,
    x: NDArray[Any],
    errors: NDArray[Any],
    gradient: NDArray[Any],
    columns: int,
    tasks: int,
) -> None:
    """Write the products of the errors with what each connection reads, summed over positions and columns.

    Parameters
    ----------
    lines, starts, geometry
        As in :func:`convolve`; the geometry is that of the forward pass.
    x : shape (input channels * height * width, length)
        Image, or the bits of its spikes.
    errors : shape (channels * height * width, length)
        Derivatives of the loss by y; after the last column, both have zeros up to a multiple of 16 columns.
    gradient : shape (connections,)
        Result.
    columns : int
        Columns of the image.
    tasks : int
        How many divide the output channels; the result does not depend on it.
    """
    height, width = geometry.height, geometry.width
    y_source, x_source, lowest, beside = geometry.y_source, geometry.x_source, geometry.lowest, geometry.columns
    source_height, source_width = geometry.source_height, geometry.source_width
    outputs, channels = len(starts) - 1, len(x) // (source_height * source_width)
    most = np.diff(starts).max()
    word = LANES if x.itemsize == 2 else 1
    wide = columns_at_a_time(channels * y_source.shape[1] * beside, x.itemsize)
    along, stop = geometry.move * wide, (columns + LANES - 1) // LANES * LANES
    for task in numba.prange(tasks):
        strip = aligned_rows(x, channels * y_source.shape[1] * beside, wide // word)
        source = np.empty(channels * y_source.shape[1] * x_source.shape[1], np.int32)
        places, origins = np.empty(most + 1, np.int32), np.empty(most + 1, np.int64)
        products = np.empty(most + ROWS, errors.dtype)
        lowest_channel, highest_channel = task * outputs // tasks, (task + 1) * outputs // tasks
        gradient[starts[lowest_channel] : starts[highest_channel]] = 0
        for begin in range(0, stop, wide):
            end = min(begin + wide, stop)
            for row in range(height):
                copy_strip(
                    x, strip, y_source[row], lowest, beside, source_height, source_width, begin // word, end // word
                )
                locate(source, y_source[row], x_source[0], channels, beside)
                for i in range(lowest_channel, highest_channel):
                    found, position = 0, (i * height + row) * width
                    for p in range(starts[i], starts[i + 1]):
                        places[found], origins[found] = source[lines[p]], p
                        found += source[lines[p]] >= 0
                    products[:found] = 0
                    for p in range(0, found, ROWS):
                        dots_of_rows(products, p, found, strip, places, errors, position, begin, end, width, along)
                    for p in range(found):
                        gradient[origins[p]] += products[p]
