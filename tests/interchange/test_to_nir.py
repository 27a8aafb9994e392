"""The NIR graph is the network: its structure, and forward Euler of its equations."""

from __future__ import annotations

from itertools import pairwise

import nir
import numpy as np
import pytest
import torch
from torch import nn

from chains import chain_network
from esl_neuro.errors import BadInput
from esl_neuro.interchange import to_nir
from esl_neuro.snn import build_layers, neuron_layers, observe, weighted_layers
from esl_neuro.snn.layers import BatchNorm2d, Conv2d, Flatten, Linear, MaxPool2d
from esl_neuro.snn.neurons import LIAF, lif_per_channel

SIZES = (7, 6, 5, 4)
TAUS = [0.0, 0.5, 0.75, 1.0]


def grid_network(tau, seed=0):
    """Weights on a grid of 1/64, so that every sum and every decay by these taus is exact in floating point."""
    network = chain_network(SIZES, tau, 0.5)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for connection in weighted_layers(network).values():
            connection.weight.copy_(torch.randint(-30, 64, connection.weight.shape, generator=generator) / 64)
        for neurons in neuron_layers(network).values():
            neurons.raw_threshold.copy_(torch.randn(neurons.raw_threshold.shape, generator=generator))
    return network


def random_spikes(steps, batch, seed=1):
    return (torch.rand(steps, batch, SIZES[0], generator=torch.Generator().manual_seed(seed)) < 0.4).float()


def forward_euler(graph, inputs):
    """Spikes of every neuron node, from the node equations and the time step alone; inputs (steps, batch, lines)."""
    dt, following = graph.metadata["dt_s"], dict(graph.edges)
    spikes, signal, name = {}, np.asarray(inputs, dtype=np.float64), "input"
    while not isinstance(graph.nodes[name := following[name]], nir.Output):
        node = graph.nodes[name]
        if isinstance(node, nir.Affine):
            signal = signal @ node.weight.astype(np.float64).T + node.bias
            continue
        v, fired = np.zeros(signal.shape[1:]), np.zeros_like(signal)
        for step, current in enumerate(signal):
            if isinstance(node, nir.IF):
                v = v + dt * node.r * current
            else:
                v = v + dt / node.tau * (node.v_leak - v + node.r * current)
            fired[step] = v > node.v_threshold
            v = np.where(fired[step] == 1, node.v_reset, v)
        spikes[name] = signal = fired
    return spikes


@pytest.mark.parametrize("tau", TAUS)
def test_nodes_and_edges_are_the_chain(tau):
    graph = to_nir(grid_network(tau), steps=9)
    names = ["input", "fc1", "lif1", "fc2", "lif2", "fc3", "lif3", "output"]
    assert sorted(graph.nodes) == sorted(names)
    assert sorted(graph.edges) == sorted(pairwise(names))
    neuron = nir.IF if tau == 1 else nir.LIF
    kinds = [nir.Input, *[nir.Affine, neuron] * 3, nir.Output]
    assert [type(graph.nodes[name]) for name in names] == kinds
    assert graph.nodes["input"].input_type["input"].tolist() == [7]
    assert graph.nodes["output"].output_type["output"].tolist() == [4]


def test_connections_are_affine_with_explicit_zero_bias():
    graph = to_nir(grid_network(0.5), steps=9)
    for name, fan_out in (("fc1", 6), ("fc2", 5), ("fc3", 4)):
        assert type(graph.nodes[name]) is nir.Affine
        assert graph.nodes[name].bias.tolist() == [0] * fan_out


@pytest.mark.parametrize("tau", TAUS)
def test_neuron_parameters_are_arrays_as_independent_readers_need_them(tau):
    network = grid_network(tau)
    graph = to_nir(network, steps=9)
    for name, neurons in neuron_layers(network).items():
        node = graph.nodes[name]
        size = neurons.raw_threshold.numel()
        fields = ("r", "v_threshold", "v_reset") if tau == 1 else ("tau", "r", "v_leak", "v_threshold", "v_reset")
        assert all(getattr(node, field).shape == (size,) for field in fields)
        assert np.array_equal(node.v_threshold, neurons.threshold.detach().numpy())
        assert not node.v_reset.any()
        if tau == 1:
            assert np.array_equal(node.r, np.full(size, 1e4))
        else:
            assert np.array_equal(node.r, np.ones(size))  # some readers ignore r
            assert not node.v_leak.any()
            assert 1e-4 / node.tau == pytest.approx(np.full(size, 1 - tau))


