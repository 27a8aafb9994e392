"""Rounding to integers: the documented formulas, and every error measure against a loop."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from esl_neuro.backends.integer import run_integer
from esl_neuro.compiler import quantise as quantisation
from esl_neuro.compiler.compile import quantise_network
from esl_neuro.compiler.network import FloatConnection, FloatGroup, FloatNetwork
from esl_neuro.compiler.program import Program
from esl_neuro.compiler.quantise import Scaling, neurons_per_row, round_as_0_1_0
from esl_neuro.compiler.quantise import quantise as quantise_group
from esl_neuro.hardware import load_target
from esl_neuro.hardware.rounding import SPIKES, InputFormat, bias_format
from esl_neuro.nirgraph.kernel import Kernel

ARITHMETIC = load_target("loihi2").arithmetic
LARGEST_VTH = 2**15 - 1  # the potential has room for four thresholds below zero


@dataclass(frozen=True)
class Layer:
    """A group that one matrix feeds."""

    group: FloatGroup
    weights: np.ndarray

    def __getattr__(self, name):
        return getattr(self.group, name)


def quantise(original, source, arithmetic, **how):
    connection = FloatConnection(source, original.group.name, sp.csr_matrix(original.weights))
    (connection,), group, error = quantise_group(original.group, [connection], arithmetic, **how)
    return connection, group, error


def layer(weights, threshold=1.0, bias=0.0, du=1.0, dv=0.5):
    weights = np.array(weights, dtype=np.float64)
    size = weights.shape[0]
    values = [np.broadcast_to(np.asarray(value, dtype=np.float64), size).copy() for value in (bias, du, dv, threshold)]
    return Layer(FloatGroup("lif1", *values), weights)


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
    unit = 2.0**connection.weight_exp
    assert error.scale == np.median(group.scale)
    weights = connection.weights.toarray()
    for n, scale in enumerate(group.scale):
        for m in range(6):
            assert weights[n, m] % 2 == 0
            assert -254 <= weights[n, m] <= 254
            assert abs(weights[n, m] - scale / unit * original.weights[n, m]) <= 1 + 1e-9
        assert int(group.vth[n]) in nearest(scale * original.threshold[n])
        assert 0 <= group.vth[n] <= LARGEST_VTH
        assert int(group.du[n]) + 1 in nearest(4096 * original.du[n])
        assert int(group.dv[n]) in {min(dv, 4095) for dv in nearest(4096 * original.dv[n])}
    assert np.issubdtype(connection.weights.dtype, np.integer)
    assert all(getattr(group, key).dtype == np.int64 for key in ("du", "dv", "vth", "bias_mant", "bias_exp"))


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6))
def test_the_weights_of_each_row_use_their_range_unless_its_threshold_or_bias_needs_it(seed):
    original = random_layer(seed)
    connection, group, _ = quantise(original, "input", ARITHMETIC)
    rows = np.abs(connection.weights.toarray()).max(axis=1)
    bias = np.abs(group.bias_mant << group.bias_exp)
    for row, vth, of_bias in zip(rows, group.vth, bias, strict=True):
        assert row > 126 or row == 0 or vth > LARGEST_VTH / 2 or of_bias > 4095 * 64


def test_weights_of_one_strong_neuron_do_not_make_the_others_coarse():
    weights = np.random.default_rng(0).normal(0, 1, (6, 8))
    plain, _, _ = quantise(layer(weights), "input", ARITHMETIC)
    weights[0] *= 500
    strong, group, error = quantise(layer(weights), "input", ARITHMETIC)
    assert error.lost == 0
    assert np.array_equal(strong.weights.toarray()[1:], plain.weights.toarray()[1:])
    assert group.vth[0] < group.vth[1:].min() / 100


def test_one_high_threshold_does_not_make_the_others_coarse():
    weights = np.random.default_rng(0).normal(0, 1, (6, 8))
    plain, before, _ = quantise(layer(weights), "input", ARITHMETIC)
    threshold = np.ones(6)
    threshold[2] = 1e5
    high, group, _ = quantise(layer(weights, threshold=threshold), "input", ARITHMETIC)
    others = np.arange(6) != 2
    assert np.array_equal(high.weights.toarray()[others], plain.weights.toarray()[others])
    assert np.array_equal(group.vth[others], before.vth[others])
    assert LARGEST_VTH / 2 < group.vth[2] <= LARGEST_VTH


def test_largest_weight_uses_the_range_and_the_scale_makes_the_others_exact():
    connection, group, _ = quantise(layer([[0.5, -0.25], [0.1, 0]], threshold=2), "input", ARITHMETIC)
    assert connection.weights.toarray().tolist() == [[252, -126], [254, 0]]  # with 254, -127 would be odd
    assert group.scale.tolist() == pytest.approx([504, 2540])
    assert group.vth.tolist() == [1008, 5080]


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), unit=st.sampled_from([0.5, 0.013, 7.0]))
def test_numbers_that_are_whole_numbers_already_stay_exact(seed, unit):
    """Whatever their largest is: there is a scale, and the search finds it."""
    rng = np.random.default_rng(seed)
    weights = unit * rng.integers(-127, 128, (5, 40)) * (rng.random((5, 40)) < 0.5)
    original = layer(weights, threshold=unit * rng.integers(50, 400, 5))
    connection, group, error = quantise(original, "input", ARITHMETIC)
    assert error.weight_error < 1e-9
    assert error.threshold_error < 1e-9
    np.testing.assert_allclose(connection.weights.toarray() / group.scale[:, None], weights, atol=1e-9 * unit)


def test_threshold_that_would_not_fit_lowers_the_exponent_not_the_weights():
    connection, group, _ = quantise(layer([[0.01, -0.005]], threshold=100.0), "input", ARITHMETIC)
    assert connection.weight_exp == -7
    assert connection.weights.toarray().tolist() == [[248, -124]]
    assert group.vth.tolist() == [19_375]  # twice as much would leave too little room below zero


def test_threshold_beyond_all_exponents_bounds_the_scale():
    connection, group, _ = quantise(layer([[0.01, -0.005]], threshold=10_000.0), "input", ARITHMETIC)
    assert connection.weight_exp == -8
    assert connection.weights.toarray().tolist() == [[8, -4]]
    assert group.vth[0] == pytest.approx(8 / 256 / 0.01 * 10_000, rel=0.01)


def wide(sources, threshold, du=1.0):
    """One neuron whose sources all push the same way, another that half of them hold back."""
    weights = np.full((2, sources), 0.5)
    weights[1, ::2] = -0.5
    return layer(weights, threshold=threshold, du=du, dv=1.0)


@pytest.mark.parametrize(
    ("sources", "du", "exponent"), [(516, 1.0, 0), (517, 1.0, -1), (4000, 1.0, -3), (516, 0.25, -2)]
)
def test_a_current_that_might_wrap_lowers_the_exponent_until_it_cannot(sources, du, exponent):
    original = wide(sources, 50.0, du)  # a current of 100 weights
    connection, group, error = quantise(original, "input", ARITHMETIC, steps=60)
    assert connection.weight_exp == exponent
    assert np.abs(connection.weights.toarray()).min() == 254
    assert error.headroom <= 1
    spikes = (np.random.default_rng(0).random((3, 60, sources)) < 0.3).astype(np.uint8)
    spikes[0] = 1
    program = Program("loihi2", sources, 60, 1e-3, (connection,), (group,))
    got = run_integer(program, spikes, record_potentials=True).u["lif1"] / group.scale / 64
    wanted = np.zeros((3, 2))
    for step in range(60):
        wanted = (1 - du) * wanted + spikes[:, step] @ original.weights.T
        assert (np.abs(got[:, step] - wanted) < 2 / du / group.scale).all()  # rounded down, and truncated


def test_room_for_all_spikes_at_once_is_worth_more_than_a_fine_threshold_as_long_as_it_is_32():
    connection, group, error = quantise(wide(4000, 3.0), "input", ARITHMETIC)
    assert (connection.weight_exp, group.vth.tolist()) == (-3, [189] * 2)
    assert error.headroom <= 1
    connection, group, error = quantise(wide(4000, 0.3), "input", ARITHMETIC)
    assert connection.weight_exp == -2
    assert group.vth.min() >= 32
    assert error.headroom > 1


def test_a_wide_layer_that_wrapped_fires_as_in_floating_point():
    """1,600 positive weights, most sources active: the current was twice the range, and nothing fired."""
    rng = np.random.default_rng(0)
    original = layer(rng.uniform(0.5, 1, (8, 1600)), threshold=1.0, dv=0.5)
    connection, group, _ = quantise(original, "input", ARITHMETIC, steps=20)
    spikes = (rng.random((3, 20, 1600)) < 0.95).astype(np.uint8)
    program = Program("loihi2", 1600, 20, 1e-3, (connection,), (group,))
    assert run_integer(program, spikes).spikes["lif1"].all()


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


@pytest.mark.parametrize(("bias", "levels"), [(0.5, 120), (30.0, 8), (300.0, 1)])
def test_a_large_bias_lowers_exponent_or_scale_and_is_not_clipped(bias, levels):
    connection, group, _ = quantise(layer([[0.3]], bias=bias), "input", ARITHMETIC)
    assert (group.bias_mant << group.bias_exp)[0] / 64 / group.scale[0] == pytest.approx(bias, rel=0.01)
    assert connection.weights.toarray().item() // 2 >= levels


def test_clipped_bias_of_a_readout_is_reported():
    original = layer([[0.001]], bias=0.5, threshold=np.inf)
    _, group, error = quantise(original, "input", ARITHMETIC)
    assert group.bias_mant[0] << group.bias_exp[0] < 0.5 * original.bias[0] * group.scale[0] * 64
    assert error.bias_error > 0.1


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6))
def test_errors_equal_a_loop(seed):
    original = random_layer(seed)
    connection, group, error = quantise(original, "input", ARITHMETIC)
    weights = connection.weights.toarray() * 2.0**connection.weight_exp
    squares = differences = declared = lost = 0
    for n in range(5):
        for m in range(6):
            if original.weights[n, m] != 0:
                declared += 1
                lost += weights[n, m] == 0
                squares += original.weights[n, m] ** 2
                differences += (weights[n, m] / group.scale[n] - original.weights[n, m]) ** 2
    assert (
        (error.declared, error.lost)
        == (declared, lost)
        == (connection.declared, connection.declared - connection.stored)
    )
    assert error.weight_error == pytest.approx(math.sqrt(differences / squares) if declared else 0)
    thresholds = [
        abs(int(group.vth[n]) / group.scale[n] - original.threshold[n]) / original.threshold[n] for n in range(5)
    ]
    assert error.threshold_error == pytest.approx(max(thresholds))
    decays = [abs((int(group.du[n]) + 1) / 4096 - original.du[n]) for n in range(5)]
    decays += [abs(int(group.dv[n]) / 4096 - original.dv[n]) for n in range(5)]
    assert error.decay_error == pytest.approx(max(decays))


def test_layer_without_weights_is_compiled():
    connection, group, error = quantise(layer(np.zeros((2, 3)), threshold=[1.0, 0.5]), "input", ARITHMETIC)
    assert connection.stored == 0
    assert group.vth.tolist() == [LARGEST_VTH] * 2
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
    assert error.headroom * 2**23 == (252 + 126) * 64 * 16
    assert 0.99 < np.abs(u).max() / (error.headroom * 2**23) <= 1


def test_current_without_decay_has_no_bound():
    assert quantise(layer([[1.0]], du=1e-6), "input", ARITHMETIC)[2].headroom == math.inf


def test_group_without_weights_keeps_its_bias():
    _, group, error = quantise(layer(np.zeros((1, 3)), threshold=0.5, bias=1.0), "input", ARITHMETIC)
    assert group.bias_mant[0] << group.bias_exp[0] == 4095 << 7
    assert group.vth[0] == 4095  # half of it
    assert error.bias_error == 0


def several(matrices, threshold=1.0):
    size = len(matrices[0])
    one = np.ones(size)
    group = FloatGroup("lif1", 0 * one, one, one / 2, threshold * one)
    return group, [FloatConnection(f"s{index}", "lif1", sp.csr_matrix(np.array(w))) for index, w in enumerate(matrices)]


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6))
def test_connections_of_a_group_share_the_scales_and_use_the_whole_range(seed):
    rng = np.random.default_rng(seed)
    matrices = [10 ** rng.uniform(-2, 0) * rng.uniform(-1, 1, (4, 3)) for _ in range(3)]
    group, incoming = several(matrices)
    connections, rounded, _ = quantise_group(group, incoming, ARITHMETIC)
    strongest = np.max([np.abs(w).max(axis=1) for w in matrices], axis=0)
    highest = max(each.weight_exp for each in connections)
    used = rounded.scale * strongest / 2.0**highest
    assert ((used > 127) & (used < 254 + 1e-9)).all()
    for w, connection in zip(matrices, connections, strict=True):
        unit = 2.0**connection.weight_exp / rounded.scale[:, None]
        assert (np.abs(connection.matrix.toarray() * unit - w) <= unit * (1 + 1e-9)).all()
        assert connection.weight_exp == highest or np.abs(connection.matrix.data).max() > 62
        assert -1 <= connection.weight_exp <= 7  # so no sum is rounded


def test_exponent_of_a_weak_connection_by_hand():
    """The strongest goes up to 7, so that the sums of the weakest are exact."""
    group, incoming = several([[[1.0]], [[0.25]], [[0.3]], [[0.0001]], [[0.0]]])
    connections, rounded, _ = quantise_group(group, incoming, ARITHMETIC)
    assert [each.weight_exp for each in connections] == [7, 5, 6, -1, 7]
    wanted = np.array([1.0, 0.25, 0.3, 0.0001, 0.0]) * rounded.scale
    found = [each.matrix.toarray().item() * 2.0**each.weight_exp for each in connections]
    assert np.abs(found - wanted).max() <= 2**7


def test_the_sums_of_a_weak_path_are_exact():
    """A path that is weaker by 2**-6 into a neuron without leak: it was rounded down in each step."""
    one = np.ones(1)
    group = FloatGroup("if", 0 * one, one, 0 * one, one)
    incoming = [FloatConnection("input", "if", sp.csr_matrix([[0.0, 0.3 / 64]]))]
    incoming.append(FloatConnection("input", "if", sp.csr_matrix([[0.3, 0.0]]), 1))
    connections, rounded, _ = quantise_group(group, incoming, ARITHMETIC, steps=4000)
    spikes = np.zeros((1, 4000, 2), dtype=np.uint8)
    spikes[0, :, 1] = np.random.default_rng(0).random(4000) < 0.1
    program = Program("loihi2", 2, 4000, 1e-3, connections, (rounded,))
    fired = run_integer(program, spikes).spikes["if"].sum()
    assert fired == pytest.approx(spikes.sum() * 0.3 / 64, abs=1)


@pytest.mark.parametrize(("du", "exponent"), [(1.0, -3), (0.25, -5)])
def test_a_bias_makes_up_for_sums_that_are_rounded_down(du, exponent):
    original = wide(4000, 50.0, du)
    original = layer(original.weights * np.random.default_rng(0).uniform(0.5, 1, 4000), 50.0, du=du, dv=0.1)
    connection, group, error = quantise(original, "input", ARITHMETIC, steps=2000)
    assert connection.weight_exp == exponent
    half = 32 * (1 - 2.0 ** (exponent + 1)) / du
    assert (group.bias_mant << group.bias_exp).tolist() == pytest.approx([half] * 2, rel=0.01)
    assert error.bias_error < 1e-3
    spikes = (np.random.default_rng(1).random((2, 2000, 4000)) < 0.02).astype(np.uint8)
    silent = replace(group, vth=np.full(2, 2**17 - 1))
    program = Program("loihi2", 4000, 2000, 1e-3, (connection,), (silent,))
    got = run_integer(program, spikes, record_potentials=True).v["lif1"] / 64
    arriving = spikes @ (connection.weights.toarray() * 2.0**exponent).T
    u = v = np.zeros((2, 2))
    errors = []
    for step in range(2000):
        u = u * (4095 - group.du) / 4096 + arriving[:, step]
        v = v * (4096 - group.dv) / 4096 + u
        errors.append(got[:, step] - v)
    assert np.abs(np.mean(errors, axis=(0, 1))).max() < 0.05 * half / 64 / 0.1  # without the bias, half / 64 / 0.1


def test_no_bias_makes_a_neuron_fire_by_itself():
    one = np.ones(1)
    group = FloatGroup("if", 0 * one, one, 0 * one, one * 0.3)
    incoming = [FloatConnection("input", "if", sp.csr_matrix(np.full((1, 40_000), 0.5)))]
    (connection,), rounded, _ = quantise_group(group, incoming, ARITHMETIC, steps=1000)
    assert connection.weight_exp < -1
    assert rounded.bias_mant[0] == 0
    assert quantise_group(group, incoming, ARITHMETIC, steps=20)[1].bias_mant[0] > 0


@pytest.mark.parametrize(("dv", "bias"), [(1.0, 0.0), (1.0, 0.125), (0.0, 0.0)])
def test_ties_and_near_ties_of_neurons_without_memory_or_leak_are_those_of_floating_point(dv, bias):
    """Weights of 0.5, thresholds that are multiples of it or not: a spike needs more than the threshold."""
    threshold = np.array([0.5, 1.0, 1.5, 2.0, 0.6, 0.74, 0.76, 1.1])
    original = layer(np.full((8, 8), 0.5), threshold=threshold, dv=dv, bias=bias)
    connection, group, error = quantise(original, "input", ARITHMETIC, steps=200)
    assert error.threshold_error == 0
    spikes = (np.random.default_rng(0).random((3, 200, 8)) < 0.3).astype(np.uint8)
    program = Program("loihi2", 8, 200, 1e-3, (connection,), (group,))
    fired = run_integer(program, spikes).spikes["lif1"]
    v = np.zeros((3, 8))
    for step in range(200):
        v = (1 - dv) * v + spikes[:, step] @ original.weights.T + bias
        assert np.array_equal(fired[:, step], v > threshold)
        v[v > threshold] = 0
    assert 100 < fired.sum() < 4000


def test_a_kernel_has_one_scale_for_each_channel():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(3, 2, 3, 3)) * [[[[1]]], [[[0.01]]], [[[100]]]]
    kernel = Kernel(weights, (2, 5, 4), padding=(1, 1))
    size = kernel.shape[0]
    group = FloatGroup("lif1", rng.normal(0, 0.1, size), np.ones(size), np.full(size, 0.5), rng.uniform(1, 2, size))
    (ours,), rounded, error = quantise_group(group, [FloatConnection("input", "lif1", kernel)], ARITHMETIC)
    channels = rounded.scale.reshape(3, -1)
    assert (channels == channels[:, :1]).all()
    assert ours.weights.weights.dtype == np.int32
    assert (np.abs(ours.weights.weights).max(axis=(1, 2, 3)) > 126).all()
    wanted = sp.diags(rounded.scale) @ kernel.matrix()
    assert np.abs((ours.matrix * 2.0**ours.weight_exp - wanted).data).max() <= 1 + 1e-9
    assert (error.declared, error.lost) == (kernel.nnz, kernel.nnz - ours.stored)
    assert (np.abs(rounded.vth - rounded.scale * group.threshold) <= 0.5 + 1e-9).all()


def test_kernels_of_other_sizes_into_one_group_share_what_either_shares():
    one = np.ones(12)
    kernels = [Kernel(np.ones((3, 1, 1, 1)), (1, 2, 2)), Kernel(np.ones((2, 1, 1, 1)), (1, 2, 3))]
    incoming = [FloatConnection(f"s{index}", "lif1", kernel) for index, kernel in enumerate(kernels)]
    assert neurons_per_row(incoming) == 12
    _, rounded, _ = quantise_group(FloatGroup("lif1", 0 * one, one, one / 2, np.arange(1.0, 13)), incoming, ARITHMETIC)
    assert len(set(rounded.scale)) == 1


def other_chip(**registers):
    return ARITHMETIC.model_copy(update=registers)


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6))
def test_a_chip_with_one_threshold_for_a_group_gets_one_and_scales_the_weights_instead(seed):
    original = random_layer(seed)
    connection, group, error = quantise(original, "input", other_chip(thresholds_per="group"))
    assert len(set(group.vth)) == 1
    np.testing.assert_allclose(group.scale * original.threshold, group.vth[0])
    assert error.threshold_error < 1e-9
    assert np.abs(connection.weights.toarray()).max() <= 254


def test_a_chip_with_one_threshold_for_a_group_gets_one_for_neurons_without_memory():
    rng = np.random.default_rng(3)
    original = layer(rng.normal(0, 0.4, (9, 20)), threshold=rng.uniform(0.1, 2, 9), dv=1.0)
    (_, own, _), (_, one, error) = (
        quantise(original, "input", chip) for chip in (ARITHMETIC, other_chip(thresholds_per="group"))
    )
    assert len(set(own.vth)) > 1
    assert len(set(one.vth)) == 1
    assert error.threshold_error < 1e-9


def test_a_chip_with_one_exponent_for_a_group_gets_one():
    group, incoming = several([[[1.0]], [[0.01]]])
    connections, _, _ = quantise_group(group, incoming, other_chip(weight_exp_per="group"))
    assert [each.weight_exp for each in connections] == [0, 0]


@pytest.mark.parametrize("bits", [4, 8, 12])
def test_graded_input_never_leaves_the_range_and_weights_stay_fine(bits):
    rng = np.random.default_rng(bits)
    payload = InputFormat(bits, 2**bits - 1)
    original = layer(rng.normal(0, 0.5, (6, 20)), du=0.5)
    connection, group, error = quantise(original, "input", ARITHMETIC, steps=8, payload=payload)
    assert error.headroom <= 1
    assert error.weight_error < 0.02
    unit = 2.0**connection.weight_exp / group.scale[:, None]
    np.testing.assert_allclose(connection.matrix.toarray() * unit * payload.scale, original.weights, atol=0.02)


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), steps=st.integers(1, 12), dv=st.sampled_from([0.0, 0.25, 1.0]))
def test_a_group_that_is_read_never_fires_whatever_arrives(seed, steps, dv):
    rng = np.random.default_rng(seed)
    original = layer(rng.normal(0, 1, (3, 9)), bias=rng.normal(0, 0.1, 3), dv=dv, threshold=np.inf)
    connection, group, error = quantise(original, "input", ARITHMETIC, steps=steps)
    assert group.vth.tolist() == [131_071] * 3
    assert error.threshold_error == 0
    worst = [(original.weights[row] * sign > 0) for row in range(3) for sign in (1, -1)]
    spikes = np.repeat(np.array(worst, dtype=np.uint8)[:, None], steps, axis=1)
    program = Program("loihi2", 9, steps, 1e-3, (connection,), (group,))
    assert run_integer(program, spikes).spikes["lif1"].sum() == 0


def test_scaling_departs_from_the_formula():
    original = layer([[0.5, -0.25]])
    _, by_formula, _ = quantise(original, "input", ARITHMETIC)
    connection, group, _ = quantise(original, "input", ARITHMETIC, scaling=Scaling(2.0, 1))
    assert np.array_equal(group.scale, 2 * by_formula.scale)
    assert (connection.weight_exp, connection.matrix.toarray().tolist()) == (1, [[252, -126]])
    connection, _, _ = quantise(original, "input", ARITHMETIC, scaling=Scaling(2.0, 0))
    assert connection.matrix.toarray().tolist() == [[254, -252]]  # the largest one is clipped


def test_a_bias_beside_graded_input_is_not_clipped():
    """The scale of graded weights is free, because negative exponents keep them fine."""
    weights = sp.csr_matrix(np.array([[0.01, 0.02]]))
    one = np.ones(1)
    group = FloatGroup("lif1", bias=0.9 * one, du=one, dv=0.5 * one, threshold=one)
    incoming = [FloatConnection("input", "lif1", weights, 2)]
    _, rounded, error = quantise_group(group, incoming, ARITHMETIC, 4, InputFormat(8, 255.0))
    assert error.bias_error < 0.01
    assert error.weight_error < 0.02
    assert (rounded.bias_mant << rounded.bias_exp)[0] / 64 / rounded.scale[0] == pytest.approx(0.9, abs=0.01)


def one_spike_each(rng, sources, du):
    """Neurons without leak that excite many sources a little, and that inhibit themselves as a whole."""
    weights = rng.uniform(-0.2, 1, (3, sources)) * 2.5 / sources
    size = np.ones(3)
    group = FloatGroup("lif1", 0 * size, du * size, 0 * size, size)
    inhibition = sp.diags(-np.maximum(weights, 0).sum(1)).tocsr()
    incoming = [
        FloatConnection("input", "lif1", sp.csr_matrix(weights * du)),
        FloatConnection("lif1", "lif1", inhibition * du, delay=1),
    ]
    return group, incoming, weights


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), du=st.sampled_from([0.18, 0.095, 0.0198, 0.00995]))
def test_potential_of_single_spikes_is_that_of_exact_arithmetic(seed, du):
    """However many steps the spikes come in: sums that were rounded down in each of them would add up."""
    rng = np.random.default_rng(seed)
    group, incoming, weights = one_spike_each(rng, 200, du)
    connections, rounded, error = quantise_group(group, incoming, ARITHMETIC, steps=500, single_spikes=True)
    assert all(-1 <= each.weight_exp <= 7 for each in connections)
    assert error.headroom <= 1
    silent = replace(rounded, vth=np.full(3, 2**17 - 1))  # K S is below, so nothing fires
    program = Program("loihi2", 200, 500, 1e-3, connections, (silent,))
    arrival = rng.integers(0, 400, (4, 200))
    spikes = (np.arange(500)[:, None] == arrival[:, None]).astype(np.uint8)
    run = run_integer(program, spikes, record_potentials=True)
    assert run.spikes["lif1"].sum() == 0
    passed = np.maximum(np.arange(500)[:, None] + 1 - arrival[:, None], 0)
    exact = (1 - (1 - du) ** passed) @ weights.T
    errors = run.v["lif1"] / rounded.scale / 64 - exact
    assert np.abs(errors.mean((0, 1))).max() < 0.02  # of the threshold


def test_scale_of_single_spikes_uses_the_range_of_the_potential():
    group, incoming, _ = one_spike_each(np.random.default_rng(0), 200, 0.0198)
    _, rounded, error = quantise_group(group, incoming, ARITHMETIC, steps=500, single_spikes=True)
    _, without, _ = quantise_group(group, incoming, ARITHMETIC, steps=500)
    assert (rounded.scale > 4 * without.scale).all()
    assert 0.9 < error.headroom <= 1


def test_scale_of_single_spikes_leaves_room_for_thresholds():
    group, incoming, _ = one_spike_each(np.random.default_rng(0), 20, 0.1)
    high = replace(group, threshold=100 * group.threshold)
    assert quantise_group(high, incoming, ARITHMETIC, single_spikes=True)[1].vth.tolist() == [2**17 - 1] * 3


@pytest.mark.parametrize("seed", range(3))
def test_version_0_1_0_rounded_thresholds_to_the_nearest_integer_and_biases_as_they_are(seed):
    """Its scales and exponents are those of the stored program, of one neuron or of all."""
    first, second = random_layer(seed), random_layer(seed + 10, size=3, fan_in=5)
    groups = (replace(first.group, name="a"), replace(second.group, name="b"))
    links = tuple(
        FloatConnection(source, target, sp.csr_matrix(weights), delay)
        for source, target, weights, delay in (("input", "a", first.weights, 0), ("a", "b", second.weights, 2))
    )
    network = FloatNetwork((6,), 1e-3, groups, links)
    stored, _ = quantise_network(network, "loihi2", ARITHMETIC, 8, SPIKES)
    connections, rounded = round_as_0_1_0(network, stored, SPIKES)
    for got, now, wanted in zip(connections, stored.connections, links, strict=True):
        assert (got.source, got.target, got.delay) == (wanted.source, wanted.target, wanted.delay)
        assert (got.weight_exp, got.declared) == (now.weight_exp, wanted.weights.nnz)
        assert got.weights.toarray().tolist() == now.weights.toarray().tolist()
        assert got.weights.dtype == np.int32
    for got, now, wanted in zip(rounded, stored.groups, groups, strict=True):
        assert got.name == wanted.name
        assert np.array_equal(got.scale, now.scale)
        assert got.du.tolist() == np.rint(4096 * wanted.du - 1).tolist()
        assert got.dv.tolist() == np.minimum(np.rint(4096 * wanted.dv), 4095).tolist()
        assert got.vth.tolist() == np.clip(np.rint(now.scale * wanted.threshold), 0, 2**17 - 1).tolist()
        mantissa, exponent = bias_format(64 * now.scale * wanted.bias, ARITHMETIC)
        assert (got.bias_mant.tolist(), got.bias_exp.tolist()) == (mantissa.tolist(), exponent.tolist())
        assert {getattr(got, name).dtype for name in ("du", "dv", "vth", "bias_mant", "bias_exp")} == {
            np.dtype("int64")
        }


@pytest.mark.parametrize("coarser", [1, 2, 3])
def test_as_many_scales_are_tried_as_the_budget_allows(coarser, monkeypatch):
    """Every weight meets every scale between 1/2 and 1 of the range, each an even weight apart if there is time."""
    weights, largest, calls = np.random.default_rng(0).uniform(0.1, 1, (6, 10)), ARITHMETIC.weight_max, []
    assert (largest, ARITHMETIC.weight_step) == (254, 2)
    sums_of_rows = quantisation._sums_of_rows
    monkeypatch.setattr(quantisation, "_sums_of_rows", lambda *given: (calls.append(1), sums_of_rows(*given))[1])
    monkeypatch.setattr(quantisation, "MOST_TRIED", weights.size * (largest // 2 // 2) // coarser)
    quantise(layer(weights), "input", ARITHMETIC)
    tried = len(calls) // 2  # sums, and sums of squares
    assert tried == len(range(largest, largest // 2, -2 * coarser))
