"""The counts of the running simulator are those that are counted from its spikes afterwards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from backends.random_programs import random_program, random_spikes
from esl_neuro.backends.integer import count_integer
from esl_neuro.energy.counts import count


@pytest.mark.parametrize("seed", range(8))
def test_feed_forward_programs(seed):
    rng = np.random.default_rng(seed)
    program = random_program(rng, widest=150)
    trace = count_integer(program, random_spikes(rng, program, samples=4))
    counts = trace.counts
    afterwards = count(program, replace(trace, counts=None))
    for found, layer in zip(counts.connections, afterwards.layers, strict=True):
        assert (found.source, found.target) == (layer.source, layer.name)
        for name in ("spikes_in", "sop_effective", "neuron_updates_touched", "neuron_updates_idle"):
            assert getattr(found, name).tolist() == layer.runs[name].tolist(), name
        assert counts.spikes_out[layer.name].tolist() == layer.runs["spikes_out"].tolist()
