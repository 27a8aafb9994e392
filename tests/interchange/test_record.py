from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune

from chains import chain_network
from esl_neuro.backends.trace import Trace
from esl_neuro.compiler.compile import compile_graph
from esl_neuro.energy.counts import count, count_recording
from esl_neuro.errors import BadInput
from esl_neuro.hardware import load_target
from esl_neuro.interchange.record import record
from esl_neuro.interchange.to_nir import to_nir
from esl_neuro.snn import observe
from esl_neuro.snn.layers import Conv2d, Flatten
from esl_neuro.snn.neurons import LIF
from esl_neuro.sparsity import SparseConv2d, SparseLinear

SIZES = (12, 9, 5)


class MaskedLinear(nn.Linear):
    """Masks in its forward; its own weight stays dense."""

    def __init__(self, weight, mask):
        super().__init__(weight.shape[1], weight.shape[0], bias=False)
        self.weight.data = weight.clone()
        self.mask = mask

    def forward(self, signal):
        return nn.functional.linear(signal, self.weight * self.mask)


class Own(nn.Module):
    """A module of one's own, with another name for its weight."""

    def __init__(self, weight, mask):
        super().__init__()
        self.kernel, self.mask = nn.Parameter(weight.clone()), mask

    def forward(self, signal):
        return torch.nn.functional.linear(signal, self.kernel * self.mask)


class Times(nn.Module):
    def __init__(self, mask):
        super().__init__()
        self.mask = mask

    def forward(self, weight):
        return weight * self.mask


def plain(weight):
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data = weight.clone()
    return layer


def in_place(weight, mask):
    return plain(weight * mask)


def pruned(weight, mask):
    return prune.custom_from_mask(plain(weight), "weight", mask)


def parametrized(weight, mask):
    layer = plain(weight)
    parametrize.register_parametrization(layer, "weight", Times(mask))
    return layer


WAYS = (in_place, pruned, parametrized, MaskedLinear, Own)


@pytest.fixture(scope="module")
def parts():
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(o, i, generator=generator) for i, o in itertools.pairwise(SIZES)]
    masks = [torch.rand(w.shape, generator=generator) < 0.3 for w in weights]
    spikes = (torch.rand(4, 3, SIZES[0], generator=generator) < 0.3).float()
    return weights, masks, spikes


def network(way, weights, masks):
    layers = [(way(w, m), LIF(w.shape[0], 0.9, 0.5, "arctan", 1.0, False)) for w, m in zip(weights, masks, strict=True)]
    return nn.Sequential(*itertools.chain(*layers))


@pytest.mark.parametrize("way", WAYS)
def test_counts_do_not_depend_on_how_weights_are_masked(way, parts):
    weights, masks, spikes = parts
    counts = count_recording(record(network(way, weights, masks), spikes))
    with torch.no_grad():
        fired = observe(network(in_place, weights, masks), spikes).spikes
    for layer, mask, arriving, emitted in zip(counts.layers, masks, (spikes, fired["1"]), fired.values(), strict=True):
        events = arriving.to(torch.int64)
        assert layer.sop_effective == int((events.sum((0, 1)) * mask.sum(0)).sum()) > 0
        assert layer.neuron_updates_touched == int((events @ mask.T.to(torch.int64) > 0).sum())
        assert (layer.stored, layer.macs_dense) == (int(mask.sum()), mask.numel() * 12)
        assert (layer.spikes_in, layer.spikes_out) == (int(arriving.sum()), int(emitted.sum()))


def test_a_loop_over_the_steps_counts_the_same(parts):
    weights, masks, spikes = parts

    def loop(net, inputs):
        for step in inputs:
            net[0](step)

    together = count_recording(record(network(in_place, weights, masks)[:1], spikes))
    apart = count_recording(record(network(in_place, weights, masks)[:1], spikes, run=loop))
    assert together == apart
    assert together.layers[0].runs["sop_effective"].tolist() == apart.layers[0].runs["sop_effective"].tolist()


