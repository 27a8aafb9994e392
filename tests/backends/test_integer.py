"""The integer simulator against a loop over Python integers that is written from the equations alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from random_programs import random_program, random_spikes

from esl_neuro.backends import integer
from esl_neuro.backends.integer import Neurons, lif_step, run_integer, synaptic_input
from esl_neuro.compiler.program import Connection, Group

M = 2**23


def truncated(product):
    return product // 4096 if product >= 0 else -(-product // 4096)


def scalar_run(program, samples):
    """Spikes, u and v per layer as nested lists [sample][step][neuron], and how often u wrapped and v saturated."""
    traces = [{group.name: [] for group in program.groups} for _ in range(3)]
    wraps = saturations = 0
    for sample in samples.tolist():
        arriving = sample
        for connection, group in program.layers():
            rows = connection.weights.toarray().tolist()
            u, v = [0] * group.neurons, [0] * group.neurons
            records = ([], [], [])
            for spikes in arriving:
                fired = []
                for i, row in enumerate(rows):
                    total = sum(w for w, s in zip(row, spikes, strict=True) if s)
                    e = connection.weight_exp
                    a = total * 2**e if e >= 0 else total // 2**-e
                    u[i] = truncated(u[i] * (4096 - (int(group.du[i]) + 1))) + 64 * a
                    if u[i] > M:
                        u[i], wraps = u[i] - 2 * M, wraps + 1
                    elif u[i] <= -M:
                        u[i], wraps = u[i] + 2 * M, wraps + 1
                    bias = int(group.bias_mant[i]) * 2 ** int(group.bias_exp[i])
                    raw = truncated(v[i] * (4096 - int(group.dv[i]))) + u[i] + bias
                    v[i] = max(-(M - 1), min(M - 1, raw))
                    saturations += raw != v[i]
                    fired.append(int(v[i] > 64 * int(group.vth[i])))
                    v[i] = 0 if fired[i] else v[i]
                for record, values in zip(records, (fired, u, v), strict=True):
                    record.append(list(values))
            for trace, record in zip(traces, records, strict=True):
                trace[group.name].append(record)
            arriving = records[0]
    return traces, wraps, saturations


def assert_equals_scalar_run(program, spikes):
    trace = run_integer(program, spikes, record_potentials=True)
    traces, wraps, saturations = scalar_run(program, spikes)
    for computed, expected in zip((trace.spikes, trace.u, trace.v), traces, strict=True):
        assert list(computed) == list(expected)
        for name, values in expected.items():
            assert computed[name].tolist() == values
    return wraps, saturations


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), extreme=st.booleans())
def test_equals_scalar_loop(seed, extreme):
    rng = np.random.default_rng(seed)
    program = random_program(rng, extreme=extreme, widest=12)
    assert_equals_scalar_run(program, random_spikes(rng, program, samples=2))


def test_wrap_and_saturation_are_met():
    counts = np.zeros(2, int)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        program = random_program(rng, extreme=True, steps=12)
        counts += assert_equals_scalar_run(program, random_spikes(rng, program, samples=2))
    assert (counts > 20).all()


def group_of_one(**parameters):
    values = {"du": 4095, "dv": 0, "vth": 131_071, "bias_mant": 0, "bias_exp": 0} | parameters
    return Group("only", **{key: np.array([value]) for key, value in values.items()}, scale=1.0)


def step_of_one(u=0, v=0, a=0, **parameters):
    state = (np.array([[value]]) for value in (u, v, a))
    u, v, spikes = lif_step(*state, Neurons.of(group_of_one(**parameters)))
    return u.item(), v.item(), spikes.item()


@pytest.mark.parametrize(
    ("current", "wrapped"),
    [
        (M // 64, M),
        (M // 64 + 1, -M + 64),
        (-M // 64 + 1, -M + 64),
        (-M // 64, M),
        (3 * M // 64, M),
        (4 * M // 64, 2 * M),
    ],
)
def test_current_wraps_once_with_its_own_edges(current, wrapped):
    assert step_of_one(a=current)[0] == wrapped


@pytest.mark.parametrize(("v", "u", "after"), [(M - 1, 64, M - 1), (-(M - 1), -64, -(M - 1))])
def test_potential_saturates(v, u, after):
    # The highest threshold is 64 below saturation, so v is looked at through the spike and, below, the value.
    _, after_step, spike = step_of_one(v=v, a=u // 64)
    assert (after_step, spike) == ((0, True) if v > 0 else (after, False))


def test_threshold_is_strict_and_spike_resets_v_but_not_u():
    assert step_of_one(a=10, vth=10) == (640, 640, False)
    assert step_of_one(a=11, vth=10) == (704, 0, True)


@pytest.mark.parametrize(("u", "decayed"), [(3, 1), (-3, -1), (1, 0), (-1, 0)])
def test_decay_rounds_toward_zero(u, decayed):
    assert step_of_one(u=u, du=2047)[0] == decayed


def test_bias_shifts_either_way_and_its_mantissa_has_16_bits():
    assert step_of_one(bias_mant=3, bias_exp=2)[1] == 12
    assert step_of_one(bias_mant=-3, bias_exp=-1)[1] == -2
    assert step_of_one(bias_mant=40_000)[1] == 40_000 - 2**16


def connection_of(weights, weight_exp=0):
    return Connection("input", "only", sp.csr_matrix(np.array(weights)), weight_exp, declared=0)


def test_negative_weight_exponent_shifts_the_sum_down():
    spikes = np.array([[1, 1], [0, 1]], np.uint8)
    assert synaptic_input(connection_of([[-2, -4]], -2), spikes).tolist() == [[-1, -2]]
    assert synaptic_input(connection_of([[-2, -4]], 3), spikes).tolist() == [[-16, -48]]


def test_sums_beyond_float32_are_exact():
    weights = np.full((1, 150_001), 254)
    weights[0, 0] = 2
    spikes = np.ones((150_001, 1), np.uint8)
    assert synaptic_input(connection_of(weights), spikes).tolist() == [[254 * 150_000 + 2]]


@pytest.mark.parametrize("dense_from", [0.0, 2.0])
def test_dense_and_sparse_products_are_equal(monkeypatch, dense_from):
    rng = np.random.default_rng(7)
    program = random_program(rng, depth=3)
    spikes = random_spikes(rng, program, samples=3)
    monkeypatch.setattr(integer, "DENSE_FROM", dense_from)
    assert_equals_scalar_run(program, spikes)


def test_chunks_do_not_change_the_result(monkeypatch):
    rng = np.random.default_rng(3)
    program = random_program(rng, depth=2)
    spikes = random_spikes(rng, program, samples=5)
    monkeypatch.setattr(integer, "CHUNK_BYTES", 1)
    assert_equals_scalar_run(program, spikes)


def test_non_contiguous_and_boolean_input():
    rng = np.random.default_rng(4)
    program = random_program(rng)
    spikes = random_spikes(rng, program, samples=6)
    expected = run_integer(program, np.ascontiguousarray(spikes[::2]))
    for given_spikes in (spikes[::2], np.asfortranarray(spikes[::2]), spikes[::2].astype(bool)):
        trace = run_integer(program, given_spikes)
        assert trace.input_spikes.dtype == np.uint8
        for name, values in expected.spikes.items():
            assert (trace.spikes[name] == values).all()


def test_potentials_are_recorded_only_on_request():
    rng = np.random.default_rng(5)
    program = replace(random_program(rng), steps=1)
    trace = run_integer(program, random_spikes(rng, program, samples=1))
    assert (trace.backend, trace.u, trace.v) == ("integer", {}, {})
    assert all(spikes.dtype == np.uint8 for spikes in trace.spikes.values())
