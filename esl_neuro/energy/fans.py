"""Fan-outs of matrices and convolution kernels, and the neurons that the events reach."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from esl_neuro.backends.synapses import synapses_of
from esl_neuro.compiler.program import Connection, IntArray
from esl_neuro.energy.tally import touched
from esl_neuro.nirgraph.kernel import Kernel

# Entries of the sums of a block of rows; limits the memory, does not change the result.
BLOCK_ENTRIES = 2**23
# Density below which single synapses are faster than whole words of reached neurons.
WORDS_FROM = 1 / 512


def connection_fans(connection: Connection) -> IntArray:
    """Count the connections of each source: non-zero, stored, and of the dense layer. int64, shape (sources, 3).

    The dense form of a self-inhibition, by which each neuron suppresses only itself after a spike, is one
    multiplication per neuron. Any other recurrence is a square matrix, also if few or no weights are left in it.
    """
    weights = connection.weights
    if isinstance(weights, Kernel):
        effective = weights.fan_out()
        dense = replace(weights, weights=np.ones_like(weights.weights)).fan_out()
        return np.stack([effective, effective, dense], axis=1)  # a zero of a kernel is not a synapse
    targets, sources = weights.shape
    alone = connection.source == connection.target and _is_self_inhibition(weights)
    full = np.full(sources, 1 if alone else targets)
    return np.stack([fan_out(nonzero_pattern(weights)), fan_out(weights), full], axis=1)


def _is_self_inhibition(weights: sp.csr_matrix) -> bool:
    rows = np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr))
    stored = weights.data[: weights.nnz]
    return bool(weights.nnz and np.array_equal(rows, weights.indices[: weights.nnz]) and (stored < 0).all())


def nonzero_pattern(weights: sp.csr_matrix) -> sp.csr_matrix:
    """Return int64 ones where the weights are not zero, shape (targets, sources); stored zeros are dropped."""
    pattern = sp.csr_matrix(weights, copy=True)
    pattern.eliminate_zeros()
    pattern.data = np.ones(pattern.nnz, dtype=np.int64)
    return pattern


def fan_out(weights: sp.csr_matrix) -> IntArray:
    """Count the stored weights of each source, int64, shape (sources,)."""
    return np.bincount(weights.indices[: weights.nnz], minlength=weights.shape[1]).astype(np.int64)


def touched_neurons(incoming: Sequence[Connection], arrivals: Sequence[NDArray[Any]]) -> IntArray:
    """Count the neurons of a group that at least one event of any of its connections reaches.

    Parameters
    ----------
    incoming : sequence of Connection
        All connections of one group.
    arrivals : sequence of array, shape (rows, sources)
        Events of each connection, in the step in which they arrive.

    Returns
    -------
    int64 array, shape (rows,)
    """
    first = incoming[0].weights
    if len(incoming) == 1 and not isinstance(first, Kernel) and first.nnz >= WORDS_FROM * math.prod(first.shape):
        return touched(arrivals[0], nonzero_pattern(first))
    patterns = [synapses_of(replace(connection, weights=_pattern(connection))) for connection in incoming]
    rows, targets = len(arrivals[0]), patterns[0].shape[0]
    block = max(1, BLOCK_ENTRIES // max(targets, 1))
    result = np.zeros(rows, dtype=np.int64)
    for start in range(0, rows, block):
        reached = np.zeros((min(block, rows - start), targets), dtype=bool)
        for pattern, arriving in zip(patterns, arrivals, strict=True):
            events = np.ascontiguousarray(arriving[start : start + block] != 0, dtype=np.int32)
            sums = np.zeros(reached.shape, dtype=np.int32)
            pattern.add_up(events, sums)
            reached |= sums > 0
        result[start : start + block] = reached.sum(axis=1)
    return result


def _pattern(connection: Connection) -> sp.csr_matrix | Kernel:
    weights = connection.weights
    if isinstance(weights, Kernel):
        return replace(weights, weights=(weights.weights != 0).astype(np.int32))
    return nonzero_pattern(weights)


def delayed(signal: NDArray[Any], delay: int) -> NDArray[Any]:
    """Return a signal, shape (samples, steps, lines), ``delay`` steps later; events after the last step are lost."""
    if not delay:
        return signal
    arriving = np.zeros_like(signal)
    arriving[:, delay:] = signal[:, : max(signal.shape[1] - delay, 0)]
    return arriving


def largest_fan_in(incoming: Sequence[Connection]) -> int:
    """Return the largest number of stored weights of a neuron, over all connections of a group."""
    return int(np.max(sum(each.fan_in for each in incoming), initial=0))


def distinct_weights(connection: Connection) -> int:
    """Return the number of non-zero weights in memory; those of a kernel count once."""
    weights = connection.weights
    return int(np.count_nonzero(weights.weights)) if isinstance(weights, Kernel) else int(weights.nnz)
