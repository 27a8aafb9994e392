"""The integer simulator against loops over Python integers that are written from the equations alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.oracle import M, expected_run, extremes
from backends.random_programs import (
    KINDS,
    kernel_of_any_geometry,
    random_graph,
    random_group,
    random_program,
    random_spikes,
    random_weights,
)
from esl_neuro.backends import event_tables
from esl_neuro.backends.integer import count_integer, run_integer
from esl_neuro.backends.trace import first_difference
from esl_neuro.compiler.program import INPUT, Connection, Group, Program
from esl_neuro.errors import BadInput
from esl_neuro.nirgraph.kernel import Kernel


def assert_equals_oracle(program, spikes):
    trace = run_integer(program, spikes, record_potentials=True)
    expected = expected_run(program, spikes)
    for computed, wanted in ((trace.spikes, expected.spikes), (trace.u, expected.u), (trace.v, expected.v)):
        assert list(computed) == list(wanted)
        for name, values in wanted.items():
            assert computed[name].tolist() == values, name
    if program.readout == "potential":
        assert trace.potential.tolist() == [sample[-1] for sample in expected.v[program.output.name]]
    else:
        assert trace.potential is None
    assert extremes(program, trace) == (expected.wraps, expected.saturations)
    assert_counts_equal(program, spikes, trace, expected)
    return expected


def assert_counts_equal(program, spikes, trace, expected):
    counted = count_integer(program, spikes)
    counts = counted.counts
    assert first_difference(trace, counted) is None
    for k, (connection, found) in enumerate(zip(program.connections, counts.connections, strict=True)):
        assert (found.source, found.target) == (connection.source, connection.target)
        exact = (found.spikes_in, found.sop_effective, found.neuron_updates_touched, found.neuron_updates_idle)
        assert all(values.dtype == np.int64 for values in exact)
        assert found.spikes_in.sum(axis=1).tolist() == expected.events[k]
        assert found.sop_effective.sum(axis=1).tolist() == expected.operations[k]
        assert found.neuron_updates_touched.sum(axis=1).tolist() == expected.touched[k]
        neurons = trace.spikes[connection.target].shape[2]
        assert (found.neuron_updates_touched + found.neuron_updates_idle == neurons).all()
    for name, values in trace.spikes.items():
        assert counts.spikes_out[name].tolist() == values.sum(axis=2).tolist()
        assert counts.spikes_out[name].dtype == np.int64


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(KINDS), extreme=st.booleans())
def test_random_programs_of_every_kind(seed, kind, extreme):
    rng = np.random.default_rng(seed)
    program = random_graph(rng, kind, extreme, widest=12)
    assert_equals_oracle(program, random_spikes(rng, program, samples=2))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "compiled"])  # whose scales prevent both
def test_wrap_and_saturation_are_met(kind):
    wraps = saturations = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        program = random_graph(rng, kind, extreme=True, steps=12, widest=20)
        expected = assert_equals_oracle(program, random_spikes(rng, program, samples=1, rate=0.5))
        wraps, saturations = wraps + expected.wraps, saturations + expected.saturations
    assert min(wraps, saturations) > 0


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows_from=st.sampled_from([0.0, 0.3, 2.0]))
def test_how_synapses_are_stored_does_not_matter(seed, rows_from):
    rng = np.random.default_rng(seed)
    program = random_graph(rng, "everything", widest=80)
    spikes = random_spikes(rng, program, samples=1)
    expected = count_integer(program, spikes)
    expected_counts = expected.counts
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_tables, "ROWS_FROM", rows_from)
        found = count_integer(program, spikes)
        found_counts = found.counts
    assert first_difference(expected, found) is None
    for one, two in zip(expected_counts.connections, found_counts.connections, strict=True):
        assert one.sop_effective.tolist() == two.sop_effective.tolist()
        assert one.neuron_updates_touched.tolist() == two.neuron_updates_touched.tolist()


IMAGES, ROWS = 0.0, 1e9  # cost of adding images: always, never


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cost=st.sampled_from([IMAGES, ROWS]))
def test_random_convolutions_by_images_and_by_rows(seed, cost):
    """Pooled or not, strided, dilated, padded, grouped and sparse, with delays and exponents, in every way."""
    rng = np.random.default_rng(seed)
    first = kernel_of_any_geometry(rng)
    program = convolutions(rng, first, random_kernel_of(rng, first.output_shape))
    spikes = random_spikes(rng, program, samples=2, rate=rng.choice([0.1, 0.6]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_tables, "IMAGES_COST", cost)
        assert_equals_oracle(program, spikes)


def random_kernel_of(rng, shape):
    """A kernel from this shape that keeps the size of the image."""
    weights = 2 * rng.integers(-127, 128, (int(rng.integers(1, 4)), shape[0], 3, 3))
    sparse = (weights * (rng.random(weights.shape) < 0.4)).astype(np.int32)
    return Kernel(sparse, shape, padding=(1, 1))


def convolutions(rng, first, second):
    names, kernels = ["first", "second"], [first, second]
    groups = tuple(random_group(rng, name, kernel.shape[0]) for name, kernel in zip(names, kernels, strict=True))
    connections = tuple(
        Connection(source, name, kernel, int(rng.integers(-8, 4)), kernel.nnz, int(rng.integers(0, 3)))
        for source, name, kernel in zip([INPUT, "first"], names, kernels, strict=True)
    )
    return Program("loihi2", first.shape[1], 4, 1e-3, connections, groups)


@pytest.mark.parametrize("columns", [1, 31, 32, 33, 64, 90, 128, 129, 200, 300])
def test_images_of_any_width(columns, monkeypatch):
    """Whole and partial tiles of one to four vectors, more than one tile, and sums beyond 16 bits."""
    rng = np.random.default_rng(columns)
    weights = rng.choice([254, 254, -254, 0], (3, 40, 1, 3)).astype(np.int32)
    weights[0] = 254
    kernel = Kernel(weights, (40, 1, columns), padding=(0, 1))
    program = one_group(kernel, steps=2)
    spikes = rng.integers(0, 2, (2, 2, 40 * columns)).astype(np.uint8)
    spikes[0, 0] = 1
    found = []
    for cost in (IMAGES, ROWS):
        monkeypatch.setattr(event_tables, "IMAGES_COST", cost)
        found.append(run_integer(program, spikes, record_potentials=True).u["only"])
    assert (found[0] == found[1]).all()
    sums = kernel.matrix() @ spikes[0, 0].astype(np.int64)
    assert found[0][0, 0].tolist() == [int((each * 64 + M) % (2 * M) - M) for each in sums]


@pytest.mark.parametrize(("neurons", "steps"), [(1, 3), (63, 4), (64, 4), (129, 5), (257, 260), (600, 3)])
@pytest.mark.parametrize("rows_from", [0.0, 2.0])
def test_any_width_and_length(neurons, steps, rows_from, monkeypatch):
    monkeypatch.setattr(event_tables, "ROWS_FROM", rows_from)
    rng = np.random.default_rng(neurons)
    names = ["first", "second"]
    groups = tuple(random_group(rng, name, neurons) for name in names)
    matrices = [random_weights(rng, neurons, neurons, 0.05) for _ in names]
    sources = [INPUT, "first"]
    connections = tuple(
        Connection(source, name, matrix, 0, matrix.nnz)
        for source, name, matrix in zip(sources, names, matrices, strict=True)
    )
    program = Program("loihi2", neurons, steps, 1e-3, connections, groups)
    assert_equals_oracle(program, random_spikes(rng, program, samples=1, rate=0.1))


@pytest.mark.parametrize("kind", ["feed-forward", "everything"])
def test_threads_do_not_change_the_result(kind):
    rng = np.random.default_rng(1)
    program = random_graph(rng, kind, steps=9)
    spikes = random_spikes(rng, program, samples=13)
    one = count_integer(program, spikes, threads=1)
    counts = one.counts
    for threads in (2, 3, 8, None):
        many = count_integer(program, spikes, threads=threads)
        many_counts = many.counts
        assert first_difference(one, many) is None
        for first, second in zip(counts.connections, many_counts.connections, strict=True):
            assert first.neuron_updates_touched.tolist() == second.neuron_updates_touched.tolist()
    for sample in range(13):
        alone = run_integer(program, spikes[sample : sample + 1])
        for name, values in one.spikes.items():
            assert (values[sample] == alone.spikes[name][0]).all()


def group_of(neurons, **parameters):
    values = {"du": 4095, "dv": 0, "vth": 131_071, "bias_mant": 0, "bias_exp": 0} | parameters
    return Group("only", **{key: np.full(neurons, value) for key, value in values.items()}, scale=1.0)


def one_group(weights, exponent=0, delay=0, steps=1, **parameters):
    weights = weights if isinstance(weights, Kernel) else sp.csr_matrix(np.array(weights))
    connection = Connection("input", "only", weights, exponent, declared=0, delay=delay)
    group = group_of(weights.shape[0], **parameters)
    return Program("loihi2", weights.shape[1], steps, 1e-3, (connection,), (group,))


def u_of(program, spikes):
    return run_integer(program, np.asarray(spikes, np.uint8), record_potentials=True).u["only"][0]


@pytest.mark.parametrize(("exponent", "sums"), [(-1, [-3, -5]), (-2, [-2, -3]), (-8, [-1, -1]), (3, [-48, -80])])
def test_negative_weight_exponent_shifts_the_sum_down(exponent, sums):
    program = one_group([[-2, -4], [-4, -6]], exponent)
    assert u_of(program, [[[1, 1]]]).tolist() == [[64 * value for value in sums]]


@pytest.mark.parametrize(
    ("sign", "more", "current"),
    [(1, 0, M), (1, 1, -M + 4096), (-1, 0, M), (-1, -1, -M + 4096)],
)
def test_current_wraps_above_m_and_at_minus_m(sign, more, current):
    """At the edges themselves: 64 spikes of 64 << 5 are 2**17, and 2**23 as a current; ``more`` adds 2 << 5."""
    weights = np.full((1, 65), 64 * sign)
    weights[0, -1] = 2 * sign
    spikes = np.ones((1, 1, 65), np.uint8)
    spikes[0, 0, -1] = more == 1
    if more == -1:
        weights[0, 0] -= 2 * sign
    assert u_of(one_group(weights, exponent=5), spikes).ravel().tolist() == [current]


def test_each_connection_is_shifted_on_its_own():
    """-2 >> 2 is -1 for each of two connections; their sum, -4 >> 2, would be -1 in all."""
    program = one_group([[-2, 0], [0, -2]], -2)
    program = replace(program, connections=(program.connections[0], program.connections[0]))
    assert u_of(program, [[[1, 0]]]).tolist() == [[-128, 0]]


def test_spikes_after_the_last_step_are_lost_and_do_not_reach_the_next_sample():
    program = one_group([[2]], delay=2, steps=3, du=4095)
    spikes = np.array([[[1], [1], [1]], [[0], [0], [0]]], np.uint8)
    trace = run_integer(program, spikes, record_potentials=True)
    assert trace.u["only"].tolist() == [[[0], [0], [128]], [[0], [0], [0]]]


def test_a_delay_beyond_the_sample_brings_nothing():
    assert u_of(one_group([[2]], delay=63, steps=2), [[[1], [1]]]).tolist() == [[0], [0]]


def test_more_whole_rows_than_16_bits_hold():
    program = one_group(np.full((2, 1500), 254))
    assert u_of(program, np.ones((1, 1, 1500))).tolist() == [[(254 * 1500 * 64 + M) % (2 * M) - M] * 2]


@pytest.mark.parametrize("cost", [0.0, 1e9])
def test_the_largest_kernel_sums_are_exact(cost, monkeypatch):
    monkeypatch.setattr(event_tables, "IMAGES_COST", cost)
    kernel = Kernel(np.full((70, 30, 3, 3), -254, np.int32), (30, 3, 3))
    assert u_of(one_group(kernel, -8), np.ones((1, 1, 270))).tolist() == [[-254 * 270 // 256 * 64] * 70]


@pytest.mark.parametrize("window", [15, 16, 17])
def test_windows_of_equal_weights_are_exact_when_all_fire(window, monkeypatch):
    monkeypatch.setattr(event_tables, "IMAGES_COST", IMAGES)
    kernel = Kernel(np.full((1, 1, window, window), -254, np.int32), (1, window, 2 * window), (window, window))
    program = one_group(kernel, -8)
    assert u_of(program, np.ones((1, 1, 2 * window**2))).tolist() == [[-254 * window**2 // 256 * 64] * 2]


def test_potential_readout_fires_at_the_very_top():
    program = replace(one_group([[2]], steps=2, bias_mant=4095, bias_exp=7), readout="potential")
    trace = run_integer(program, np.zeros((1, 2, 1), np.uint8))
    assert trace.potential.tolist() == [[2 * 4095 * 2**7]]
    full = replace(one_group([[254, 254]], exponent=7, steps=3, du=-1, dv=0), readout="potential")
    trace = run_integer(full, np.ones((1, 3, 2), np.uint8), record_potentials=True)
    assert trace.potential.tolist() == trace.v["only"][:, -1].tolist()
    assert trace.spikes["only"].sum() > 0


def test_non_contiguous_and_boolean_input():
    rng = np.random.default_rng(4)
    program = random_program(rng)
    spikes = random_spikes(rng, program, samples=6)
    expected = run_integer(program, np.ascontiguousarray(spikes[::2]))
    for given_spikes in (
        spikes[::2],
        np.asfortranarray(spikes[::2]),
        spikes[::2].astype(bool),
        spikes[::2].astype(int),
    ):
        trace = run_integer(program, given_spikes)
        assert trace.input_spikes.dtype == np.uint8
        assert first_difference(expected, trace) is None


def test_potentials_are_recorded_only_on_request():
    rng = np.random.default_rng(5)
    program = random_graph(rng, "residual")
    spikes = random_spikes(rng, program, samples=2)
    everything = run_integer(program, spikes, record_potentials=True)
    trace = run_integer(program, spikes)
    assert (trace.backend, trace.u, trace.v) == ("integer", {}, {})
    assert all(values.dtype == np.uint8 for values in trace.spikes.values())
    some = run_integer(program, spikes, record_potentials=["layer 2"])
    assert list(some.u) == list(some.v) == ["layer 2"]
    assert (some.u["layer 2"] == everything.u["layer 2"]).all()
    assert (some.v["layer 2"] == everything.v["layer 2"]).all()
    with pytest.raises(BadInput, match=r"group 'layer_2', which does not exist.*did you mean 'layer 2'"):
        run_integer(program, spikes, record_potentials=["layer_2"])
