"""Tempotron and PSD against their equations: brute-force potentials, finite differences, and the chip."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import esl_neuro as esl
from esl_neuro.errors import BadInput
from esl_neuro.interchange import to_nir
from esl_neuro.snn.spike_response import Kernel, Pattern, eligibility, maxima, output_spikes
from esl_neuro.training.spike_time_rules import SpikeTimeLayer, on_grid, tempotron

END_MS = 60.0


def pattern(seed, spikes=12, lines=5):
    rng = np.random.default_rng(seed)
    return Pattern.of(rng.uniform(0, 50, spikes), rng.integers(0, lines, spikes))


def weights(seed, neurons=3, lines=5, scale=0.6):
    return scale * np.random.default_rng(seed + 1000).standard_normal((neurons, lines))


def potential(row, given, kernel, times):
    """V(t) by its definition."""
    values = np.zeros_like(times)
    for at, line in zip(given.times_ms, given.lines, strict=True):
        values += row[line] * kernel(times - at)
    return values


def test_the_kernel_has_the_published_constants():
    kernel = Kernel()
    assert kernel.v0 == pytest.approx(2.1165, abs=5e-5)
    times = np.linspace(0, 60, 600_001)
    assert kernel(times).max() == pytest.approx(1, abs=1e-9)
    assert times[kernel(times).argmax()] == pytest.approx(kernel.peak_ms, abs=1e-3)
    assert kernel([-1.0, 0.0]).tolist() == [0.0, 0.0]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), spikes=st.integers(0, 30))
def test_the_maximum_is_that_of_the_sum_of_kernels(seed, spikes):
    given_, kernel, w = pattern(seed, spikes), Kernel(), weights(seed)
    found = maxima(w, given_, kernel, END_MS)
    times = np.concatenate([np.linspace(0, END_MS, 12_001), given_.times_ms])  # V may peak at an event
    for neuron, row in enumerate(w):
        brute = max(potential(row, given_, kernel, times).max(), 0.0)
        assert brute - 1e-12 <= found.potentials[neuron] <= brute + 1e-4
        at = np.array([found.times_ms[neuron]])
        assert potential(row, given_, kernel, at)[0] == pytest.approx(found.potentials[neuron], abs=1e-12)


def since_reset(row, given, kernel, reset_ms, times):
    """V(t) after a reset to zero, by its definition: what is left of the current, and the later input spikes."""
    early, late = given.times_ms < reset_ms, given.times_ms >= reset_ms
    left = kernel.v0 * (row[given.lines[early]] * np.exp(-(reset_ms - given.times_ms[early]) / kernel.tau_s_ms)).sum()
    elapsed = times - reset_ms
    values = left * (np.exp(-elapsed / kernel.tau_ms) - np.exp(-elapsed / kernel.tau_s_ms))
    return values + potential(row, Pattern(given.times_ms[late], given.lines[late]), kernel, times)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([0.3, 0.9, 3.0]))
def test_a_neuron_fires_where_it_reaches_its_threshold_and_nowhere_else(seed, scale):
    kernel, threshold = Kernel(), 0.7
    given_, w = pattern(seed, 15), weights(seed, scale=scale)
    for row, fired in zip(w, output_spikes(w, given_, kernel, threshold, END_MS), strict=True):
        assert (np.diff(fired) > 0).all()
        for reset, until in pairwise([0.0, *fired, END_MS]):
            between = np.concatenate([np.linspace(reset, until, 2000), given_.times_ms])
            between = between[(between >= reset) & (between < until - 1e-9)]
            assert (since_reset(row, given_, kernel, reset, between) <= threshold + 1e-9).all()
            if until < END_MS:
                at = since_reset(row, given_, kernel, reset, np.array([until]))
                assert at[0] == pytest.approx(threshold, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_tempotron_follows_the_gradient_of_the_maximum(seed):
    layer = SpikeTimeLayer(weights(seed), END_MS)
    given_ = pattern(seed, 20)
    before = layer.maxima(given_)
    fires = before.potentials > layer.threshold
    change = tempotron(layer, given_, ~fires)  # every neuron is wrong
    assert not tempotron(layer, given_, fires).any()
    step = 1e-6
    for neuron in range(3):
        if before.potentials[neuron] == 0:
            assert not change[neuron].any()
            continue
        sign = -1 if fires[neuron] else 1
        for line in range(5):
            moved = layer.weights.copy()
            moved[neuron, line] += step
            slope = (maxima(moved, given_, layer.kernel, END_MS).potentials - before.potentials)[neuron] / step
            assert change[neuron, line] == pytest.approx(sign * slope, abs=1e-3)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_psd_is_the_integral_of_its_error(seed):
    layer, given_ = SpikeTimeLayer(weights(seed, scale=0.9), END_MS, threshold=0.6), pattern(seed, 20)
    desired = tuple(np.random.default_rng(seed).uniform(0, END_MS, 2) for _ in range(3))
    before = layer.weights.copy()
    actual = layer.spikes(given_)
    layer.learn("psd", given_, desired, 0.1)
    for neuron in range(3):
        for line in range(5):
            own = given_.times_ms[given_.lines == line]
            by_hand = sum(layer.kernel(t - own).sum() for t in desired[neuron])
            by_hand -= sum(layer.kernel(t - own).sum() for t in actual[neuron])
            assert layer.weights[neuron, line] - before[neuron, line] == pytest.approx(0.1 * by_hand, abs=1e-12)
    layer.weights = before
    unchanged = eligibility(given_, [], 5, layer.kernel)
    assert unchanged.tolist() == [0.0] * 5


def test_psd_learns_the_desired_times():
    given_ = Pattern.of(np.random.default_rng(0).uniform(0, 90, 200), np.arange(200))
    layer = SpikeTimeLayer.random(1, 200, 100.0, scale=0.01, seed=0, kernel=Kernel(10.0, 2.5))
    desired = (np.array([30.0, 60.0, 85.0]),)
    for _ in range(300):
        layer.learn("psd", given_, desired, 0.01)
    np.testing.assert_allclose(layer.spikes(given_)[0], desired[0], atol=0.5)


def test_tempotrons_learn_to_tell_patterns_apart():
    patterns = [Pattern.of(np.random.default_rng(k).uniform(0, 50, 50), np.arange(50)) for k in range(20)]
    targets = [np.array([k % 2 == 0]) for k in range(20)]
    layer = SpikeTimeLayer.random(1, 50, END_MS, scale=0.01, seed=0)
    for _ in range(200):
        for given_, target in zip(patterns, targets, strict=True):
            layer.learn("tempotron", given_, target, 0.02)
    fired = [layer.maxima(given_).potentials[0] > 1 for given_ in patterns]
    assert fired == [bool(target[0]) for target in targets]


def test_on_the_grid_the_network_has_the_potentials_of_the_kernel():
    """CUBA-LIF neurons in time steps sample the kernel exactly."""
    dt, steps = 0.5, 120
    rng = np.random.default_rng(3)
    given_ = Pattern.of(rng.integers(0, 100, 12) * dt, np.arange(12) % 5)
    layer = SpikeTimeLayer(weights(3), END_MS, threshold=50.0)  # too high to fire
    network = layer.network(dt)
    spikes = torch.from_numpy(on_grid([given_], 5, dt, steps)).transpose(0, 1).float()
    current = network[1].synapses(network[0](spikes))
    v = torch.zeros(3)
    for step, arriving in enumerate(current[:, 0]):
        v = network[1].tau * v + arriving
        expected = [potential(row, given_, layer.kernel, np.array([(step + 1) * dt]))[0] for row in layer.weights]
        np.testing.assert_allclose(v.detach().numpy(), expected, atol=1e-5)


def test_the_chip_fires_where_the_neuron_does():
    rng, dt, steps = np.random.default_rng(7), 0.1, 620
    patterns = [Pattern.of(rng.integers(0, 500, 20) * dt, np.arange(20)) for _ in range(10)]
    layer = SpikeTimeLayer(0.5 * rng.standard_normal((3, 20)), END_MS, threshold=0.7)
    chip = esl.compile(to_nir(layer.network(dt), steps, dt * 1e-3), "loihi2")
    (fired,) = chip.run(on_grid(patterns, 20, dt, steps)).trace.spikes.values()
    same = 0
    for number, given_ in enumerate(patterns):
        for neuron, times in enumerate(layer.spikes(given_)):
            on_chip = (np.flatnonzero(fired[number, :, neuron]) + 1) * dt
            if len(on_chip) == len(times):
                np.testing.assert_allclose(on_chip, times, atol=0.6)
                same += 1
    assert same >= 28  # of 30; a maximum at the threshold may fall on either side of it


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Kernel(3.0, 5.0), "tau_s_ms is 5.0 and tau_ms is 3.0"),
        (lambda: Pattern.of([1.0], [0, 1]), "expected equal"),
        (lambda: Pattern.of([-1.0], [0]), "not negative"),
        (lambda: maxima(weights(0), Pattern.of([1.0], [9]), Kernel(), 5.0), "on line 9, the layer has 5"),
        (lambda: maxima(weights(0), Pattern.of([9.0], [0]), Kernel(), 5.0), "at least the last input spike"),
        (lambda: output_spikes(weights(0), Pattern.of([1.0], [0]), Kernel(), 0.0, 5.0), "threshold is 0.0"),
        (lambda: SpikeTimeLayer(weights(0), 9.0).learn("psd", pattern(0), (), 0.1), "0 neurons, the layer has 3"),
        (lambda: SpikeTimeLayer(weights(0), 9.0).learn("tempotrom", pattern(0), (), 0.1), "did you mean 'tempotron'"),
        (lambda: SpikeTimeLayer(weights(0), 9.0).network(0.0), "expected a positive step"),
        (lambda: on_grid([Pattern.of([0.1, 0.2], [0, 0])], 1, 1.0, 5), "2 spikes of a line fall into one step"),
        (lambda: on_grid([Pattern.of([9.0], [0])], 1, 1.0, 5), "in step 9, there are 5"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(BadInput, match=message):
        call()
