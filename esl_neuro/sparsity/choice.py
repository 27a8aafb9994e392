"""Choose positions of a weight: those with the largest scores, or random ones.

A layer has far more positions than an update changes, so these functions never sort or shuffle all of them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from esl_neuro.errors import CheckFailed
from esl_neuro.sparsity.masks import places_of_true

SAMPLE_EVERY = 64


def largest(scores: Tensor, places: Tensor, count: int) -> Tensor:
    """Return the positions with the largest scores.

    A sample of the scores gives a bound that slightly more than ``count`` scores reach, and only these are sorted. The
    result does not depend on the sample, except for ties.

    Parameters
    ----------
    scores : Tensor
        Finite, any shape.
    places : bool Tensor, shape of the scores
        Candidates, at least ``count``.
    count : int
        Number of positions.

    Returns
    -------
    int64 Tensor, shape (count,)
        Distinct flat indices; ties are in no particular order.

    Raises
    ------
    CheckFailed
        If scores are infinite, so that fewer than ``count`` positions can be ranked.
    """
    eligible = torch.where(places, scores, -torch.inf).flatten()
    sample = eligible[::SAMPLE_EVERY]
    reached = count // SAMPLE_EVERY + int(count**0.5) // 4 + 1  # about four standard deviations above the need
    if reached < sample.numel():
        bound = torch.topk(sample, reached, sorted=False).values.min()
        few = places_of_true(eligible >= bound)
        if few.numel() >= count:
            return few[torch.topk(eligible[few], count, sorted=False).indices]
    chosen = torch.topk(eligible, count, sorted=False).indices
    if not places.flatten()[chosen].all():  # scores of minus infinity rank with positions that are no candidates
        raise CheckFailed(
            "connections cannot be ranked: weights are infinite, training has diverged; lower training.learning_rate"
        )
    return chosen


def draw(places: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """Draw distinct positions, all sets with equal probability.

    Parameters
    ----------
    places : bool Tensor
        Candidates, at least ``count``.
    count : int
        Number of positions.
    rng : numpy.random.Generator
        Random generator.

    Returns
    -------
    int64 Tensor, shape (count,)
        Flat indices.
    """
    flat = places_of_true(places)
    chosen = rng.choice(flat.numel(), count, replace=False, shuffle=False)
    return flat[torch.from_numpy(chosen).to(flat.device)]
