"""Small networks of every kind of layer, with all numbers on a grid on which single precision is exact."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from esl_neuro.nirgraph.simulation import simulate
from esl_neuro.snn import build_layers, neuron_layers, observe
from esl_neuro.snn.architectures import ResidualBlock
from esl_neuro.snn.layers import AvgPool2d, BatchNorm2d, Conv2d, Flatten, GlobalAvgPool2d, Linear, SynapticFilter
from esl_neuro.snn.neurons import LIF, CubaLIF, RecurrentLIF, streaming_neurons

IMAGE = (2, 8, 8)


def neurons(kind, tau=0.5, threshold=1.0):
    """Make neurons of a kind, one threshold per neuron or channel."""

    def make(shape):
        thresholds = (shape[0], *[1] * (len(shape) - 1))
        if kind == "cuba":
            return CubaLIF(thresholds, tau, 0.5, threshold, "arctan", 1.0, True)
        if kind == "each its own":
            decays = torch.tensor([0.5, 0.75, 0.0, 0.25]).repeat(shape[0])[: shape[0]].reshape(thresholds)
            return LIF(thresholds, decays, threshold, "arctan", 1.0, True)
        return LIF(thresholds, 1.0 if kind == "if" else tau, threshold, "arctan", 1.0, True)

    return make


class Branches(nn.Module):
    """A network of a user's own: branches of different depth meet, one of them through nothing at all."""

    def __init__(self, make):
        super().__init__()
        self.fc1, self.lif1 = Linear(6, 5), make((5,))
        self.fc2, self.lif2 = Linear(5, 5), make((5,))
        self.fc3, self.lif3 = Linear(5, 4), make((4,))
        self.drop = nn.Dropout(0.5)

    def forward(self, signal):
        first = self.lif1(self.fc1(signal))
        second = self.lif2(self.fc2(first) + 0.5 * first + first)
        return self.lif3(self.fc3(self.drop(second + first)))


class Recurrent(nn.Module):
    def __init__(self, tau=0.5, tau_syn=0.0):
        super().__init__()
        self.fc1 = Linear(6, 7)
        self.lif1 = RecurrentLIF(7, tau, 1.0, "arctan", 1.0, True, tau_syn)
        self.fc2 = Linear(7, 3)

    def forward(self, signal):
        return self.fc2(self.lif1(self.fc1(signal)))


def named(name, kind="lif"):
    """(network, shape of an input sample) by name."""
    make = neurons(kind)
    if name == "chain":
        return build_layers("6-7-5-4", (6,), make, spiking_output=True), (6,)
    if name == "accumulating readout":
        return build_layers("6-7-5", (6,), make), (6,)
    if name == "flat image":
        return build_layers("128-7-5", IMAGE, make, spiking_output=True), IMAGE
    if name == "conv":
        return build_layers("4C3-6C3S2-DP-5", IMAGE, make, spiking_output=True), IMAGE
    if name == "batch norm and pools":
        return build_layers("4C3-BN-AP2-6C3-BN-AP2-7-DP-5", IMAGE, make), IMAGE
    if name == "vote":
        return build_layers("4C5-AP2-8-V2", IMAGE, make, spiking_output=True), IMAGE
    if name == "groups":
        layers = [Conv2d(2, 4, 3, 2, 1, groups=2), make((4, 4, 4)), AvgPool2d(2, 1, 1), Conv2d(4, 4, 1, groups=4)]
        return nn.Sequential(*layers, make((4, 5, 5)), Flatten(), Linear(100, 3), make((3,))), IMAGE
    if name == "pools that meet neurons and the end":
        first = [Conv2d(2, 4, 3, padding=1), AvgPool2d(2), make((4, 4, 4)), AvgPool2d(2), make((4, 2, 2))]
        return nn.Sequential(*first, GlobalAvgPool2d()), IMAGE
    if name == "residual":
        blocks = [ResidualBlock(4, 4, (8, 8), 1, make), ResidualBlock(4, 6, (4, 4), 2, make)]
        start = [Conv2d(2, 4, 3, 1, 1, bias=False), BatchNorm2d(4), make((4, 8, 8))]
        return nn.Sequential(*start, *blocks, GlobalAvgPool2d(), Linear(6, 5), make((5,)), Linear(5, 3)), IMAGE
    if name == "streaming chain":
        return build_layers("6-7-5-4", (6,), make, spiking_output=True, streaming=True), (6,)
    if name == "delay slots":
        return build_layers("6-7-5-4", (6,), make, spiking_output=True, delay_slots=3, delay_stride=2), (6,)
    if name in ("dense blocks", "dense blocks, streaming"):
        notation = "4C3-BN-3D3x2-AP2-5C1-2D3-AP2-6-4"
        return build_layers(notation, IMAGE, make, streaming="streaming" in name), IMAGE
    if name == "residual, streaming":
        later = streaming_neurons(make)
        blocks = [ResidualBlock(4, 4, (8, 8), 1, later), ResidualBlock(4, 6, (4, 4), 2, later)]
        start = [Conv2d(2, 4, 3, 1, 1, bias=False), BatchNorm2d(4), later((4, 8, 8))]
        return nn.Sequential(*start, *blocks, GlobalAvgPool2d(), Linear(6, 5)), IMAGE
    if name == "branches":
        return Branches(make), (6,)
    if name == "recurrent":
        return Recurrent(), (6,)
    if name == "recurrent behind synapses":
        return Recurrent(0.75, 0.5), (6,)
    if name == "filter":
        return nn.Sequential(Linear(6, 5), SynapticFilter(0.5), make((5,)), Linear(5, 3), SynapticFilter(0.75)), (6,)
    raise KeyError(name)


