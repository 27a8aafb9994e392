"""One step of one neuron, at the edges of its range."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.oracle import Expected, step_neuron
from esl_neuro.backends.lif import GroupConstants, lif_step
from esl_neuro.compiler.program import Group
from esl_neuro.hardware.arithmetic import HALF_RANGE as M


def step_of_one(u=0, v=0, a=0, **parameters):
    values = {"du": 4095, "dv": 0, "vth": 131_071, "bias_mant": 0, "bias_exp": 0} | parameters
    group = Group("only", **{key: np.array([value]) for key, value in values.items()}, scale=1.0)
    u, v, spikes = lif_step(*(np.array([[value]]) for value in (u, v, a)), GroupConstants.of(group))
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


def test_a_neuron_at_the_edge_stays_there_beside_one_that_wraps():
    """All neurons are compared at once only if one of them is outside."""
    group = Group("only", **{key: np.zeros(4, np.int64) for key in ("dv", "vth", "bias_mant", "bias_exp")}, scale=1.0,
                  du=np.full(4, 4095))  # fmt: skip
    a = np.array([[M], [M + 64], [-M + 64], [-M]]) // 64
    u, _, _ = lif_step(np.zeros((4, 1), np.int64), np.zeros((4, 1), np.int64), a, GroupConstants.of(group))
    assert u.ravel().tolist() == [M, -M + 64, -M + 64, M]


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


def test_a_reset_by_subtraction_keeps_what_is_above():
    assert step_of_one(a=11, vth=10, reset_by=640) == (704, 64, True)
    assert step_of_one(a=10, vth=10, reset_by=640) == (640, 640, False)


edges = st.sampled_from([-M + 1, -M // 2, -4097, -1, 0, 1, 4095, M // 2, M]) | st.integers(-M + 1, M)
registers = st.sampled_from([0, 1, 2047, 4094, 4095]) | st.integers(0, 4095)


@given(
    state=st.lists(st.tuples(edges, edges, st.integers(-M // 32, M // 32)), min_size=1, max_size=5),
    du=st.just(-1) | registers,
    dv=registers,
    vth=st.integers(0, 2000) | st.integers(0, 131_071),
    bias_mant=st.integers(-4095, 4095),
    bias_exp=st.integers(0, 7),
    reset_by=st.none() | st.integers(0, M - 1),
)
def test_a_step_is_that_of_the_equations(state, **parameters):
    """Several samples at once, against Python integers; parameters are those of one neuron."""
    group = Group(
        "only", **{key: None if value is None else np.array([value]) for key, value in parameters.items()}, scale=1.0
    )
    u, v, a = (np.array([values], np.int64) for values in zip(*state, strict=True))
    found = lif_step(u, v, a, GroupConstants.of(group))
    for sample, (u_before, v_before, drive) in enumerate(state):
        own_u, own_v = [u_before], [v_before]
        fired = step_neuron(group, 0, own_u, own_v, drive, Expected({}, {}, {}, [], [], []))
        assert [values[0, sample] for values in found] == [own_u[0], own_v[0], fired]
