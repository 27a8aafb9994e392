"""Rounding rules: the same for arrays and tensors, and nothing left to round the second time."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from esl_neuro.hardware import load_target
from esl_neuro.hardware.rounding import (
    InputFormat,
    bias_format,
    group_scale,
    round_current_decay,
    round_potential_decay,
    round_thresholds,
    round_weights,
    weight_exponent,
)

ARITHMETIC = load_target("loihi2").arithmetic
seeds = st.integers(0, 2**31 - 1)


def random_group(seed):
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 10 ** rng.uniform(-3, 2), (5, 7)) * (rng.random((5, 7)) < 0.6)
    return weights, 10 ** rng.uniform(-2, 2, 5), rng.normal(0, 10 ** rng.uniform(-3, 1), 5)


def rounded(weights, thresholds, bias):
    """Integers of a group, and its scale."""
    scale = group_scale(float(abs(weights).max()), float(thresholds.max()), ARITHMETIC)
    parts = (
        round_weights(weights, scale, ARITHMETIC),
        round_thresholds(thresholds, scale, ARITHMETIC),
        *bias_format(bias * scale * 64, ARITHMETIC),
    )
    return parts, scale


@given(seed=seeds)
def test_tensors_round_as_arrays_do(seed):
    group = random_group(seed)
    arrays, scale = rounded(*group)
    tensors, same_scale = rounded(*map(torch.from_numpy, group))
    assert scale == same_scale
    for array, tensor in zip(arrays, tensors, strict=True):
        assert np.array_equal(array, tensor.numpy())
    decays = np.random.default_rng(seed).random(9)
    for rule in (round_current_decay, round_potential_decay):
        assert np.array_equal(rule(decays, ARITHMETIC), rule(torch.from_numpy(decays), ARITHMETIC).numpy())


@given(seed=seeds)
def test_single_precision_values_of_rounded_numbers_round_to_the_same(seed):
    (weights, thresholds, mantissa, exponent), scale = rounded(*random_group(seed))
    values = weights / scale, thresholds / scale, mantissa * 2**exponent / 64 / scale
    again, _ = rounded(*(value.astype(np.float32).astype(np.float64) for value in values))
    for first, second in zip((weights, thresholds, mantissa, exponent), again, strict=True):
        assert np.array_equal(first, second)


@given(seed=seeds)
def test_the_range_of_weights_is_used_unless_thresholds_need_it(seed):
    weights, thresholds, bias = random_group(seed)
    (integers, levels, *_), _ = rounded(weights, thresholds, bias)
    assert (integers % 2 == 0).all()
    if abs(weights).max() > 0:
        assert abs(integers).max() == 254 or levels.max() == 2**17 - 1


def test_decays_stay_within_twelve_bits():
    decays = np.array([0.0, 0.5, 1.0])
    assert round_current_decay(decays, ARITHMETIC).tolist() == [-1, 2047, 4095]
    assert round_potential_decay(decays, ARITHMETIC).tolist() == [0, 2048, 4095]


@given(bits=st.integers(1, 12), seed=seeds)
def test_decays_of_fewer_bits_are_the_nearest_multiples_that_the_chip_has(bits, seed):
    arithmetic = ARITHMETIC.model_copy(update={"decay_bits": bits})
    decays = np.random.default_rng(seed).random(20)
    held = np.arange(2**bits + 1) / 2**bits  # dv has one value less
    for got, values in (
        ((round_current_decay(decays, arithmetic) + 1) / 4096, held),
        (round_potential_decay(decays, arithmetic) / 4096, held[:-1]),
    ):
        assert np.array_equal(abs(got - decays), abs(values[:, None] - decays).min(axis=0))


def test_payloads_are_rounded_and_clipped():
    assert InputFormat(8, 255.0).payloads(np.array([-0.1, 0.0, 0.5, 1.0, 1.2])).tolist() == [0, 0, 128, 255, 255]
    assert InputFormat().payloads(np.array([0.0, 1.0])).tolist() == [0, 1]


@settings(max_examples=200)
@example(weight=1.0, threshold=1.0, largest_sum=2**18 - 1, bits=2)
@given(
    weight=st.floats(1e-3, 1e2),
    threshold=st.floats(1e-2, 1e2),
    largest_sum=st.integers(0, 10**8),
    bits=st.integers(2, 8),
)
def test_graded_spikes_get_the_largest_exponent_without_wrap(weight, threshold, largest_sum, bits):
    payload = 2.0**bits - 1
    exponent = weight_exponent(
        weight, (threshold / 9, threshold), largest_sum, ARITHMETIC, payload=payload, graded=True
    )

    def fits(exponent):
        scale = group_scale(weight, 0, ARITHMETIC, payload=payload, exponent=exponent)
        return round(scale * threshold) < 2**17 and (largest_sum * 2.0**exponent + 1) * 64 < 2**23

    assert -8 <= exponent <= 0
    assert fits(exponent) or exponent == -8
    assert exponent == 0 or not fits(exponent + 1)


@settings(max_examples=200)
@example(weight=1.0, threshold=507.4 / 254, spread=1.0, largest_sum=2**18)
@given(
    weight=st.floats(1e-3, 1e2),
    threshold=st.floats(1e-2, 1e2),
    spread=st.floats(1, 100),
    largest_sum=st.integers(0, 10**8),
)
def test_single_spikes_get_a_lower_exponent_while_thresholds_stay_finer_than_weights(
    weight, threshold, spread, largest_sum
):
    thresholds = threshold / spread, threshold
    exponent = weight_exponent(weight, thresholds, largest_sum, ARITHMETIC)

    def integers(exponent):
        return [round(each * 254 * 2.0**exponent / weight) for each in thresholds]

    for larger in range(exponent + 1, 1):
        smallest, largest = integers(larger)
        assert largest >= 2**17 or (largest_sum * 2.0**larger + 1 >= 2**17 and smallest >= 508)
    if exponent > -8:
        smallest, largest = integers(exponent)
        assert largest < 2**17
        assert largest_sum * 2.0**exponent + 1 < 2**17 or smallest < 508
        again = [each / 254 / 2.0**exponent * weight for each in (smallest, largest)]
        assert weight_exponent(weight, tuple(again), largest_sum, ARITHMETIC) == exponent
