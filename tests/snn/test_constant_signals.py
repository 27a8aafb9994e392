"""A signal that shares its memory over the steps gives what its copies give, in less work."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from esl_neuro.snn.functional import SURROGATES, lif
from esl_neuro.snn.layers import AvgPool2d, BatchNorm2d, Conv2d, Flatten, Linear, MaxPool2d
from esl_neuro.snn.network import build_layers
from esl_neuro.snn.neurons import lif_per_channel

STEPS = 5


def samples(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def outcome(layer, sample, copied):
    """Output, and gradients of the input and of every parameter."""
    leaf = sample.clone().requires_grad_()
    signal = leaf.expand(STEPS, *leaf.shape)
    layer.zero_grad()
    output = layer(signal.clone() if copied else signal)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(1), dtype=output.dtype)
    (output * weights).sum().backward()
    return output, leaf.grad, *[parameter.grad for parameter in layer.parameters()]


def assert_same_outcome(layer, sample):
    for once, each in zip(outcome(layer, sample, False), outcome(layer, sample, True), strict=True):
        torch.testing.assert_close(once, each, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (Linear(7, 3), (2, 7)),
        (Linear(7, 3, bias=False), (2, 7)),
        (Conv2d(3, 4, 3, 2, 1), (2, 3, 6, 5)),
        (AvgPool2d(2), (2, 3, 6, 5)),
        (MaxPool2d(2), (2, 3, 6, 5)),
        (Flatten(), (2, 3, 6, 5)),
    ],
)
def test_a_layer_without_memory_runs_once(layer, shape):
    layer.double()
    assert_same_outcome(layer, samples(*shape))
    assert layer(samples(*shape).expand(STEPS, *shape)).stride(0) == 0


@pytest.mark.parametrize("notation", ["12-9-4", "3C3-BN-AP2-8-4", "AP2-3C3-MP2-2C3-4"])
@pytest.mark.parametrize("fires", [True, False])
def test_a_network_gives_the_same(notation, fires):
    shape = (12,) if notation.startswith("12") else (2, 8, 8)
    torch.manual_seed(0)
    network = build_layers(
        notation,
        shape,
        lif_per_channel(threshold=0.3, surrogate="arctan", learn_threshold=True),
        spiking_output=fires,
    ).double()
    assert_same_outcome(network, samples(3, *shape))


def test_batch_norm_counts_every_step():
    once, each = BatchNorm2d(3), BatchNorm2d(3)
    signal = samples(2, 3, 4, 4).float().expand(STEPS, 2, 3, 4, 4)
    once(signal), each(signal.clone())
    assert torch.equal(once.running_var, each.running_var)
    assert torch.equal(once.running_mean, each.running_mean)


def test_a_linear_layer_is_still_torchs():
    ours, theirs = Linear(4, 3), nn.Linear(4, 3)
    assert isinstance(ours, nn.Linear)
    theirs.load_state_dict(ours.state_dict())
    signal = samples(STEPS, 2, 4).float()
    assert torch.equal(ours(signal), theirs(signal))


def test_neurons_run_alike_with_and_without_gradients():
    currents, threshold = samples(STEPS, 2, 6) + 0.5, torch.full((6,), 0.8, dtype=torch.float64)
    recorded = lif(currents.clone().requires_grad_(), 0.7, threshold, SURROGATES["arctan"], 1.0)
    assert 0 < recorded.sum() < recorded.numel()
    assert torch.equal(lif(currents, 0.7, threshold, SURROGATES["arctan"], 1.0), recorded.detach())
