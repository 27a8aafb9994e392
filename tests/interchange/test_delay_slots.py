"""Delay slots in NIR and on the chip: parallel delays and linear maps, one connection for each delay that occurs."""

from __future__ import annotations

import nir
import numpy as np
import pytest
import torch
from torch import nn

from esl_neuro.backends.integer import run_integer
from esl_neuro.compiler.check import check_graph
from esl_neuro.compiler.compile import compile_graph
from esl_neuro.errors import BadInput, EslNeuroError
from esl_neuro.interchange import from_nir, to_nir
from esl_neuro.snn import build_layers, observe
from esl_neuro.snn.layers import DelaySlots, Linear
from esl_neuro.snn.neurons import LIF, lif_per_channel
from esl_neuro.sparsity import SparseLinear
from interchange.networks import named, on_grid, random_spikes

STEPS = 12


def thinned(seed=0, **options):
    """A network with few connections and none in the second slot of the first layer."""
    network = on_grid(named("delay slots", **options)[0], seed, thresholds=False)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in (network.fc1, network.fc2, network.fc3):
            layer.weight.mul_(torch.rand(layer.weight.shape, generator=generator) < 0.6)
        network.fc1.weight[:, 6:12] = 0
    return network


def test_only_slots_with_a_connection_are_written():
    graph = to_nir(thinned(), STEPS, 0.01)
    delays = {name: set(node.delay.ravel() / 0.01) for name, node in graph.nodes.items() if isinstance(node, nir.Delay)}
    assert {name for name in delays if name.startswith("slots1")} == {"slots1_delay4"}
    assert {name for name in delays if name.startswith("slots2")} == {"slots2_delay2", "slots2_delay4"}
    assert np.allclose(list(delays["slots1_delay4"]), 4)
    weights = [name for name, node in graph.nodes.items() if isinstance(node, nir.Affine)]
    assert [name for name in weights if name.startswith("fc1")] == ["fc1_delay0", "fc1_delay4"]


def test_a_layer_without_connections_keeps_its_shape():
    network = thinned()
    nn.init.zeros_(network.fc2.weight)
    graph = to_nir(network, STEPS)
    assert [name for name in graph.nodes if name.startswith("fc2")] == ["fc2_delay0"]


@pytest.mark.parametrize("first", [0, 1])
def test_sparse_storage_is_written_as_a_mask_is(first):
    masked = thinned(first)
    stored = nn.Sequential()
    for name, layer in masked.named_children():
        if isinstance(layer, Linear):
            layer = SparseLinear.from_dense(layer.weight.detach(), layer.weight != 0, layer.bias)
        stored.add_module(name, layer)
    graphs = [to_nir(network, STEPS) for network in (masked, stored)]
    assert list(graphs[0].nodes) == list(graphs[1].nodes)
    for name, node in graphs[0].nodes.items():
        if isinstance(node, nir.Affine):
            other = graphs[1].nodes[name]
            assert np.array_equal(node.weight, other.weight)
            assert node.weight.dtype == other.weight.dtype
            assert np.array_equal(node.bias, other.bias)


@pytest.mark.parametrize("seed", range(3))
def test_integers_of_a_network_on_the_grid_spike_as_it_does(seed):
    """Weights of few bits fit exactly, so a delay that is off by one step shows."""
    network, inputs = thinned(seed), random_spikes((6,), STEPS, 8, seed)
    program = compile_graph(to_nir(network, STEPS), "loihi2", STEPS).program
    found = run_integer(program, inputs.numpy().astype(np.uint8).swapaxes(0, 1)).spikes
    for name, expected in observe(network, inputs).spikes.items():
        assert expected.any()
        assert np.array_equal(found[name].swapaxes(0, 1), expected.detach().numpy())


def test_the_connections_of_a_pair_share_their_exponent():
    network = thinned()
    with torch.no_grad():
        network.fc2.weight[:, 7:] *= 2.0**-5
    program = compile_graph(to_nir(network, STEPS), "loihi2", STEPS).program
    formats = {(each.source, each.target): set() for each in program.connections}
    for each in program.connections:
        formats[each.source, each.target].add(each.weight_exp)
    assert all(len(exponents) == 1 for exponents in formats.values())
    assert [each.delay for each in program.incoming("lif2")] == [0, 2, 4]


def test_a_written_network_comes_back_with_the_same_spikes():
    network, inputs = thinned(), random_spikes((6,), STEPS)
    back = from_nir(to_nir(network, STEPS))
    assert torch.equal(observe(back, inputs).outputs, observe(network, inputs).outputs)


def test_a_delay_beyond_the_chip_is_refused_by_name():
    network = build_layers("4-3", (4,), lif_per_channel(0.5, 0.3), spiking_output=True, delay_slots=2, delay_stride=70)
    findings = check_graph(to_nir(network, 100), "loihi2", steps=100).findings
    said = "\n".join(map(str, findings))
    assert "loihi2 delay_steps" in said
    assert "connection 'input' -> 'lif1' needs 70, the limit is 63" in said
    assert "shorten its longest delay, or the longer parallel path, by 7 steps" in said
    with pytest.raises(EslNeuroError, match="delay_steps"):
        compile_graph(to_nir(network, 100), "loihi2", 100)


def test_slots_before_anything_but_a_linear_layer_are_refused():
    network = nn.Sequential(Linear(4, 3), LIF((3,)), DelaySlots(2), LIF((6,)))
    with pytest.raises(BadInput, match=r"'2' \(DelaySlots\): must be followed by linear layers"):
        to_nir(network, STEPS)


def test_slots_behind_a_bias_are_refused():
    network = nn.Sequential(Linear(4, 3), DelaySlots(2), Linear(6, 3), LIF((3,)))
    with pytest.raises(BadInput, match="delays the bias of '0', which in NIR is present from the first step"):
        to_nir(network, STEPS)
