"""Prune and regrow connections while a network trains, in any training loop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.random_streams import stream
from esl_neuro.sparsity.growth import GROWTH_RULES, grow
from esl_neuro.sparsity.masks import SparseLayer, sparse_layer
from esl_neuro.sparsity.prune import PRUNE_RULES
from esl_neuro.sparsity.schedule import cosine_fraction


@dataclass(frozen=True)
class RewiringUpdate:
    """What one update did to one layer."""

    layer: str
    iteration: int
    replaced: int
    connections: int
    explored: float


class Rewirer:
    """Keeps masked layers sparse and replaces part of their connections every ``update_every`` iterations.

    Algorithm 1 of ESL-SNNs, the number of connections of each layer exactly constant. Use it in three lines::

        rewirer = Rewirer(model, optimizer, density=0.15, layers=["fc1"], end=1000)
        ...
        optimizer.step()
        rewirer.step()

    Gradients and optimiser moments stay dense, so connections that do not exist gather the momentum by which they
    may be grown. A new connection starts with weight zero and with zero moments; what was just pruned is not a
    candidate in the same update.

    Parameters
    ----------
    model : nn.Module
        Holds the layers.
    optimizer : torch.optim.Optimizer
        Updates the weights; read by momentum growth.
    density : float
        Share of connections in every masked layer, in (0, 1].
    layers : list of str
        Names, or last parts of names, of the modules whose ``weight`` is masked.
    end : int
        Iteration from which the structure stays as it is (``T_end``).
    alpha : float
        Share of the connections replaced at the start (eq. 2).
    update_every : int
        Iterations between updates (``T_iter``).
    prune : str
        Name of the prune rule.
    growth : mapping of str to float
        Growth rules and the share of births that each decides.
    seed : int
        Seed of the initial masks and of random growth.

    Raises
    ------
    BadInput
        If a layer or a rule does not exist, or the density leaves no connection.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        density: float,
        layers: list[str],
        end: int,
        alpha: float = 0.3,
        update_every: int = 100,
        prune: str = "magnitude",
        growth: Mapping[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        self.optimizer = optimizer
        self.alpha = alpha
        self.end = end
        self.update_every = update_every
        self.prune_rule = PRUNE_RULES[prune]
        self.growth = dict(growth or {"momentum": 1.0})
        for name in self.growth:
            GROWTH_RULES[name]
        self.seed = seed
        self.iteration = 0
        self.layers = [
            sparse_layer(name, weight, density, stream(seed, f"mask {name}"))
            for name, weight in _named_weights(model, layers).items()
        ]

    def step(self) -> list[RewiringUpdate]:
        """Call once after every ``optimizer.step()``.

        Returns
        -------
        list of RewiringUpdate
            One entry for each layer if this iteration changed the structure, else empty.
        """
        self.iteration += 1
        for layer in self.layers:
            layer.apply_mask()
        fraction = cosine_fraction(self.iteration, self.alpha, self.end)
        if fraction == 0 or self.iteration % self.update_every:
            return []
        return [self._rewire(layer, fraction) for layer in self.layers]

    def _rewire(self, layer: SparseLayer, fraction: float) -> RewiringUpdate:
        connections = layer.connections
        candidates = ~layer.mask
        count = min(math.ceil(fraction * connections), int(candidates.sum()))
        dead = self.prune_rule(layer, count)
        rng = stream(self.seed, f"growth {layer.name}", self.iteration)
        born = grow(self.growth, layer, candidates, count, self.optimizer, rng)
        layer.mask.view(-1)[dead] = False
        layer.mask.view(-1)[born] = True
        layer.ever_active |= layer.mask
        layer.apply_mask()
        self._forget_moments(layer.weight, born)
        return RewiringUpdate(layer.name, self.iteration, count, layer.connections, layer.explored)

    def _forget_moments(self, weight: nn.Parameter, born: Tensor) -> None:
        for key in ("exp_avg", "exp_avg_sq", "momentum_buffer"):
            moment = self.optimizer.state.get(weight, {}).get(key)
            if moment is not None:
                moment.view(-1)[born] = 0

    @property
    def density(self) -> float:
        """Connections of all masked layers as a share of all that are possible there."""
        return sum(layer.connections for layer in self.layers) / sum(layer.mask.numel() for layer in self.layers)

    def state_dict(self) -> dict[str, Tensor]:
        """Masks, history and iteration as tensors, for a checkpoint."""
        state = {"iteration": torch.tensor(self.iteration)}
        for layer in self.layers:
            state[f"{layer.name}/mask"] = layer.mask
            state[f"{layer.name}/ever_active"] = layer.ever_active
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over the state of a rewirer of the same layers."""
        self.iteration = int(state["iteration"])
        for layer in self.layers:
            layer.mask.copy_(state[f"{layer.name}/mask"])
            layer.ever_active.copy_(state[f"{layer.name}/ever_active"])


def _named_weights(model: nn.Module, layers: list[str]) -> dict[str, nn.Parameter]:
    weights: dict[str, nn.Parameter] = {
        name: module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and isinstance(module.weight, nn.Parameter)
    }
    return {name: weights[_full_name(name, weights)] for name in layers}


def _full_name(name: str, weights: Mapping[str, nn.Parameter]) -> str:
    """Find the one layer with this name, or with this last part of its name."""
    found = [full for full in weights if name in (full, full.rsplit(".", 1)[-1])]
    if name in weights:
        return name
    if not found:
        last_parts = {full.rsplit(".", 1)[-1] for full in weights}
        raise BadInput(f"sparsity.layers: '{name}' is no linear layer of the model; {did_you_mean(name, last_parts)}")
    if len(found) > 1:
        raise BadInput(f"sparsity.layers: '{name}' may be {' or '.join(found)}; give the full name")
    return found[0]
