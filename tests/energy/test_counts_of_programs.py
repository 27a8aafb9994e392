"""Counts of programs with kernels, several connections a group, delays, loops and graded inputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from backends.random_programs import KINDS, random_graph, random_spikes
from esl_neuro.backends.integer import count_integer
from esl_neuro.energy import fans as fans_module
from esl_neuro.energy.counts import count


def delivered(signal, delay):
    """What arrives, delay steps later, by a loop."""
    arriving = np.zeros_like(signal)
    for step in range(signal.shape[1] - delay):
        arriving[:, step + delay] = signal[:, step]
    return arriving != 0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", KINDS)
def test_counts_are_those_of_the_definition_and_of_the_simulator(kind, seed, monkeypatch):
    monkeypatch.setattr(fans_module, "BLOCK_ENTRIES", 64)
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    program = random_graph(rng, kind)
    inputs = random_spikes(rng, program, 3)
    trace = count_integer(program, inputs)
    ran = trace.counts
    counts = count(program, replace(trace, counts=None))
    assert counts.to_dict() == count(program, trace).to_dict()
    signals = {"input": trace.input_spikes, **trace.spikes}
    by_target = {}
    layers = iter(counts.layers)
    for group in program.groups:
        reached = np.zeros((*trace.input_spikes.shape[:2], group.neurons), dtype=bool)
        own = []
        for connection in program.incoming(group.name):
            layer = next(layers)
            own.append(layer)
            present = connection.matrix.toarray() != 0
            arriving = delivered(signals[connection.source], connection.delay)
            meetings = arriving.astype(np.int64) @ present.T.astype(np.int64)
            reached |= meetings > 0
            graded = connection.source == "input" and program.input_bits > 1
            assert layer.signal == ("graded" if graded else "spike")
            name = "macs_effective" if graded else "sop_effective"
            assert layer.runs[name].tolist() == meetings.sum(2).tolist()
            assert layer.stored == int(present.sum())
            by_target.setdefault((connection.source, connection.target), []).append(layer.each_sample(name))
        if own:
            assert own[0].runs["neuron_updates_touched"].tolist() == reached.sum(2).tolist()
            assert own[0].neuron_updates == reached.size
            assert own[0].spikes_out == int(trace.spikes[group.name].sum())
            assert all(layer.neuron_updates == layer.state_reads == layer.spikes_out == 0 for layer in own[1:])
    for simulated in ran.connections:
        found = by_target[simulated.source, simulated.target].pop(0)
        assert found.tolist() == simulated.sop_effective.sum(axis=1).tolist()


def test_the_dense_form_of_neurons_that_inhibit_themselves_alone_is_no_square_matrix():
    from scipy.sparse import csr_matrix, eye

    from esl_neuro.compiler.program import Connection

    def dense(source, matrix):
        return fans_module.connection_fans(Connection(source, "lif", csr_matrix(matrix), 0, 3))[:, 2].tolist()

    assert dense("lif", -2 * eye(3, dtype=np.int64)) == [1, 1, 1]
    assert dense("lif", np.diag([-2, 0, -2])) == [1, 1, 1]
    assert dense("lif", np.triu(np.full((3, 3), 2))) == [3, 3, 3]
    assert dense("input", -2 * eye(3, dtype=np.int64)) == [3, 3, 3]