def test_names_have_no_dots():
    assert not any("." in name for name in to_nir(grid_network(0.5), steps=9).nodes)


@pytest.mark.parametrize("dt_s", [None, 1e-3])
def test_metadata_has_time_step_steps_and_generator(dt_s):
    metadata = to_nir(grid_network(0.5), 9, *([] if dt_s is None else [dt_s])).metadata
    assert metadata["dt_s"] == (dt_s or 1e-4)
    assert metadata["steps"] == 9
    assert metadata["thresholds"] == "native"
    assert metadata["generator"].startswith("esl-neuro ")


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("dt_s", [1e-4, 1e-3, 1.0])
def test_forward_euler_gives_back_every_spike(tau, dt_s):
    network, inputs = grid_network(tau), random_spikes(12, 20)
    activity = observe(network, inputs)
    simulated = forward_euler(to_nir(network, 12, dt_s), inputs)
    for name, spikes in activity.spikes.items():
        assert np.array_equal(simulated[name], spikes.detach().numpy())
        assert 0.02 < spikes.mean() < 0.98


@pytest.mark.parametrize("tau", TAUS)
def test_file_says_the_same(tau, tmp_path):
    network, inputs = grid_network(tau), random_spikes(12, 20)
    graph = to_nir(network, 12)
    nir.write(tmp_path / "network.nir", graph)
    again = nir.read(tmp_path / "network.nir")
    assert sorted(again.edges) == sorted(graph.edges)
    assert again.metadata["dt_s"] == 1e-4
    assert again.metadata["steps"] == 12
    for name, node in graph.nodes.items():
        assert type(again.nodes[name]) is type(node)
        for field in ("weight", "bias", "tau", "r", "v_leak", "v_threshold", "v_reset"):
            if hasattr(node, field):
                assert np.array_equal(getattr(again.nodes[name], field), getattr(node, field))
    for name, spikes in observe(network, inputs).spikes.items():
        assert np.array_equal(forward_euler(again, inputs)[name], spikes.detach().numpy())


@pytest.mark.parametrize("tau", TAUS)
def test_graph_shares_no_memory_with_the_network(tau):
    network = grid_network(tau)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    graph = to_nir(network, 12)
    graph.nodes["fc1"].weight[:] = 0
    graph.nodes["lif1"].v_threshold[:] = 0
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_a_bias_is_the_same_in_the_graph():
    neurons = lif_per_channel(0.5, 0.5, "arctan", 1.0, learn_threshold=True)
    network = build_layers("7-6-4", (7,), neurons, bias=True, spiking_output=True)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for layer in weighted_layers(network).values():
            layer.weight.copy_(torch.randint(-30, 64, layer.weight.shape, generator=generator) / 64)
            layer.bias.copy_(torch.randint(-8, 24, layer.bias.shape, generator=generator) / 64)
    inputs = random_spikes(12, 5)
    expected = forward_euler(to_nir(network, steps=12), inputs)
    for name, spikes in observe(network, inputs).spikes.items():
        assert np.array_equal(spikes.detach().numpy(), expected[name])
        assert spikes.any()


class Unknown(nn.Module):
    """A neuron of a user's own that asks for values, which nothing can follow."""

    def forward(self, signal):
        return signal if signal.sum() > 0 else -signal


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.own, self.relu = nn.Linear(4, 4), Unknown(), nn.ReLU()

    def forward(self, signal):
        return torch.sigmoid(self.relu(self.own(self.fc(signal))))


def test_everything_without_a_nir_form_is_refused_at_once_by_name():
    with pytest.raises(BadInput) as caught:
        to_nir(Odd(), steps=4)
    for part in ("'own' (Unknown) cannot be traced", "'relu' (ReLU)", "operation 'sigmoid'", "CubaLIF", "Linear"):
        assert part in str(caught.value)


