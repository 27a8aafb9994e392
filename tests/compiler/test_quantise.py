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
from esl_neuro.compiler.network import FloatConnection, FloatGroup
from esl_neuro.compiler.program import Program
from esl_neuro.compiler.quantise import Scaling
from esl_neuro.compiler.quantise import quantise as quantise_group
from esl_neuro.hardware import load_target
from esl_neuro.hardware.rounding import InputFormat, bias_format
from esl_neuro.nirgraph.kernel import Kernel

ARITHMETIC = load_target("loihi2").arithmetic


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
    largest = np.abs(original.weights).max()
    by_threshold = (2**17 - 1) / original.threshold.max()
    unit = 2.0**connection.weight_exp
    scale = min(254 * unit / largest, by_threshold) if largest else by_threshold
    assert unit == 1 or original.threshold.max() * 254 * 2 * unit / largest > 2**17 - 1  # the next one does not fit
    assert group.scale == error.scale == pytest.approx(scale, rel=1e-15)
    weights = connection.weights.toarray()
    for n in range(5):
        for m in range(6):
            assert weights[n, m] % 2 == 0
            assert -254 <= weights[n, m] <= 254
            assert abs(weights[n, m] - scale / unit * original.weights[n, m]) <= 1 + 1e-9
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


def test_threshold_that_would_not_fit_lowers_the_exponent_not_the_weights():
    connection, group, _ = quantise(layer([[0.01, -0.005]], threshold=100.0), "input", ARITHMETIC)
    assert connection.weight_exp == -5
    assert connection.weights.toarray().tolist() == [[254, -128]]
    assert group.scale == pytest.approx(254 / 0.01 / 32)
    assert group.vth.tolist() == [79_375]  # twice as much would be beyond 131,071


def test_threshold_beyond_all_exponents_bounds_the_scale():
    connection, group, _ = quantise(layer([[0.01, -0.005]], threshold=10_000.0), "input", ARITHMETIC)
    assert (connection.weight_exp, group.vth.tolist()) == (-8, [131_071])
    assert group.scale == pytest.approx(13.1071)
    assert connection.weights.toarray().tolist() == [[34, -16]]


def wide(sources, threshold, du=1.0):
    """One neuron whose sources all push the same way, another that half of them hold back."""
    weights = np.full((2, sources), 0.5)
    weights[1, ::2] = -0.5
    return layer(weights, threshold=threshold, du=du, dv=1.0)


@pytest.mark.parametrize(
    ("sources", "du", "exponent"), [(516, 1.0, 0), (517, 1.0, -1), (4000, 1.0, -3), (516, 0.25, -2)]
)
def test_a_current_that_might_wrap_lowers_the_exponent_until_it_cannot(sources, du, exponent):
    original = wide(sources, 100.0, du)  # a current of 200 weights
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
        assert np.abs(got[:, step] - wanted).max() < 2 / du / group.scale  # rounded down, and truncated


def test_a_fine_threshold_is_worth_more_than_room_for_all_spikes_at_once():
    connection, group, error = quantise(wide(4000, 3.0), "input", ARITHMETIC)
    assert (connection.weight_exp, group.vth.tolist()) == (-2, [381] * 2)  # half of it would be coarser than weights
    assert error.headroom > 1


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
    weights = connection.weights.toarray() * 2.0**connection.weight_exp
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
def test_connections_of_a_group_share_its_scale_and_use_the_whole_range(seed):
    rng = np.random.default_rng(seed)
    matrices = [10 ** rng.uniform(-2, 0) * rng.uniform(-1, 1, (4, 3)) for _ in range(3)]
    group, incoming = several(matrices)
    connections, rounded, _ = quantise_group(group, incoming, ARITHMETIC)
    strongest = max(np.abs(w).max() for w in matrices)
    assert rounded.scale == pytest.approx(254 / strongest)
    for w, connection in zip(matrices, connections, strict=True):
        unit = 2.0**connection.weight_exp / rounded.scale
        assert np.abs(connection.matrix.toarray() * unit - w).max() <= unit * (1 + 1e-9)
        assert connection.weight_exp == 0 or np.abs(connection.matrix.data).max() >= 126
        assert -8 <= connection.weight_exp <= 0


