"""What compiled loops cannot say in Python, against what numpy says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esl_neuro.backends.bits import count_bits, lowest_bit, merge, nonzero_bits
from esl_neuro.compiled import compiled_for_threads

words = st.integers(0, 2**64 - 1)


@compiled_for_threads
def nonzero(array, start):
    return nonzero_bits(array, np.uint64(start))


@compiled_for_threads
def ones_and_lowest(word):
    return count_bits(word), lowest_bit(word)


@compiled_for_threads
def merged(marks, at, bits, rows):
    merge(marks, np.uint64(at), bits, rows[0], rows[1], rows[2], rows[3])


@given(seed=st.integers(0, 2**32 - 1), start=st.integers(0, 40))
@settings(max_examples=30)
def test_a_bit_for_each_byte_that_is_not_zero(seed, start):
    rng = np.random.default_rng(seed)
    array = rng.choice(np.array([0, 1, 128, 255], np.uint8), 104)
    expected = sum(1 << k for k in range(64) if array[start + k])
    assert int(nonzero(array, start)) == expected


@given(word=words)
def test_ones_and_the_lowest_one(word):
    ones, lowest = ones_and_lowest(np.uint64(word))
    assert ones == bin(word).count("1")
    assert lowest == next((k for k in range(64) if word >> k & 1), 64)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_four_rows_are_merged_into_the_marks(seed):
    rng = np.random.default_rng(seed)
    bits, marks = (rng.integers(0, 2**64, size, dtype=np.uint64) for size in (50, 20))
    rows = rng.integers(0, 42, 4).astype(np.uint64)
    expected = marks.copy()
    for row in rows.tolist():
        expected[7:15] |= bits[row : row + 8]
    merged(marks, 7, bits, rows)
    assert np.array_equal(marks, expected)


@pytest.mark.parametrize("at", [0, 12])
def test_merging_leaves_the_other_marks_alone(at):
    marks, bits = np.zeros(20, np.uint64), np.full(8, 2**64 - 1, np.uint64)
    merged(marks, at, bits, np.zeros(4, np.uint64))
    assert np.flatnonzero(marks).tolist() == list(range(at, at + 8))
