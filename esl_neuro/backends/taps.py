"""The non-zero weights of a convolution as offsets into a padded image: sums without a table of synapses.

An output channel at all positions is a sum of shifted images, one for each of its non-zero weights ("taps"). Sources
are written to a padded image in which position ``p`` of the output meets the source of a tap at ``p + offset``, with
the same offset for all positions: a tap adds one weight times a row of memory. So a sum costs a vector instruction for
many positions, for non-zero weights only, and the table grows with the kernel, not with the image.

Sources that meet equal weights everywhere, as those of a window of average pooling do, are added up in the image first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from esl_neuro.compiler.program import IntArray
from esl_neuro.nirgraph.kernel import Kernel

# Positions of a vector of bytes, and of the largest tile whose sums stay in registers.
VECTOR = 64
TILE = 4 * VECTOR
LARGEST_SHORT = 2**16 - 1
# Sources added up along an axis: the sum of a window of 15 x 15 fits a byte.
LARGEST_POOL = 15
# Size of a padded image, in images of sources or outputs; beyond, a kernel is mostly padding.
LARGEST_PADDED = 16


@dataclass(frozen=True)
class Axis:
    """What a kernel does along rows or columns.

    Source ``y`` is written to ``Y = (y + pad) // pool``, and tap ``i`` of output ``o`` reads ``Y = o stride + i step``.
    In memory, every ``stride``-th ``Y`` is adjacent: it is number ``Y // stride`` of phase ``Y % stride``.

    Attributes
    ----------
    sources, outputs, taps : int
        Numbers of positions, and of taps after pooling.
    stride, pad, step, pool : int
    """

    sources: int
    outputs: int
    taps: int
    stride: int
    pad: int
    step: int
    pool: int

    @classmethod
    def of(cls, kernel: Kernel, axis: int) -> Axis:
        """Return the geometry of rows (0) or columns (1)."""
        taps, stride, step = kernel.weights.shape[2 + axis], kernel.stride[axis], kernel.dilation[axis]
        outputs = kernel.output_shape[1 + axis]
        common = taps if outputs == 1 else math.gcd(taps, stride)  # a single output does not move
        pool = _pool(kernel.weights, 2 + axis, common) if step == 1 else 1
        return cls(
            sources=kernel.input_shape[1 + axis],
            outputs=outputs,
            taps=taps // pool,
            stride=1 if outputs == 1 else stride // pool,
            pad=kernel.padding[axis],
            step=step,
            pool=pool,
        )

    @property
    def places(self) -> IntArray:
        """``Y`` of each source."""
        return (np.arange(self.sources) + self.pad) // self.pool

    @property
    def reads(self) -> IntArray:
        """``Y`` of each tap of the first output."""
        return np.arange(self.taps) * self.step

    @property
    def length(self) -> int:
        """Positions of a phase, so that every source is written, and every tap reads, inside of it."""
        written, read = self.places[-1] // self.stride, self.reads[-1] // self.stride + self.outputs - 1
        return int(max(written, read)) + 1


def _pool(weights: NDArray[np.int32], axis: int, common: int) -> int:
    """Return the largest divisor so that as many adjacent taps always have the same weight."""
    for pool in range(min(common, LARGEST_POOL), 1, -1):
        if common % pool == 0:
            first = np.take(weights, range(0, weights.shape[axis], pool), axis)
            if np.array_equal(np.repeat(first, pool, axis), weights):
                return pool
    return 1


@dataclass(frozen=True)
class Taps:
    """A kernel as sums of shifted images.

    Attributes
    ----------
    rows, columns : Axis
    weights : int8 array, shape (out channels, in channels / groups, taps, taps)
        Halved, after pooling.
    row_places, column_places : int64 array, shape (rows,), (columns,)
        Their sum is the place of a source in the image of its channel.
    channel_size, pitch : int
        Size of an image, and distance of its rows.
    offsets, sizes : uint32, uint8 array, shape (taps,)
        Place relative to the output, and magnitude of the halved weight, output channel after output channel.
    parts : int64 array
        Start of each part of the taps, and the end of the last. A part has weights of one sign, whose sum never exceeds
        16 bits, and an even number of taps: the last one may be of size 0, in the same place as the one before.
    signs : int8 array
        1 or -1 for each part.
    first_parts : int64 array, shape (out channels + 1,)
        The first part of each output channel.
    """

    rows: Axis
    columns: Axis
    weights: NDArray[np.int8]
    row_places: IntArray
    column_places: IntArray
    channel_size: int
    pitch: int
    offsets: NDArray[np.uint32]
    sizes: NDArray[np.uint8]
    parts: IntArray
    signs: NDArray[np.int8]
    first_parts: IntArray

    @property
    def compact(self) -> bool:
        """Whether padding and strides leave the image about as large as the sources or the outputs."""
        axes = (self.rows, self.columns)
        return self.channel_size <= LARGEST_PADDED * max(
            math.prod(axis.sources for axis in axes), math.prod(axis.outputs for axis in axes)
        )

    @property
    def positions(self) -> int:
        """Positions from the first to the last output of a channel, rows joined, in whole vectors."""
        length = (self.rows.outputs - 1) * self.pitch + self.columns.outputs
        return -(-length // VECTOR) * VECTOR

    @classmethod
    def of(cls, kernel: Kernel) -> Taps:
        """List the taps of a kernel of even weights."""
        rows, columns = Axis.of(kernel, 0), Axis.of(kernel, 1)
        weights = (kernel.weights[:, :, :: rows.pool, :: columns.pool] // 2).astype(np.int8)
        pitch, phase = columns.length, rows.length * columns.length
        size = phase * rows.stride * columns.stride
        row_of, column_of = _places(rows, columns.stride * phase, pitch), _places(columns, phase, 1)
        outputs, inputs, tap_rows, tap_columns = np.nonzero(weights)
        channels = outputs // (len(weights) // kernel.groups) * weights.shape[1] + inputs
        offsets = channels * size + row_of(rows.reads)[tap_rows] + column_of(columns.reads)[tap_columns]
        halves = weights[outputs, inputs, tap_rows, tap_columns]
        split = _split(offsets, halves, outputs, len(weights), LARGEST_SHORT // (rows.pool * columns.pool))
        return cls(
            rows,
            columns,
            weights,
            row_of(rows.places),
            column_of(columns.places),
            size,
            pitch,
            *split,
        )


def _places(axis: Axis, phase_size: int, distance: int) -> Callable[[IntArray], IntArray]:
    return lambda position: position % axis.stride * phase_size + position // axis.stride * distance


def _split(
    offsets: IntArray, halves: NDArray[np.int8], outputs: IntArray, channels: int, largest: int
) -> tuple[NDArray[np.uint32], NDArray[np.uint8], IntArray, NDArray[np.int8], IntArray]:
    """Divide the taps of each output channel into parts of one sign whose sizes add up to at most ``largest``."""
    order = np.lexsort((halves < 0, outputs))  # stable: by output channel, positive weights first
    offsets, sizes, key = offsets[order], np.abs(halves[order]), (2 * outputs + (halves < 0))[order]
    sums = np.cumsum(sizes.astype(np.int64))
    edges = np.searchsorted(key, np.arange(2 * channels + 1)).tolist()
    starts, keys = [], []
    for which, (first, last) in enumerate(pairwise(edges)):
        while first < last:
            starts.append(first)
            keys.append(which)
            before = sums[first - 1] if first else 0
            first = min(int(np.searchsorted(sums, before + largest, side="right")), last)
    lengths = np.diff([*starts, len(sizes)])
    padded = lengths + lengths % 2
    parts = np.concatenate([[0], np.cumsum(padded)]).astype(np.int64)
    places = np.arange(len(sizes)) + np.repeat(parts[:-1] - np.array(starts, np.int64), lengths)
    where, how_large = np.zeros(parts[-1], np.uint32), np.zeros(parts[-1], np.uint8)
    where[parts[1:] - 1] = offsets[np.cumsum(lengths) - 1]  # a tap of size 0 repeats the one before
    where[places], how_large[places] = offsets, sizes
    signs = 1 - 2 * (np.array(keys, np.int64) % 2)
    first_parts = np.searchsorted(np.array(keys, np.int64), 2 * np.arange(channels + 1))
    return where, how_large, parts, signs.astype(np.int8), first_parts.astype(np.int64)
