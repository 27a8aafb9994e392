"""Regularisation of networks of exact spike times, which keeps their neurons firing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from esl_neuro.recipes.sections import NetworkSection, SingleSpikeSection
from esl_neuro.snn.temporal import TemporalNetwork, normalise_gradients, weight_sum_cost
from esl_neuro.sparsity.masks import Layer


class Stabiliser(Protocol):
    """Adds a cost to the loss before the backward pass, and limits gradients after it."""

    def cost(self) -> Tensor | float:
        """Return a term to add to the loss."""
        ...

    def limit_gradients(self) -> None:
        """Change the gradients in place."""
        ...


class NoStabiliser:
    """No stabiliser, for networks over time."""

    def cost(self) -> float:
        """Return 0."""
        return 0.0

    def limit_gradients(self) -> None:
        """Do not change the gradients."""


@dataclass(frozen=True)
class SingleSpikeStabiliser:
    """Weight-sum cost over the active weights, and gradients of limited norm (Mostafa, 2018).

    Attributes
    ----------
    network : TemporalNetwork
        The trained network.
    masks : dict of str to bool Tensor
        Active connections of the sparse layers, by the network's names.
    strength, limit : float
        See :func:`~esl_neuro.snn.temporal.weight_sum_cost` and :func:`~esl_neuro.snn.temporal.normalise_gradients`.
    """

    network: TemporalNetwork
    masks: dict[str, Tensor]
    strength: float
    limit: float

    def cost(self) -> Tensor:
        """Return the cost of neurons whose weights are too small to fire."""
        return weight_sum_cost(self.network, self.strength, self.masks)

    def limit_gradients(self) -> None:
        """Scale down the gradients of layers whose norm is above the limit."""
        normalise_gradients(self.network.weights().values(), self.limit)


def make_stabiliser(section: NetworkSection, network: nn.Module, layers: Sequence[Layer]) -> Stabiliser:
    """Return the stabiliser of a network; also restore the weight sums that masks lowered, for exact spike times."""
    if not isinstance(section, SingleSpikeSection) or not isinstance(network, TemporalNetwork):
        return NoStabiliser()
    network.rescale_rows()
    masks = {
        name: layer.mask for name, weight in network.weights().items() for layer in layers if layer.weight is weight
    }
    return SingleSpikeStabiliser(network, masks, section.sum_cost, section.gradient_limit)
