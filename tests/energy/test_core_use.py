"""Occupied cores and the busiest one, against a count spike by spike."""

from __future__ import annotations

import numpy as np

from esl_neuro.backends.integer import run_integer
from esl_neuro.energy.core_map import CoreMap
from esl_neuro.energy.core_use import core_use
from esl_neuro.hardware import load_target
from report.programs import chain


def brute_force(program, trace, core_of):
    """Count every event at every stored weight, by core, sample and step."""
    spikes = {"input": trace.input_spikes, **trace.spikes}
    cores = 1 + max(int(each.max()) for each in core_of.values())
    work = np.zeros((trace.samples, trace.steps, cores), dtype=np.int64)
    for connection in program.connections:
        entries = connection.matrix.tocoo()
        for target, source in zip(entries.row, entries.col, strict=True):
            work[:, :, core_of[connection.target][target]] += spikes[connection.source][:, :, source] != 0
    return work.max(axis=2)


def test_the_busiest_core_has_the_most_events_of_each_step():
    program, rng = chain((20, 12, 5), 0.5), np.random.default_rng(0)
    trace = run_integer(program, (rng.random((3, program.steps, 20)) < 0.4).astype(np.uint8))
    core_of = {group.name: rng.integers(0, 4, group.neurons) for group in program.groups}
    used = core_use(program, trace, load_target("loihi2"), CoreMap(core_of))
    assert used.busiest.tolist() == brute_force(program, trace, core_of).tolist()
    assert used.cores == len(np.unique(np.concatenate(list(core_of.values()))))
    assert (used.chips, used.latency_steps) == (1, 2)


def test_without_a_placement_the_cores_are_those_of_the_compiler():
    program, rng = chain((20, 12, 5), 0.5), np.random.default_rng(0)
    trace = run_integer(program, (rng.random((1, program.steps, 20)) < 0.4).astype(np.uint8))
    used = core_use(program, trace, load_target("loihi2"))
    assert (used.cores, used.fullest) == (2, 12)
    core_of = {group.name: np.full(group.neurons, number) for number, group in enumerate(program.groups)}
    assert used.busiest.tolist() == brute_force(program, trace, core_of).tolist()
