"""Rounding rules: the same for arrays and tensors, and nothing left to round the second time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esl_neuro.hardware import load_target
from esl_neuro.hardware.rounding import (
    InputFormat,
    Rows,
    bias_format,
    lattice_thresholds,
    one_threshold,
    potential_lattice,
    round_current_decay,
    round_potential_decay,
    round_thresholds,
    round_weights,
    rounding_bias,
    rounding_loss,
    row_formats,
    steps_kept,
)

ARITHMETIC = load_target("loihi2").arithmetic
seeds = st.integers(0, 2**31 - 1)


def random_group(seed):
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 10 ** rng.uniform(-3, 2), (5, 7)) * (rng.random((5, 7)) < 0.6)
    return weights, 10 ** rng.uniform(-2, 2, 5), rng.normal(0, 10 ** rng.uniform(-3, 1), 5)


def rows_of(weights, thresholds, bias, *, payload=1, graded=False, connections=1, steps_kept=1.0):
    """What the formats of a group depend on; further connections are weaker by 1/100 each."""
    matrices = [np.asarray(weights, dtype=np.float64) / 100**index for index in range(connections)]

    def sums(unit, exponents):
        total = np.zeros((2, len(weights)))
        for matrix, exponent in zip(matrices, exponents, strict=True):
            integers = round_weights(matrix * unit[:, None] / 2.0**exponent, 1.0, ARITHMETIC) * 2.0**exponent
            total += payload * np.array([np.maximum(sign * integers, 0).sum(axis=1) for sign in (1, -1)])
        return total.max(axis=0)

    return Rows(
        largest=np.array([abs(matrix).max(axis=1) for matrix in matrices]),
        thresholds=np.array([thresholds, thresholds]),
        bias=abs(np.asarray(bias)),
        steps_kept=np.full(len(weights), steps_kept),
        sums=sums,
        graded=graded,
    )


def rounded(weights, thresholds, bias):
    """Integers of a group, and its scales and exponent."""
    scale, (exponent,) = row_formats(rows_of(weights, thresholds, bias), ARITHMETIC)
    parts = (
        round_weights(weights * scale[:, None] / 2.0**exponent, 1.0, ARITHMETIC),
        round_thresholds(thresholds, scale, ARITHMETIC),
        *bias_format(bias * scale * 64, ARITHMETIC),
    )
    return parts, scale, exponent


@given(seed=seeds)
def test_tensors_round_as_arrays_do(seed):
    weights, thresholds, bias = random_group(seed)
    rng = np.random.default_rng(seed)
    scale, decays, dv = rng.uniform(1, 500, 5), rng.random(5), rng.choice([0.0, 2048.0, 4095.0], 5)
    du, drive = rng.choice([4095.0, 100.0], 5), np.rint(bias * scale * 64) * (rng.random(5) < 0.5)
    loss = rng.random(5) / 2

    def everything(weights, thresholds, bias, scale, decays, du, dv, drive, loss):
        lattice = potential_lattice(du, dv, drive, -int(seed % 3), ARITHMETIC)
        return (
            round_weights(weights * scale[:, None], 1.0, ARITHMETIC),
            round_thresholds(thresholds, scale, ARITHMETIC),
            *bias_format(bias * scale * 64, ARITHMETIC),
            round_current_decay(decays, ARITHMETIC),
            round_potential_decay(decays, ARITHMETIC),
            lattice,
            lattice_thresholds(thresholds, scale, lattice, drive, ARITHMETIC),
            rounding_bias(loss, du, dv, thresholds * scale, 50),
        )

    given_arrays = (weights, thresholds, bias, scale, decays, du, dv, drive, loss)
    arrays, tensors = everything(*given_arrays), everything(*map(torch.from_numpy, given_arrays))
    for array, tensor in zip(arrays, tensors, strict=True):
        assert np.array_equal(array, tensor.numpy())


@given(seed=seeds)
def test_single_precision_values_of_rounded_numbers_round_to_the_same(seed):
    (weights, thresholds, mantissa, exponent), scale, weight_exp = rounded(*random_group(seed))
    unit = scale[:, None] / 2.0**weight_exp
    values = weights / unit, thresholds / scale, mantissa * 2**exponent / 64 / scale
    again, _, same = rounded(*(value.astype(np.float32).astype(np.float64) for value in values))
    assert same == weight_exp
    for first, second in zip((weights, thresholds, mantissa, exponent), again, strict=True):
        assert np.array_equal(first, second)


@given(seed=seeds)
def test_each_row_uses_the_range_of_weights_unless_its_threshold_or_bias_needs_it(seed):
    (integers, levels, mantissa, exponent), _, _ = rounded(*random_group(seed))
    assert (integers % 2 == 0).all()
    largest, bias = abs(integers).max(axis=1), abs(mantissa * 2**exponent)
    assert ((largest == 254) | (largest == 0) | (levels >= 2**15 - 2) | (bias > 4094 * 128)).all()
    assert levels.max() < 2**15
    assert bias.max() <= 4095 * 128


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


EXPONENTS = [0, -6]  # of the connection, and of one that is weaker by 1/100


def verdict(weights, thresholds, bias, shift, *, payload=1, connections=1, steps_kept=1.0):
    """Does everything fit with this shift, may the current wrap, and what is the smallest threshold? Row by row."""
    fits, wraps, smallest = True, False, math.inf
    for row, threshold, drive in zip(weights, thresholds, bias, strict=True):
        unit = 254 / abs(row).max()
        fits &= round(threshold * unit * 2.0**shift) < 2**15
        fits &= round(abs(drive) * unit * 64 * 2.0**shift) <= 4095 * 128
        smallest = min(smallest, round(threshold * unit * 2.0**shift))
        arriving = [0.0, 0.0]
        for index, exponent in enumerate(EXPONENTS[:connections]):
            integers = 2 * np.rint(row / 100**index * unit / 2.0**exponent / 2) * 2.0**exponent
            arriving[0] += payload * integers[row > 0].sum()
            arriving[1] -= payload * integers[row < 0].sum()
        wraps |= (max(arriving) * 2.0**shift + connections) * steps_kept >= 2**17
    return fits, wraps, smallest


@settings(max_examples=60)
@given(
    seed=seeds,
    threshold=st.floats(1e-2, 1e3),
    bias=st.sampled_from([0.0, 1.0, 1e3]),
    payload=st.sampled_from([1, 255]),
    sources=st.sampled_from([3, 2000]),
    connections=st.sampled_from([1, 2]),
    steps_kept=st.sampled_from([1.0, 10.0]),
)
def test_the_shift_is_the_largest_that_fits_while_thresholds_stay_fine(
    seed, threshold, bias, payload, sources, connections, steps_kept
):
    rng = np.random.default_rng(seed)
    group = rng.uniform(-0.3, 1, (3, sources)), threshold * rng.uniform(0.5, 2, 3), bias * rng.normal(0, 1, 3)
    how = {"payload": payload, "connections": connections, "steps_kept": steps_kept}
    scale, exponents = row_formats(rows_of(*group, **how, graded=payload > 1), ARITHMETIC)
    first = (0, 5)[connections - 1]  # the weaker connection has -6, and its sums are exact from -1 on
    lower = EXPONENTS[:connections]
    shift = next(each for each in range(first, -9, -1) if [max(e + each, -8) for e in lower] == exponents)
    for larger in range(first, shift, -1):
        fits, wraps, smallest = verdict(*group, larger, **how)
        if larger > 0:
            assert wraps or not fits
        else:
            assert (wraps and smallest >= 64) or (not fits and smallest >= 508)
    fits, wraps, smallest = verdict(*group, shift, **how)
    if shift > 0:
        assert fits
        assert not wraps
    elif shift > -8:
        assert fits or smallest < 508
        assert not wraps or smallest < 64
    assert (scale * group[1]).max() <= 2**15 - 1 + 1e-6
    if payload > 1:
        arriving = rows_of(*group, **how).sums(scale, exponents)
        assert (arriving * steps_kept < 2**17 * 1.1).all()  # weights of few steps may be rounded up


@given(seed=seeds)
def test_scales_of_one_threshold_give_one_odd_threshold(seed):
    _, thresholds, _ = random_group(seed)
    scale = np.random.default_rng(seed).uniform(1, 5000, 5)
    common = one_threshold(thresholds, scale) * thresholds
    assert np.allclose(common, common[0])
    assert round(common[0]) % 2 == 1
    assert round(common[0]) >= 33
    assert (one_threshold(thresholds, scale) <= scale * 1.001).all() or round(common[0]) == 33
    again = one_threshold(thresholds, one_threshold(thresholds, scale))
    assert np.allclose(again * thresholds, common)


@given(x=st.integers(0, 4000), over=st.sampled_from([-0.9, -0.5, 0, 0.5, 0.9]), exponent=st.integers(-3, 3))
def test_a_threshold_between_two_points_lets_the_same_points_pass(x, over, exponent):
    du, dv, bias = np.array([4095.0]), np.array([4095.0]), np.array([0.0])
    lattice = potential_lattice(du, dv, bias, exponent, ARITHMETIC)
    points = np.arange(0, 5000 * lattice[0], lattice[0])
    wanted = max((x + over) * lattice[0], 0.0)
    vth = lattice_thresholds(np.array([wanted]), np.array([1.0]), lattice, bias, ARITHMETIC)
    assert np.array_equal(points > vth, points > wanted)
    assert exponent < 0 or vth % lattice != 0


def test_only_potentials_that_stay_on_points_count_as_a_lattice():
    values = [(4095, 4095, 0), (4095, 4095, 7), (4095, 0, 0), (4095, 0, 7), (4095, 2048, 0), (100, 4095, 0)]
    du, dv, bias = np.array(values, dtype=np.float64).T
    assert potential_lattice(du, dv, bias, 1, ARITHMETIC).tolist() == [4, 4, 4, 0, 0, 0]


@given(decay=st.floats(0, 1), steps=st.integers(1, 200))
def test_what_is_kept_and_its_mean_equal_loops(decay, steps):
    kept = [sum((1 - decay) ** k for k in range(t)) for t in range(1, steps + 1)]
    assert steps_kept(np.array([decay]), steps)[0] == pytest.approx(kept[-1], rel=1e-6)
    register = round(4096 * decay)
    kept = [sum((1 - register / 4096) ** k for k in range(t)) for t in range(1, steps + 1)]
    du, dv, high = np.array([register - 1.0]), np.array([4095.0]), np.array([1e9])
    assert rounding_bias(np.array([0.25]), du, dv, high, steps)[0] == round(16 * float(np.mean(kept)))
    if register:
        assert rounding_bias(np.array([0.25]), du, dv, high, None)[0] == round(16 * 4096 / register)


@pytest.mark.parametrize(("exponent", "residues"), [(0, [0]), (-1, [0]), (-2, [0, 2]), (-4, range(0, 16, 2))])
def test_the_loss_of_a_sum_is_the_mean_of_what_is_cut_off(exponent, residues):
    assert rounding_loss(exponent, ARITHMETIC) == np.mean([each * 2.0**exponent for each in residues])
