"""Sums over the sources that spike are those of the whole matrix."""

from __future__ import annotations

import numpy as np
import pytest

from backends.random_programs import random_images, random_weights
from esl_neuro.backends.synapses import synapses_of
from esl_neuro.compiler.program import INPUT, Connection


def assert_adds_up(rng, weights, largest):
    connection = Connection(INPUT, "only", weights, 0, 0)
    synapses = synapses_of(connection)
    targets, sources = synapses.shape
    assert (targets, sources) == weights.shape
    for rate in (0.0, 0.3, 1.0):  # one after the other: nothing of the last call may remain
        spikes = ((rng.random((3, sources)) < rate) * rng.integers(1, largest + 1, (3, sources))).astype(np.int32)
        sums = np.full((3, targets), 77, np.int32)
        synapses.add_up(spikes, sums)
        assert sums.tolist() == (spikes @ connection.matrix.T.toarray()).tolist()


@pytest.mark.parametrize("largest", [1, 15])
@pytest.mark.parametrize("density", [0.0, 0.2, 1.0])
def test_single_synapses(density, largest):
    rng = np.random.default_rng(0)
    assert_adds_up(rng, random_weights(rng, 7, 11, density), largest)


@pytest.mark.parametrize("seed", range(20))
def test_kernels(seed):
    rng = np.random.default_rng(seed)
    for kernel in random_images(rng, 2)[1]:
        assert_adds_up(rng, kernel, largest=1 + seed % 2 * 6)
