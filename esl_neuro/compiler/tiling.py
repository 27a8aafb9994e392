"""Divide a layer into boxes of channels, rows and columns, one per core."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from esl_neuro.compiler.core_plan import Parts
from esl_neuro.compiler.program import IntArray


@dataclass(frozen=True)
class Tiling:
    """Boxes of a layer. Arrays over tiles have the axes (parts of the rows, of the columns, of the channels).

    The tiles of an image patch are consecutive, so the messages of a source go to neighbouring cores.

    Attributes
    ----------
    rows, columns, channels : int64 array, shape (parts + 1,)
        Start of each part, and the end of the last one.
    """

    rows: IntArray
    columns: IntArray
    channels: IntArray

    @classmethod
    def even(cls, shape: tuple[int, int, int], parts: Parts) -> Tiling:
        """Divide (channels, rows, columns) into parts whose sizes differ by at most one."""
        sizes = (shape[1], shape[2], shape[0])
        return cls(*(np.arange(count + 1) * size // count for size, count in zip(sizes, parts, strict=True)))

    @property
    def parts(self) -> Parts:
        """Number of parts of the rows, of the columns and of the channels."""
        return self.rows.size - 1, self.columns.size - 1, self.channels.size - 1

    @property
    def tiles(self) -> int:
        """Number of tiles."""
        return int(np.prod(self.parts))

    @property
    def neurons(self) -> IntArray:
        """Neurons of each tile, shape ``parts``."""
        rows, columns, channels = np.diff(self.rows), np.diff(self.columns), np.diff(self.channels)
        return np.asarray(rows[:, None, None] * columns[None, :, None] * channels)

    def tile_of_neuron(self) -> IntArray:
        """Return the tile of each neuron in channel-row-column order, shape (neurons,)."""
        row, column, channel = (
            np.repeat(np.arange(bounds.size - 1), np.diff(bounds))
            for bounds in (self.rows, self.columns, self.channels)
        )
        _, columns, channels = self.parts
        tiles = (row[None, :, None] * columns + column[None, None, :]) * channels + channel[:, None, None]
        return np.asarray(tiles.ravel())

    def sums(self, values: IntArray) -> IntArray:
        """Add up a value of each neuron over each tile, shape ``parts``."""
        shape = int(self.channels[-1]), int(self.rows[-1]), int(self.columns[-1])
        summed = np.add.reduceat(values.reshape(shape), self.channels[:-1], axis=0)
        summed = np.add.reduceat(summed, self.rows[:-1], axis=1)
        return np.asarray(np.add.reduceat(summed, self.columns[:-1], axis=2).transpose(1, 2, 0))


def patches(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """Yield (parts of the rows, parts of the columns), from the whole image down to single positions.

    The longer side of a patch is halved each time, because a square patch has the smallest receptive field.
    """
    down, across = 1, 1
    while True:
        yield down, across
        if (down, across) == (rows, columns):
            return
        if across == columns or (down < rows and rows * across >= columns * down):
            down = min(2 * down, rows)
        else:
            across = min(2 * across, columns)
