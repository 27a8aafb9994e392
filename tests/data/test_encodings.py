"""Encodings: from samples to input over time, against loops over single values."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esl_neuro.data import encode, encode_for_evaluation
from esl_neuro.data.encodings import ENCODINGS
from esl_neuro.errors import BadInput

intensities = st.floats(0, 1, width=32)
NAMES = ["even_rate", "bernoulli_rate", "latency"]
STATIC = [*NAMES, "binary_single_spike", "direct"]
TIMED = ["events", "event_counts"]
GRADED = ["direct", "event_counts"]


def rng(seed=0):
    return np.random.default_rng(seed)


def train(name, value, steps):
    """Spikes of one value, as a list over time."""
    return encode(name, np.array([[value]], dtype=np.float32), steps, rng())[0, :, 0].tolist()


def test_these_are_all_encodings():
    assert ENCODINGS.names() == sorted(STATIC + TIMED)


@pytest.mark.parametrize("name", STATIC + TIMED)
def test_every_encoding_declares_its_signal_and_keeps_it(name):
    encoding = ENCODINGS[name]
    assert encoding.__name__ == name
    assert encoding.signal == ("graded" if name in GRADED else "spikes")
    assert encoding.timed == (name in TIMED)
    values = np.ones((2, 3, 4) if encoding.timed else (2, 4), dtype=np.float32)
    encoded = encode(name, values, 3, rng())
    assert encoded.shape == (2, 3, 4)
    assert encoded.dtype == (np.float32 if encoding.signal == "graded" else np.uint8)


@given(
    name=st.sampled_from(NAMES),
    samples=st.integers(0, 4),
    steps=st.integers(1, 20),
    features=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_spikes_are_0_or_1_in_samples_steps_features(name, samples, steps, features, seed):
    values = rng(seed).random((samples, features), dtype=np.float32)
    spikes = encode(name, values, steps, rng(seed))
    assert spikes.shape == (samples, steps, features)
    assert spikes.dtype == np.uint8
    assert np.isin(spikes, (0, 1)).all()


@pytest.mark.parametrize("name", NAMES)
def test_every_value_is_encoded_in_its_own_place(name):
    values = np.array([[0, 1], [1, 0]], dtype=np.float32)
    fired = encode(name, values, 8, rng()).any(axis=1)
    assert fired.tolist() == [[False, True], [True, False]]


@given(value=intensities, steps=st.integers(1, 64))
def test_even_rate_fires_as_often_as_the_rounded_value_says(value, steps):
    spikes = train("even_rate", value, steps)
    assert abs(sum(spikes) - value * steps) <= 0.5 + 1e-4


@given(count=st.integers(0, 64), steps=st.integers(1, 64))
def test_even_rate_spaces_spikes_evenly(count, steps):
    count = min(count, steps)
    spikes = train("even_rate", count / steps, steps)
    assert sum(spikes) == count
    places = [step for step, fired in enumerate(spikes) if fired]
    gaps = [later - earlier for earlier, later in pairwise(places)]
    if gaps:
        assert max(gaps) - min(gaps) <= 1


@given(count=st.integers(0, 64), steps=st.integers(1, 64))
def test_even_rate_equals_its_equation(count, steps):
    count = min(count, steps)
    passed = [math.floor(Fraction(t * count, steps) + Fraction(1, 2)) for t in range(steps + 1)]
    expected = [later - earlier for earlier, later in pairwise(passed)]
    assert train("even_rate", count / steps, steps) == expected


def test_even_rate_by_hand():
    assert train("even_rate", 0.5, 8) == [1, 0, 1, 0, 1, 0, 1, 0]
    assert train("even_rate", 0.25, 8) == [0, 1, 0, 0, 0, 1, 0, 0]
    assert train("even_rate", 1, 3) == [1, 1, 1]
    assert train("even_rate", 0, 3) == [0, 0, 0]


@pytest.mark.parametrize("value", [0.05, 0.3, 0.5, 0.9])
def test_bernoulli_rate_has_the_value_as_its_mean(value):
    steps = 40_000
    spikes = encode("bernoulli_rate", np.array([[value]], dtype=np.float32), steps, rng(7))
    deviation = math.sqrt(value * (1 - value) / steps)
    assert abs(spikes.mean() - value) < 5 * deviation


def test_bernoulli_rate_steps_are_independent():
    spikes = encode("bernoulli_rate", np.full((1, 1), 0.5, dtype=np.float32), 40_000, rng(3))[0, :, 0].astype(float)
    assert abs(np.mean((spikes[1:] - 0.5) * (spikes[:-1] - 0.5))) < 5 * 0.25 / 200


def test_bernoulli_rate_is_never_for_0_and_always_for_1():
    spikes = encode("bernoulli_rate", np.array([[0, 1]], dtype=np.float32), 1000, rng())
    assert not spikes[:, :, 0].any()
    assert spikes[:, :, 1].all()


@given(values=st.lists(intensities, min_size=1, max_size=20), steps=st.integers(1, 32))
def test_latency_is_one_spike_the_earlier_the_larger(values, steps):
    moments = []
    for value in sorted(values, reverse=True):
        spikes = train("latency", value, steps)
        assert sum(spikes) == (value > 0)
        if value > 0:
            moments.append(spikes.index(1))
            assert abs(moments[-1] - (1 - value) * (steps - 1)) <= 0.5 + 1e-4
    assert moments == sorted(moments)


def test_latency_by_hand():
    assert train("latency", 1, 5) == [1, 0, 0, 0, 0]
    assert train("latency", 0.5, 5) == [0, 0, 1, 0, 0]
    assert train("latency", 1e-6, 5) == [0, 0, 0, 0, 1]
    assert train("latency", 0, 5) == [0, 0, 0, 0, 0]


@pytest.mark.parametrize(("name", "deterministic"), [("even_rate", True), ("latency", True), ("bernoulli_rate", False)])
def test_only_random_encodings_depend_on_the_stream(name, deterministic):
    values = np.full((2, 50), 0.4, dtype=np.float32)
    first, same, other = (encode(name, values, 10, rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, same)
    assert np.array_equal(first, other) == deterministic


@pytest.mark.parametrize("name", NAMES)
def test_every_evaluation_sees_the_same_spikes(name):
    values = np.full((3, 20), 0.4, dtype=np.float32)
    assert np.array_equal(encode_for_evaluation(name, values, 10), encode_for_evaluation(name, values, 10))


def test_unknown_encoding_is_refused():
    with pytest.raises(BadInput, match=r"encoding 'evenrate' is unknown; did you mean 'even_rate'\?"):
        encode("evenrate", np.zeros((1, 1), dtype=np.float32), 2, rng())


@pytest.mark.parametrize("name", STATIC)
def test_samples_of_any_shape_are_encoded_like_flat_ones(name):
    values = rng(5).random((3, 2, 4, 5), dtype=np.float32)
    shaped = encode(name, values, 6, rng(1))
    flat = encode(name, values.reshape(3, -1), 6, rng(1))
    assert shaped.shape == (3, 6, 2, 4, 5)
    assert np.array_equal(shaped.reshape(flat.shape), flat)


@given(value=intensities, steps=st.integers(2, 20))
def test_binary_single_spike_is_at_the_first_step_if_bright_else_at_the_last(value, steps):
    spikes = [0] * steps
    spikes[0 if value > 0.5 else steps - 1] = 1
    assert train("binary_single_spike", value, steps) == spikes


def test_binary_single_spike_by_hand():
    assert train("binary_single_spike", 0.75, 4) == [1, 0, 0, 0]
    assert train("binary_single_spike", 0.5, 4) == [0, 0, 0, 1]
    assert train("binary_single_spike", 0, 4) == [0, 0, 0, 1]


def test_binary_single_spike_needs_two_steps():
    with pytest.raises(BadInput, match="'binary_single_spike': steps is 1, expected 2 or more"):
        train("binary_single_spike", 1, 1)


def test_direct_repeats_any_value():
    values = np.array([[-2.5, 0.25], [3, 1]], dtype=np.float32)
    encoded = encode("direct", values, 3, rng())
    assert all(np.array_equal(encoded[:, step], values) for step in range(3))


@pytest.mark.parametrize(("name", "dtype"), [("events", np.uint8), ("events", np.float32), ("event_counts", np.uint16)])
def test_frames_pass_as_they_are(name, dtype):
    frames = rng(2).integers(0, 2 if name == "events" else 300, (3, 4, 2, 5, 5)).astype(dtype)
    assert np.array_equal(encode(name, frames, 4, rng()), frames)


@pytest.mark.parametrize("value", [2, 0.5, -1, 256, math.nan])
def test_frames_that_are_not_binary_are_no_spikes(value):
    frames = np.ones((2, 3, 4), dtype=np.float32)
    frames[1, 2, 3] = value
    with pytest.raises(BadInput, match="encoding 'events': frames are not binary"):
        encode("events", frames, 3, rng())


@pytest.mark.parametrize("name", TIMED)
def test_other_frames_than_steps_are_refused(name):
    with pytest.raises(BadInput, match=rf"'{name}': samples of shape \(3, 4\), expected 5 frames first"):
        encode(name, np.ones((2, 3, 4), dtype=np.uint8), 5, rng())
    with pytest.raises(BadInput, match="expected 4 frames first"):
        encode(name, np.ones((2, 4), dtype=np.uint8), 4, rng())


@pytest.mark.parametrize("name", ["even_rate", "bernoulli_rate", "latency", "binary_single_spike"])
@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_values_outside_0_to_1_are_no_intensities(name, value):
    with pytest.raises(BadInput, match=rf"'{name}': values from .* expected 0 to 1"):
        encode(name, np.array([[0.5, value]], dtype=np.float32), 4, rng())


@pytest.mark.parametrize("name", STATIC)
def test_stored_pixels_are_not_taken_for_intensities(name):
    with pytest.raises(BadInput, match=rf"'{name}': values are uint8, expected float32"):
        encode(name, np.ones((1, 2), dtype=np.uint8), 4, rng())
