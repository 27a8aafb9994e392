"""64 random networks of every kind: every spike, u and v in stock Lava is the integer simulator's.

And every spike of 50 that lava-dl loads from ``.net`` files. ``tests/backends/parity.py`` does the same for 1,000.
"""

from __future__ import annotations

import pytest

from backends import parity
from backends.random_chains import CHAINS
from backends.random_programs import KINDS

pytestmark = pytest.mark.lava


@pytest.mark.parametrize("batch", range(len(KINDS)), ids=KINDS)
def test_random_networks(batch):
    # Every other batch of a kind is extreme: with 7 kinds, those from 7 on.
    result = parity.run_batch(seed=0, batch=batch + len(KINDS) * (batch % 2), networks=8)
    assert result["differences"] == 0
    assert result["networks"] == 8
    assert result["firing"] >= 4
    if batch % 2:
        assert min(result["wrapping"], result["saturating"]) > 0


@pytest.mark.lava_dl
@pytest.mark.parametrize("batch", range(len(CHAINS)), ids=CHAINS)
def test_random_files(batch):
    result = parity.run_batch(seed=0, batch=batch + len(CHAINS) * (batch % 2), name="netx")
    assert result["differences"] == 0
    assert result["networks"] == 10
    assert result["firing"] >= 4
    assert result["refused"]
    if batch % 2:
        assert min(result["wrapping"], result["saturating"]) > 0
