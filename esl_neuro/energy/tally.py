"""The inner loops of counting: one pass over the spikes, with reached neurons as bits and no matrix product."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from esl_neuro.bits import count_bits
from esl_neuro.compiled import compiled
from esl_neuro.compiler.program import IntArray

Bits = NDArray[np.uint64]

WORD = 64
# Bits of reached neurons in memory at once; limits the memory, does not change the result.
BLOCK_BYTES = 2**26


def tally(arriving: NDArray[Any], fans: IntArray) -> IntArray:
    """Sum the fan-outs of all arriving events, for several kinds of fan-out at once.

    ``result[r, 0]`` is the number of non-zero events of row ``r``; ``result[r, 1 + k] = sum_j (arriving[r, j] != 0)
    fans[j, k]``.

    Parameters
    ----------
    arriving : array, shape (rows, sources)
        Any numbers; a row is one time step of one sample.
    fans : int64 array, shape (sources, kinds)
        Fan-outs of one event of each source.

    Returns
    -------
    int64 array, shape (rows, 1 + kinds)
    """
    result = np.zeros((arriving.shape[0], fans.shape[1] + 1), dtype=np.int64)
    _add(np.ascontiguousarray(arriving), np.ascontiguousarray(fans), result)
    return result


def touched(arriving: NDArray[Any], pattern: sp.csr_matrix) -> IntArray:
    """Count the neurons that at least one event of a row reaches through a connection.

    Parameters
    ----------
    arriving : array, shape (rows, sources)
        Zero where nothing arrives.
    pattern : scipy.sparse.csr_matrix, shape (targets, sources)
        Its entries are the connections; values are ignored, so no sum can cancel.

    Returns
    -------
    int64 array, shape (rows,)
    """
    result = np.zeros(arriving.shape[0], dtype=np.int64)
    rows = np.ascontiguousarray(arriving)
    sources = pattern.shape[1]
    block = max(1, BLOCK_BYTES // (8 * max(sources, 1))) * WORD
    for start in range(0, pattern.shape[0], block):
        _reach(rows, reach_bits(pattern[start : start + block]), result)
    return result


def reach_bits(pattern: sp.csr_matrix) -> Bits:
    """Pack the neurons that each source reaches, uint64, shape (sources, words), bit ``i % 64`` of word ``i // 64``."""
    targets, sources = pattern.shape
    bits = np.zeros((sources, -(-targets // WORD)), dtype=np.uint64)
    _set_bits(pattern.indptr.astype(np.int64), pattern.indices.astype(np.int64), bits)
    return bits


# Each loop over rows first lists the active sources of the row, without an unpredictable branch.


@compiled
def _set_bits(indptr: IntArray, indices: IntArray, bits: Bits) -> None:
    for word in numba.prange(bits.shape[1]):  # words share no bits, so they can be set in parallel
        for target in range(word * WORD, min((word + 1) * WORD, len(indptr) - 1)):
            flag = np.uint64(1) << np.uint64(target % WORD)
            for entry in range(indptr[target], indptr[target + 1]):
                bits[indices[entry], word] |= flag


@compiled
def _add(arriving: NDArray[Any], fans: IntArray, result: IntArray) -> None:
    sources, kinds = fans.shape
    for row in numba.prange(arriving.shape[0]):
        events = np.empty(sources + 1, dtype=np.int64)
        count = 0
        for source in range(sources):
            events[count] = source
            count += arriving[row, source] != 0
        result[row, 0] = count
        for kind in range(kinds):
            total = 0
            for event in range(count):
                total += fans[events[event], kind]
            result[row, 1 + kind] = total


@compiled
def _reach(arriving: NDArray[Any], bits: Bits, result: IntArray) -> None:
    sources, words = bits.shape
    for row in numba.prange(arriving.shape[0]):
        events = np.empty(sources + 1, dtype=np.int64)
        count = 0
        for source in range(sources):
            events[count] = source
            count += arriving[row, source] != 0
        reached = np.zeros(words, dtype=np.uint64)
        for event in range(count):
            source = events[event]
            for word in range(words):
                reached[word] |= bits[source, word]
        ones = np.int64(0)
        for word in range(words):
            ones += np.int64(count_bits(reached[word]))
        result[row] += ones
