"""Losses over the outputs of every time step: ``loss(outputs, labels)``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from esl_neuro.recipes.sections import TrainingSection
from esl_neuro.registry import Registry
from esl_neuro.snn.temporal import temporal_loss

Loss = Callable[[Tensor, Tensor], Tensor]

LOSSES: Registry[Loss] = Registry("loss")


@LOSSES.register
def tet(outputs: Tensor, labels: Tensor, mse_share: float = 0.0, level: float = 1.0) -> Tensor:
    """Temporal efficient training: the cross-entropy of every step, averaged (ESL-SNNs eq. 10).

    ``L = (1 - lambda) 1/T sum_t CE(O(t), y) + lambda mean((O - phi)**2)``, of which ESL-SNNs use the first term.

    Parameters
    ----------
    outputs : Tensor, shape (steps, batch, classes)
        ``O(t)``.
    labels : int64 Tensor, shape (batch,)
        ``y``.
    mse_share, level : float
        ``lambda`` and ``phi`` of TET (Deng et al., ICLR 2022).
    """
    steps = outputs.shape[0]
    entropy = torch.nn.functional.cross_entropy(outputs.flatten(0, 1), labels.repeat(steps))
    if mse_share == 0:
        return entropy
    return (1 - mse_share) * entropy + mse_share * (outputs - level).square().mean()


@LOSSES.register
def mean_cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the outputs averaged over the steps, ``CE(1/T sum_t O(t), y)``."""
    return torch.nn.functional.cross_entropy(outputs.mean(0), labels)


@LOSSES.register
def rate_mse(outputs: Tensor, labels: Tensor) -> Tensor:
    """Mean squared error of the firing rates against the one-hot class (STL-SNN, Grad R)."""
    target = torch.nn.functional.one_hot(labels, outputs.shape[-1]).to(outputs.dtype)
    return torch.nn.functional.mse_loss(outputs.mean(0), target)


@LOSSES.register
def first_spike(outputs: Tensor, labels: Tensor) -> Tensor:
    """Make the right neuron fire first: ``-ln(exp(-z_g) / sum_i exp(-z_i))`` (ESL-SNNs eq. 6).

    Parameters
    ----------
    outputs : Tensor, shape (1, batch, classes)
        ``-z`` of the output neurons, ``z`` being the exponential of the spike time.
    labels : int64 Tensor, shape (batch,)
        ``g``.
    """
    return temporal_loss(-outputs[0], labels)


def make_loss(section: TrainingSection) -> Loss:
    """Return the loss that a recipe asks for.

    Raises
    ------
    BadInput
        If there is no such loss.
    """
    if section.loss == "tet":
        return partial(tet, mse_share=section.tet_lambda)  # type: ignore[call-arg]  # hidden by the registry
    return LOSSES[section.loss]
