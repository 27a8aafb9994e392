from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from energy.make_counts import COUNTS, LAYER, spread, with_runs
from esl_neuro.energy.counts import Counts
from esl_neuro.energy.prices import PRICE_MODELS
from esl_neuro.energy.uncertainty import (
    ACTIVITY,
    Draws,
    contributions,
    distribution,
    draw,
    median_ratio,
    probability_below,
)
from esl_neuro.hardware import Constant, load_target

BASE = {
    "quantity": "q",
    "unit": "pJ",
    "condition": "c",
    "scope": "per_term",
    "evidence": "measured",
    "source": "s",
    "verified": "v",
    "confidence": "high",
}


def constant(**fields):
    return Constant(**(BASE | fields))


def estimate(target, model, counts=COUNTS):
    return PRICE_MODELS[model](counts, load_target(target), 1e-3)


def quantiles(fields, at):
    return np.quantile(draw(constant(**fields), np.random.default_rng(0), 40_000), at)


def test_a_range_on_both_sides_is_the_5_and_95_percent_quantile():
    low, median, high = quantiles({"value": 10.0, "low": 8.0, "high": 30.0}, (0.05, 0.5, 0.95))
    assert (low, median, high) == pytest.approx((8, 10, 30), rel=0.03)


def test_a_published_minimum_is_never_undercut():
    lowest, high = quantiles({"value": 10.0, "low": 10.0, "high": 30.0}, (0.0, 0.95))
    assert lowest >= 10
    assert high == pytest.approx(30, rel=0.03)
    highest, low = quantiles({"value": 10.0, "low": 5.0, "high": 10.0}, (1.0, 0.05))
    assert highest <= 10
    assert low == pytest.approx(5, rel=0.03)


def test_an_assumption_has_no_likelier_part():
    lowest, median, highest = quantiles({"value": 0.03, "low": 0.001, "high": 1.0, "evidence": "assumed"}, (0, 0.5, 1))
    assert (lowest, highest) == pytest.approx((0.001, 1.0), rel=0.01)
    assert median == pytest.approx(0.0316, rel=0.05)


def test_without_a_range_nothing_is_invented():
    assert set(draw(constant(value=3.0), np.random.default_rng(0), 10)) == {3.0}


def test_draws_are_those_of_the_constant_whoever_asks():
    first = load_target("loihi").constant("e_synop_sparse")
    assert Draws(50).of(first).tolist() == Draws(50).of(load_target("loihi").constant("e_synop_sparse")).tolist()
    assert Draws(50).of(first).tolist() != Draws(50, seed=1).of(first).tolist()


def test_what_two_rows_share_cancels_in_their_ratio():
    twice = with_runs(**{name: 2 * runs for name, runs in LAYER.runs.items()})
    draws = Draws(500)
    first, second = (estimate("truenorth", "all-in", counts).sample(draws) for counts in (COUNTS, twice))
    assert second / first == pytest.approx(np.full(500, 2.0))
    assert probability_below(
        estimate("truenorth", "all-in"), estimate("truenorth", "all-in", twice), draws
    ) == pytest.approx(1.0)


def test_more_samples_make_the_activity_surer():
    def width(samples):
        runs = {}
        for name, values in LAYER.runs.items():
            runs[name] = np.tile(values, (samples // 2, 1))
        layer = LAYER.__class__(**{**vars(LAYER), "runs": runs, **{n: int(v.sum()) for n, v in runs.items()}})
        found = distribution(estimate("darwin3", "marginal", Counts(samples, 10, (layer,))), Draws())
        assert found.leading == ACTIVITY
        return (found.high_pj - found.low_pj) / found.median_pj

    # The mean of n values with standard deviation 10 around 50 has 1.645 x 10 / sqrt(n) on either side.
    assert width(100) == pytest.approx(2 * 1.645 * 0.2 / 10, rel=0.15)
    assert width(4000) == pytest.approx(2 * 1.645 * 0.2 / 4000**0.5, rel=0.15)  # by groups of samples


def test_the_same_samples_are_resampled_in_every_row():
    draws = Draws(300)
    first = draws.mean(np.array([1.0, 5.0, 9.0]), 5.0)
    assert draws.mean(np.array([2.0, 10.0, 18.0]), 10.0) == pytest.approx(2 * first)


def test_contributions_add_up_and_the_largest_leads():
    shares = contributions(estimate("loihi", "silicon"))
    assert sum(shares.values()) == pytest.approx(1)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert any(source.startswith("reading of") for source in shares)


def test_a_single_sample_and_a_price_without_range_vary_with_nothing():
    counts = with_runs(sop_effective=spread(50, 50))
    found = distribution(estimate("darwin3", "marginal", counts), Draws())
    assert (found.low_pj, found.high_pj, found.leading) == (found.median_pj, found.median_pj, None)


def test_a_refused_estimate_has_no_distribution():
    refused = estimate("akida", "system-figures")
    assert distribution(refused, Draws()) is None
    assert probability_below(refused, estimate("loihi", "silicon"), Draws()) is None


class Drawn(NamedTuple):
    """Energies in place of an estimate's."""

    pj: tuple[float, ...]

    def sample(self, _: Draws) -> np.ndarray:
        return np.array(self.pj, dtype=float)


def test_a_draw_of_zero_is_the_largest_ratio_and_half_of_them_leave_no_median():
    assert median_ratio(Drawn((4, 4, 4)), Drawn((1, 2, 0)), Draws()) == 4
    assert np.isnan(median_ratio(Drawn((4, 4, 4)), Drawn((1, 0, 0)), Draws()))
