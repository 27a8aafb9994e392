"""Every kind of layer: what the graph's equations do is what the torch network does, spike by spike."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import NAMES, assert_same_spikes, named, on_grid, random_spikes

from esl_neuro.interchange import to_nir

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
