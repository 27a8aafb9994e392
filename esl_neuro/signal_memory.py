"""Memory of large signals, which is used again at once when a signal is gone.

Training asks for signals of the same few sizes in every batch. The C library puts other blocks into the gaps that they
leave, so that the next signal does not fit there: a process that keeps its freed memory grows to twice what is alive.
Here a block keeps its size. On Linux, numpy asks for large pages for such blocks, so distant rows are found sooner.

It is for a process that keeps freed memory (:mod:`esl_neuro.training.freed_memory`); in others, signals are ordinary
tensors.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LARGE_BYTES = 4 * 2**20
"""Smaller signals take memory as every tensor does."""
IDLE_REQUESTS = 256
"""After so many requests without use, a block is given back: a batch of a deep network has fewer."""


@dataclass
class Blocks:
    """Blocks that no signal uses, by size, each with the number of the request after which it became idle.

    Attributes
    ----------
    kept : bool
        Whether signals use blocks.
    """

    kept: bool = False
    idle: dict[int, list[tuple[int, NDArray[np.uint8]]]] = field(default_factory=dict)
    requests: int = 0

    def take(self, size: int) -> NDArray[np.uint8]:
        """Return a view of a block of so many bytes, which is idle again when nothing shares its memory any more."""
        self.requests += 1
        same = self.idle.get(size)
        if same:
            _, block = same.pop()
        else:
            self.give_back()
            block = np.empty(size, np.uint8)
        view = block[:]
        weakref.finalize(view, self._return, block).atexit = False
        return view

    def give_back(self) -> None:
        """Forget the blocks that were not used for long."""
        limit = self.requests - IDLE_REQUESTS
        self.idle = {
            size: kept for size, blocks in self.idle.items() if (kept := [each for each in blocks if each[0] > limit])
        }

    def _return(self, block: NDArray[np.uint8]) -> None:
        self.idle.setdefault(len(block), []).append((self.requests, block))


_BLOCKS = Blocks()


def keep_blocks() -> None:
    """Use the memory of large signals again from now on; the process does not give it back until it ends."""
    _BLOCKS.kept = True


def empty(rows: int, length: int, dtype: torch.dtype) -> Tensor:
    """Return an uninitialised tensor of shape (rows, length)."""
    size = rows * length * dtype.itemsize
    if size < LARGE_BYTES or not _BLOCKS.kept:
        return torch.empty(rows, length, dtype=dtype)
    return torch.from_numpy(_BLOCKS.take(size)).view(dtype).view(rows, length)
