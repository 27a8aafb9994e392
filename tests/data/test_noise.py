"""Noise: identity at level 0, the rates it promises, shape, type and range kept, decided by the stream alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esl_neuro.data.noise import NOISES
from esl_neuro.errors import BadInput

ON_INTENSITIES = ["gaussian", "salt_and_pepper"]
ON_SPIKES = ["jitter", "spike_drop", "spurious_spikes"]
PLACES = 40_000


def rng(seed=0):
    return np.random.default_rng(seed)


def sample(name, shape, seed=0, dtype=None):
    if NOISES[name].target == "spikes":
        return (rng(seed).random(shape) < 0.3).astype(dtype or np.uint8)
    return rng(seed).random(shape).astype(dtype or np.float32)


def near(observed, probability, trials):
    return abs(observed - probability) < 5 * math.sqrt(probability * (1 - probability) / trials)


def test_these_are_all_noises():
    assert NOISES.names() == sorted(ON_INTENSITIES + ON_SPIKES)
    assert [name for name in NOISES.names() if NOISES[name].target == "spikes"] == ON_SPIKES


@pytest.mark.parametrize("name", ON_INTENSITIES + ON_SPIKES)
@given(seed=st.integers(0, 99), samples=st.integers(0, 3), steps=st.integers(1, 6), places=st.integers(1, 5))
def test_level_0_is_the_identity(name, seed, samples, steps, places):
    array = sample(name, (samples, steps, places), seed)
    assert np.array_equal(NOISES[name](array, 0, rng(seed)), array)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, np.float32) for name in ON_INTENSITIES + ON_SPIKES] + [(name, np.uint8) for name in ON_SPIKES],
)
@pytest.mark.parametrize("level", [0.3, 1])
def test_shape_type_and_range_are_kept_and_the_input_too(name, level, dtype):
    array = sample(name, (4, 7, 3, 5), dtype=dtype)
    before = array.copy()
    noisy = NOISES[name](array, 1 if name == "jitter" else level, rng(1))
    assert np.array_equal(array, before)
    assert (noisy.shape, noisy.dtype) == (array.shape, array.dtype)
    assert not np.array_equal(noisy, array)
    if name in ON_SPIKES:
        assert np.isin(noisy, (0, 1)).all()
    else:
        assert noisy.min() >= 0
        assert noisy.max() <= 1


@pytest.mark.parametrize("name", ON_INTENSITIES + ON_SPIKES)
def test_the_stream_decides(name):
    array = sample(name, (4, 10, 30))
    first, same, other = (NOISES[name](array, 1 if name == "jitter" else 0.4, rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("level", [0.05, 0.4, 1])
def test_salt_and_pepper_replaces_that_share_by_as_many_zeros_as_ones(level):
    values = np.full((1, PLACES), 0.5, dtype=np.float32)
    noisy = NOISES["salt_and_pepper"](values, level, rng(3))
    assert set(np.unique(noisy).tolist()) <= {0, 0.5, 1}
    for extreme in (0, 1):
        assert near(np.mean(noisy == extreme), level / 2, PLACES)
    assert near(np.mean(noisy != 0.5), level, PLACES) or level == 1


def test_gaussian_has_that_deviation_and_is_clipped():
    values = np.full((1, PLACES), 0.5, dtype=np.float32)
    added = NOISES["gaussian"](values, 0.05, rng(4)) - 0.5
    assert abs(added.mean()) < 5 * 0.05 / math.sqrt(PLACES)
    assert abs(added.std() / 0.05 - 1) < 5 / math.sqrt(2 * PLACES)
    clipped = NOISES["gaussian"](values, 10, rng(4))
    assert near(np.mean(clipped == 0), 0.5 * math.erfc(0.05 / math.sqrt(2)), PLACES)
    assert near(np.mean(clipped == 1), 0.5 * math.erfc(0.05 / math.sqrt(2)), PLACES)


@pytest.mark.parametrize("level", [0.1, 0.7])
def test_spike_drop_loses_that_share_and_adds_nothing(level):
    spikes = np.ones((2, 10, PLACES // 20), dtype=np.uint8)
    spikes[1] = 0
    noisy = NOISES["spike_drop"](spikes, level, rng(5))
    assert not noisy[1].any()
    assert near(1 - noisy[0].mean(), level, noisy[0].size)


@pytest.mark.parametrize("level", [0.1, 0.7])
def test_spurious_spikes_fill_that_share_of_the_silence_and_lose_nothing(level):
    spikes = np.ones((2, 10, PLACES // 20), dtype=np.uint8)
    spikes[1] = 0
    noisy = NOISES["spurious_spikes"](spikes, level, rng(6))
    assert noisy[0].all()
    assert near(noisy[1].mean(), level, noisy[1].size)


@pytest.mark.parametrize("name", ["spike_drop", "spurious_spikes"])
def test_level_1_leaves_nothing_to_chance(name):
    noisy = NOISES[name](sample(name, (3, 4, 5)), 1, rng())
    assert np.array_equal(noisy, np.full_like(noisy, name == "spurious_spikes"))


@pytest.mark.parametrize("reach", [1, 2, 3])
def test_jitter_is_uniform_over_its_reach(reach):
    steps, middle = 2 * reach + 3, reach + 1
    spikes = np.zeros((PLACES, steps, 1), dtype=np.uint8)
    spikes[:, middle] = 1
    rates = NOISES["jitter"](spikes, reach, rng(7))[:, :, 0].mean(axis=0)
    for step, rate in enumerate(rates):
        expected = 1 / (2 * reach + 1) if abs(step - middle) <= reach else 0
        assert near(rate, expected, PLACES) or rate == expected


def test_jitter_keeps_spikes_inside_and_in_their_place():
    spikes = np.zeros((500, 4, 3), dtype=np.uint8)
    spikes[:, 0, 0] = spikes[:, 3, 2] = 1
    noisy = NOISES["jitter"](spikes, 2, rng(8))
    assert np.array_equal(noisy.sum(axis=1), spikes.sum(axis=1))
    assert near(noisy[:, 0, 0].mean(), 3 / 5, 500)  # moves by -2, -1 and 0 all end at the first step
    assert near(noisy[:, 3, 2].mean(), 3 / 5, 500)


@given(seed=st.integers(0, 200), reach=st.integers(0, 4))
def test_jittered_spikes_come_from_a_spike_within_reach(seed, reach):
    spikes = (rng(seed).random((2, 6, 3)) < 0.4).astype(np.uint8)
    noisy = NOISES["jitter"](spikes, reach, rng(seed))
    assert noisy.sum() <= spikes.sum()
    for one, step, place in zip(*np.nonzero(noisy), strict=True):
        assert spikes[one, max(0, step - reach) : step + reach + 1, place].any()
    for one, step, place in zip(*np.nonzero(spikes), strict=True):
        assert noisy[one, max(0, step - reach) : step + reach + 1, place].any()


@pytest.mark.parametrize(
    ("name", "level", "expected"),
    [
        ("salt_and_pepper", 1.5, "a probability from 0 to 1"),
        ("spike_drop", -0.1, "a probability from 0 to 1"),
        ("spurious_spikes", math.nan, "a probability from 0 to 1"),
        ("gaussian", -1, "a standard deviation of 0 or more"),
        ("gaussian", math.inf, "a standard deviation of 0 or more"),
        ("jitter", 1.5, "a whole number of steps of 0 or more"),
        ("jitter", -1, "a whole number of steps of 0 or more"),
        ("jitter", math.nan, "a whole number of steps of 0 or more"),
        ("jitter", math.inf, "a whole number of steps of 0 or more"),
    ],
)
def test_impossible_level_is_refused(name, level, expected):
    with pytest.raises(BadInput, match=f"noise '{name}': level is {level}, expected {expected}"):
        NOISES[name](sample(name, (1, 2, 3)), level, rng())
