"""Choose positions of a weight: those with the largest scores, or random ones.

A layer has far more positions than an update changes, so these functions never sort or shuffle all of them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from esl_neuro.errors import CheckFailed
from esl_neuro.sparsity.capped_choice import IntArray, Room, best
from esl_neuro.sparsity.masks import count_true, places_of_true

SAMPLE_EVERY = 64


def largest(scores: Tensor, places: Tensor, count: int, room: Room | None = None) -> Tensor:
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
    room : Room, optional
        What may be returned; fewer positions are, where it does not allow ``count``.

    Returns
    -------
    int64 Tensor, shape (count,)
        Distinct flat indices; without room, ties are in no particular order, else the lowest indices first.

    Raises
    ------
    CheckFailed
        If scores are infinite, so that fewer than ``count`` positions can be ranked.
    """
    if room is not None:
        return _largest_within(scores, places, count, room)
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


def _largest_within(scores: Tensor, places: Tensor, count: int, room: Room) -> Tensor:
    has_room = torch.from_numpy(room.open()).to(places.device)
    flat = places_of_true(places.flatten(1) & has_room[:, None])
    values = scores.detach().flatten()[flat].cpu().numpy()
    return flat[torch.from_numpy(best(values, flat.cpu().numpy(), room, count)).to(flat.device)]


def draw(places: Tensor, count: int, rng: np.random.Generator, room: Room | None = None) -> Tensor:
    """Draw distinct positions, all sets with equal probability; with room, one after the other where room is left.

    Parameters
    ----------
    places : bool Tensor
        Candidates, at least ``count``.
    count : int
        Number of positions.
    rng : numpy.random.Generator
        Random generator.
    room : Room, optional
        As for :func:`largest`.

    Returns
    -------
    int64 Tensor, shape (count,)
        Flat indices.
    """
    flat = places_of_true(places)
    if room is None:
        return flat[torch.from_numpy(rng.choice(flat.numel(), count, replace=False, shuffle=False)).to(flat.device)]
    free = flat.cpu().numpy()
    return torch.from_numpy(room.draw(_of_each_output(places), free.__getitem__, count, rng)).to(flat.device)


def most(places: Tensor, room: Room | None = None) -> int:
    """Return how many positions can be chosen at most."""
    return count_true(places) if room is None else room.most(_of_each_output(places))


def _of_each_output(places: Tensor) -> IntArray:
    counts: IntArray = places.flatten(1).sum(1).cpu().numpy()
    return counts
