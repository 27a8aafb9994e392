"""What compiled loops cannot say in Python, against what numpy says."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from compiled_bits import merged, nonzero, ones_and_lowest
from esl_neuro.bits import ROWS

words = st.integers(0, 2**64 - 1)


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


@given(seed=st.integers(0, 2**32 - 1), at=st.sampled_from([0, 8]))
@settings(max_examples=30)
def test_rows_are_merged_into_the_marks(seed, at):
    rng = np.random.default_rng(seed)
    width, first = 16, 3
    bits, marks = (rng.integers(0, 2**64, size, dtype=np.uint64) for size in (first + 20 * width, 24))
    bits &= rng.integers(0, 2**64, bits.size, dtype=np.uint64) & rng.integers(0, 2**64, bits.size, dtype=np.uint64)
    lines = rng.integers(0, 20, ROWS + 2).astype(np.uint32)
    expected = marks.copy()
    for line in lines[2:].tolist():
        start = first + line * width + at
        expected[at : at + 8] |= bits[start : start + 8]
    merged(marks, at, bits, first, width, lines, 2)
    assert np.array_equal(marks, expected)
