"""Growth rules of layers that store their connections only; none of them makes a matrix of all possible connections.

``rule(layer, taken, count, rng)`` returns ``count`` distinct positions that are not among the sorted ``taken`` ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from esl_neuro.errors import BadInput, CheckFailed
from esl_neuro.registry import Registry
from esl_neuro.sparsity import sparse_kernels as kernels
from esl_neuro.sparsity.capped_choice import IntArray, best, draw_ranks
from esl_neuro.sparsity.fan_in import room_left
from esl_neuro.sparsity.growth import shares_of
from esl_neuro.sparsity.indexed_layer import IndexedLayer
from esl_neuro.sparsity.sparse_linear import ConnectionIndex, SignalErrors, union
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
        return nth_free(taken, draw_ranks(_free(layer, taken), layer.room, count, rng))
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
    if first == count:
        return chosen
    again = np.setdiff1d(explored, taken, assume_unique=True)
    room = room_left(layer, chosen, "random_unfired")
    if room is not None:
        free = np.bincount(again // layer.shape()[1], minlength=len(room))
        return np.concatenate([chosen, again[draw_ranks(free, room, count - first, rng)]])
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
    outputs, inputs = layer.shape()
    signals = [torch.from_numpy(each.signal()).to(layer.weight.dtype).t() for each in records]
    positions, scores, bound = np.empty(0, np.int64), np.empty(0), -1.0
    for first in range(0, outputs, TILE):
        last = min(first + TILE, outputs)
        tile = torch.zeros(last - first, inputs, dtype=layer.weight.dtype)
        for each, signal in zip(records, signals, strict=True):
            tile += torch.from_numpy(each.errors[first:last, : each.columns]) @ signal
        sizes = layer.total(tile).abs_().numpy().ravel()
        closed = taken[np.searchsorted(taken, first * inputs) : np.searchsorted(taken, last * inputs)]
        sizes[closed - first * inputs] = -1
        better = np.flatnonzero(sizes > bound)
        if layer.room is not None:
            better = better[best(sizes[better], better, inputs, layer.room[first:last], len(better))]
        positions = np.concatenate([positions, better + first * inputs])
        scores = np.concatenate([scores, sizes[better]])
        if len(positions) > 2 * count:
            top = _chosen(layer, scores, positions, count)
            positions, scores = positions[top], scores[top]
            bound = float(scores.min()) if count else np.inf
    return positions[_chosen(layer, scores, positions, count)]


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
        part = np.empty_like(total)
        kernels.weight_gradient(index.lines, index.starts, each.x, each.errors, part, each.columns)
        total += part
    scores = layer.total(torch.from_numpy(total)).abs().numpy()
    return candidates[_chosen(layer, scores, candidates, count)]


def _candidates(layer: IndexedLayer, taken: Positions, count: int, rng: np.random.Generator) -> Positions:
    """Draw 4 candidates for each birth; where an output has room, 4 for each connection that it may gain."""
    if layer.room is None:
        return np.sort(random(layer, taken, min(CANDIDATES_PER_BIRTH * count, layer.possible - len(taken)), rng))
    free, room = _free(layer, taken), CANDIDATES_PER_BIRTH * layer.room
    most = min(CANDIDATES_PER_BIRTH * count, int(np.minimum(free, room).sum()))
    return nth_free(taken, draw_ranks(free, room, most, rng))


def _free(layer: IndexedLayer, taken: Positions) -> IntArray:
    """Count the positions of each output that are not taken."""
    outputs, inputs = layer.shape()
    return np.asarray(inputs - np.diff(np.searchsorted(taken, np.arange(outputs + 1) * inputs)))


def _most(layer: IndexedLayer, taken: Positions) -> int:
    """Return how many positions can be chosen."""
    if layer.room is None:
        return layer.possible - len(taken)
    return int(np.minimum(_free(layer, taken), layer.room).sum())


def grow_connections(
    shares: Mapping[str, float], layer: IndexedLayer, count: int, rng: np.random.Generator
) -> Positions:
    """Divide the births between several rules; each chooses from the positions that the previous rules left."""
    taken = layer.module.index.positions()
    born: list[Positions] = []
    for name, quota in shares_of(shares, count).items():
        chosen = INDEXED_GROWTH_RULES[name](layer, taken, quota, rng)
        taken = union(taken, chosen)
        layer.room = room_left(layer, chosen, name)
        born.append(chosen)
    return np.concatenate(born)


def nth_free(taken: Positions, ranks: NDArray[np.int64]) -> Positions:
    """Return the positions with these ranks among those that are not taken."""
    free_before = taken - np.arange(len(taken))
    return ranks + np.searchsorted(free_before, ranks, side="right")


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
    return best(scores, positions, layer.shape()[1], layer.room, count)


def _largest(layer: IndexedLayer, scores: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    if len(scores) < count or not np.isfinite(scores).all():
        raise CheckFailed(
            f"connections of layer '{layer.name}' cannot be ranked: gradients are not finite, training has diverged; "
            "lower training.learning_rate"
        )
    return np.argpartition(scores, len(scores) - count)[len(scores) - count :] if count else np.empty(0, np.int64)
