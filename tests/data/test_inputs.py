"""From samples to the input of a network: what is random, what is scaled, what is disturbed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from esl_neuro.data import Dataset, Split, encode_for_evaluation, load_dataset
from esl_neuro.data.datasets import Normalisation
from esl_neuro.data.inputs import Disturbance, evaluation_inputs, training_inputs
from esl_neuro.errors import BadInput


def images(augment=None, normalisation=None):
    values = np.random.default_rng(0).integers(0, 256, (30, 2, 3, 3), dtype=np.uint8)
    part = Split(values, np.arange(30) % 3, 255)
    return Dataset("images", 3, part, part, part, normalisation=normalisation, augment=augment)


def test_evaluation_is_the_encoding_of_the_whole_part():
    digits = load_dataset("digits")
    expected = encode_for_evaluation("bernoulli_rate", digits.test.values, 6)
    assert np.array_equal(evaluation_inputs(digits, digits.test, "bernoulli_rate", 6), expected)


def test_training_inputs_depend_on_seed_epoch_and_batch_alone():
    digits = load_dataset("digits")
    indices = np.arange(20)
    first = training_inputs(digits, indices, "bernoulli_rate", 5, seed=1, epoch=2, batch=3)
    assert np.array_equal(training_inputs(digits, indices, "bernoulli_rate", 5, 1, 2, 3), first)
    for moment in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert not np.array_equal(training_inputs(digits, indices, "bernoulli_rate", 5, *moment), first)


def test_augmentation_is_for_training_only():
    flipped = images(augment=lambda values, _: values[..., ::-1])
    indices = np.arange(4)
    expected = flipped.train.batch(indices)[..., ::-1]
    assert np.array_equal(training_inputs(flipped, indices, "direct", 2, 0, 0, 0)[:, 0], expected)
    assert np.array_equal(evaluation_inputs(flipped, flipped.test, "direct", 2)[:4, 1], flipped.test.batch(indices))


def test_channel_statistics_are_for_graded_inputs_only():
    scaled = images(normalisation=Normalisation((0.5, 0.2), (0.1, 0.4)))
    plain = scaled.test.batch()
    expected = (plain - np.array([0.5, 0.2])[:, None, None]) / np.array([0.1, 0.4])[:, None, None]
    assert np.allclose(evaluation_inputs(scaled, scaled.test, "direct", 1)[:, 0], expected, atol=1e-5)
    spikes = evaluation_inputs(scaled, scaled.test, "even_rate", 8).sum(axis=1)
    assert np.array_equal(spikes, np.rint(plain * 8))


@pytest.mark.parametrize("noise", ["salt_and_pepper", "gaussian", "spike_drop", "spurious_spikes", "jitter"])
def test_noise_changes_the_inputs_and_level_zero_does_not(noise):
    digits = load_dataset("digits")
    clean = evaluation_inputs(digits, digits.test, "even_rate", 8)
    assert np.array_equal(evaluation_inputs(digits, digits.test, "even_rate", 8, Disturbance(noise, 0.0)), clean)
    level = 1.0 if noise == "jitter" else 0.3
    noisy = evaluation_inputs(digits, digits.test, "even_rate", 8, Disturbance(noise, level))
    assert noisy.shape == clean.shape
    assert set(np.unique(noisy)) <= {0, 1}
    assert (noisy != clean).mean() > 0.05
    again = evaluation_inputs(digits, digits.test, "even_rate", 8, Disturbance(noise, level, seed=1))
    assert not np.array_equal(again, noisy)


def test_noise_on_intensities_comes_before_the_encoding():
    digits = load_dataset("digits")
    disturbance = Disturbance("salt_and_pepper", 1.0)
    counts = evaluation_inputs(digits, digits.test, "even_rate", 8, disturbance).sum(axis=1)
    assert set(np.unique(counts)) == {0, 8}  # every pixel black or white


def test_noise_that_does_not_fit_the_encoding_is_refused():
    digits = load_dataset("digits")
    with pytest.raises(BadInput, match="'jitter' applies to spikes, but encoding 'direct' gives graded values"):
        evaluation_inputs(digits, digits.test, "direct", 4, Disturbance("jitter", 1.0))
    events = dataclasses.replace(digits, steps=4)
    with pytest.raises(BadInput, match="'gaussian' applies to intensities, but encoding 'events' takes event frames"):
        evaluation_inputs(events, events.test, "events", 4, Disturbance("gaussian", 1.0))
