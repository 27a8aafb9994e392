"""Weights of fewer bits than the chip's: which values there are, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from esl_neuro.errors import BadInput
from esl_neuro.hardware import load_target
from esl_neuro.hardware.rounding import CLIPPED_AT, largest_used, round_weights
from esl_neuro.hardware.weight_bits import bits_of_layers

ARITHMETIC = load_target("loihi2").arithmetic


@pytest.mark.parametrize(
    ("bits", "values"),
    [
        (2, [-128, 0, 128]),
        (3, [-192, -128, -64, 0, 64, 128, 192]),
        (4, list(range(-224, 225, 32))),
        (6, list(range(-248, 249, 8))),
        (8, list(range(-254, 255, 2))),
    ],
)
def test_weights_of_few_bits_are_multiples_of_a_coarser_step(bits, values):
    formats = ARITHMETIC.with_weight_bits(bits)
    found = round_weights(np.arange(-300.0, 300.0), 1.0, formats)
    assert sorted(set(found)) == values
    assert formats.weight_bits == bits
    assert formats.model_copy(update=ARITHMETIC.model_dump()) == ARITHMETIC  # nothing else changes


@pytest.mark.parametrize("largest", [2, 10, 64, 126, 200, 254, 1000])
@pytest.mark.parametrize("step", [1, 2])
def test_weights_of_few_bits_are_within_the_range_of_any_chip(largest, step):
    chip = ARITHMETIC.model_copy(update={"weight_max": largest, "weight_min": -largest, "weight_step": step})
    for bits in range(2, chip.weight_bits):
        formats = chip.with_weight_bits(bits)
        assert formats.weight_max == formats.weight_step * (2 ** (bits - 1) - 1)
        assert largest / 2 < formats.weight_max <= largest
        assert formats.weight_step % step == 0


def test_the_bits_of_the_chip_change_nothing():
    assert ARITHMETIC.weight_bits == 8
    assert ARITHMETIC.with_weight_bits(None) is ARITHMETIC
    assert ARITHMETIC.with_weight_bits(8) is ARITHMETIC


@pytest.mark.parametrize("bits", range(2, 8))
def test_normal_weights_are_clipped_where_their_mean_square_error_is_least(bits):
    values = np.linspace(-8, 8, 20001)
    density, levels = norm.pdf(values), 2 ** (bits - 1) - 1

    def error(step):
        rounded = step * np.clip(np.rint(values / step), -levels, levels)
        return float((density * (values - rounded) ** 2).sum())

    best = minimize_scalar(error, bounds=(0.01, 2), method="bounded").x
    assert CLIPPED_AT[bits] == pytest.approx(best * levels, rel=2e-3)


def test_no_weight_is_clipped_below_the_largest_or_with_the_bits_of_the_chip():
    largest, spread = np.array([1.0, 1.0]), np.array([0.9, 0.2])
    assert np.array_equal(largest_used(largest, spread, 8), largest)
    assert np.array_equal(largest_used(largest, spread, 4), [1.0, 0.2 * CLIPPED_AT[4]])


def test_bits_are_given_for_all_layers_or_for_some():
    layers = ["lif1", "lif2"]
    assert bits_of_layers(4, layers, ARITHMETIC, "weight_bits") == {"lif1": 4, "lif2": 4}
    assert bits_of_layers({"lif2": 2}, layers, ARITHMETIC, "weight_bits") == {"lif2": 2}
    assert bits_of_layers({"lif1": 8, "lif2": 6}, layers, ARITHMETIC, "weight_bits") == {"lif2": 6}


def test_unknown_layers_and_bits_that_the_chip_lacks_are_refused_all_at_once():
    with pytest.raises(BadInput) as refused:
        bits_of_layers({"lif3": 1, "lif1": 9}, ["lif1", "lif2"], ARITHMETIC, "weight_bits")
    assert str(refused.value).splitlines() == [
        "weight_bits: layer 'lif3' does not exist; did you mean 'lif2'? allowed: lif1, lif2",
        "weight_bits: weights of 1 bit; allowed: 2 to 8",
        "weight_bits: weights of 9 bits; allowed: 2 to 8",
    ]
