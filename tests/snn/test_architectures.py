"""The networks of the papers, and any network from the notation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from esl_neuro.errors import BadInput
from esl_neuro.snn import LIF, NetworkActivity, build_layers, neuron_layers, observe, weighted_layers
from esl_neuro.snn.architectures import (
    ResNet19,
    stl_mnist,
    vggsnn,
)
from esl_neuro.snn.neurons import lif_per_channel, lif_per_position


def maskable_weights(network):
    """Weights of all convolutions and linear layers: what structure learning can make sparse."""
    return sum(layer.weight.numel() for layer in weighted_layers(network).values())


def parameters_without_thresholds(network):
    """As the papers count, which have no learned thresholds in these networks."""
    thresholds = sum(layer.raw_threshold.numel() for layer in neuron_layers(network).values())
    return sum(parameter.numel() for parameter in network.parameters()) - thresholds


# Counts as published (ESL-SNNs, TET) or as counted in the published models.


def test_vggsnn_has_the_published_number_of_weights():
    network = vggsnn()
    assert maskable_weights(network) == 9_263_232
    assert parameters_without_thresholds(network) == 9_271_498
    convolutions = sum(layer.weight.numel() for layer in network.modules() if isinstance(layer, nn.Conv2d))
    assert convolutions == 9_217_152


def test_strided_vggsnn_has_the_same_weights_and_no_pooling():
    network = vggsnn(strided=True)
    assert maskable_weights(network) == 9_263_232
    assert parameters_without_thresholds(network) == 9_271_498
    assert not [layer for layer in network.modules() if isinstance(layer, nn.AvgPool2d)]
    assert [layer.stride[0] for layer in network.modules() if isinstance(layer, nn.Conv2d)] == [1, 2] * 4


@pytest.mark.parametrize(("classes", "maskable"), [(10, 12_619_968), (100, 12_643_008)])
def test_resnet19_has_the_published_number_of_weights(classes, maskable):
    assert maskable_weights(ResNet19(classes)) == maskable


def test_resnet19_has_the_published_number_of_parameters():
    assert parameters_without_thresholds(ResNet19(10)) == 12_630_858


def test_stl_network_has_the_weights_of_its_program():
    network = stl_mnist()
    # Two convolutions of 5x5 without bias, and two linear layers without bias; the norms have two numbers a channel.
    weights = {"conv1": 128 * 25, "conv2": 128 * 128 * 25, "fc1": 128 * 7 * 7 * 2048, "fc2": 2048 * 100}
    assert {name: layer.weight.numel() for name, layer in weighted_layers(network).items()} == weights
    assert maskable_weights(network) == 13_462_656
    assert parameters_without_thresholds(network) == 13_462_656 + 2 * 2 * 128


def test_stl_network_has_a_threshold_for_every_position():
    shapes = [tuple(layer.threshold.shape) for layer in stl_mnist().modules() if isinstance(layer, LIF)]
    assert shapes == [(128, 28, 28), (128, 14, 14), (2048,), (100,)]


@pytest.mark.parametrize(
    ("network", "shape", "classes"),
    [
        (vggsnn(), (2, 48, 48), 10),
        (vggsnn(7, strided=True), (2, 48, 48), 7),
        (ResNet19(100), (3, 32, 32), 100),
        (stl_mnist(), (1, 28, 28), 10),
    ],
)
def test_networks_run_forward_and_backward(network, shape, classes):
    activity = observe(network, torch.rand(2, 1, *shape))
    outputs, spikes = activity.outputs, activity.spikes
    assert outputs.shape == (2, 1, classes)
    assert spikes
    assert all(set(fired.unique().tolist()) <= {0.0, 1.0} for fired in spikes.values())
    outputs.sum().backward()
    assert all(layer.weight.grad is not None for layer in network.modules() if isinstance(layer, nn.Conv2d))


# Networks from the notation.


def names(network):
    return [name for name, _ in network.named_children()]


def test_neurons_stand_behind_every_weighted_layer_but_the_last():
    network = build_layers("8C3-BN-AP2-16C3S2-DP-20-10", (3, 12, 12), lif_per_channel())
    assert names(network) == [
        *("conv1", "bn1", "lif1", "pool1", "conv2", "lif2", "drop1", "flatten", "fc1", "lif3", "fc2"),
    ]
    assert network(torch.rand(4, 2, 3, 12, 12)).shape == (4, 2, 10)
    assert tuple(network.conv2.weight.shape) == (16, 8, 3, 3)
    assert network.fc1.in_features == 16 * 3 * 3


def test_the_last_layer_fires_on_request():
    network = build_layers("6-5-4", (6,), lif_per_channel(), spiking_output=True)
    assert names(network) == ["fc1", "lif1", "fc2", "lif2"]


def test_thresholds_per_channel_or_per_position():
    per_channel = build_layers("8C3-10", (1, 6, 6), lif_per_channel())
    per_position = build_layers("8C3-10", (1, 6, 6), lif_per_position())
    assert tuple(per_channel.lif1.threshold.shape) == (8, 1, 1)
    assert tuple(per_position.lif1.threshold.shape) == (8, 6, 6)


def test_a_threshold_per_channel_learns_from_all_its_positions():
    lif = LIF((2, 1, 1), 0.5, 1.0, "arctan", 1.0, True)
    wide = LIF((2, 3, 3), 0.5, 1.0, "arctan", 1.0, True)
    currents = torch.rand(5, 4, 2, 3, 3, generator=torch.Generator().manual_seed(1))
    lif(currents).sum().backward()
    wide(currents).sum().backward()
    torch.testing.assert_close(lif.raw_threshold.grad, wide.raw_threshold.grad.sum((1, 2), keepdim=True))


def test_the_layers_of_the_notation_equal_the_same_layers_by_hand():
    network = build_layers("4C3-AP2-10", (1, 6, 6), lif_per_channel(), bias=False)
    inputs = torch.rand(3, 2, 1, 6, 6)
    expected = []
    potential = torch.zeros(2, 4, 6, 6)
    for step in inputs:
        charged = 0.5 * potential + nn.functional.conv2d(step, network.conv1.weight, padding=1)
        fired = (charged > network.lif1.threshold).float()
        potential = charged * (1 - fired)
        expected.append(nn.functional.avg_pool2d(fired, 2).flatten(1) @ network.fc1.weight.T)
    torch.testing.assert_close(network(inputs), torch.stack(expected))


@pytest.mark.parametrize(
    ("notation", "shape", "reason"),
    [
        ("783-10", (784,), "begins with 783 inputs, the data have 784"),
        ("784-8C3-10", (784,), "no height and width"),
        ("8C3-AP9-10", (1, 6, 6), "only 6x6"),
        ("6-8-V3", (6,), "not a multiple of 3"),
        ("36-20-BN-10", (1, 6, 6), "no height and width"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(notation, shape, reason):
    with pytest.raises(BadInput, match=r"network\.notation") as caught:
        build_layers(notation, shape, lif_per_channel())
    assert reason in str(caught.value)


def test_spikes_of_a_users_own_module_are_recorded():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(3, 4), LIF(4, 0.5, 0.1, "arctan", 1.0, True))

        def forward(self, signal):
            return self.inner(signal) * 2

    activity = observe(Own(), torch.rand(5, 2, 3))
    assert list(activity.spikes) == ["inner.1"]
    assert torch.equal(activity.outputs, activity.spikes["inner.1"] * 2)


def test_accumulated_outputs_decide_without_decay():
    outputs = torch.tensor([[[3.0, 0.0]], [[0.0, 2.0]], [[0.0, 2.0]]])
    assert NetworkActivity(outputs, {}).predictions().tolist() == [1]
