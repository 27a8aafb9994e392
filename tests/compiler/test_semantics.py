"""Any graph means what its equations say: groups, and the project's simulation, against an independent one."""

from __future__ import annotations

from itertools import pairwise

import nir
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.equations import STEPS, assert_same, flat
from compiler.nir_oracle import simulate_nir
from esl_neuro.nirgraph.reading import discretise
from esl_neuro.nirgraph.simulation import simulate
from random_graphs import DT, KINDS, random_exact_graph, random_graph


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**9), kind=st.sampled_from(KINDS))
def test_graphs_with_exact_numbers_do_what_an_independent_simulation_does(seed, kind):
    """Delays in loops, resets, biases in loops, nested graphs, several paths; ties of potential and threshold too."""
    rng = np.random.default_rng(seed)
    graph = random_exact_graph(rng, kind)
    discrete = discretise(graph)
    inputs = (rng.random((STEPS, discrete.size(discrete.structure.input))) < 0.5).astype(float)
    potentials, spikes, output = simulate_nir(graph, DT, inputs)
    found = simulate(discrete, inputs[None])
    assert set(found.potentials) == set(potentials)
    for name, expected in potentials.items():
        assert np.array_equal(flat(found.potentials[name]), expected), name
    for name, fired in spikes.items():
        assert np.array_equal(flat(found.spikes[name]), fired), name
    assert np.array_equal(flat(found.outputs), output)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_groups_of_any_graph_do_what_its_nodes_do(seed):
    rng = np.random.default_rng(seed)
    network, _ = assert_same(random_graph(rng), rng)
    names = [group.name for group in network.groups]
    keys = [(each.source, each.target, each.delay) for each in network.connections]
    assert len(set(keys)) == len(keys)  # one connection for each source, target and delay
    assert [each.target for each in network.connections] == sorted((key[1] for key in keys), key=names.index)
    for each in network.connections:
        if each.delay == 0 and each.source != "input":
            assert names.index(each.source) < names.index(each.target)


def test_flattening_between_two_kernels_may_make_another_image():
    """Two rows of one column become one row of two columns, which the next convolution sees."""
    rng = np.random.default_rng(0)
    nodes = {
        "input": nir.Input({"input": np.array([3, 4, 2])}),
        "pool": nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        "flat": nir.Flatten({"input": np.array([3, 2, 1])}, 1, -1),
        "conv": nir.Conv1d(None, rng.normal(size=(2, 3, 2)), 1, 1, 1, 1, np.zeros(2)),
        "out": nir.LIF(*(np.full((2, 3), value) for value in (2 * DT, 2.0, 0.0, 0.5, 0.0))),
        "output": nir.Output({"output": np.array([2, 3])}),
    }
    names = list(nodes)
    assert_same(nir.NIRGraph(nodes, list(pairwise(names)), metadata={"dt_s": DT}, type_check=False), rng)