NAMES = (
    "chain",
    "accumulating readout",
    "flat image",
    "conv",
    "batch norm and pools",
    "vote",
    "groups",
    "pools that meet neurons and the end",
    "residual",
    "streaming chain",
    "delay slots",
    "dense blocks",
    "dense blocks, streaming",
    "residual, streaming",
    "branches",
    "recurrent",
    "recurrent behind synapses",
    "filter",
)


def on_grid(network, seed, thresholds=True):
    """Give every layer numbers of few bits, batch norm scales by powers of two."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda shape, low, high: torch.randint(low, high, shape, generator=generator)  # noqa: E731
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                low = -24 if layer.weight[0].numel() < 16 else -42  # many inputs are not to make all neurons fire
                layer.weight.copy_(draw(layer.weight.shape, low, 48) / 64)
                if layer.bias is not None:
                    layer.bias.copy_(draw(layer.bias.shape, -8, 16) / 64)
            elif isinstance(layer, nn.BatchNorm2d):
                layer.eps = 0.0
                layer.weight.copy_(2.0 ** draw(layer.weight.shape, -1, 2))
                layer.running_var.fill_(4.0)
                layer.running_mean.copy_(draw(layer.weight.shape, -8, 8) / 16)
                layer.bias.copy_(draw(layer.weight.shape, -8, 16) / 16)
            elif isinstance(layer, LIF) and thresholds:
                layer.raw_threshold.copy_(draw(layer.raw_threshold.shape, -100, 150) / 100)
    return network.eval()


def random_spikes(shape, steps=6, batch=3, seed=1):
    return (torch.rand(steps, batch, *shape, generator=torch.Generator().manual_seed(seed)) < 0.4).float()


def spikes_of(network, inputs):
    """Spikes of every neuron layer by the name of its node, and the outputs."""
    with torch.no_grad():
        activity = observe(network, inputs)
    return {name.replace(".", "_"): s.numpy() for name, s in activity.spikes.items()}, activity.outputs.numpy()


def assert_same_spikes(network, graph, inputs):
    """The torch network fires as the reference of its graph does, and its summed outputs are those of the readout."""
    spikes, outputs = spikes_of(network, inputs)
    lines = graph.nodes["input"].input_type["input"]
    run = simulate(graph, inputs.numpy().reshape(*inputs.shape[:2], *lines).swapaxes(0, 1))
    assert set(run.spikes) == set(spikes)
    for name, values in spikes.items():
        assert np.array_equal(run.spikes[name].swapaxes(0, 1), values), name
    ends = run.outputs[:, -1] if "readout" in graph.nodes else run.outputs.swapaxes(0, 1)
    expected = outputs.sum(0, dtype=np.float64) if "readout" in graph.nodes else outputs
    np.testing.assert_allclose(ends, expected, rtol=1e-5, atol=1e-5)
    return run


__all__ = ["IMAGE", "NAMES", "assert_same_spikes", "named", "neuron_layers", "neurons", "on_grid", "random_spikes"]
