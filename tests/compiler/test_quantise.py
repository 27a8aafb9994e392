"""Rounding to integers: the documented formulas, and every error measure against a loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from esl_neuro.backends.integer import run_integer
from esl_neuro.compiler.frontend import FloatLayer
from esl_neuro.compiler.program import Program
from esl_neuro.compiler.quantise import quantise
from esl_neuro.hardware import load_target
from esl_neuro.rounding import bias_format

ARITHMETIC = load_target("loihi2").arithmetic


def layer(weights, threshold=1.0, bias=0.0, du=1.0, dv=0.5):
    weights = np.array(weights, dtype=np.float64)
    size = weights.shape[0]
    values = [np.broadcast_to(np.asarray(value, dtype=np.float64), size).copy() for value in (bias, du, dv, threshold)]
    return FloatLayer("lif1", weights, *values)


def random_layer(seed, size=5, fan_in=6):
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 10 ** rng.uniform(-3, 2), (size, fan_in)) * (rng.random((size, fan_in)) < 0.6)
    return layer(
        weights,
        threshold=10 ** rng.uniform(-1, 2, size),
        bias=rng.normal(0, 0.1, size),
        du=rng.uniform(0.01, 1, size),
        dv=rng.uniform(0, 1, size),
    )


def nearest(value):
    """Whole numbers that are nearest: two at a tie."""
    low = math.floor(value)
    return {low, low + 1} if value - low == 0.5 else {round(value)}


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6))
def test_integers_are_the_nearest_that_the_chip_holds(seed):
    original = random_layer(seed)
    connection, group, error = quantise(original, "input", ARITHMETIC)
    largest = np.abs(original.weights).max()
    by_threshold = (2**17 - 1) / original.threshold.max()
    scale = min(254 / largest, by_threshold) if largest else by_threshold
    assert group.scale == error.scale == pytest.approx(scale, rel=1e-15)
    weights = connection.weights.toarray()
    for n in range(5):
        for m in range(6):
            assert weights[n, m] % 2 == 0
            assert -254 <= weights[n, m] <= 254
            assert abs(weights[n, m] - scale * original.weights[n, m]) <= 1 + 1e-9
        assert int(group.vth[n]) in nearest(scale * original.threshold[n])
        assert 0 <= group.vth[n] <= 2**17 - 1
        assert int(group.du[n]) + 1 in nearest(4096 * original.du[n])
        assert int(group.dv[n]) in {min(dv, 4095) for dv in nearest(4096 * original.dv[n])}
    assert np.issubdtype(connection.weights.dtype, np.integer)
    assert all(getattr(group, key).dtype == np.int64 for key in ("du", "dv", "vth", "bias_mant", "bias_exp"))


def test_largest_weight_uses_the_whole_range():
    connection, group, _ = quantise(layer([[0.5, -0.25], [0.1, 0]], threshold=2), "input", ARITHMETIC)
    assert group.scale == 508
    assert connection.weights.toarray().tolist() == [[254, -128], [50, 0]]  # -127 is odd: -128 is even
    assert group.vth.tolist() == [1016, 1016]


def test_threshold_bounds_the_scale():
    connection, group, _ = quantise(layer([[0.01, -0.005]], threshold=100.0), "input", ARITHMETIC)
    assert group.vth.tolist() == [131_071]
    assert group.scale == pytest.approx(1310.71)
    assert connection.weights.toarray().tolist() == [[14, -6]]


def test_names_source_and_shape_pass_through():
    connection, group, error = quantise(random_layer(1), "lif0", ARITHMETIC)
    assert (connection.source, connection.target, group.name, error.layer) == ("lif0", "lif1", "lif1", "lif1")
    assert isinstance(connection.weights, sp.csr_matrix)
    assert connection.weights.shape == (5, 6)
    assert connection.weight_exp == 0


@pytest.mark.parametrize(
    ("du", "dv", "integers"),
    [(1.0, 1.0, (4095, 4095)), (0.5, 0.25, (2047, 1024)), (1 / 4096, 0.0, (0, 0)), (1.0, 1 / 4096, (4095, 1))],
)
def test_decays_by_hand(du, dv, integers):
    _, group, _ = quantise(layer([[1.0]], du=du, dv=dv), "input", ARITHMETIC)
    assert (group.du[0], group.dv[0]) == integers


def brute_bias(bias):
    for exponent in range(8):
        for mantissa in nearest(bias / 2**exponent):
            if abs(mantissa) <= 4095:
                return exponent
    return 7


@given(biases=st.lists(st.floats(-6e5, 6e5), min_size=1, max_size=8))
def test_bias_takes_the_smallest_exponent_that_holds_it(biases):
    mantissas, exponents = bias_format(np.array(biases), ARITHMETIC)
    for bias, mantissa, exponent in zip(biases, mantissas.tolist(), exponents.tolist(), strict=True):
        assert exponent == brute_bias(bias)
        clipped = max(-4095.0, min(4095.0, bias / 2**exponent))
        assert mantissa in nearest(clipped)


@pytest.mark.parametrize(
    ("bias", "expected"),
    [(0, (0, 0)), (1.4, (1, 0)), (-4095, (-4095, 0)), (4096, (2048, 1)), (8192, (2048, 2)), (4095 * 128, (4095, 7))],
)
def test_bias_by_hand(bias, expected):
    mantissa, exponent = bias_format(np.array([float(bias)]), ARITHMETIC)
    assert (mantissa[0], exponent[0]) == expected


def test_bias_enters_in_units_of_the_potential():
    _, group, _ = quantise(layer([[1.0]], bias=0.5), "input", ARITHMETIC)
    assert group.bias_mant[0] << group.bias_exp[0] == 0.5 * 254 * 64


def test_clipped_bias_is_reported():
    original = layer([[0.001]], bias=0.5)
    _, group, error = quantise(original, "input", ARITHMETIC)
    assert group.bias_mant[0] << group.bias_exp[0] < 0.5 * original.bias[0] * group.scale * 64
    assert any(value > 0.1 for name, value in vars(error).items() if name.endswith("_error"))


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6))
def test_errors_equal_a_loop(seed):
    original = random_layer(seed)
    connection, group, error = quantise(original, "input", ARITHMETIC)
    weights = connection.weights.toarray()
    squares = differences = declared = lost = 0
    for n in range(5):
        for m in range(6):
            if original.weights[n, m] != 0:
                declared += 1
                lost += weights[n, m] == 0
                squares += original.weights[n, m] ** 2
                differences += (weights[n, m] / group.scale - original.weights[n, m]) ** 2
    assert (
        (error.declared, error.lost)
        == (declared, lost)
        == (connection.declared, connection.declared - connection.stored)
    )
    assert error.weight_error == pytest.approx(math.sqrt(differences / squares) if declared else 0)
    thresholds = [
        abs(int(group.vth[n]) / group.scale - original.threshold[n]) / original.threshold[n] for n in range(5)
    ]
    assert error.threshold_error == pytest.approx(max(thresholds))
    decays = [abs((int(group.du[n]) + 1) / 4096 - original.du[n]) for n in range(5)]
    decays += [abs(int(group.dv[n]) / 4096 - original.dv[n]) for n in range(5)]
    assert error.decay_error == pytest.approx(max(decays))


def test_layer_without_weights_is_compiled():
    connection, group, error = quantise(layer(np.zeros((2, 3)), threshold=[1.0, 0.5]), "input", ARITHMETIC)
    assert connection.stored == 0
    assert group.vth.tolist() == [131_071, 65_536]
    assert (error.weight_error, error.declared, error.lost, error.headroom) == (0, 0, 0, 0)


def test_small_weights_that_round_to_zero_are_counted_as_lost():
    _, _, error = quantise(layer([[1.0, 0.003, -0.003, 0.0]]), "input", ARITHMETIC)
    assert (error.declared, error.lost) == (3, 2)


def currents(original, spikes):
    connection, group, error = quantise(original, "input", ARITHMETIC)
    steps, lines = spikes.shape[1:]
    program = Program("loihi2", lines, steps, 1e-3, (connection,), (group,))
    return run_integer(program, spikes, record_potentials=True).u["lif1"], error


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6))
def test_headroom_bounds_every_current(seed):
    rng = np.random.default_rng(seed)
    original = random_layer(seed)
    spikes = (rng.random((4, 60, 6)) < rng.random((4, 1, 1))).astype(np.uint8)
    spikes[0] = 1
    worst = (original.weights[np.argmax(np.abs(original.weights).sum(1))] > 0).astype(np.uint8)
    spikes[1], spikes[2] = worst, 1 - worst
    u, error = currents(original, spikes)
    assert np.abs(u).max() <= error.headroom * 2**23


def test_headroom_is_reached_when_the_worst_goes_on():
    spikes = np.tile(np.array([1, 0, 1], dtype=np.uint8), (1, 400, 1))
    u, error = currents(layer([[1.0, -1.0, 0.5]], du=1 / 16), spikes)
    assert error.headroom * 2**23 == (254 + 128) * 64 * 16
    assert 0.99 < np.abs(u).max() / (error.headroom * 2**23) <= 1


def test_current_without_decay_has_no_bound():
    assert quantise(layer([[1.0]], du=1e-6), "input", ARITHMETIC)[2].headroom == math.inf
