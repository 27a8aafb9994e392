"""Counts of programs with kernels, several connections a group, delays, loops and graded inputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from backends.random_programs import KINDS, random_graph, random_spikes
from esl_neuro.backends.integer import count_integer
from esl_neuro.compiler.program import Connection, Group, Program
from esl_neuro.energy import fans as fans_module
from esl_neuro.energy.core_map import CoreMap
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
    layers = iter(counts.layers)
    for group in program.groups:
        reached = np.zeros((*trace.input_spikes.shape[:2], group.neurons), dtype=bool)
        own = []
        incoming = program.incoming(group.name)
        for source in dict.fromkeys(each.source for each in incoming):
            layer = next(layers)
            own.append(layer)
            delays = [each for each in incoming if each.source == source]
            meetings = 0
            for connection in delays:
                present = connection.matrix.toarray() != 0
                arriving = delivered(signals[source], connection.delay)
                met = arriving.astype(np.int64) @ present.T.astype(np.int64)
                reached |= met > 0
                meetings = meetings + met
            graded = source == "input" and program.input_bits > 1
            assert layer.signal == ("graded" if graded else "spike")
            name = "macs_effective" if graded else "sop_effective"
            assert layer.runs[name].tolist() == meetings.sum(2).tolist()
            assert layer.stored == sum(int((each.matrix.toarray() != 0).sum()) for each in delays)
            shortest = delivered(signals[source], min(each.delay for each in delays))
            assert layer.runs["spikes_in"].tolist() == shortest.sum(2).tolist()
            simulated = [each for each in ran.connections if (each.source, each.target) == (source, group.name)]
            assert layer.runs[name].tolist() == np.sum([each.sop_effective for each in simulated], axis=0).tolist()
        if own:
            assert own[0].runs["neuron_updates_touched"].tolist() == reached.sum(2).tolist()
            assert own[0].neuron_updates == reached.size
            assert own[0].spikes_out == int(trace.spikes[group.name].sum())
            assert all(layer.neuron_updates == layer.state_reads == layer.spikes_out == 0 for layer in own[1:])


def slotted_program(rng, slots, steps=9):
    """Twelve lines to eight neurons and these to five, over every delay slot."""
    sizes = {"input": 12, "a": 8, "b": 5}
    groups = tuple(
        Group(name, *(np.full(sizes[name], each) for each in (4095, 1024, 3, 0, 0)), scale=np.ones(sizes[name]))
        for name in ("a", "b")
    )
    connections = []
    for source, target in (("input", "a"), ("a", "b")):
        for delay in slots:
            matrix = 2 * rng.integers(-2, 3, (sizes[target], sizes[source])) * (rng.random((1, sizes[source])) < 0.7)
            connections.append(Connection(source, target, sp.csr_matrix(matrix), 0, matrix.size, delay))
    return Program("loihi2", 12, steps, 1e-3, tuple(connections), groups)


@pytest.mark.parametrize("seed", range(4))
def test_a_spike_is_one_message_to_a_core_however_many_delays_its_synapses_have(seed):
    """Spike by spike: a message is counted in the step in which its first synapse on that core gets it."""
    rng = np.random.default_rng(seed)
    program = slotted_program(rng, slots=[5, 0, 2, 8])
    trace = count_integer(program, (rng.random((3, 9, 12)) < 0.3).astype(np.uint8))
    cores = {"a": rng.integers(0, 3, 8), "b": rng.integers(3, 6, 5)}
    signals = {"input": trace.input_spikes, **trace.spikes}
    counts = count(program, trace, CoreMap(cores))
    assert [layer.name for layer in counts.layers] == ["a", "b"]
    for layer, source in zip(counts.layers, ("input", "a"), strict=True):
        messages, operations, events = np.zeros((3, 3, 9), dtype=np.int64)
        for sample, step, line in np.argwhere(signals[source]):
            earliest = {}
            for each in program.incoming(layer.name):
                if step + each.delay >= 9:
                    continue
                reached = np.flatnonzero(each.matrix.toarray()[:, line])
                operations[sample, step + each.delay] += len(reached)
                for core in set(cores[layer.name][reached].tolist()):
                    earliest[core] = min(earliest.get(core, 99), step + each.delay)
            for when in earliest.values():
                messages[sample, when] += 1
            events[sample, step] += 1
        assert messages.sum() > 0
        assert layer.runs["messages"].tolist() == messages.tolist()
        assert layer.runs["sop_effective"].tolist() == operations.tolist()
        assert layer.runs["spikes_in"].tolist() == events.tolist()
        assert layer.stored == sum(each.stored for each in program.incoming(layer.name))


def test_the_dense_form_of_neurons_that_inhibit_themselves_alone_is_no_square_matrix():
    from scipy.sparse import csr_matrix, eye

    from esl_neuro.compiler.program import Connection

    def dense(source, matrix):
        return fans_module.connection_fans(Connection(source, "lif", csr_matrix(matrix), 0, 3))[:, 2].tolist()

    assert dense("lif", -2 * eye(3, dtype=np.int64)) == [1, 1, 1]
    assert dense("lif", np.diag([-2, 0, -2])) == [1, 1, 1]
    assert dense("lif", np.triu(np.full((3, 3), 2))) == [3, 3, 3]
    assert dense("input", -2 * eye(3, dtype=np.int64)) == [3, 3, 3]
