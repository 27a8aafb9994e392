"""Choosing places: the largest scores exactly, or a fair draw."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esl_neuro.errors import CheckFailed
from esl_neuro.sparsity.choice import SAMPLE_EVERY, draw, largest


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(), seed=st.integers(0, 2**32 - 1), size=st.integers(1, 40_000), kinds=st.sampled_from([2, 50, None])
)
def test_the_largest_are_those_that_sorting_finds(data, seed, size, kinds):
    """Scores of few kinds have many ties, which may fall either way: the scores chosen are compared, not the places."""
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal(size) if kinds is None else rng.integers(0, kinds, size).astype(float)
    places = rng.random(size) < rng.random()
    count = data.draw(st.integers(0, int(places.sum())))
    chosen = largest(torch.from_numpy(scores), torch.from_numpy(places), count).numpy()
    assert chosen.size == count == np.unique(chosen).size
    assert places[chosen].all()
    assert np.array_equal(np.sort(scores[chosen]), np.sort(scores[places])[scores[places].size - count :])


@pytest.mark.parametrize("misleading", [-1.0, 1.0])
def test_a_sample_that_misleads_changes_nothing(misleading):
    scores = torch.randn(200 * SAMPLE_EVERY)
    scores[::SAMPLE_EVERY] += 100 * misleading  # all that the sample sees is too large, or too small
    chosen = largest(scores, torch.ones_like(scores, dtype=torch.bool), 900)
    assert set(chosen.tolist()) == set(torch.topk(scores, 900).indices.tolist())


def test_infinite_scores_are_refused_and_not_mistaken_for_other_places():
    scores, places = torch.full((8,), -torch.inf), torch.tensor([False, True] * 4)
    with pytest.raises(CheckFailed, match="weights are infinite, training has diverged"):
        largest(scores, places, 4)


def test_shape_does_not_matter():
    scores = torch.randn(30, 40)
    places = torch.rand(30, 40) < 0.5
    assert torch.equal(
        largest(scores, places, 7).sort().values, largest(scores.view(-1), places.view(-1), 7).sort().values
    )


def test_draws_are_different_places_among_those_offered():
    places = torch.rand(20, 30) < 0.3
    chosen = draw(places, 50, np.random.default_rng(0))
    assert len(set(chosen.tolist())) == 50
    assert places.view(-1)[chosen].all()
    assert (
        sorted(draw(places, int(places.sum()), np.random.default_rng(0)).tolist())
        == torch.nonzero(places.view(-1)).squeeze(1).tolist()
    )


def test_every_place_is_drawn_equally_often():
    places, counts = torch.ones(12, dtype=torch.bool), np.zeros(12)
    rng = np.random.default_rng(1)
    for _ in range(3000):
        counts[draw(places, 4, rng).numpy()] += 1
    assert abs(counts / 3000 - 1 / 3).max() < 0.03  # more than three standard deviations
