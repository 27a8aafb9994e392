"""Growth rules: which connections are created.

``rule(layer, candidates, count, optimizer, rng)`` returns the flat indices of ``count`` distinct candidates. Where the
fan-in has a cap, the layer is on the cores of a chip or energy is limited, they are those that ``layer.room.accept``
chooses; cores and energy may allow fewer. Where connections have prices, those with the largest score over price are
the best.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from esl_neuro.errors import BadInput
from esl_neuro.registry import Registry
from esl_neuro.sparsity.choice import draw, largest, most
from esl_neuro.sparsity.masks import SparseLayer
from esl_neuro.sparsity.moments import normalised_momentum

GrowthRule = Callable[[SparseLayer, Tensor, int, Optimizer, np.random.Generator], Tensor]

GROWTH_RULES: Registry[GrowthRule] = Registry("growth rule")


@GROWTH_RULES.register
def momentum(
    layer: SparseLayer,
    candidates: Tensor,
    count: int,
    optimizer: Optimizer,
    rng: np.random.Generator,  # noqa: ARG001 (shared signature)
) -> Tensor:
    """Activate the candidates with the largest momentum (Dettmers & Zettlemoyer 2019)."""
    return largest(priced(normalised_momentum(optimizer, layer), layer), candidates, count, layer.room)


@GROWTH_RULES.register
def gradient(
    layer: SparseLayer,
    candidates: Tensor,
    count: int,
    optimizer: Optimizer,  # noqa: ARG001 (shared signature)
    rng: np.random.Generator,  # noqa: ARG001 (shared signature)
) -> Tensor:
    """Activate the candidates with the largest ``|dL/dw|`` of the current mini-batch (RigL).

    The gradient is that of the last optimiser step.

    Raises
    ------
    BadInput
        If the weight has no gradient.
    """
    if layer.weight.grad is None:
        raise BadInput(
            f"growth rule 'gradient': layer '{layer.name}' has no gradient; clear gradients after rewirer.step(), "
            "not before it"
        )
    return largest(priced(layer.weight.grad.abs(), layer), candidates, count, layer.room)


@GROWTH_RULES.register
def random(
    layer: SparseLayer,
    candidates: Tensor,
    count: int,
    optimizer: Optimizer,  # noqa: ARG001 (shared signature)
    rng: np.random.Generator,
) -> Tensor:
    """Activate candidates uniformly at random (SET)."""
    return draw(candidates, count, rng, layer.room)


@GROWTH_RULES.register
def random_unfired(
    layer: SparseLayer,
    candidates: Tensor,
    count: int,
    optimizer: Optimizer,  # noqa: ARG001 (shared signature)
    rng: np.random.Generator,
) -> Tensor:
    """Activate random candidates that were never active before; when none is left, the others."""
    fresh = candidates & ~layer.ever_active
    first = min(count, most(fresh, layer.room))
    chosen = draw(fresh, first, rng, layer.room)
    if chosen.numel() == count:
        return chosen
    room = None if layer.room is None else layer.room.after(chosen.cpu().numpy(), "random_unfired")
    return torch.cat([chosen, draw(candidates & ~fresh, count - chosen.numel(), rng, room)])


def grow(
    shares: Mapping[str, float],
    layer: SparseLayer,
    candidates: Tensor,
    count: int,
    optimizer: Optimizer,
    rng: np.random.Generator,
) -> Tensor:
    """Divide the births between several rules; each chooses from the candidates that the previous rules left.

    Parameters
    ----------
    shares : mapping of rule name to weight
        Relative quota of each rule; the quotas add up to ``count``.
    candidates : bool Tensor, shape of the weight
        Positions where a connection may be created.

    Returns
    -------
    int64 Tensor, shape (count,)
        Distinct flat indices of candidates; fewer where cores or energy allow no more.
    """
    left = candidates.clone()
    born: list[Tensor] = []
    for name, quota in shares_of(shares, count).items():
        chosen = GROWTH_RULES[name](layer, left, quota, optimizer, rng)
        left.view(-1)[chosen] = False
        if layer.room is not None:
            layer.room = layer.room.after(chosen.cpu().numpy(), name)
        born.append(chosen)
    return torch.cat(born)


def priced(scores: Tensor, layer: SparseLayer) -> Tensor:
    """Divide scores, of the shape of the weight, by the prices of the connections."""
    if layer.birth_price is None:
        return scores
    prices = layer.birth_price(np.arange(layer.possible))
    return scores / torch.from_numpy(prices).to(scores).view_as(scores)


def shares_of(shares: Mapping[str, float], count: int) -> dict[str, int]:
    """Divide births between rules by their relative quotas; the parts add up to ``count``."""
    bounds = np.rint(np.cumsum(list(shares.values())) / sum(shares.values()) * count).astype(int)
    return dict(zip(shares, np.diff(bounds, prepend=0).tolist(), strict=True))
