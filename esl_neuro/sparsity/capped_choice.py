"""Choose connections so that no output gains more than its room, exactly. Arrays only, no layers.

The room of an output is the number of connections that it may still gain. A choice is greedy: candidates are taken from
the best to the worst, ties by index, and one whose output has no room left is passed over. No other choice within the
room has a larger sum of scores, and it is as large as the room allows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from esl_neuro.errors import CheckFailed

IntArray = NDArray[np.int64]
Ranked: TypeAlias = "Callable[[IntArray], IntArray]"
"""Returns the positions with given ranks among all free ones, counted from output to output."""
Price: TypeAlias = "Callable[[IntArray], NDArray[np.float64]]"
"""Returns the prices of connections at given positions."""


class Room(Protocol):
    """What an update of a layer may create."""

    def open(self) -> NDArray[np.bool_]:
        """Return which outputs may gain a connection."""
        ...

    def most(self, free: IntArray) -> int:
        """Return how many positions can be chosen at most, with so many free ones of each output."""
        ...

    def accept(self, positions: IntArray, count: int) -> IntArray:
        """Return which positions, from the best to the worst, are chosen: ``count`` of them, or all that fit."""
        ...

    def draw(self, free: IntArray, ranked: Ranked, count: int, rng: np.random.Generator) -> IntArray:
        """Draw free positions one after the other, each among those that fit, and return them sorted."""
        ...

    def after(self, chosen: IntArray, rule: str) -> Room:
        """Return the room that positions chosen by a rule leave."""
        ...


@dataclass(frozen=True)
class RowRoom:
    """The connections that each output of a layer may gain.

    Attributes
    ----------
    left : int64 array, shape (outputs,)
        Their number.
    inputs : int
        Inputs of an output.
    name : str
        The layer.
    """

    left: IntArray
    inputs: int
    name: str = ""

    def open(self) -> NDArray[np.bool_]:
        """Return which outputs may gain a connection."""
        return np.asarray(self.left > 0)

    def most(self, free: IntArray) -> int:
        """Return how many positions can be chosen, with so many free ones of each output."""
        return int(np.minimum(free, self.left).sum())

    def accept(self, positions: IntArray, count: int) -> IntArray:
        """Return which positions, from the best to the worst, are chosen: ``count`` of them, or all that fit."""
        return accept(positions // self.inputs, self.left, count)

    def draw(self, free: IntArray, ranked: Ranked, count: int, rng: np.random.Generator) -> IntArray:
        """Draw free positions one after the other, each among those of outputs with room, and return them sorted."""
        return ranked(draw_ranks(free, self.left, count, rng))

    def after(self, chosen: IntArray, rule: str) -> RowRoom:
        """Return the room that positions chosen by a rule leave.

        Raises
        ------
        CheckFailed
            If a rule of your own ignored the room.
        """
        left = self.left - np.bincount(chosen // self.inputs, minlength=len(self.left))
        if left.min() < 0:
            raise CheckFailed(
                f"growth rule '{rule}': an output of layer '{self.name}' got {-left.min()} more connections than its "
                "fan-in allows; choose within layer.room"
            )
        return RowRoom(left, self.inputs, self.name)


def accept(outputs: IntArray, room: IntArray, count: int) -> IntArray:
    """Return which of the candidates, from the best to the worst, are chosen: ``count`` of them, or all that fit.

    Parameters
    ----------
    outputs : int64 array, shape (candidates,)
        Output of each candidate.
    room : int64 array, shape (all outputs,)
        Connections that each output may gain.
    count : int
        Number of choices.

    Returns
    -------
    int64 array
        Places among the candidates, ascending.
    """
    order = np.argsort(outputs, kind="stable")
    grouped = outputs[order]
    before = np.arange(len(grouped)) - np.searchsorted(grouped, grouped)  # better candidates of the same output
    fits = np.zeros(len(outputs), np.bool_)
    fits[order] = before < room[grouped]
    return np.flatnonzero(fits)[:count]


def best(scores: NDArray[Any], positions: IntArray, room: Room, count: int) -> IntArray:
    """Return the places of the best candidates within the room, in the order of their positions.

    Parameters
    ----------
    scores : array, shape (candidates,)
        Finite.
    positions : int64 array, shape (candidates,)
        Positions ``output * inputs + input``, ascending; they decide ties.
    room : Room
        What may be chosen.
    count : int
        Number of choices; fewer are returned if no more fit.
    """
    if not np.isfinite(scores).all():
        raise CheckFailed(
            "connections cannot be ranked: scores are not finite, training has diverged; lower training.learning_rate"
        )
    tries = 4 * count + 1
    while True:  # the best of some candidates are the best of all, if there are enough
        some = np.arange(len(scores))
        if tries < len(scores):
            some = np.flatnonzero(scores >= np.partition(scores, len(scores) - tries)[len(scores) - tries])
        order = some[np.argsort(-scores[some], kind="stable")]
        chosen = room.accept(positions[order], count)
        if len(chosen) == count or len(some) == len(scores):
            return np.sort(order[chosen])
        tries *= 4


def nth_free(taken: IntArray, ranks: IntArray) -> IntArray:
    """Return the positions with these ranks among those that are not in the sorted ``taken``."""
    free_before = taken - np.arange(len(taken))
    return np.asarray(ranks + np.searchsorted(free_before, ranks, side="right"))


def draw_ranks(free: IntArray, room: IntArray, count: int, rng: np.random.Generator) -> IntArray:
    """Draw free positions one after the other, each uniformly among those of outputs that have room left.

    Memory follows the number of draws and outputs.

    Parameters
    ----------
    free : int64 array, shape (outputs,)
        Free positions of each output.
    room : int64 array, shape (outputs,)
        Connections that each output may gain.
    count : int
        Number of draws; at most the sum of the smaller of free and room.
    rng : numpy.random.Generator
        Source of the draws.

    Returns
    -------
    int64 array, shape (count,)
        Ranks among all free positions, counted from output to output, ascending.
    """
    if count > np.minimum(free, room).sum():
        raise ValueError(f"{count} draws from {np.minimum(free, room).sum()} positions that can be drawn")
    first, left, chosen, tries = np.cumsum(free) - free, room.copy(), np.empty(0, np.int64), 2 * count + 8
    while len(chosen) < count:
        open_ = np.flatnonzero((left > 0) & (free > 0))
        ends = np.cumsum(free[open_])
        total = int(ends[-1])
        drawn = rng.permutation(total) if tries >= total else rng.integers(total, size=tries)
        which = np.searchsorted(ends, drawn, side="right")
        ranks = first[open_][which] + drawn - (ends - free[open_])[which]
        new = np.sort(np.unique(ranks, return_index=True)[1])  # a position drawn again changes nothing
        new = new[~np.isin(ranks[new], chosen)]
        outputs = open_[which[new]]
        kept = accept(outputs, left, count - len(chosen))
        chosen = np.concatenate([chosen, ranks[new][kept]])
        left -= np.bincount(outputs[kept], minlength=len(left))
        tries *= 2
    return np.sort(chosen)
