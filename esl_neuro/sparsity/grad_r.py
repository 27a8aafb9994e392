"""Gradient rewiring (Chen et al., IJCAI 2021): inactive connections keep learning and may return."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from esl_neuro.errors import BadInput
from esl_neuro.recipes.sections import Density, Positive
from esl_neuro.sparsity.learner import LEARNERS
from esl_neuro.sparsity.masks import SparseLayer, dense_layer
from esl_neuro.sparsity.moments import group_of
from esl_neuro.sparsity.reparametrised import FixedSign
from esl_neuro.sparsity.selection import LayerNames, named_weights


class GradR(FixedSign):
    """``w = s ReLU(theta)``; every ``theta``, active or not, follows the gradient of its weight and a Laplace prior.

    ``theta += s d - eta_t alpha sign(theta - mu)`` with ``mu = ln(2 (1 - p)) / alpha``, ``d`` the optimiser's step and
    ``p`` the target sparsity. ``eta_t`` is the learning rate, for Adam ``eta / (1 - beta1^t)``. Training starts dense
    with the signs of the initial weights. Moments belong to ``theta``, so births and deaths do not change them.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Trains the weights; its learning rate scales the prior too.
    layers : list of SparseLayer
        The layers, dense.
    density : float
        ``1 - p``, in (0, 0.5]: share of connections of the prior.
    penalty : float
        ``alpha``, the strength of the prior.
    """

    def __init__(self, optimizer: Optimizer, layers: list[SparseLayer], *, density: float, penalty: float) -> None:
        if not 0 < density <= 0.5:
            raise BadInput(f"sparsity.density: {density} is out of range for 'grad_r'; allowed: above 0 up to 0.5")
        self.alpha = penalty
        self.centre = math.log(2 * density) / penalty
        weights = [layer.weight.detach() for layer in layers]
        signs = [torch.where(weight < 0, -1.0, 1.0).to(weight) for weight in weights]
        super().__init__(optimizer, layers, [weight.abs() for weight in weights], signs)

    def advance(self, layer: SparseLayer, move: Tensor) -> None:
        """Apply the gradient and the prior."""
        theta, group = self.theta(layer), group_of(self.optimizer, layer)
        rate = float(group["lr"])
        if "betas" in group:
            rate /= 1 - group["betas"][0] ** self.iteration
        prior = torch.sign(theta - self.centre)
        theta.add_(self.sign(layer) * move).sub_(prior, alpha=rate * self.alpha)


@LEARNERS.register
def grad_r(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    layers: LayerNames,
    iterations: int,  # noqa: ARG001 (shared signature)
    seed: int = 0,  # noqa: ARG001 (shared signature)
    density: Density = 0.05,
    penalty: Positive = 1e-3,
) -> GradR:
    """Grad R; see :class:`GradR`.

    Published: ``penalty`` 1e-3, target sparsity 0.95, so ``density`` 0.05. MNIST 784-800-10: Adam 1e-3, batch 128, 512
    epochs; CIFAR-10: Adam 1e-4, batch 16, 2048 epochs.
    """
    masked = [dense_layer(name, weight) for name, weight in named_weights(model, layers).items()]
    return GradR(optimizer, masked, density=density, penalty=penalty)
