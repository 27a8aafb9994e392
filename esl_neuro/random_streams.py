"""Random numbers that depend only on a seed, a purpose and counters.

No stream keeps state beyond the step that uses it. So a resumed run draws the same numbers as an uninterrupted one, and
a new consumer of random numbers does not change those of another.
"""

from __future__ import annotations

import zlib

import numpy as np


def stream(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """Return the generator for one purpose at one time.

    Parameters
    ----------
    seed : int
        Seed of the run.
    purpose : str
        Purpose of the numbers, e.g. ``"growth fc1"``.
    *counters : int
        Time: epoch, update number, ...
    """
    # The number of counters is part of the key, because trailing zeros of a key do not change the generator.
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), len(counters), *counters])
