"""Choosing places of a weight: those with the largest scores, or some at random.

A layer has far more places than change hands, so nothing here sorts or shuffles all of them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from esl_neuro.sparsity.masks import places_of_true

SAMPLE_EVERY = 64


def largest(scores: Tensor, places: Tensor, count: int) -> Tensor:
    """Return the places with the largest scores.

    A sample of the scores gives a bound that a few more than ``count`` of them reach, and only these are compared with
    each other. The result does not depend on the sample, ties apart.

    Parameters
    ----------
    scores : Tensor
        Finite, any shape.
    places : bool Tensor, shape of the scores
        Where to choose, at least ``count`` places.
    count : int
        How many.

    Returns
    -------
    int64 Tensor, shape (count,)
        Different flat indices; which ones of equal scores is not said.
    """
    eligible = torch.where(places, scores, -torch.inf).flatten()
    sample = eligible[::SAMPLE_EVERY]
    reached = count // SAMPLE_EVERY + int(count**0.5) // 4 + 1  # about four standard deviations more than needed
    if reached < sample.numel():
        bound = torch.topk(sample, reached, sorted=False).values.min()
        few = places_of_true(eligible >= bound)
        if few.numel() >= count:
            return few[torch.topk(eligible[few], count, sorted=False).indices]
    return torch.topk(eligible, count, sorted=False).indices


def draw(places: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """Draw different places, all sets of them equally likely.

    Parameters
    ----------
    places : bool Tensor
        Where to draw, at least ``count`` places.
    count : int
        How many.
    rng : numpy.random.Generator
        Source of the draw.

    Returns
    -------
    int64 Tensor, shape (count,)
        Flat indices.
    """
    flat = places_of_true(places)
    chosen = rng.choice(flat.numel(), count, replace=False, shuffle=False)
    return flat[torch.from_numpy(chosen).to(flat.device)]