def test_exponent_of_a_weak_connection_by_hand():
    group, incoming = several([[[1.0]], [[0.25]], [[0.3]], [[0.0001]], [[0.0]]])
    connections, _, _ = quantise_group(group, incoming, ARITHMETIC)
    assert [each.weight_exp for each in connections] == [0, -2, -1, -8, 0]
    assert [each.matrix.toarray().item() for each in connections] == [254, 254, 152, 6, 0]


def test_kernel_is_rounded_as_its_matrix():
    rng = np.random.default_rng(0)
    kernel = Kernel(rng.normal(size=(3, 2, 3, 3)), (2, 5, 4), padding=(1, 1))
    size = kernel.shape[0]
    group = FloatGroup("lif1", rng.normal(0, 0.1, size), np.ones(size), np.full(size, 0.5), np.ones(size))
    (ours,), rounded, error = quantise_group(group, [FloatConnection("input", "lif1", kernel)], ARITHMETIC)
    (matrix,), again, expected = quantise_group(group, [FloatConnection("input", "lif1", kernel.matrix())], ARITHMETIC)
    assert ours.weights.weights.dtype == np.int32
    assert (ours.matrix != matrix.matrix).nnz == 0
    assert (error.declared, error.lost) == (expected.declared, expected.lost)
    assert error.declared == kernel.nnz
    assert np.array_equal(rounded.vth, again.vth)
    assert error.headroom >= expected.headroom > 0.9 * error.headroom  # the border is bounded by the middle


@pytest.mark.parametrize("bits", [4, 8, 12])
def test_graded_input_never_leaves_the_range_and_weights_stay_fine(bits):
    rng = np.random.default_rng(bits)
    payload = InputFormat(bits, 2**bits - 1)
    original = layer(rng.normal(0, 0.5, (6, 20)), du=0.5)
    connection, group, error = quantise(original, "input", ARITHMETIC, steps=8, payload=payload)
    assert error.headroom <= 1
    assert error.weight_error < 0.02
    unit = 2.0**connection.weight_exp / group.scale
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
    assert group.scale == 2 * by_formula.scale
    assert (connection.weight_exp, connection.matrix.toarray().tolist()) == (1, [[254, -128]])
    connection, _, _ = quantise(original, "input", ARITHMETIC, scaling=Scaling(2.0, 0))
    assert connection.matrix.toarray().tolist() == [[254, -254]]  # the largest one is clipped


def test_a_bias_beside_graded_input_is_not_clipped():
    """The scale of graded weights is free, because negative exponents keep them fine."""
    weights = sp.csr_matrix(np.array([[0.01, 0.02]]))
    one = np.ones(1)
    group = FloatGroup("lif1", bias=0.9 * one, du=one, dv=0.5 * one, threshold=one)
    incoming = [FloatConnection("input", "lif1", weights, 2)]
    _, rounded, error = quantise_group(group, incoming, ARITHMETIC, 4, InputFormat(8, 255.0))
    assert error.bias_error < 0.01
    assert error.weight_error < 0.02
    assert (rounded.bias_mant << rounded.bias_exp)[0] / 64 / rounded.scale == pytest.approx(0.9, abs=0.01)


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
    assert rounded.scale > 5 * without.scale
    assert 0.9 < error.headroom <= 1


def test_scale_of_single_spikes_leaves_room_for_thresholds():
    group, incoming, _ = one_spike_each(np.random.default_rng(0), 20, 0.1)
    high = replace(group, threshold=100 * group.threshold)
    assert quantise_group(high, incoming, ARITHMETIC, single_spikes=True)[1].vth.tolist() == [2**17 - 1] * 3
