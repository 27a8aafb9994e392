"""Equation 2 of ESL-SNNs."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esl_neuro.sparsity.schedule import cosine_fraction


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
