"""Random numbers that depend only on a seed, a purpose and counters.

No stream has hidden state that outlives the step it is used in, so a resumed run draws what the uninterrupted one
would have drawn, and a new consumer of random numbers never shifts those of another.
"""

from __future__ import annotations

import zlib

import numpy as np


def stream(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """Return the generator of one purpose at one moment.

    Parameters
    ----------
    seed : int
        Seed of the run.
    purpose : str
        What the numbers are for, e.g. ``"growth fc1"``.
    *counters : int
        When: epoch, update number, ...
    """
    # The number of counters is part of the key, because trailing zeros of a key do not change the generator.
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), len(counters), *counters])
