"""Choose connections by their value over their price, within the synaptic operations that an energy leaves.

A connection causes as many operations as the spikes of its source that it meets. Its price is
``p = 1 + mu s / mean(s)``: s are its operations in the samples that were counted, the mean is that of all connections
of the sparse layers, and mu is the dual variable of the energy. Connections die by the least ``|w| / p``, candidates
are ranked by ``score / p``, and random growth draws in proportion to ``1 / p`` among a few for each birth. With
mu = 0, every price is 1. Arrays only, no layers: what a connection meets is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from esl_neuro.compiled import compiled_for_threads
from esl_neuro.errors import CheckFailed
from esl_neuro.sparsity.capped_choice import IntArray, Price, Ranked, Room
from esl_neuro.sparsity.cores import random_order


class Operations(Protocol):
    """The synaptic operations that each connection of a layer causes, or would cause."""

    def at(self, positions: IntArray) -> IntArray:
        """Return those of connections at positions ``output * inputs + input``."""
        ...

    def most(self) -> int:
        """Return a number that no connection exceeds."""
        ...


@dataclass(frozen=True)
class StoredOperations:
    """Operations of a layer with masks.

    Attributes
    ----------
    values : int64 array, shape (positions,)
        Operations of every position.
    """

    values: IntArray

    def at(self, positions: IntArray) -> IntArray:
        """Return the operations of connections at these positions."""
        return self.values[positions]

    def most(self) -> int:
        """Return the operations of the connection that causes most."""
        return int(self.values.max())


@dataclass(frozen=True)
class ProductOperations:
    """Operations of a layer in sparse storage: ``sum over columns of met[output] * sent[input]``.

    Attributes
    ----------
    met : int64 array, shape (outputs, columns)
        Synapses that a spike meets behind each output.
    sent : int64 array, shape (inputs, columns)
        Spikes of each input.
    """

    met: IntArray
    sent: IntArray

    def at(self, positions: IntArray) -> IntArray:
        """Return the operations of connections at these positions."""
        outputs, inputs = np.divmod(positions, len(self.sent))
        total = np.zeros(len(positions), np.int64)
        for met, sent in zip(self.met.T, self.sent.T, strict=True):
            total += met[outputs] * sent[inputs]
        return total

    def most(self) -> int:
        """Return a number that no connection exceeds."""
        return int((self.met.max(0) * self.sent.max(0)).sum())


@dataclass
class Spending:
    """The synaptic operations of a network in counted samples, and how many more an energy budget allows.

    Attributes
    ----------
    layers : mapping of str to Operations
        By the names of the sparse layers.
    mean : float
        Operations of a connection of these layers; 0 if no spike meets one.
    multiplier : float
        Dual variable of the energy, 0 and above.
    left : int
        Operations that may be added; negative above the budget. It follows every update.
    """

    layers: Mapping[str, Operations]
    mean: float
    multiplier: float
    left: int

    def price(self, name: str) -> Price | None:
        """Return what prices the connections of a layer; None if all prices are 1."""
        if not self.multiplier or not self.mean:
            return None
        slope, operations = self.multiplier / self.mean, self.layers[name]
        return lambda positions: np.asarray(1 + slope * operations.at(positions), np.float64)

    def of(self, name: str, positions: IntArray) -> int:
        """Return the operations of connections of a layer."""
        return int(self.layers[name].at(positions).sum())

    def exchange(self, name: str, dead: IntArray, born: IntArray) -> None:
        """Count connections that died and others that were born."""
        self.left += self.of(name, dead) - self.of(name, born)

    def room(self, name: str, dead: IntArray, shape: tuple[int, int], inner: Room | None) -> SpendingRoom:
        """Return the room that the deaths of a layer of shape (outputs, inputs) make, within another room."""
        return SpendingRoom(self.layers[name], self.left + self.of(name, dead), self.price(name), shape, inner)


@dataclass(frozen=True)
class SpendingRoom:
    """What an update of a layer may create within an energy.

    Attributes
    ----------
    operations : Operations
        Of its connections.
    left : int
        Operations that may be added; if it is negative, connections that cause none still may.
    price : callable or None
        Prices positions, for random draws.
    shape : (int, int)
        Outputs and inputs of the layer.
    inner : Room or None
        Another room that holds as well.
    """

    operations: Operations
    left: int
    price: Price | None
    shape: tuple[int, int]
    inner: Room | None = None

    def open(self) -> NDArray[np.bool_]:
        """Return which outputs may gain a connection."""
        return np.ones(self.shape[0], np.bool_) if self.inner is None else self.inner.open()

    def most(self, free: IntArray) -> int:
        """Return how many of the free positions of each output can be chosen at most; the energy may allow fewer."""
        return int(free.sum()) if self.inner is None else self.inner.most(free)

    def accept(self, positions: IntArray, count: int) -> IntArray:
        """Return which positions, from the best to the worst, are chosen: ``count`` of them, or all that fit."""
        costs, left = self.operations.at(positions), max(self.left, 0)
        if self.inner is None:
            return np.flatnonzero(_fitting(costs, left, count))
        some = np.flatnonzero(costs <= left)
        while True:  # one that the energy refuses leaves its place in the other room to those after it
            chosen = some[self.inner.accept(positions[some], count)]
            fits = _fitting(costs[chosen], left, count)
            if fits.all():
                return chosen
            some = np.setdiff1d(some, chosen[~fits], assume_unique=True)

    def draw(self, free: IntArray, ranked: Ranked, count: int, rng: np.random.Generator) -> IntArray:
        """Draw free positions one after the other, each if it fits, in proportion to ``1 / price``."""
        chosen = np.empty(0, np.int64)
        for ranks in random_order(int(free.sum()), count, rng):
            positions = ranked(ranks)
            if self.price is not None:
                # In this order, the first ones are a draw without replacement in proportion to 1 / price
                # (Efraimidis and Spirakis 2006).
                positions = positions[np.argsort(rng.exponential(size=len(positions)) * self.price(positions))]
            chosen = positions[self.accept(positions, count)]
            if len(chosen) == count:
                break
        return np.sort(chosen)

    def after(self, chosen: IntArray, rule: str) -> SpendingRoom:
        """Return the room that positions chosen by a rule leave.

        Raises
        ------
        CheckFailed
            If a rule of your own ignored the room.
        """
        cost = int(self.operations.at(chosen).sum())
        if cost > max(self.left, 0):
            raise CheckFailed(
                f"growth rule '{rule}': the connections that it chose cause {cost:,} synaptic operations, and the "
                f"energy leaves {max(self.left, 0):,}; choose by layer.room.accept"
            )
        inner = None if self.inner is None else self.inner.after(chosen, rule)
        return replace(self, left=self.left - cost, inner=inner)

    def widened(self, factor: int) -> SpendingRoom:
        """Return a room for several candidates of each birth."""
        return replace(self, left=factor * max(self.left, 0))


def _fitting(costs: IntArray, left: int, count: int) -> NDArray[np.bool_]:
    fits = np.zeros(len(costs), np.bool_)
    _accept_costs(costs, left, count, fits)
    return fits


@compiled_for_threads
def _accept_costs(costs: IntArray, left: int, count: int, fits: NDArray[np.bool_]) -> None:
    for at in range(len(costs)):
        if count == 0:
            break
        if costs[at] <= left:
            left -= costs[at]
            count -= 1
            fits[at] = True
