"""Counts with round numbers for the tests of prices."""

from __future__ import annotations

import dataclasses

import numpy as np

from esl_neuro.energy.counts import Counts, LayerCounts

# Of each sample (rows) and step: two samples of ten steps.
SAMPLES, STEPS = 2, 10


def spread(first: int, second: int) -> np.ndarray:
    """Give two samples these totals, all in their first step."""
    array = np.zeros((SAMPLES, STEPS), dtype=np.int64)
    array[:, 0] = first, second
    return array


RUNS = {
    "spikes_in": spread(5, 3),
    "spikes_out": spread(3, 1),
    "sop_effective": spread(60, 40),
    "sop_executed": spread(70, 50),
    "sop_executed_dense": spread(20, 12),
    "macs_effective": spread(0, 0),
    "neuron_updates_touched": spread(20, 10),
    "neuron_updates_idle": spread(20, 30),
    "weight_words_read": spread(70, 50),
}

# 100 effective and 120 executed SOPs, 30 + 50 updates, 8 spikes in, 4 out.
LAYER = LayerCounts(
    name="fc",
    source="input",
    signal="spike",
    inputs=20,
    neurons=4,
    stored=30,
    weights=30,
    declared=30,
    sop_bound=600,
    neuron_updates=80,
    bias_adds=0,
    macs_dense=1600,
    state_reads=80,
    state_writes=80,
    messages=None,
    hops_ew=None,
    hops_ns=None,
    runs=RUNS,
    **{name: int(values.sum()) for name, values in RUNS.items()},
)
COUNTS = Counts(samples=SAMPLES, steps=STEPS, layers=(LAYER,))


def with_runs(**runs: np.ndarray) -> Counts:
    """Replace some activity-driven counts of the layer."""
    totals = {name: int(values.sum()) for name, values in runs.items()}
    return Counts(SAMPLES, STEPS, (dataclasses.replace(LAYER, runs=RUNS | runs, **totals),))
