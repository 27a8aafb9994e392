"""Deep rewiring (Bellec et al. 2018): a random walk over sparse networks with an exact or a soft budget.

Both train ``w = s theta`` where ``theta > 0``, with random fixed signs ``s``. Active connections follow ``theta += -eta
dE/dtheta - eta l1 + eta noise N(0, 1)``, where the first term is the optimiser's step and ``eta`` its learning rate.
``eta noise`` is the paper's ``sqrt(2 eta T)`` with ``T = eta noise^2 / 2``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from esl_neuro.errors import BadInput
from esl_neuro.random_streams import stream
from esl_neuro.recipes.sections import Density, NonNegative, Positive
from esl_neuro.sparsity.initialisers import sparse_layers
from esl_neuro.sparsity.learner import LEARNERS
from esl_neuro.sparsity.masks import SparseLayer
from esl_neuro.sparsity.moments import forget_moments, group_of
from esl_neuro.sparsity.reparametrised import FixedSign, random_signs
from esl_neuro.sparsity.selection import LayerNames

# Value of a newly reactivated connection, as in the authors' code.
REBORN = 1e-12


class DeepR(FixedSign):
    """Keeps exactly K connections per layer: connections that cross zero become dormant, random ones replace them.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Trains the weights; its learning rate also scales the L1 term and the noise.
    layers : list of SparseLayer
        The layers with their initial connections, whose number is constant.
    l1 : float
        L1 penalty of every active connection.
    noise : float
        Standard deviation of the random walk of active connections, relative to the learning rate.
    seed : int
        Seed of signs, noise and reactivation.
    """

    def __init__(self, optimizer: Optimizer, layers: list[SparseLayer], *, l1: float, noise: float, seed: int) -> None:
        self.l1, self.noise, self.seed = l1, noise, seed
        self.budgets = {layer.name: layer.connections for layer in layers}
        # An initial weight of zero would be dormant; it starts like a reactivated one.
        theta = [layer.weight.detach().abs().clamp(min=REBORN) * layer.mask for layer in layers]
        super().__init__(optimizer, layers, theta, [random_signs(layer, seed) for layer in layers])

    def advance(self, layer: SparseLayer, move: Tensor) -> None:
        """Move the active connections, deactivate those at zero, and reactivate as many at random."""
        self._walk(layer, move)
        forget_moments(self.optimizer, layer.weight, self._wake(layer))

    def _walk(self, layer: SparseLayer, move: Tensor) -> None:
        """Move the active connections; those that reach zero stay there."""
        theta, active, rate = self.theta(layer), layer.mask, float(group_of(self.optimizer, layer)["lr"])
        change = self.sign(layer) * move - rate * self.l1
        theta.add_(torch.where(active, change, 0.0))
        if self.noise:
            walk = stream(self.seed, f"noise {layer.name}", self.iteration).standard_normal(int(active.sum()))
            theta[active] += rate * self.noise * torch.from_numpy(walk).to(theta)
        theta.clamp_(min=0)

    def _wake(self, layer: SparseLayer) -> Tensor:
        """Reactivate dormant connections, uniformly at random, until there are K; return their flat indices."""
        theta = self.theta(layer)
        dormant = torch.nonzero((theta == 0).flatten()).squeeze(1)
        missing = self.budgets[layer.name] - (theta.numel() - dormant.numel())
        rng = stream(self.seed, f"reactivation {layer.name}", self.iteration)
        woken = dormant[torch.from_numpy(rng.choice(dormant.numel(), size=missing, replace=False)).to(dormant.device)]
        theta.put_(woken, torch.full_like(woken, REBORN, dtype=theta.dtype))
        return woken


class SoftDeepR(FixedSign):
    """Lets the number of connections fluctuate around a share ``p``: dormant ones walk at random until they cross zero.

    Dormant connections receive noise only, and no ``theta`` falls below ``-T (1 - p) / (l1 p)``, so that they return.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Trains the weights; its learning rate scales the L1 term, the noise and ``T``.
    layers : list of SparseLayer
        The layers with their initial connections, which set ``p`` of each.
    l1 : float
        L1 penalty of every active connection.
    noise : float
        Standard deviation of the random walk of all connections, relative to the learning rate.
    seed : int
        Seed of signs, dormant values and noise.
    """

    def __init__(self, optimizer: Optimizer, layers: list[SparseLayer], *, l1: float, noise: float, seed: int) -> None:
        if l1 <= 0:
            raise BadInput(
                f"sparsity.l1: {l1} is out of range; allowed: above 0, because it sets the floor of dormant connections"
            )
        self.l1, self.noise, self.seed = l1, noise, seed
        self.shares = {layer.name: layer.density for layer in layers}
        theta = []
        for layer in layers:
            floor = self._floor(layer, float(group_of(optimizer, layer)["lr"]))
            draw = stream(seed, f"dormant {layer.name}").random(tuple(layer.weight.shape))
            dormant = floor * torch.from_numpy(draw).to(layer.weight)
            theta.append(torch.where(layer.mask, layer.weight.detach().abs().clamp(min=REBORN), dormant))
        super().__init__(optimizer, layers, theta, [random_signs(layer, seed) for layer in layers])

    def _floor(self, layer: SparseLayer, rate: float) -> float:
        share, temperature = self.shares[layer.name], rate * self.noise**2 / 2
        return -temperature * (1 - share) / (self.l1 * share)

    def advance(self, layer: SparseLayer, move: Tensor) -> None:
        """Apply the gradient to active connections and noise to all, down to the floor."""
        theta, active, rate = self.theta(layer), layer.mask.clone(), float(group_of(self.optimizer, layer)["lr"])
        change = self.sign(layer) * move - rate * self.l1
        theta.add_(torch.where(active, change, 0.0))
        walk = stream(self.seed, f"noise {layer.name}", self.iteration).standard_normal(tuple(theta.shape))
        theta.add_(torch.from_numpy(walk).to(theta), alpha=rate * self.noise)
        theta.clamp_(min=self._floor(layer, rate))
        born = (theta > 0) & ~active
        forget_moments(self.optimizer, layer.weight, torch.nonzero(born.flatten()).squeeze(1))


@LEARNERS.register
def deep_r(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    layers: LayerNames,
    iterations: int,  # noqa: ARG001 (shared signature)
    seed: int = 0,
    density: Density | None = None,
    epsilon: Positive | None = None,
    densities: dict[str, Density] | None = None,
    distribution: str = "erdos_renyi",
    l1: NonNegative = 1e-5,
    noise: NonNegative = 1e-5,
) -> DeepR:
    """Deep R with exact budget; see :class:`DeepR`.

    Published (MNIST, 784-300-100-10): ``densities`` 0.01, 0.03 and 0.3 of the three layers, of which the first is the
    default for all; ``l1`` and ``noise`` 1e-5, SGD with rate 0.5 and a decay of 0.8 per epoch, batch 10.
    """
    if density is None and epsilon is None and densities is None:
        density = 0.01
    masked = sparse_layers(
        model,
        layers,
        density=density,
        epsilon=epsilon,
        densities=densities,
        distribution=distribution,
        seed=seed,
    )
    return DeepR(optimizer, masked, l1=l1, noise=noise, seed=seed)


@LEARNERS.register
def soft_deep_r(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    layers: LayerNames,
    iterations: int,  # noqa: ARG001 (shared signature)
    seed: int = 0,
    density: Density | None = None,
    epsilon: Positive | None = None,
    densities: dict[str, Density] | None = None,
    distribution: str = "erdos_renyi",
    l1: Positive = 1e-5,
    noise: Positive = 1e-5,
) -> SoftDeepR:
    """Soft Deep R; see :class:`SoftDeepR`.

    Published (MNIST, 784-300-100-10): ``densities`` 0.005, 0.005 and 0.1 of the three layers, of which the first
    is the default for all; ``l1`` and ``noise`` 1e-5, SGD with rate 0.05, batch 10.
    """
    if density is None and epsilon is None and densities is None:
        density = 0.005
    masked = sparse_layers(
        model,
        layers,
        density=density,
        epsilon=epsilon,
        densities=densities,
        distribution=distribution,
        seed=seed,
    )
    return SoftDeepR(optimizer, masked, l1=l1, noise=noise, seed=seed)
