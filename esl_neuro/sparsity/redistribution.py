"""Number of new connections of each layer, when layers may exchange connections.

``rule(layers, deaths, room, optimizer)`` returns the births of each layer: in total as many as the deaths, and at most
the room of each layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch.optim import Optimizer

from esl_neuro.errors import CheckFailed
from esl_neuro.registry import Registry
from esl_neuro.sparsity.masks import SparseLayer
from esl_neuro.sparsity.moments import normalised_momentum

Redistribution = Callable[[Sequence[SparseLayer], Sequence[int], Sequence[int], Optimizer], list[int]]

REDISTRIBUTIONS: Registry[Redistribution] = Registry("redistribution")

# Sparse momentum never fills a layer completely.
MAX_FILL = 0.99


@REDISTRIBUTIONS.register
def momentum(
    layers: Sequence[SparseLayer], deaths: Sequence[int], room: Sequence[int], optimizer: Optimizer
) -> list[int]:
    """Distribute all births by the mean momentum of each layer's connections (Dettmers & Zettlemoyer 2019).

    The excess of a full layer goes to the others in the same proportions.

    Raises
    ------
    CheckFailed
        If the momentum of a layer is not finite.
    """
    weights = []
    for layer in layers:
        sizes = normalised_momentum(optimizer, layer)[layer.mask]
        weights.append(float(sizes.mean()) if sizes.numel() else 0.0)
        if not math.isfinite(weights[-1]):
            raise CheckFailed(
                f"layer '{layer.name}': mean momentum is {weights[-1]}: diverged; lower training.learning_rate"
            )
    return apportion(weights, sum(deaths), room)


def exchange_quotas(layers: Sequence[SparseLayer], fraction: float) -> tuple[list[int], list[int]]:
    """Return how many connections of each layer may be removed, and how many may be created.

    A layer keeps at least one connection, and at most 99 % of its free positions are filled. If there is not enough
    room for all births, fewer connections are removed.
    """
    room = [math.floor(MAX_FILL * (layer.mask.numel() - layer.connections)) for layer in layers]
    deaths = [min(math.ceil(fraction * layer.connections), max(layer.connections - 1, 0)) for layer in layers]
    return apportion(deaths, min(sum(deaths), sum(room)), deaths), room


def apportion(weights: Sequence[float], total: int, caps: Sequence[int]) -> list[int]:
    """Divide a total in proportion to weights, exactly and within caps (largest remainders).

    Parameters
    ----------
    weights : sequence of float
        Not negative; parts with room but zero weights are equal.
    total : int
        At most the sum of the caps.
    caps : sequence of int
        Largest part of each.

    Returns
    -------
    list of int
        Parts that add up to the total.
    """
    parts = [0] * len(weights)
    open_ = [index for index, cap in enumerate(caps) if cap > 0]
    left = total
    while open_ and left:
        scale = sum(weights[index] for index in open_)
        ideal = {index: left * (weights[index] / scale if scale else 1 / len(open_)) for index in open_}
        full = [index for index in open_ if ideal[index] >= caps[index]]
        if not full:
            for index in open_:
                parts[index] = math.floor(ideal[index])
            left -= sum(parts[index] for index in open_)
            for index in sorted(open_, key=lambda index: parts[index] - ideal[index])[:left]:
                parts[index] += 1
            break
        for index in full:
            parts[index] = caps[index]
            left -= caps[index]
        open_ = [index for index in open_ if index not in full]
    return parts
