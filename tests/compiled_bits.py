"""Compiled functions around the bit operations. They have a module of their own, because numba imports it by name."""

from __future__ import annotations

import numpy as np

from esl_neuro.bits import count_bits, lowest_bit, merge_rows, nonzero_bits
from esl_neuro.compiled import compiled_for_threads


@compiled_for_threads
def nonzero(array, start):
    return nonzero_bits(array, np.uint64(start))


@compiled_for_threads
def ones_and_lowest(word):
    return count_bits(word), lowest_bit(word)


@compiled_for_threads
def merged(marks, at, bits, first, width, lines, event):
    merge_rows(marks, np.uint64(at), bits, np.uint64(first), np.uint64(width), lines, np.uint64(event))
