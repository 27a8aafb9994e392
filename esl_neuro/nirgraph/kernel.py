"""Convolution weights that all positions of an image share, and the synapses that they represent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray


@dataclass(frozen=True)
class Kernel:
    """Weights of a convolution in PyTorch's convention (a cross-correlation), lines in channel-row-column order.

    Attributes
    ----------
    weights : array, shape (out channels, in channels / groups, height, width)
        In a program int32, even, in [-254, 254]; before quantisation float64.
    input_shape : tuple of int
        (channels, rows, columns) of the source.
    stride, padding, dilation : tuple of int
        (rows, columns).
    groups : int
        Groups of the convolution, as in PyTorch.
    """

    weights: NDArray[Any]
    input_shape: tuple[int, int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def misfit(self) -> str:
        """What contradicts itself in the geometry, or an empty text; the other properties rely on it."""
        if self.weights.ndim != 4 or 0 in self.weights.shape:
            return (
                f"kernel weights have shape {self.weights.shape}; "
                "expected (out channels, in channels / groups, height, width)"
            )
        if not _whole_numbers(self.input_shape, 3, 1):
            return f"input_shape is {self.input_shape}; expected (channels, rows, columns), each at least 1"
        for quantity, smallest in (("stride", 1), ("padding", 0), ("dilation", 1)):
            value = getattr(self, quantity)
            if not _whole_numbers(value, 2, smallest):
                return f"{quantity} is {value}; expected (rows, columns), each at least {smallest}"
        out, per_group = self.weights.shape[:2]
        channels = self.input_shape[0]
        if not _whole_numbers((self.groups,), 1, 1) or out % self.groups or per_group * self.groups != channels:
            return (
                f"{self.groups} groups of {per_group} input channels do not fit "
                f"{channels} input and {out} output channels"
            )
        if min(self.output_shape) < 1:
            return f"kernel {self.weights.shape[2:]} is larger than its padded input {self.input_shape[1:]}"
        return ""

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """(channels, rows, columns) of the target."""
        sizes = zip(self.input_shape[1:], self.weights.shape[2:], self.stride, self.padding, self.dilation, strict=True)
        rows, columns = (
            (size + 2 * pad - dilation * (taps - 1) - 1) // stride + 1 for size, taps, stride, pad, dilation in sizes
        )
        return self.weights.shape[0], rows, columns

    @property
    def shape(self) -> tuple[int, int]:
        """(targets, sources), as of the matrix that :meth:`matrix` returns."""
        return math.prod(self.output_shape), math.prod(self.input_shape)

    @property
    def nnz(self) -> int:
        """Non-zero synapses, counted at every position; taps in the padding do not count."""
        rows, columns = (self._positions(axis)[1] for axis in (0, 1))
        positions = rows.sum(axis=0)[:, None] * columns.sum(axis=0)[None, :]
        return int((np.count_nonzero(self.weights, axis=(0, 1)) * positions).sum())

    def fan_out(self) -> NDArray[np.int64]:
        """Count the non-zero synapses of each source, shape (sources,).

        ``fan[c, y, x] = sum over taps (i, j) of nonzero[c, i, j] rows[y, i] columns[x, j]``, where ``rows[y, i]`` tells
        whether tap ``i`` of an output row lies on input row ``y``.
        """
        nonzero = (self.weights != 0).reshape(self.groups, -1, *self.weights.shape[1:]).sum(axis=1)
        rows, columns = (self._reached(axis) for axis in (0, 1))
        fans = np.einsum("cij,yi,xj->cyx", nonzero.reshape(-1, *self.weights.shape[2:]), rows, columns)
        return np.asarray(fans, dtype=np.int64).ravel()

    def _reached(self, axis: int) -> NDArray[np.int64]:
        sources, inside = self._positions(axis)
        reached = np.zeros((self.input_shape[1 + axis], sources.shape[1]), np.int64)
        for tap in range(sources.shape[1]):
            reached[sources[inside[:, tap], tap], tap] = 1
        return reached

    def fan_in(self) -> NDArray[np.int64]:
        """Count the synapses of each target, shape (targets,); taps in the padding do not count."""
        there = np.count_nonzero(self.weights, axis=1)  # (out channels, height, width)
        (_, rows), (_, columns) = self._positions(0), self._positions(1)
        return np.asarray(np.einsum("oab,ya,xb->oyx", there, rows, columns, dtype=np.int64, optimize=True).ravel())

    def matrix(self) -> sp.csr_matrix:
        """Return the non-zero synapses as a sparse matrix, shape (targets, sources)."""
        (rows, row_inside), (columns, column_inside) = self._positions(0), self._positions(1)
        out, per_group, tap_rows, tap_columns = np.nonzero(self.weights)
        channel = out // (self.weights.shape[0] // self.groups) * self.weights.shape[1] + per_group
        _, out_rows, out_columns = self.output_shape
        y, x = (axis.ravel() for axis in np.meshgrid(np.arange(out_rows), np.arange(out_columns), indexing="ij"))
        source_row, source_column = rows[y][:, tap_rows], columns[x][:, tap_columns]  # (positions, weights)
        inside = row_inside[y][:, tap_rows] & column_inside[x][:, tap_columns]
        target = out[None] * out_rows * out_columns + (y * out_columns + x)[:, None]
        source = (channel[None] * self.input_shape[1] + source_row) * self.input_shape[2] + source_column
        values = np.broadcast_to(self.weights[out, per_group, tap_rows, tap_columns], inside.shape)
        return sp.csr_matrix((values[inside], (target[inside], source[inside])), shape=self.shape)

    def row(self, target: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Return the sources of a target and their weights, without zeros, in the order of a row of the matrix."""
        channel, *position = (int(index) for index in np.unravel_index(target, self.output_shape))
        (rows, row_inside), (columns, column_inside) = (
            tuple(each[at] for each in self._positions(axis)) for axis, at in enumerate(position)
        )
        weights = self.weights[channel] * (row_inside[:, None] & column_inside)
        inputs, tap_row, tap_column = np.nonzero(weights)
        source = channel // (self.weights.shape[0] // self.groups) * self.weights.shape[1] + inputs
        for size, place in zip(self.input_shape[1:], (rows[tap_row], columns[tap_column]), strict=True):
            source = source * size + place
        return source, weights[inputs, tap_row, tap_column]

    def _positions(self, axis: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the source row (or column) of each output row and tap, and whether it is inside the image."""
        taps, size = self.weights.shape[2 + axis], self.input_shape[1 + axis]
        starts = np.arange(self.output_shape[1 + axis]) * self.stride[axis] - self.padding[axis]
        sources = starts[:, None] + np.arange(taps) * self.dilation[axis]
        return sources, (sources >= 0) & (sources < size)


def _whole_numbers(values: Any, count: int, smallest: int) -> bool:
    return len(values) == count and all(isinstance(each, int | np.integer) and each >= smallest for each in values)
