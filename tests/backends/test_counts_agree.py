"""The counts of the running simulator are those that are counted from its spikes afterwards."""

from __future__ import annotations

import numpy as np
import pytest
from random_programs import random_program, random_spikes

from esl_neuro.backends.integer import count_integer
from esl_neuro.energy.counts import count


@pytest.mark.parametrize("seed", range(8))
def test_feed_forward_programs(seed):
    rng = np.random.default_rng(seed)
    program = random_program(rng, widest=150)
    trace, counts = count_integer(program, random_spikes(rng, program, samples=4))
    for found, layer in zip(counts.connections, count(program, trace).layers, strict=True):
        assert (found.source, found.target) == (layer.source, layer.name)
        assert found.sop_effective.tolist() == layer.sop_effective_per_sample.tolist()
        assert found.spikes_in.sum() == layer.spikes_in
        assert found.neuron_updates_touched.sum() == layer.neuron_updates_touched
        assert found.neuron_updates_idle.sum() == layer.neuron_updates_idle
        assert counts.spikes_out[layer.name].sum() == layer.spikes_out
