"""Compiled functions give the same numbers, whatever has happened to the cache of numba."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAM = """
import numpy as np
from esl_neuro.compiled import compiled_for_threads

@compiled_for_threads
def total(values):
    found = 0
    for value in values:
        found += value
    return found

print(total(np.arange(1000)))
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "program.py"
    path.write_text(PROGRAM)
    return path


@pytest.fixture(scope="module")
def filled(program):
    """The cache after one run."""
    assert run(program, program.parent / "cache") == ("499500\n", "")
    return program.parent / "cache"


@pytest.fixture
def cache(filled, tmp_path):
    """A copy of it, to be damaged."""
    assert len(entries(filled)) == 2
    return Path(shutil.copytree(filled, tmp_path / "cache"))


def run(program, cache):
    """Run the program; return its output and its errors."""
    done = subprocess.run(
        [sys.executable, str(program)],
        env=os.environ | {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout, done.stderr


def entries(cache):
    """Return the files of the compiled code and of its index."""
    return sorted(path for path in cache.rglob("*") if path.suffix in (".nbc", ".nbi"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lambda path: path.write_bytes(b"no code" * 100),
        lambda path: path.write_bytes(b""),
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids=["cut off", "other content", "empty", "a folder"],
)
def test_a_damaged_cache_costs_only_time(program, cache, damage):
    for path in entries(cache):
        damage(path)
    assert run(program, cache) == ("499500\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_cache_without_room_costs_only_time(program, cache):
    for path in entries(cache):
        path.unlink()
        path.symlink_to("/dev/full")
    assert run(program, cache) == ("499500\n", "")


def test_code_in_the_cache_is_used(program, cache):
    before = {path: path.stat().st_mtime_ns for path in entries(cache)}
    assert run(program, cache) == ("499500\n", "")
    assert {path: path.stat().st_mtime_ns for path in entries(cache)} == before
