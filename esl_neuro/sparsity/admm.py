"""ADMM pruning with fine-tuning (Deng et al. 2021): train towards a sparse network, prune, fine-tune."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from esl_neuro.recipes.sections import Count, Density, Fraction, Positive
from esl_neuro.sparsity.initialisers import layer_densities
from esl_neuro.sparsity.learner import LEARNERS
from esl_neuro.sparsity.masks import SparseLayer, dense_layer, overall_density
from esl_neuro.sparsity.selection import LayerNames, named_weights
from esl_neuro.sparsity.telemetry import RewiringUpdate, describe_update


def largest(values: Tensor, count: int) -> Tensor:
    """Mark the ``count`` largest absolute values."""
    kept = torch.zeros(values.numel(), dtype=torch.bool, device=values.device)
    kept[torch.topk(values.abs().flatten(), count).indices] = True
    return kept.reshape(values.shape)


class Admm:
    """Minimises the loss with at most K weights per layer with the alternating direction method of multipliers.

    Until ``end``, ``rho / 2 sum ||W - Z + U||^2`` is added to the loss, and every ``dual_every`` iterations ``Z = P(W +
    U)``, ``U += W - Z``, where P keeps the K largest absolute values. At ``end`` all but the K largest ``|W|`` of each
    layer are pruned; then the connections are fixed and the weights are fine-tuned.

    Parameters
    ----------
    layers : list of SparseLayer
        The layers, dense.
    counts : list of int
        K of each layer.
    rho : float
        Weight of the penalty.
    dual_every : int
        Iterations between updates of Z and U.
    end : int
        Iteration of pruning.
    """

    def __init__(self, layers: list[SparseLayer], counts: list[int], *, rho: float, dual_every: int, end: int) -> None:
        self.layers = layers
        self.counts = {layer.name: count for layer, count in zip(layers, counts, strict=True)}
        self.rho, self.dual_every, self.end = rho, dual_every, end
        self.iteration = 0
        self.z = {layer.name: self._project(layer, layer.weight.detach()) for layer in layers}
        self.u = {layer.name: torch.zeros_like(layer.weight, requires_grad=False) for layer in layers}

    def _project(self, layer: SparseLayer, values: Tensor) -> Tensor:
        return torch.where(largest(values, self.counts[layer.name]), values, 0.0)

    def penalty(self) -> Tensor | float:
        """Return ``rho / 2 sum ||W - Z + U||^2`` before pruning, 0 after it."""
        if self.iteration >= self.end:
            return 0.0
        distances = [(layer.weight - self.z[layer.name] + self.u[layer.name]).square().sum() for layer in self.layers]
        return self.rho / 2 * torch.stack(distances).sum()

    @torch.no_grad()
    def step(self) -> list[RewiringUpdate]:
        """Call once after every ``optimizer.step()``.

        Returns
        -------
        list of RewiringUpdate
            One entry per layer at the pruning iteration, else empty.
        """
        self.iteration += 1
        if self.iteration < self.end:
            if self.iteration % self.dual_every == 0:
                self._update_dual()
            return []
        if self.iteration == max(self.end, 1):
            return [self._cut(layer) for layer in self.layers]
        for layer in self.layers:
            layer.apply_mask()
        return []

    def _update_dual(self) -> None:
        for layer in self.layers:
            z, u = self.z[layer.name], self.u[layer.name]
            z.copy_(self._project(layer, layer.weight + u))
            u.add_(layer.weight - z)

    def _cut(self, layer: SparseLayer) -> RewiringUpdate:
        layer.mask.copy_(largest(layer.weight, self.counts[layer.name]))
        layer.apply_mask()
        return describe_update(layer, self.iteration, 0, layer.mask.numel() - layer.connections)

    @property
    def density(self) -> float:
        """Density over all layers: 1 before pruning."""
        return overall_density(self.layers)

    def state_dict(self) -> dict[str, Tensor]:
        """Return masks, auxiliary variables and iteration as tensors, for a checkpoint."""
        return {"iteration": torch.tensor(self.iteration), **self._memory()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the state of a learner with the same layers and settings."""
        self.iteration = int(state["iteration"])
        for name, tensor in self._memory().items():
            tensor.copy_(state[name])

    def _memory(self) -> dict[str, Tensor]:
        memory = {}
        for layer in self.layers:
            memory[f"{layer.name}/mask"] = layer.mask
            memory[f"{layer.name}/z"] = self.z[layer.name]
            memory[f"{layer.name}/u"] = self.u[layer.name]
        return memory


@LEARNERS.register
def admm(
    model: nn.Module,
    optimizer: Optimizer,  # noqa: ARG001 (shared signature)
    *,
    layers: LayerNames,
    iterations: int,
    seed: int = 0,  # noqa: ARG001 (shared signature)
    density: Density = 0.1,
    distribution: str = "uniform",
    rho: Positive = 1e-2,
    dual_every: Count = 100,
    end: Fraction = 0.5,
) -> Admm:
    """ADMM pruning; see :class:`Admm`. ``end`` is a share of the iterations.

    Published: density 0.1 on CIFAR-10. The authors' code is not public; ``rho``, the intervals and the share of
    fine-tuning are our choice. The paper's weight quantisation and activity penalty are not implemented.
    """
    weights = named_weights(model, layers)
    shapes = [tuple(weight.shape) for weight in weights.values()]
    densities = layer_densities(shapes, density=density, epsilon=None, distribution=distribution)
    masked = [dense_layer(name, weight) for name, weight in weights.items()]
    counts = [max(1, round(share * layer.mask.numel())) for share, layer in zip(densities, masked, strict=True)]
    return Admm(masked, counts, rho=rho, dual_every=dual_every, end=int(end * iterations))
