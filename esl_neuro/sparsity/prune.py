"""Prune rules: which connections are removed.

``rule(layer, count, threshold)`` returns the flat indices of ``count`` connections, or of fewer: places in the weight
of the layer, which is the vector of the connections' values if the layer stores its connections only. Where connections
have prices, as on the cores of a chip or within an energy, those with the least ``|w| / price`` are the smallest.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from esl_neuro.registry import Registry
from esl_neuro.sparsity.choice import largest
from esl_neuro.sparsity.masks import Layer, count_true, places_of_true

# Our choice; no paper of this family states a value.
DEFAULT_THRESHOLD = 1e-3


class PruneRule(Protocol):
    """Signature of all rules; only the threshold rule uses ``threshold``."""

    def __call__(self, layer: Layer, count: int, threshold: float = ...) -> Tensor:
        """Return flat indices of the connections to remove."""
        ...


PRUNE_RULES: Registry[PruneRule] = Registry("prune rule")


@PRUNE_RULES.register
def magnitude(layer: Layer, count: int, threshold: float = DEFAULT_THRESHOLD) -> Tensor:  # noqa: ARG001
    """Remove the connections with the smallest absolute weight."""
    return _smallest(layer, layer.mask, count)


@PRUNE_RULES.register
def per_sign(layer: Layer, count: int, threshold: float = DEFAULT_THRESHOLD) -> Tensor:  # noqa: ARG001
    """Remove the positive weights and the negative weights closest to zero (SET, Mocanu et al. 2018).

    SET removes the same fraction of either sign. Here the total is exactly ``count``: connections of weight zero are
    removed first, and the rest is divided between the signs in proportion to their numbers, to within half a
    connection.
    """
    weight = layer.weight.detach()
    positive, negative = layer.mask & (weight > 0), layer.mask & (weight < 0)
    positives, negatives = count_true(positive), count_true(negative)
    zeros = min(count, layer.connections - positives - negatives)
    rest = count - zeros
    # Rounded half up in integers, so that no sign has to remove more than it has.
    share = (2 * rest * positives + positives + negatives) // (2 * (positives + negatives)) if rest else 0
    return torch.cat(
        [
            _smallest(layer, layer.mask & ~positive & ~negative, zeros),
            _smallest(layer, positive, share),
            _smallest(layer, negative, rest - share),
        ]
    )


@PRUNE_RULES.register
def threshold(layer: Layer, count: int, threshold: float = DEFAULT_THRESHOLD) -> Tensor:
    """Remove the connections whose absolute weight is below a value, the smallest first and at most ``count``."""
    small = layer.mask & (layer.weight.detach().abs() < threshold)
    return _smallest(layer, small, min(count, count_true(small)))


def _smallest(layer: Layer, places: Tensor, count: int) -> Tensor:
    sizes = layer.weight.detach().abs()
    if layer.prices is not None:
        prices = torch.from_numpy(layer.prices).to(sizes)
        sizes.view(-1)[places_of_true(layer.mask)] /= prices
    return largest(-sizes, places, count)
