"""Prune rules: which connections die. ``rule(layer, count)`` returns the flat indices of ``count`` connections."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from esl_neuro.registry import Registry
from esl_neuro.sparsity.masks import SparseLayer

PruneRule = Callable[[SparseLayer, int], Tensor]

PRUNE_RULES: Registry[PruneRule] = Registry("prune rule")


@PRUNE_RULES.register
def magnitude(layer: SparseLayer, count: int) -> Tensor:
    """Remove the connections with the smallest absolute weight."""
    sizes = torch.where(layer.mask, layer.weight.detach().abs(), torch.inf).flatten()
    return torch.topk(sizes, count, largest=False).indices
