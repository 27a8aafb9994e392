"""One step of one neuron, at the edges of its range."""

from __future__ import annotations

import numpy as np
import pytest

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
