"""Folded thresholds, thresholds that cannot be hit, and files for older readers: the same network each time."""

from __future__ import annotations

import h5py
import nir
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from esl_neuro.errors import BadInput
from esl_neuro.interchange import read_nir, to_nir, write_nir
from esl_neuro.interchange.ties import lsb
from esl_neuro.nirgraph.simulation import simulate
from esl_neuro.snn import build_layers, neuron_layers
from esl_neuro.snn.layers import Linear
from esl_neuro.snn.neurons import LIF, lif_per_position
from interchange.networks import NAMES, assert_same_spikes, named, on_grid, random_spikes


@pytest.mark.parametrize("kind", ["lif", "if", "cuba"])
@pytest.mark.parametrize("name", NAMES)
def test_folded_thresholds_are_one_and_give_the_same_spikes(name, kind):
    network, shape = named(name, kind)
    on_grid(network, seed=len(name), thresholds=False)
    with torch.no_grad():
        for layer in neuron_layers(network).values():  # powers of two, so that dividing by them is exact
            steps = torch.arange(layer.raw_threshold.numel()).reshape(layer.raw_threshold.shape) % 3
            layer.raw_threshold.copy_(torch.log(torch.expm1(2.0**steps)))
    graph = to_nir(network, 6, shape=shape, thresholds="folded")
    fired = [node for node in graph.nodes.values() if hasattr(node, "v_threshold")]
    assert all(np.all(node.v_threshold == 1) for node in fired)
    assert len(graph.metadata["original_thresholds"]) == len(fired)
    close = {name: layer.threshold.detach().numpy() for name, layer in neuron_layers(network).items()}
    for name, values in close.items():
        original = graph.metadata["original_thresholds"][name.replace(".", "_")]
        assert np.array_equal(np.squeeze(original), np.squeeze(values))
    assert_same_spikes(network, graph, random_spikes(shape))


def test_one_threshold_a_position_cannot_be_folded_into_a_convolution():
    network = build_layers("4C3-3", (1, 4, 4), lif_per_position())
    with torch.no_grad():
        network.lif1.raw_threshold.uniform_(0, 1)
    with pytest.raises(BadInput, match=r"'lif1'.*one threshold per channel"):
        to_nir(network, 4, shape=(1, 4, 4), thresholds="folded")
    to_nir(network, 4, shape=(1, 4, 4))


def non_strict(graph):
    """The same graph for a reader that fires at v >= threshold."""
    nodes = dict(graph.nodes)
    for name, node in nodes.items():
        if hasattr(node, "v_threshold"):
            fields = {key: value for key, value in vars(node).items() if key in type(node).__dataclass_fields__}
            fields["v_threshold"] = np.nextafter(np.float64(node.v_threshold), -np.inf)
            fields = {key: value for key, value in fields.items() if key not in ("input_type", "output_type")}
            nodes[name] = type(node)(**fields)
    return nir.NIRGraph(nodes, graph.edges, graph.metadata)


def integer_network(tau, seed):
    neurons = lambda size: LIF(size, tau, 3.0, "arctan", 1.0, True)  # noqa: E731
    network = nn.Sequential(Linear(6, 12), neurons(12), Linear(12, 8), neurons(8))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in (network[0], network[2]):
            layer.weight.copy_(torch.randint(-2, 4, layer.weight.shape, generator=generator))
            layer.bias.copy_(torch.randint(0, 2, layer.bias.shape, generator=generator))
        for layer in (network[1], network[3]):
            layer.raw_threshold.copy_(torch.log(torch.expm1(torch.tensor(3.0))))
    return network


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0])
def test_tie_safe_thresholds_make_strict_and_non_strict_readers_agree(tau):
    network, inputs = integer_network(tau, 0), random_spikes((6,), steps=20, batch=8).numpy()  # 8 steps of 20 samples
    plain, safe = to_nir(network, 8), to_nir(network, 8, tie_safe=True)
    expected = simulate(plain, inputs).spikes
    assert any(np.any(simulate(non_strict(plain), inputs).spikes[name] != expected[name]) for name in expected)
    for graph in (safe, non_strict(safe)):
        spikes = simulate(graph, inputs).spikes
        assert all(np.array_equal(spikes[name], expected[name]) for name in expected)
    assert bool(safe.metadata["tie_safe"])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.0, 0.5, 0.75, 1.0]))
def test_tie_safe_thresholds_change_no_spike_of_a_strict_reader(seed, tau):
    network = integer_network(tau, seed)
    assert_same_spikes(network, to_nir(network, 6, tie_safe=True), random_spikes((6,), seed=seed))


@pytest.mark.parametrize("name", ["conv", "residual", "recurrent"])
def test_tie_safe_thresholds_know_convolutions_joins_and_feedback(name):
    network, shape = named(name, "if")
    on_grid(network, 3)
    assert_same_spikes(network, to_nir(network, 6, shape=shape, tie_safe=True), random_spikes(shape))


def test_weights_on_no_grid_cannot_be_made_safe_from_ties():
    network = integer_network(0.5, 0)
    with torch.no_grad():
        network[2].weight.mul_(0.3)
    with pytest.raises(BadInput) as caught:
        to_nir(network, 8, tie_safe=True)
    assert "'3'" in str(caught.value)
    assert "'1'" not in str(caught.value)


@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=8), st.integers(-20, 20))
def test_grid_is_the_largest_power_of_two_that_divides_all(values, exponent):
    grid = lsb(np.array([values]) * 2.0**exponent)[0]
    parts = np.array(values) * 2.0**exponent / grid
    assert np.array_equal(parts, np.rint(parts))
    assert not np.any(values) or np.any(np.rint(parts) % 2 == 1)


@pytest.mark.parametrize("kind", ["lif", "if", "cuba"])
def test_files_for_older_readers_have_no_reset_potential(kind, tmp_path):
    network, shape = named("conv", kind)
    graph = to_nir(on_grid(network, 1), 6, shape=shape)
    write_nir(tmp_path / "old.nir", graph, "1.0.4")
    with h5py.File(tmp_path / "old.nir") as file:
        assert not any("v_reset" in node for node in file["node/nodes"].values())
        assert file["version"][()] == b"1.0.4"
    assert_same_spikes(network, read_nir(tmp_path / "old.nir"), random_spikes(shape))