def test_the_counts_of_the_program_are_those_of_the_network_that_it_came_from():
    torch.manual_seed(1)
    net = chain_network((20, 15, 6), tau=0.5, threshold=0.4)
    spikes = (torch.rand(5, 4, 20) < 0.4).float()
    program = compile_graph(to_nir(net, 5), load_target("loihi2"), 5).program
    # Quantisation rounds some weights to zero; the network gets those zeros as well.
    for layer, connection in zip((net.fc1, net.fc2), program.connections, strict=True):
        layer.weight.data *= torch.from_numpy(connection.weights.toarray() != 0)
    with torch.no_grad():
        fired = {"input": spikes, **observe(net, spikes).spikes}
    arrays = {name: signal.permute(1, 0, 2).numpy().astype(np.uint8) for name, signal in fired.items()}
    of_program = count(program, Trace("torch", arrays.pop("input"), arrays))
    of_network = count_recording(record(net, spikes))
    names = ("source", "name", "declared")  # connections bear the names of their neurons there, of their weights here
    for ours, theirs in zip(of_network.layers, of_program.layers, strict=True):
        assert {k: v for k, v in ours.to_dict().items() if k not in names} == {
            k: v for k, v in theirs.to_dict().items() if k not in names
        }


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "groups"),
    [(3, 2, 1, 1, 1), (3, 1, 0, 1, 2), (2, 3, 0, 1, 1), (3, 1, 2, 2, 1), (1, 1, 0, 1, 1)],
)
def test_convolutions_count_every_position_and_no_padding(kernel, stride, padding, dilation, groups):
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 4, kernel, stride, padding, dilation, groups, bias=True)
    layer.weight.data *= torch.rand_like(layer.weight) < 0.5
    images = (torch.rand(1, 2, 2, 7, 8) < 0.4).float()
    counts = count_recording(record(nn.Sequential(layer), images, run=lambda net, x: net(x[0])))
    (seen,) = counts.layers
    dense = effective = reached = 0
    _, _, height, width = layer(images[0]).shape
    for sample in range(2):
        for out, y, x in np.ndindex(4, height, width):
            hit = 0
            for channel, dy, dx in np.ndindex(layer.weight.shape[1:]):
                row, column = y * stride + dy * dilation - padding, x * stride + dx * dilation - padding
                if not (0 <= row < 7 and 0 <= column < 8):
                    continue
                dense += 1
                source = channel + (out // (4 // groups)) * (2 // groups)
                hit += bool(images[0, sample, source, row, column]) and bool(layer.weight[out, channel, dy, dx])
            effective += hit
            reached += hit > 0
    assert (seen.sop_effective, seen.macs_dense, seen.neuron_updates_touched) == (effective, dense, reached)
    assert seen.bias_adds == 2 * 4 * height * width


def test_a_constant_input_goes_through_a_layer_once():
    net = nn.Sequential(Conv2d(1, 3, 3), Flatten())
    images = torch.rand(2, 1, 5, 5)
    (layer,) = count_recording(record(net, images.expand(4, *images.shape), signals={"0": "analog"})).layers
    assert layer.per_step("macs_effective").tolist() == [2 * 9 * 27, 0, 0, 0]
    assert layer.sop_effective == 0


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (nn.Sequential(nn.LSTM(6, 4)), "layer '0': 'lstm' cannot be counted"),
        (nn.Sequential(nn.ConvTranspose1d(3, 2, 1)), "'conv_transpose1d' cannot be counted"),
    ],
)
def test_an_unknown_operation_is_refused(net, message):
    with pytest.raises(BadInput, match=message):
        record(net, torch.ones(2, 3, 6))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(SparseLinear(6, 4, density=0.5), (6,)), (SparseConv2d(2, 4, 3, density=0.5), (2, 5, 5))],
)
def test_layers_in_sparse_storage_are_refused(layer, shape):
    with pytest.raises(BadInput, match=rf"'0' \({type(layer).__name__}\) store their connections only"):
        record(nn.Sequential(layer), torch.ones(2, 3, *shape))


def test_a_layer_that_does_nothing_is_refused():
    class Strange(nn.Linear):
        def forward(self, signal):
            return (signal[..., None, :] * self.weight).sum(-1)

    with pytest.raises(BadInput, match=r"layer '0' \(Strange\) has the weights \['weight'\]"):
        record(nn.Sequential(Strange(6, 4)), torch.ones(2, 3, 6))


def test_what_is_no_spike_is_refused_until_it_is_declared():
    net, signal = nn.Sequential(nn.Linear(6, 4)), torch.full((2, 3, 6), 0.5)
    with pytest.raises(BadInput, match=r"spikes of 'input' contain 0\.5"):
        count_recording(record(net, signal))
    assert count_recording(record(net, signal, signals={"0": "graded"})).total("macs_effective") == 2 * 3 * 24
    with pytest.raises(BadInput, match=r"signals: \['fc'\] are not weighted layers"):
        record(net, signal, signals={"fc": "graded"})


def test_a_layer_used_twice_is_refused():
    layer = nn.Linear(6, 6)
    with pytest.raises(BadInput, match="layer '0' received 12 rows"):
        record(nn.Sequential(layer, layer), torch.ones(2, 3, 6))


def test_our_own_recording_leaves_the_network_as_it_was(parts):
    weights, masks, spikes = parts
    net = network(pruned, weights, masks)
    before = net(spikes)
    record(net, spikes)
    assert torch.equal(net(spikes), before)
    assert not any(module._forward_hooks for module in net.modules())
