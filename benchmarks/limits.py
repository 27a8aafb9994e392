"""What this machine can do at most, measured in the run of a benchmark that is held against it.

Three rates: bytes that a copy of a large array reads and writes, multiply-adds of a float32 matrix product, and
additions of 16-bit integers that lie in the nearest cache. Each is the best of several repeats, by processor time, so
that other programs disturb little.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from esl_neuro.compiled import compiled_sums, use_threads
from measurement import in_turns

COPIED_BYTES = 256 * 2**20  # far more than the caches
SIDE = 1536  # of the matrices
ADDED, PASSES = 8192, 200_000  # 16 KiB, half of the nearest cache
CACHE_LINE = 32  # 16-bit numbers
REPEAT = 5
GIGA = 1e9


@dataclass(frozen=True)
class Limits:
    """Rates of this machine.

    Attributes
    ----------
    threads : int
        With which they were measured.
    copy_gb_per_s : float
        Bytes read and written by a copy of 256 MiB.
    multiply_adds_g_per_s : float
        Of a product of two float32 matrices of 1,536 x 1,536.
    additions_g_per_s : float
        Of 16-bit integers from the nearest cache.
    """

    threads: int
    copy_gb_per_s: float
    multiply_adds_g_per_s: float
    additions_g_per_s: float

    def record(self) -> dict[str, float]:
        """Return the rates for a record."""
        return asdict(self)

    def shares(self, seconds: float, multiply_adds: float = 0, moved_bytes: float = 0) -> dict[str, float]:
        """Return which share of the limits something reaches that takes so long."""
        return {
            "of_multiply_adds": multiply_adds / GIGA / seconds / self.multiply_adds_g_per_s,
            "of_bandwidth": moved_bytes / GIGA / seconds / self.copy_gb_per_s,
        }


def limits(threads: int = 1) -> Limits:
    """Measure the limits with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    use_threads(threads)
    source, copied = torch.ones(COPIED_BYTES // 4), torch.empty(COPIED_BYTES // 4)
    one, other = torch.rand(SIDE, SIDE), torch.rand(SIDE, SIDE)
    values, sums = _aligned_ones((threads, ADDED)), np.zeros(threads, np.int16)
    taken = in_turns(
        {
            "copy": lambda: copied.copy_(source),
            "product": lambda: torch.mm(one, other),
            "additions": lambda: _add(values, PASSES, sums),
        },
        REPEAT,
    )
    torch.set_num_threads(before)
    amounts = {"copy": 2 * COPIED_BYTES, "product": SIDE**3, "additions": ADDED * PASSES * threads}
    rates = [amount * threads / GIGA / min(taken[name].processor) for name, amount in amounts.items()]
    return Limits(threads, *rates)


def _aligned_ones(shape: tuple[int, int]) -> NDArray[np.int16]:
    """Return ones that begin at a cache line: others take two thirds more time."""
    room = np.ones(shape[0] * shape[1] + CACHE_LINE, np.int16)
    skipped = -room.ctypes.data % (2 * CACHE_LINE) // 2
    return room[skipped : skipped + shape[0] * shape[1]].reshape(shape)


@compiled_sums
def _add(values: NDArray[np.int16], passes: int, sums: NDArray[np.int16]) -> None:
    for thread in numba.prange(len(values)):
        total = np.int16(0)
        for _ in range(passes):
            for place in range(values.shape[1]):
                total = np.int16(total + values[thread, place])
        sums[thread] = total
