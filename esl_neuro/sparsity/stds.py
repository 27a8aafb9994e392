"""State transition of dendritic spines (Chen et al., ICML 2022): a soft threshold that grows during training."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn
from torch.optim import Optimizer

from esl_neuro.recipes.sections import Fraction, NonNegative
from esl_neuro.registry import Registry
from esl_neuro.sparsity.learner import LEARNERS
from esl_neuro.sparsity.masks import SparseLayer, dense_layer
from esl_neuro.sparsity.reparametrised import Reparametrised
from esl_neuro.sparsity.selection import LayerNames, named_weights

Rise = Callable[[float], float]

RISES: Registry[Rise] = Registry("rise of the threshold")


@RISES.register
def sine(progress: float) -> float:
    """Sinusoidal rise: ``(1 + sin(pi (n / N - 1/2))) / 2``."""
    return (1 + math.sin(math.pi * (progress - 0.5))) / 2


@RISES.register
def linear(progress: float) -> float:
    """Linear rise: ``n / N``."""
    return progress


class Stds(Reparametrised):
    """``w = sign(theta) ReLU(|theta| - d)`` with ``d`` rising from 0 to ``D``; ``theta`` gets the gradient of ``w``.

    Connections may disappear, return and change their sign. There is no budget; the density results from training.
    Moments belong to ``theta``, so births and deaths do not change them.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Trains the weights.
    layers : list of SparseLayer
        The layers, dense; ``theta`` starts as their weights.
    width : float
        ``D``, in units of the weights.
    rise : str
        ``"sine"`` or ``"linear"``.
    end : int
        ``N``, the iteration at which ``d`` reaches ``D`` and stays constant.
    """

    def __init__(self, optimizer: Optimizer, layers: list[SparseLayer], *, width: float, rise: str, end: int) -> None:
        self.width, self.rise, self.end = width, RISES[rise], end
        super().__init__(optimizer, layers, [layer.weight.detach().clone() for layer in layers])
        for layer in layers:
            self.write(layer)

    @property
    def width_now(self) -> float:
        """Threshold ``d`` at this iteration."""
        return self.width * self.rise(self.iteration / self.end) if self.iteration < self.end else self.width

    def weight(self, layer: SparseLayer) -> Tensor:
        """Return ``theta`` shrunk towards zero by ``d``, or 0."""
        return nn.functional.softshrink(self.theta(layer), self.width_now)

    def advance(self, layer: SparseLayer, move: Tensor) -> None:
        """Apply the optimiser's step of the weight to ``theta``."""
        self.theta(layer).add_(move)


@LEARNERS.register
def stds(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    layers: LayerNames,
    iterations: int,
    seed: int = 0,  # noqa: ARG001 (shared signature)
    width: NonNegative = 1.0,
    rise: str = "sine",
    end: Fraction = 1.0,
) -> Stds:
    """STDS; see :class:`Stds`. ``end`` is a share of the iterations.

    Published: CIFAR-10 ``width`` 1 to 5, sine, Adam 1e-4, batch 16, 2048 epochs; ImageNet ``width`` 0.1 to 5, SGD with
    rate 0.1, 320 epochs. These widths are for long training: a short run needs a smaller width.
    """
    masked = [dense_layer(name, weight) for name, weight in named_weights(model, layers).items()]
    return Stds(optimizer, masked, width=width, rise=rise, end=int(end * iterations))
