"""STDP of Lee et al. 2018 against its equation, written for one output spike at a time."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from esl_neuro.errors import BadInput
from esl_neuro.training.stdp import Stdp, compete, patches, pretrain, stdp


def spikes(shape, seed, share=0.3):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(shape, generator=generator) < share).double()


def slow_stdp(weights, inputs, outputs, rule):
    steps, samples, lines = inputs.shape
    change = torch.zeros_like(weights)
    for i in range(len(weights)):
        fired = [(t, n) for t in range(steps) for n in range(samples) if outputs[t, n, i]]
        for j in range(lines):
            w = float(weights[i, j])
            for t, n in fired:
                before = [earlier for earlier in range(t + 1) if inputs[earlier, n, j]]
                met = math.exp((before[-1] - t) / rule.tau) if before else 0.0
                change[i, j] += rule.rate * (met - rule.offset) * (rule.high - w) * (w - rule.low) / len(fired)
    return change


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    steps=st.integers(1, 6),
    samples=st.integers(1, 3),
    share=st.sampled_from([0.0, 0.2, 0.8, 1.0]),
    tau=st.floats(0.3, 20),
    offset=st.floats(0.05, 0.95),
)
def test_change_is_that_of_the_equation(seed, steps, samples, share, tau, offset):
    rule = Stdp(0.2, tau, offset, -0.5, 1.5)
    weights = torch.rand(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 2 - 0.5
    inputs, outputs = spikes((steps, samples, 4), seed + 1, share), spikes((steps, samples, 3), seed + 2)
    expected = slow_stdp(weights, inputs, outputs, rule)
    assert torch.allclose(stdp(weights, inputs, outputs, rule), expected, rtol=1e-9, atol=1e-12)


def test_inputs_shortly_before_a_spike_are_strengthened_and_others_weakened():
    inputs = torch.zeros(5, 1, 3)
    inputs[4, 0, 0] = inputs[0, 0, 1] = 1  # with the output spike, long before it, never
    outputs = torch.zeros(5, 1, 1)
    outputs[4, 0, 0] = 1
    change = stdp(torch.zeros(1, 3), inputs, outputs, Stdp(1.0, 2.0, 0.3)).tolist()[0]
    assert change == pytest.approx([0.7, math.exp(-2) - 0.3, -0.3])


def test_weights_stop_at_their_bounds():
    rule = Stdp(0.1, 4.0, 0.3, -1.0, 1.0)
    assert stdp(torch.tensor([[1.0, -1.0]]), torch.ones(2, 1, 2), torch.ones(2, 1, 1), rule).tolist() == [[0.0, 0.0]]


def slow_compete(currents, thresholds, decay):
    steps, samples, neurons = currents.shape
    found = torch.zeros_like(currents)
    for n in range(samples):
        v = [0.0] * neurons
        for t in range(steps):
            v = [decay * value + float(current) for value, current in zip(v, currents[t, n], strict=True)]
            above = [value - float(limit) for value, limit in zip(v, thresholds, strict=True)]
            if max(above) > 0:
                found[t, n, above.index(max(above))] = 1
                v = [0.0] * neurons
    return found


@given(seed=st.integers(0, 10**6), decay=st.floats(0, 1))
def test_at_most_one_neuron_fires_and_all_forget(seed, decay):
    generator = torch.Generator().manual_seed(seed)
    currents = torch.randn(6, 3, 4, generator=generator, dtype=torch.float64)
    thresholds = torch.rand(4, generator=generator, dtype=torch.float64)
    assert torch.equal(compete(currents, thresholds, decay), slow_compete(currents, thresholds, decay))


def test_patches_are_what_a_convolution_multiplies():
    convolution = nn.Conv2d(2, 5, 3, padding=1, bias=False, dtype=torch.float64)
    images = spikes((4, 3, 2, 6, 7), 0)
    with torch.no_grad():
        expected = convolution(images.flatten(0, 1)).unflatten(0, (4, 3))
        found = patches(images, 3, 1) @ convolution.weight.flatten(1).T
    assert torch.allclose(found.reshape(4, 3, 6, 7, 5).permute(0, 1, 4, 2, 3), expected)


def test_neurons_learn_the_patterns_that_come_again():
    """Two patterns, shown at random; afterwards each neuron likes one of them, and both neurons take part."""
    generator = torch.Generator().manual_seed(0)
    shown = torch.tensor([[1.0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]])
    batches = []
    for _ in range(100):
        chosen = shown[torch.randint(2, (10,), generator=generator)]
        batches.append((torch.rand(8, 10, 6, generator=generator) < 0.8).float() * chosen)
    weights = 0.3 + 0.1 * torch.rand(2, 6, generator=generator)
    pretrain(weights, batches, Stdp(0.2, 2.0, 0.5), threshold=1.0, decay=0.5)
    liked = weights @ shown.T
    assert sorted(liked.argmax(1).tolist()) == [0, 1]
    assert (liked.amax(1) - liked.amin(1) > 2).all()
    assert weights.abs().max() <= 1


def test_silent_neurons_lower_their_thresholds_until_they_fire():
    weights, batch = torch.full((2, 3), 0.2), torch.ones(4, 5, 3)  # potentials up to 1.125
    assert (pretrain(weights.clone(), [batch] * 10, Stdp(), threshold=2.0, decay=0.5) < 1.2).all()
    with pytest.raises(BadInput, match=r"no neuron fires at the threshold 1\.62.* begin below 2, or give more batches"):
        pretrain(weights.clone(), [batch] * 2, Stdp(), threshold=2.0, decay=0.5)


def test_positions_without_a_connection_stay_empty():
    weights = torch.full((4, 6), 0.2)
    weights[:, ::2] = 0
    pretrain(weights, [spikes((5, 8, 6), seed, 0.7).float() for seed in range(5)], Stdp(), threshold=0.3, decay=0.5)
    assert (weights[:, ::2] == 0).all()
    assert (weights[:, 1::2] != 0.2).any()


@pytest.mark.parametrize("wrong", [{"tau": 0.0}, {"rate": -1.0}, {"offset": 1.0}, {"low": 1.0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(BadInput, match="expected tau and rate above 0, an offset between 0 and 1, and low below high"):
        Stdp(**wrong)


def test_positions_without_a_connection_stay_empty_also_with_a_positive_lower_bound():
    weights = torch.tensor([[0.5, 0.0], [0.0, 0.5]])
    batches = [torch.ones(4, 3, 2)] * 3
    pretrain(weights, batches, Stdp(low=0.1), threshold=0.1, decay=0.5)
    assert weights[0, 1] == weights[1, 0] == 0
    assert (weights[[0, 1], [0, 1]] >= 0.1).all()
