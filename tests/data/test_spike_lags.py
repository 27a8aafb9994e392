"""The generated lags: nothing but the lags between the lines of a pair tells the classes apart."""

from __future__ import annotations

import numpy as np
import pytest

from esl_neuro.data import load_dataset
from esl_neuro.data.frames import FrameSettings
from esl_neuro.data.spike_lags import CLASSES, LONGEST, PAIRS, SHORTEST, generate
from esl_neuro.errors import BadInput

STEPS = 32


@pytest.fixture(scope="module")
def generated():
    return generate(STEPS)


def lags_of(spikes, pair):
    """How often the second line of a pair spikes so many steps after the first one, around the end."""
    first, second = spikes[:, :, 2 * pair].astype(np.int64), spikes[:, :, 2 * pair + 1].astype(np.int64)
    return np.array([int((first * np.roll(second, -lag, axis=1)).sum()) for lag in range(STEPS)])


def test_every_class_has_one_lag_in_each_pair_within_the_limits(generated):
    spikes, labels = generated
    for label in range(CLASSES):
        for pair in range(PAIRS):
            counts = lags_of(spikes[labels == label], pair)
            lag = int(counts.argmax())
            assert SHORTEST <= min(lag, STEPS - lag) <= LONGEST
            assert counts[lag] > 5 * np.delete(counts, lag).max()


def test_a_line_says_nothing_about_the_class(generated):
    """In each class, a line fires equally often at every step, within five standard deviations of chance."""
    spikes, labels = generated
    expected = spikes.mean()
    for label in range(CLASSES):
        of_class = spikes[labels == label]
        spread = np.sqrt(expected / len(of_class))
        assert abs(of_class.mean(0) - expected).max() < 5 * spread


def test_the_spikes_are_always_the_same(generated):
    again = generate(STEPS)
    assert all(np.array_equal(one, other) for one, other in zip(generated, again, strict=True))


def test_the_parts_are_stratified_and_binary():
    dataset = load_dataset("spike_lags", frames=FrameSettings(steps=STEPS))
    assert (dataset.shape, dataset.classes, dataset.steps) == ((2 * PAIRS,), CLASSES, STEPS)
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [2096, 304, 600]
    assert all(set(np.unique(part.values)) == {0, 1} for part in (dataset.train, dataset.validation, dataset.test))
    assert set(np.bincount(dataset.test.labels)) == {75}


def test_too_few_steps_are_refused():
    with pytest.raises(BadInput, match=r"'spike_lags': 12 steps are too few for lags of up to 12 .* to 24 or more"):
        load_dataset("spike_lags", frames=FrameSettings(steps=12))
