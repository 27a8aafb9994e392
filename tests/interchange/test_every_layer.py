"""Every kind of layer: what the graph's equations do is what the torch network does, spike by spike."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from esl_neuro.interchange import to_nir
from esl_neuro.snn.layers import Linear
from interchange.networks import NAMES, assert_same_spikes, named, neurons, on_grid, random_spikes

KINDS = ["lif", "if", "cuba", "each its own"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_forward_euler_of_the_graph_is_the_network(name, kind):
    network, shape = named(name, kind)
    on_grid(network, seed=len(name))
    inputs = random_spikes(shape)
    run = assert_same_spikes(network, to_nir(network, 6, shape=shape), inputs)
    assert all(0 < spikes.mean() < 1 for spikes in run.spikes.values())


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(NAMES), st.sampled_from(KINDS), st.integers(0, 10_000), st.sampled_from([1e-4, 1e-3, 1.0]))
def test_it_is_for_any_weights_and_time_step(name, kind, seed, dt_s):
    network, shape = named(name, kind)
    on_grid(network, seed)
    assert_same_spikes(network, to_nir(network, 6, dt_s, shape=shape), random_spikes(shape, seed=seed))


class Shared(nn.Module):
    """The current of one connection drives two kinds of neurons, whose gains differ."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = Linear(6, 5), Linear(5, 4)
        self.slow, self.quick = neurons("lif", tau=0.75)((5,)), neurons("lif", tau=0.5)((5,))

    def forward(self, signal):
        current = self.fc1(signal)
        return self.fc2(self.slow(current) + self.quick(current))


@pytest.mark.parametrize("thresholds", ["native", "folded"])
def test_a_connection_that_feeds_two_layers_is_scaled_for_neither(thresholds):
    network = on_grid(Shared(), 4, thresholds=False)
    with torch.no_grad():
        for layer, level in ((network.slow, 2.0), (network.quick, 0.5)):
            layer.raw_threshold.fill_(math.log(math.expm1(level)))
    assert network.slow.threshold.unique().tolist() == [2]
    assert network.quick.threshold.unique().tolist() == [0.5]
    graph = to_nir(network, 6, thresholds=thresholds)
    assert torch.equal(torch.from_numpy(graph.nodes["fc1"].weight), network.fc1.weight)
    assert {"slow_from_fc1", "quick_from_fc1"} <= set(graph.nodes)
    run = assert_same_spikes(network, graph, random_spikes((6,)))
    assert 0 < run.spikes["slow"].mean() < run.spikes["quick"].mean() < 1
