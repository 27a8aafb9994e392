"""Memory that is freed stays in the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

BLOCKS, MIB, PAGE = 20, 64, 4096
FAULTS = f"""
import resource, sys
import numpy as np
from esl_neuro.training.freed_memory import keep_freed_memory
if sys.argv[1] == "kept" and not keep_freed_memory():
    sys.exit("not here")
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({BLOCKS}):
    np.ones({MIB} * 2**20, dtype=np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    """Return how many pages the system had to give for blocks that are made and freed one after the other."""
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=False)
    if done.stderr.strip() == "not here":
        pytest.skip("the C library has no mallopt")
    return int(done.stdout)


def test_a_freed_block_is_used_again() -> None:
    """The pages of one block are asked for once, not for each block anew."""
    assert 1.5 * faults("kept") < faults("given back")
