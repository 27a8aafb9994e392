"""Growth rules of layers that store their connections only; none of them makes a matrix of all possible connections.

``rule(layer, taken, count, rng)`` returns ``count`` distinct positions that are not among the sorted ``taken`` ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from esl_neuro.errors import BadInput, CheckFailed
from esl_neuro.registry import Registry
from esl_neuro.sparsity.capped_choice import IntArray, RowRoom, best, nth_free
from esl_neuro.sparsity.growth import shares_of
from esl_neuro.sparsity.indexed_layer import IndexedLayer
from esl_neuro.sparsity.sparse_weights import ConnectionIndex, SignalErrors, union
from esl_neuro.sparsity.spending import SpendingRoom
from esl_neuro.sparsity.topology import Positions

IndexedGrowthRule = Callable[[IndexedLayer, Positions, int, np.random.Generator], Positions]

INDEXED_GROWTH_RULES: Registry[IndexedGrowthRule] = Registry("growth rule for sparse storage")

WITHOUT_ERRORS = frozenset({"random", "random_unfired"})
"""Rules that need no gradients; layers keep the signals of a backward pass for all others."""

TILE = 64
"""Neurons whose gradients exist at the same time."""

CANDIDATES_PER_BIRTH = 4


@INDEXED_GROWTH_RULES.register
def random(layer: IndexedLayer, taken: Positions, count: int, rng: np.random.Generator) -> Positions:
    """Create connections uniformly at random (SET); the same ones as in a masked layer."""
    if layer.room is not None:
        return layer.room.draw(_free(layer, taken), partial(nth_free, taken), count, rng)
    return nth_free(taken, np.sort(rng.choice(layer.possible - len(taken), count, replace=False, shuffle=False)))


@INDEXED_GROWTH_RULES.register
def random_unfired(layer: IndexedLayer, taken: Positions, count: int, rng: np.random.Generator) -> Positions:
    """Create random connections that never existed before; when none is left, others."""
    explored = layer.explored_positions
    if explored is None:
        raise BadInput(f"growth rule 'random_unfired': the explored positions of layer '{layer.name}' are not tracked")
    closed = union(explored, taken)
    first = min(count, _most(layer, closed))
    chosen = random(layer, closed, first, rng)
    if len(chosen) == count:
        return chosen
    again = np.setdiff1d(explored, taken, assume_unique=True)
    if layer.room is not None:
        room = layer.room.after(chosen, "random_unfired")
        free = np.bincount(again // layer.shape()[1], minlength=layer.shape()[0])
        return np.concatenate([chosen, room.draw(free, again.__getitem__, count - len(chosen), rng)])
    return np.concatenate([chosen, again[rng.choice(len(again), count - first, replace=False, shuffle=False)]])


@INDEXED_GROWTH_RULES.register
def gradient(
    layer: IndexedLayer,
    taken: Positions,
    count: int,
    rng: np.random.Generator,  # noqa: ARG001 (shared signature)
) -> Positions:
    """Create the connections with the largest ``|dL/dw|`` of the current mini-batch (RigL), exactly.

    Gradients of 64 neurons exist at a time, and of these only the best positions so far are kept. It costs as many
    operations as the gradient of a dense layer.
    """
    records = _records(layer, "gradient")
    if layer.room is None:
        positions, scores = _steepest(layer, taken, records, count)
        return positions[_largest(layer, scores, count)]
    most = 4 * count + 1
    while True:  # the best of some positions are the best of all, if there are enough
        positions, scores = _steepest(layer, taken, records, most, layer.room.open())
        chosen = best(scores, positions, layer.room, count)
        if len(chosen) == count or len(positions) < most:
            return positions[chosen]
        most *= 4


def _steepest(
    layer: IndexedLayer,
    taken: Positions,
    records: Sequence[SignalErrors],
    most: int,
    open_: NDArray[np.bool_] | None = None,
) -> tuple[Positions, NDArray[np.floating]]:
    """Return at least the ``most`` free positions with the largest gradients, ascending, and the gradients.

    With outputs that are open, it is exactly so many, the lowest of equal ones, or all.
    """
    outputs, inputs = layer.shape()
    gradients = [each.gradients() for each in records]
    positions, scores, bound = np.empty(0, np.int64), np.empty(0), -1.0
    for first in range(0, outputs, TILE):
        last = min(first + TILE, outputs)
        tile = torch.zeros(last - first, inputs, dtype=layer.weight.dtype)
        for each in gradients:
            tile += each(first, last)
        sizes = layer.total(tile).abs_().numpy().ravel()
        if layer.birth_price is not None:
            sizes /= layer.birth_price(np.arange(first * inputs, last * inputs))
        closed = taken[np.searchsorted(taken, first * inputs) : np.searchsorted(taken, last * inputs)]
        sizes[closed - first * inputs] = -1
        if open_ is not None:
            tile.numpy()[~open_[first:last]] = -1
        better = np.flatnonzero(sizes > bound)
        positions = np.concatenate([positions, better + first * inputs])
        scores = np.concatenate([scores, sizes[better]])
        if len(positions) > 2 * most:
            top = _largest(layer, scores, most) if open_ is None else _first_largest(scores, most)
            positions, scores = positions[top], scores[top]
            bound = float(scores.min()) if most else np.inf
    if open_ is not None and len(positions) > most:
        top = _first_largest(scores, most)
        positions, scores = positions[top], scores[top]
    return positions, scores


def _first_largest(scores: NDArray[np.floating], most: int) -> NDArray[np.int64]:
    """Return the places of the largest scores, ascending; the lowest of equal ones."""
    return np.sort(np.argsort(-scores, kind="stable")[:most])


@INDEXED_GROWTH_RULES.register
def gradient_on_candidates(layer: IndexedLayer, taken: Positions, count: int, rng: np.random.Generator) -> Positions:
    """Create the random candidates with the largest ``|dL/dw|`` of the current mini-batch, of 4 for each birth.

    Operations and memory follow the connections, not the size of the layer (after Heddes et al. 2024, whose candidates
    are not uniform).
    """
    records = _records(layer, "gradient_on_candidates")
    outputs, inputs = layer.shape()
    candidates = _candidates(layer, taken, count, rng)
    index = ConnectionIndex.of(candidates, inputs, outputs)
    total = np.zeros(len(candidates), layer.weight.detach().numpy().dtype)
    for each in records:
        total += each.gradient_at(index)
    scores = layer.total(torch.from_numpy(total)).abs().numpy()
    if layer.birth_price is not None:
        scores = scores / layer.birth_price(candidates)
    return candidates[_chosen(layer, scores, candidates, count)]


def _candidates(layer: IndexedLayer, taken: Positions, count: int, rng: np.random.Generator) -> Positions:
    """Draw 4 candidates for each birth; where an output has room, 4 for each connection that it may gain."""
    if layer.room is None:
        return np.sort(random(layer, taken, min(CANDIDATES_PER_BIRTH * count, layer.possible - len(taken)), rng))
    free = _free(layer, taken)
    if isinstance(layer.room, RowRoom):
        room = RowRoom(CANDIDATES_PER_BIRTH * layer.room.left, layer.room.inputs)
        most = min(CANDIDATES_PER_BIRTH * count, room.most(free))
        return room.draw(free, partial(nth_free, taken), most, rng)
    wide = layer.room.widened(CANDIDATES_PER_BIRTH) if isinstance(layer.room, SpendingRoom) else layer.room
    return np.sort(wide.draw(free, partial(nth_free, taken), CANDIDATES_PER_BIRTH * count, rng))


def _free(layer: IndexedLayer, taken: Positions) -> IntArray:
    """Count the positions of each output that are not taken."""
    outputs, inputs = layer.shape()
    return np.asarray(inputs - np.diff(np.searchsorted(taken, np.arange(outputs + 1) * inputs)))


def _most(layer: IndexedLayer, taken: Positions) -> int:
    """Return how many positions can be chosen."""
    return layer.possible - len(taken) if layer.room is None else layer.room.most(_free(layer, taken))


def grow_connections(
    shares: Mapping[str, float], layer: IndexedLayer, count: int, rng: np.random.Generator
) -> Positions:
    """Divide the births between several rules; each chooses from the positions that the previous rules left."""
    taken = layer.module.index.positions()
    born: list[Positions] = []
    for name, quota in shares_of(shares, count).items():
        chosen = INDEXED_GROWTH_RULES[name](layer, taken, quota, rng)
        taken = union(taken, chosen)
        if layer.room is not None:
            layer.room = layer.room.after(chosen, name)
        born.append(chosen)
    return np.concatenate(born)


def _records(layer: IndexedLayer, rule: str) -> list[SignalErrors]:
    if not layer.module.errors:
        raise BadInput(
            f"growth rule '{rule}': layer '{layer.name}' has had no backward pass since the last rewirer.step(); call "
            "rewirer.step() once after every optimizer.step()"
        )
    return layer.module.errors


def _chosen(layer: IndexedLayer, scores: NDArray[np.floating], positions: Positions, count: int) -> NDArray[np.int64]:
    """Return the places of the best positions, within the room of the layer if it has one."""
    if layer.room is None:
        return _largest(layer, scores, count)
    return best(scores, positions, layer.room, count)


def _largest(layer: IndexedLayer, scores: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    if len(scores) < count or not np.isfinite(scores).all():
        raise CheckFailed(
            f"connections of layer '{layer.name}' cannot be ranked: gradients are not finite, training has diverged; "
            "lower training.learning_rate"
        )
    return np.argpartition(scores, len(scores) - count)[len(scores) - count :] if count else np.empty(0, np.int64)
