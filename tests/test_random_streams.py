"""Random numbers depend on a seed, a purpose and counters, and on nothing else."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from esl_neuro.random_streams import stream

keys = st.tuples(st.integers(0, 2**31), st.text(max_size=8), st.integers(0, 2**31), st.integers(0, 2**31))


def draw(*key):
    return stream(*key).integers(2**62, size=4).tolist()


@given(key=keys)
def test_same_key_draws_the_same(key):
    assert draw(*key) == draw(*key)


@given(one=keys, other=keys)
def test_other_key_draws_something_else(one, other):
    assert (draw(*one) == draw(*other)) == (one == other)


def test_seed_purpose_and_each_counter_matter():
    draws = [draw(0, "order", 1), draw(1, "order", 1), draw(0, "growth", 1), draw(0, "order", 2)]
    assert len({tuple(values) for values in draws}) == len(draws)


def test_one_consumer_does_not_shift_another():
    expected = stream(3, "b", 1).random(5)
    a, b = stream(3, "a", 1), stream(3, "b", 1)
    a.random(1000)
    assert np.array_equal(b.random(5), expected)


def test_another_process_draws_the_same():
    draws = "stream(5, 'growth fc1', 20).integers(2**62, size=4).tolist()"
    code = f"from esl_neuro.random_streams import stream; print({draws})"
    answers = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert answers == {str(draw(5, "growth fc1", 20))}
