"""Synaptic sampling (Kappel et al. 2015): connections and weights are samples of a posterior over networks.

Kappel, Habenschuss, Legenstein and Maass, "Network Plasticity as Bayesian Inference", PLOS Computational Biology 2015.
Deep R is this walk with a fixed number of connections and other priors.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from esl_neuro.errors import BadInput
from esl_neuro.random_streams import stream
from esl_neuro.recipes.sections import NonNegative, Positive
from esl_neuro.sparsity.learner import LEARNERS
from esl_neuro.sparsity.masks import SparseLayer, dense_layer
from esl_neuro.sparsity.moments import forget_moments, group_of
from esl_neuro.sparsity.reparametrised import FixedSign, random_signs
from esl_neuro.sparsity.selection import LayerNames, named_weights


class SynapticSampling(FixedSign):
    """Every ``theta`` walks at random in its prior and the likelihood of the data; no number of connections is fixed.

    ``w = s exp(theta - theta0)`` where ``theta > 0``, else there is no connection, and ::

        d theta = b (d/dtheta log p_S + N d/dtheta log p_N) dt + sqrt(2 b T) dW

    with a Gaussian prior ``p_S`` of every ``theta``. In one iteration, ``N b dt`` is the learning rate ``eta`` and
    ``d`` the optimiser's step of the weight, ``-eta dL/dw`` for plain SGD on the mean loss ``L = -log p_N``, so that ::

        theta += w d + eta/N (mu - theta) / sigma**2 + sqrt(2 T eta/N) N(0, 1)

    Without data the stationary distribution is ``N(mu, T sigma**2)``, so a share ``Phi(mu / (sigma sqrt(T)))`` of all
    positions has a connection. A dormant ``theta`` follows prior and noise alone, because its weight stays zero.

    Ours: the fixed random signs (the weights of the paper are positive), the optimiser, whose preconditioning changes
    the likelihood's step only, and that moments are forgotten at birth.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Trains the weights; its learning rate scales prior and noise too.
    layers : list of SparseLayer
        The layers; their ``theta`` start as samples of the prior.
    mean, deviation : float
        ``mu`` and ``sigma`` of the prior.
    offset : float
        ``theta0``; the smallest weight of a connection is ``exp(-theta0)``.
    temperature : float
        ``T``: 1 samples the posterior, 0 climbs it.
    samples : float
        ``N``: how many data the likelihood stands for; the larger, the weaker are prior and noise.
    seed : int
        Seed of signs, first values and noise.

    Raises
    ------
    BadInput
        If a step would overshoot the centre of the prior.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        layers: list[SparseLayer],
        *,
        mean: float,
        deviation: float,
        offset: float,
        temperature: float,
        samples: float,
        seed: int,
    ) -> None:
        self.mean, self.variance, self.offset = mean, deviation**2, offset
        self.temperature, self.samples, self.seed = temperature, samples, seed
        for layer in layers:
            pull = float(group_of(optimizer, layer)["lr"]) / samples / self.variance
            if pull > 1:
                raise BadInput(
                    f"sparsity: a step moves '{layer.name}' by {pull:.3g} of the way to the mean of its prior; "
                    "allowed: at most 1; lower training.learning_rate, or raise sparsity.samples or sparsity.deviation"
                )
        theta = [mean + deviation * self._normal(layer, f"prior {layer.name}", 0) for layer in layers]
        for layer, first in zip(layers, theta, strict=True):
            layer.mask.copy_(first > 0)
            layer.ever_active.copy_(layer.mask)
        super().__init__(optimizer, layers, theta, [random_signs(layer, seed) for layer in layers])

    def weight(self, layer: SparseLayer) -> Tensor:
        """Return ``s exp(theta - theta0)`` where ``theta > 0``, else 0."""
        theta = self.theta(layer)
        return torch.where(theta > 0, self.sign(layer) * torch.exp(theta - self.offset), 0.0)

    def advance(self, layer: SparseLayer, move: Tensor) -> None:
        """Apply likelihood, prior and noise."""
        theta, rate = self.theta(layer), float(group_of(self.optimizer, layer)["lr"]) / self.samples
        dormant = theta <= 0
        prior = rate / self.variance * (self.mean - theta)
        theta.add_(self.weight(layer) * move).add_(prior)
        if self.temperature:
            walk = self._normal(layer, f"noise {layer.name}", self.iteration)
            theta.add_(walk, alpha=math.sqrt(2 * self.temperature * rate))
        forget_moments(self.optimizer, layer.weight, torch.nonzero((dormant & (theta > 0)).flatten()).squeeze(1))

    def _normal(self, layer: SparseLayer, purpose: str, iteration: int) -> Tensor:
        """Draw a standard normal value for every position of a layer."""
        drawn = stream(self.seed, purpose, iteration).standard_normal(tuple(layer.weight.shape))
        return torch.from_numpy(drawn).to(layer.weight)


@LEARNERS.register
def synaptic_sampling(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    layers: LayerNames,
    iterations: int,  # noqa: ARG001 (shared signature)
    seed: int = 0,
    mean: float = 0.5,
    deviation: Positive = 1.0,
    offset: NonNegative = 3.0,
    temperature: NonNegative = 1.0,
    samples: Positive = 100.0,
) -> SynapticSampling:
    """Synaptic sampling; see :class:`SynapticSampling`.

    Published, as in the authors' program: ``mean`` 0.5, ``deviation`` 1, ``offset`` 3, ``samples`` 100, for networks of
    soft winner-take-all circuits that learn without labels. With this prior 69 % of the positions have a connection;
    a density of ``p`` has the mean ``deviation sqrt(temperature) Phi^-1(p)``.
    """
    masked = [dense_layer(name, weight) for name, weight in named_weights(model, layers).items()]
    return SynapticSampling(
        optimizer,
        masked,
        mean=mean,
        deviation=deviation,
        offset=offset,
        temperature=temperature,
        samples=samples,
        seed=seed,
    )
