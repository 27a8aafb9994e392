"""Compiled sums of the weights of one connection for many samples, over the sources that spike.

The batched processes of Lava use it, and counting uses it to find the neurons reached. It is compiled before Lava forks
its child processes, so each of them has the compiled code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from esl_neuro.compiled import compiled_for_forks
from esl_neuro.compiler.program import Connection, IntArray
from esl_neuro.nirgraph.kernel import Kernel

Batch = NDArray[np.int32]


class Synapses(Protocol):
    """Sums the weights of one connection.

    Attributes
    ----------
    shape : tuple of int
        (targets, sources).
    """

    @property
    def shape(self) -> tuple[int, int]: ...  # noqa: D102

    def add_up(self, spikes: Batch, sums: Batch) -> None:
        """Write the sums of the weights of ``spikes``, shape (batch, sources), to ``sums``, shape (batch, targets)."""


def synapses_of(connection: Connection) -> Synapses:
    """Store the weights of a connection by source."""
    if isinstance(connection.weights, Kernel):
        return KernelSynapses(connection.weights)
    columns = connection.weights.tocsc()
    starts, targets = columns.indptr.astype(np.int64), columns.indices.astype(np.int32)
    return MatrixSynapses(connection.weights.shape, starts, targets, columns.data.astype(np.int32))


@dataclass(frozen=True)
class MatrixSynapses:
    """Single synapses, sorted by source."""

    shape: tuple[int, int]
    starts: IntArray
    targets: NDArray[np.int32]
    weights: NDArray[np.int32]

    def add_up(self, spikes: Batch, sums: Batch) -> None:
        """See :class:`Synapses`."""
        _add_columns(spikes, self.starts, self.targets, self.weights, sums)


class KernelSynapses:
    """Synapses of a convolution, stored as its kernel in the order (group, channel, row, column, target channel)."""

    def __init__(self, kernel: Kernel) -> None:
        self.shape = kernel.shape
        out, per_group, rows, columns = kernel.weights.shape
        grouped = kernel.weights.astype(np.int32).reshape(kernel.groups, -1, per_group, rows, columns)
        self._weights = np.ascontiguousarray(grouped.transpose(0, 2, 3, 4, 1))
        self._input_shape, self._output_shape = kernel.input_shape, kernel.output_shape
        self._geometry = np.array([kernel.stride, kernel.padding, kernel.dilation], np.int64)
        # One sample with the channels last, like the weights.
        self._scratch = np.zeros((*self._output_shape[1:], out), np.int32)

    def add_up(self, spikes: Batch, sums: Batch) -> None:
        """See :class:`Synapses`."""
        images = spikes.reshape(-1, *self._input_shape)
        results = sums.reshape(-1, *self._output_shape)
        _add_kernel(images, self._weights, self._geometry, self._scratch, results)


@compiled_for_forks("void(int32[:,:], int64[::1], int32[::1], int32[::1], int32[:,::1])")
def _add_columns(
    spikes: Batch, starts: IntArray, targets: NDArray[np.int32], weights: NDArray[np.int32], sums: Batch
) -> None:
    sums[:] = 0
    for sample in range(spikes.shape[0]):
        for source in range(spikes.shape[1]):
            payload = spikes[sample, source]
            if payload != 0:
                for index in range(starts[source], starts[source + 1]):
                    sums[sample, targets[index]] += payload * weights[index]


@compiled_for_forks("void(int32[:,:,:,:], int32[:,:,:,:,::1], int64[:,::1], int32[:,:,::1], int32[:,:,:,::1])")
def _add_kernel(
    images: NDArray[np.int32],
    weights: NDArray[np.int32],
    geometry: IntArray,
    scratch: NDArray[np.int32],
    results: NDArray[np.int32],
) -> None:
    _, per_group, tap_rows, tap_columns, per_target = weights.shape
    out_rows, out_columns, _ = scratch.shape
    stride_y, stride_x = geometry[0, 0], geometry[0, 1]
    pad_y, pad_x = geometry[1, 0], geometry[1, 1]
    step_y, step_x = geometry[2, 0], geometry[2, 1]
    for sample in range(images.shape[0]):
        scratch[:] = 0
        for channel in range(images.shape[1]):
            group, within = channel // per_group, channel % per_group
            first = group * per_target
            for y in range(images.shape[2]):
                for x in range(images.shape[3]):
                    payload = images[sample, channel, y, x]
                    if payload == 0:
                        continue
                    for tap_y in range(tap_rows):
                        row = y + pad_y - tap_y * step_y
                        if row < 0 or row % stride_y != 0 or row // stride_y >= out_rows:
                            continue
                        for tap_x in range(tap_columns):
                            column = x + pad_x - tap_x * step_x
                            if column < 0 or column % stride_x != 0 or column // stride_x >= out_columns:
                                continue
                            for k in range(per_target):
                                scratch[row // stride_y, column // stride_x, first + k] += (
                                    payload * weights[group, within, tap_y, tap_x, k]
                                )
        for k in range(results.shape[1]):
            for y in range(out_rows):
                for x in range(out_columns):
                    results[sample, k, y, x] = scratch[y, x, k]
