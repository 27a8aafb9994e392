"""Learners that train a latent value of every weight: ``w = f(theta)``, with the gradient of ``w`` for ``theta``.

The user's loop and optimiser do not change. The optimiser moves the weight from ``f(theta)`` to ``f(theta) + d``; the
learner applies that move to ``theta`` and rewrites the weight. So ``d`` may come from any optimiser, with its momentum
and preconditioning; weight decay acts on the weight, not on ``theta``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer

from esl_neuro.random_streams import stream
from esl_neuro.sparsity.masks import SparseLayer, overall_density
from esl_neuro.sparsity.moments import group_of
from esl_neuro.sparsity.telemetry import RewiringUpdate, describe_update

# Reporting a layer costs more than changing it, and these learners change it at every iteration.
REPORT_EVERY = 100


class Reparametrised(ABC):
    """Base class: latent values, the move from weight to latent value, reports and state.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Trains the weights of all layers.
    layers : list of SparseLayer
        The layers with their initial weights.
    theta : list of Tensor
        Latent values of each layer, shape of its weight.

    Attributes
    ----------
    memory : dict of str to Tensor
        State of each layer for a resumed run, named ``<layer>/<quantity>``.
    """

    def __init__(self, optimizer: Optimizer, layers: list[SparseLayer], theta: list[Tensor]) -> None:
        self.optimizer = optimizer
        self.layers = layers
        self.iteration = 0
        self.memory: dict[str, Tensor] = {}
        for layer, latent in zip(layers, theta, strict=True):
            group_of(optimizer, layer)
            self.memory[f"{layer.name}/theta"] = latent
            self.memory[f"{layer.name}/ever_active"] = layer.ever_active
            self.memory[f"{layer.name}/reported"] = layer.mask.clone()

    @abstractmethod
    def weight(self, layer: SparseLayer) -> Tensor:
        """Return ``f(theta)`` at this iteration: the weight, exactly zero where there is no connection."""

    @abstractmethod
    def advance(self, layer: SparseLayer, move: Tensor) -> None:
        """Update ``theta`` in place, given the optimiser's change of the weight."""

    def theta(self, layer: SparseLayer) -> Tensor:
        """Return the latent values of a layer, shape of its weight."""
        return self.memory[f"{layer.name}/theta"]

    @torch.no_grad()
    def step(self) -> list[RewiringUpdate]:
        """Call once after every ``optimizer.step()``.

        Returns
        -------
        list of RewiringUpdate
            Every 100 iterations one entry per layer, with all changes since the last one; else empty.
        """
        moves = [layer.weight - self.weight(layer) for layer in self.layers]
        self.iteration += 1
        for layer, move in zip(self.layers, moves, strict=True):
            self.advance(layer, move)
            self.write(layer)
            layer.ever_active |= layer.mask
        return [self._report(layer) for layer in self.layers] if self.iteration % REPORT_EVERY == 0 else []

    def penalty(self) -> float:
        """Return 0: penalties of these methods act on ``theta``."""
        return 0.0

    @property
    def density(self) -> float:
        """Density over all layers."""
        return overall_density(self.layers)

    @torch.no_grad()
    def write(self, layer: SparseLayer) -> None:
        """Write the weight of this iteration and its mask."""
        layer.weight.copy_(self.weight(layer))
        torch.ne(layer.weight, 0, out=layer.mask)

    def _report(self, layer: SparseLayer) -> RewiringUpdate:
        before = self.memory[f"{layer.name}/reported"]
        births, deaths = int((layer.mask & ~before).sum()), int((before & ~layer.mask).sum())
        before.copy_(layer.mask)
        return describe_update(layer, self.iteration, births, deaths)

    def state_dict(self) -> dict[str, Tensor]:
        """Return latent values, history and iteration as tensors, for a checkpoint."""
        return {"iteration": torch.tensor(self.iteration), **self.memory}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the state of a learner with the same layers and settings, and write its weights."""
        self.iteration = int(state["iteration"])
        for name, tensor in self.memory.items():
            tensor.copy_(state[name])
        for layer in self.layers:
            self.write(layer)


class FixedSign(Reparametrised):
    """A connection never changes its sign ``s``, and is inactive where ``theta <= 0``; here ``w = s ReLU(theta)``.

    Parameters
    ----------
    signs : list of Tensor
        +1 or -1 for every position of each layer; the other parameters are those of :class:`Reparametrised`.
    """

    def __init__(
        self, optimizer: Optimizer, layers: list[SparseLayer], theta: list[Tensor], signs: list[Tensor]
    ) -> None:
        super().__init__(optimizer, layers, theta)
        for layer, sign in zip(layers, signs, strict=True):
            self.memory[f"{layer.name}/sign"] = sign
            self.write(layer)

    def sign(self, layer: SparseLayer) -> Tensor:
        """Return the signs of a layer, shape of its weight."""
        return self.memory[f"{layer.name}/sign"]

    def weight(self, layer: SparseLayer) -> Tensor:
        """Return ``s theta`` where ``theta > 0``, else 0."""
        theta = self.theta(layer)
        return torch.where(theta > 0, self.sign(layer) * theta, 0.0)


def random_signs(layer: SparseLayer, seed: int) -> Tensor:
    """Draw +1 or -1 for every position of a layer, with equal probability."""
    bits = stream(seed, f"sign {layer.name}").integers(0, 2, tuple(layer.weight.shape))
    return torch.from_numpy(2 * bits - 1).to(layer.weight)
