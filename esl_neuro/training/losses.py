"""Losses over the outputs of every time step."""

from __future__ import annotations

import torch
from torch import Tensor


def tet_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """Temporal efficient training: the cross-entropy of every step, averaged (ESL-SNNs eq. 10).

    ``L = 1/T sum_t CE(O(t), y)``

    Parameters
    ----------
    outputs : Tensor, shape (steps, batch, classes)
        ``O(t)``.
    labels : int64 Tensor, shape (batch,)
        ``y``.
    """
    steps = outputs.shape[0]
    return torch.nn.functional.cross_entropy(outputs.flatten(0, 1), labels.repeat(steps))
