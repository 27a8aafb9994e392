"""Layers over time do at each step what torch does to one sample."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from esl_neuro.errors import BadInput
from esl_neuro.snn.layers import (
    AvgPool2d,
    BatchNorm2d,
    Concatenate,
    Conv2d,
    Conv3d,
    Delay,
    DenseLayer,
    Flatten,
    GlobalAvgPool2d,
    MaxPool2d,
    SynapticFilter,
    Vote,
)
from esl_neuro.snn.neurons import LIF, CubaLIF, RecurrentLIF

SIGNAL = torch.randn(3, 2, 4, 6, 5, generator=torch.Generator().manual_seed(0))  # steps, batch, channels, height, width


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Conv2d(4, 7, 3, 2, 1), nn.Conv2d(4, 7, 3, 2, 1)),
        (AvgPool2d(2), nn.AvgPool2d(2)),
        (MaxPool2d(2), nn.MaxPool2d(2)),
        (BatchNorm2d(4).eval(), nn.BatchNorm2d(4).eval()),
    ],
)
def test_a_layer_without_memory_sees_each_step_alone(ours, theirs):
    theirs.load_state_dict(ours.state_dict())
    expected = torch.stack([theirs(step) for step in SIGNAL])
    torch.testing.assert_close(ours(SIGNAL), expected)


def test_batch_norm_shares_its_statistics_over_steps_and_batch():
    normalised = BatchNorm2d(4)(SIGNAL)
    torch.testing.assert_close(normalised.mean((0, 1, 3, 4)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(normalised.var((0, 1, 3, 4), unbiased=False), torch.ones(4), atol=1e-3, rtol=0)


def test_shapes_are_reduced_as_named():
    assert Flatten()(SIGNAL).shape == (3, 2, 4 * 6 * 5)
    torch.testing.assert_close(GlobalAvgPool2d()(SIGNAL)[1, 0, 2], SIGNAL[1, 0, 2].mean())


def test_votes_are_means_over_neighbours():
    signal = torch.tensor([[[1.0, 2.0, 3.0, 10.0, 20.0, 30.0]]])
    assert Vote(3)(signal).tolist() == [[[2.0, 20.0]]]


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_a_delay_begins_with_nothing(steps):
    late = Delay(steps)(SIGNAL)
    for step, values in enumerate(late):
        assert torch.equal(values, SIGNAL[step - steps] if step >= steps else torch.zeros_like(values))


@pytest.mark.parametrize(("span", "stride"), [(1, 1), (2, 2), (3, 1), (5, 1)])
def test_a_convolution_over_time_sums_convolutions_of_this_and_the_steps_before(span, stride):
    torch.manual_seed(0)
    layer = Conv3d(4, 3, span, 3, stride, 1)
    for step, sums in enumerate(layer(SIGNAL)):
        expected = layer.bias[:, None, None]
        for k in range(min(span, step + 1)):  # nothing comes from later steps, and nothing before the first
            expected = expected + torch.nn.functional.conv2d(
                SIGNAL[step - k], layer.weight[:, :, span - 1 - k], None, stride, 1
            )
        torch.testing.assert_close(sums, expected, rtol=1e-5, atol=1e-5)


def test_a_dense_layer_appends_its_spikes_to_what_it_reads():
    torch.manual_seed(0)
    plain, late = (DenseLayer(4, 3, 3, LIF((3, 1, 1), threshold=0.3), streaming=each).eval() for each in (False, True))
    late.load_state_dict(plain.state_dict())
    spikes = plain.lif(plain.bn(plain.conv(SIGNAL)))
    assert 0 < spikes.mean() < 1
    assert torch.equal(plain(SIGNAL), Concatenate()(SIGNAL, spikes))
    assert torch.equal(late(SIGNAL), Concatenate()(SIGNAL, Delay(1)(spikes)))


@pytest.mark.parametrize("tau", [0.0, 0.3, 0.9])
def test_synapses_decay_exponentially(tau):
    impulse = torch.zeros(6, 1, 1)
    impulse[1] = 2.0
    filtered = SynapticFilter(tau)(impulse).flatten().tolist()
    assert filtered == pytest.approx([0.0] + [2.0 * tau**step for step in range(5)])


@pytest.mark.parametrize("kind", [LIF, CubaLIF, RecurrentLIF])
def test_neurons_need_to_be_told_nothing_but_how_many_they_are(kind):
    torch.manual_seed(0)
    plain, named = (
        kind(4),
        kind(4, tau=0.5, threshold=1.0, surrogate="arctan", surrogate_width=1.0, learn_threshold=True),
    )
    named.load_state_dict(plain.state_dict())
    currents = 2 * torch.rand(6, 3, 4)
    assert torch.equal(plain(currents), named(currents))
    torch.testing.assert_close(plain.threshold, torch.ones(4))
    assert plain.raw_threshold.requires_grad


@pytest.mark.parametrize("steps", [0, -1])
def test_a_delay_takes_at_least_one_step(steps):
    with pytest.raises(BadInput, match=rf"Delay: {steps} steps are not allowed"):
        Delay(steps)
