"""Equation 2 of ESL-SNNs."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esl_neuro.sparsity.schedule import SCHEDULES, cosine_fraction


@pytest.mark.parametrize(
    ("iteration", "fraction"),
    [
        (0, 0.3),
        (250, 0.15 * (1 + math.sqrt(0.5))),
        (500, 0.15),
        (750, 0.15 * (1 - math.sqrt(0.5))),
        (1000, 0),
        (5000, 0),
    ],
)
def test_values_of_equation_2(iteration, fraction):
    assert cosine_fraction(iteration, 0.3, 1000) == pytest.approx(fraction, abs=1e-15)


@given(alpha=st.floats(0, 1), end=st.integers(0, 2000), first=st.integers(0, 3000), later=st.integers(0, 3000))
def test_fraction_falls_from_alpha_to_zero(alpha, end, first, later):
    first, later = sorted((first, later))
    assert 0 <= cosine_fraction(later, alpha, end) <= cosine_fraction(first, alpha, end) <= alpha


@given(iteration=st.integers(0, 100))
def test_nothing_is_replaced_from_the_end_on(iteration):
    assert (cosine_fraction(iteration, 0.5, 60) == 0) == (iteration >= 60)


def test_end_0_means_never():
    assert cosine_fraction(0, 0.5, 0) == 0


@given(
    name=st.sampled_from(SCHEDULES.names()),
    alpha=st.floats(0, 1),
    end=st.integers(0, 500),
    iteration=st.integers(0, 600),
)
def test_every_schedule_starts_at_alpha_and_is_zero_from_the_end_on(name, alpha, end, iteration):
    schedule = SCHEDULES[name]
    assert 0 <= schedule(iteration, alpha, end) <= alpha
    if iteration >= end:
        assert schedule(iteration, alpha, end) == 0
    if end:
        assert schedule(0, alpha, end) == pytest.approx(alpha, rel=1e-15, abs=1e-300)


def test_cosine_with_a_floor_equals_its_formula():
    for iteration in (0, 1, 250, 999):
        expected = 0.005 + (0.5 - 0.005) / 2 * (1 + math.cos(math.pi * iteration / 1000))
        assert SCHEDULES["cosine_floor"](iteration, 0.5, 1000) == pytest.approx(expected, rel=1e-12)
    assert SCHEDULES["cosine_floor"](1000, 0.5, 1000) == 0
    assert SCHEDULES["cosine_floor"](700, 0.001, 1000) == 0.001


def test_constant_and_linear_by_hand():
    assert [SCHEDULES["constant"](t, 0.3, 10) for t in (0, 9, 10)] == [0.3, 0.3, 0]
    assert [SCHEDULES["linear"](t, 0.4, 8) for t in (0, 2, 4, 8)] == pytest.approx([0.4, 0.3, 0.2, 0])