def test_layers_that_nir_has_no_form_for_are_refused_with_the_nearest_alternative():
    layers = [MaxPool2d(2), BatchNorm2d(2), Conv2d(2, 2, (1, 3)), Flatten(), Linear(8, 3)]
    with pytest.raises(BadInput) as caught:
        to_nir(nn.Sequential(*layers), steps=4, shape=(2, 4, 8))
    for part in ("MaxPool2d", "AP2", "BatchNorm2d", "preceding convolution", "1x3", "3x3"):
        assert part in str(caught.value)


def test_an_image_needs_its_shape():
    network = build_layers("8C3-10", (1, 6, 6), lif_per_channel())
    with pytest.raises(BadInput, match="shape="):
        to_nir(network, steps=4)
    with pytest.raises(BadInput, match="does not accept inputs of shape"):
        to_nir(network, steps=4, shape=(2, 6, 6))


def test_the_network_is_as_it_was():
    network = build_layers("4C3-BN-DP-AP2-3", (1, 6, 6), lif_per_channel()).train()
    network[1].eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    to_nir(network, steps=4, shape=(1, 6, 6))
    assert [module.training for module in network] == [True, False, *[True] * 5]
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_batch_norm_is_folded_with_its_eps():
    """Channels whose variance is near the eps of the norm, where leaving it out doubles the weights and more."""
    torch.manual_seed(0)
    network = build_layers("4C3-BN-3", (1, 6, 6), lif_per_channel()).eval()
    conv, norm = network[0], network[1]
    with torch.no_grad():
        norm.running_var.copy_(norm.eps * torch.tensor([0.0, 0.3, 1.0, 10.0]))
        norm.running_mean.normal_()
        norm.weight.copy_(torch.tensor([1e-3, 2e-3, -1e-3, 3e-3]))
        norm.bias.normal_()
    image = torch.rand(1, 1, 6, 6, dtype=torch.float64)
    expected = torch.nn.functional.batch_norm(
        torch.nn.functional.conv2d(
            image, conv.weight.double(), None if conv.bias is None else conv.bias.double(), 1, 1
        ),
        *(each.double() for each in (norm.running_mean, norm.running_var, norm.weight, norm.bias)),
        eps=norm.eps,
    )
    folded = to_nir(network, steps=4, shape=(1, 6, 6)).nodes["conv1"]
    weight, bias = (torch.from_numpy(np.asarray(each, np.float64)) for each in (folded.weight, folded.bias))
    found = torch.nn.functional.conv2d(image, weight, bias, 1, 1)
    gain = 1 - 0.5  # a leaky neuron of NIR multiplies its input by dt / tau, which the weights make up for
    assert torch.allclose(gain * found, expected.detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("wrong", "part"), [({"thresholds": "fold"}, "folded"), ({"dt_s": 0.0}, "positive")])
def test_wrong_options_are_refused(wrong, part):
    with pytest.raises(BadInput, match=part):
        to_nir(grid_network(0.5), 4, **wrong)


def test_a_last_layer_that_does_not_fire_ends_in_an_integrator_without_leak():
    network = build_layers("7-6-4", (7,), lif_per_channel())
    graph = to_nir(network, steps=4)
    assert type(graph.nodes["readout"]) is nir.I
    assert ("fc2", "readout") in graph.edges
    assert ("readout", "output") in graph.edges
    assert np.array_equal(1e-4 * graph.nodes["readout"].r, np.ones(4))


def test_analog_neurons_are_refused_in_one_line_that_says_what_to_train():
    network = nn.Sequential(Linear(4, 3), LIAF(3), Linear(3, 2), LIAF(2))
    with pytest.raises(BadInput) as caught:
        to_nir(network, 4)
    message = str(caught.value)
    assert "'1', '3' (LIAF) are analog" in message
    assert message.endswith("train the same recipe with network.neuron = 'lif', without activation")


def test_a_convolution_over_time_is_refused_with_what_to_train():
    network = build_layers("4C3T3-10", (1, 8, 8), lif_per_channel())
    with pytest.raises(BadInput, match=r"'conv1' \(Conv3d\): NIR has no convolution over time and space; train with"):
        to_nir(network, 4, shape=(1, 8, 8))
