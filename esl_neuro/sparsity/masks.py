"""Connection masks: their size, their initial connections, and layers with a mask."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from esl_neuro.compiled import compiled
from esl_neuro.errors import BadInput
from esl_neuro.sparsity.capped_choice import Price, Room, draw_ranks
from esl_neuro.torch_threads import use_torch_threads


@dataclass
class SparseLayer:
    """A weight with its connections.

    Attributes
    ----------
    name : str
        Name of the layer in the model.
    weight : nn.Parameter, shape (outputs, inputs) or (outputs, inputs, kernel ...)
        Exactly zero where there is no connection.
    mask : bool Tensor, shape of the weight
        True where there is a connection.
    ever_active : bool Tensor, shape of the weight
        True where there is or has been a connection.
    room : Room or None
        What this update may create; None without a budget.
    prices : float64 array, shape (connections,), or None
        Price of each connection, in the order of its positions; None if all are equal.
    birth_price : callable or None
        Returns the prices of positions where a connection may be created; None if all are equal.
    """

    name: str
    weight: nn.Parameter
    mask: Tensor
    ever_active: Tensor
    room: Room | None = None
    prices: NDArray[np.float64] | None = None
    birth_price: Price | None = None

    @property
    def connections(self) -> int:
        """Number of connections now."""
        return count_true(self.mask)

    @property
    def possible(self) -> int:
        """Number of possible connections."""
        return self.mask.numel()

    @property
    def density(self) -> float:
        """Connections as a share of all possible ones."""
        return self.connections / self.possible

    @property
    def explored(self) -> float:
        """Share of all possible connections that were ever active (R_s of ITOP)."""
        return count_true(self.ever_active) / self.mask.numel()

    def fan_in(self) -> NDArray[np.int64]:
        """Return the connections that reach each output neuron or channel."""
        counts = self.mask.flatten(1).float().sum(1)  # sums of floats are fast, and exact below 2**24
        return _integers(counts)

    def fan_out(self) -> NDArray[np.int64]:
        """Return the connections that leave each input neuron or channel."""
        mask = self.mask.float()
        return _integers(mask.flatten(2).sum(2).sum(0) if mask.ndim > 2 else mask.sum(0))

    def shape(self) -> tuple[int, int]:
        """Return the numbers of outputs and inputs; a weight of a kernel counts as an input of its own."""
        return len(self.mask), self.possible // len(self.mask)

    def count_blocks(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the connections in blocks of outputs and inputs that begin at these rows and columns."""
        mask = self.mask.detach().flatten(1).cpu().numpy()
        counts: NDArray[np.int64] = np.add.reduceat(
            np.add.reduceat(mask, rows, axis=0, dtype=np.int64), columns, axis=1
        )
        return counts

    def apply_mask(self) -> None:
        """Write zeros where there is no connection, also over infinities and NaN."""
        weight, mask = self.weight.detach(), self.mask
        if weight.device.type == "cpu" and weight.dtype in (torch.float32, torch.float64) and weight.is_contiguous():
            use_torch_threads()
            _clear(weight.view(len(weight), -1).numpy(), mask.view(len(mask), -1).numpy())
        else:
            weight.masked_fill_(~mask, 0)


def _integers(counts: Tensor) -> NDArray[np.int64]:
    integers: NDArray[np.int64] = counts.long().cpu().numpy()
    return integers


@compiled
def _clear(weight: NDArray[Any], mask: NDArray[np.bool_]) -> None:
    """Write zeros where the mask is False, several times as fast as torch."""
    for row in numba.prange(len(weight)):
        for column in range(weight.shape[1]):
            weight[row, column] = weight[row, column] if mask[row, column] else 0


def count_true(mask: Tensor) -> int:
    """Count the True entries; on the CPU, numpy is ten times as fast as torch."""
    return int(np.count_nonzero(mask.numpy())) if mask.device.type == "cpu" else int(mask.sum())


def places_of_true(mask: Tensor) -> Tensor:
    """Return the flat indices of the True entries, in order; on the CPU, numpy is twice as fast as torch."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return torch.nonzero(mask.flatten()).squeeze(1)


class Layer(Protocol):
    """What masked layers and layers that store their connections only have in common."""

    name: str
    room: Room | None
    prices: NDArray[np.float64] | None
    birth_price: Price | None

    @property
    def weight(self) -> nn.Parameter:
        """Weights; of a masked layer also the zeros."""
        ...

    @property
    def mask(self) -> Tensor:
        """True for each weight that is one of a connection."""
        ...

    @property
    def connections(self) -> int:
        """Number of connections now."""
        ...

    @property
    def possible(self) -> int:
        """Number of possible connections."""
        ...

    @property
    def explored(self) -> float | None:
        """Share of all possible connections that were ever active, None if it is not tracked."""
        ...

    def fan_in(self) -> NDArray[np.int64]:
        """Return the connections that reach each output neuron or channel."""
        ...

    def fan_out(self) -> NDArray[np.int64]:
        """Return the connections that leave each input neuron or channel."""
        ...

    def shape(self) -> tuple[int, int]:
        """Return the numbers of outputs and inputs."""
        ...

    def count_blocks(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the connections in blocks of outputs and inputs."""
        ...


def overall_density(layers: Sequence[Layer]) -> float:
    """Return the density over all layers."""
    return sum(layer.connections for layer in layers) / sum(layer.possible for layer in layers)


def erdos_renyi_probability(inputs: int, outputs: int, epsilon: float) -> float:
    """Return the connection probability of an Erdos-Renyi layer (ESL-SNNs eq. 1).

    ``p = epsilon (outputs + inputs) / (outputs inputs)``, at most 1.
    """
    return min(1.0, epsilon * (outputs + inputs) / (outputs * inputs))


def erdos_renyi_mask(
    shape: tuple[int, ...], density: float, rng: np.random.Generator, cap: int | None = None
) -> Tensor:
    """Draw a random mask with exactly ``round(density * size)`` connections.

    Eq. 1 gives the expected number of connections; drawing that many without replacement keeps the budget exact.

    Parameters
    ----------
    shape : tuple of int
        (outputs, inputs, ...).
    density : float
        Share of connections in (0, 1].
    rng : numpy.random.Generator
        Source of the draw.
    cap : int, optional
        Largest number of connections of an output; it must allow as many as the density means.

    Raises
    ------
    BadInput
        If the density is out of range or leaves no connection.
    """
    size = math.prod(shape)
    refuse_empty({"": density}, {"": size})
    count = round(density * size)
    mask = torch.zeros(size, dtype=torch.bool)
    mask[torch.from_numpy(_positions(size, shape[0], count, rng, cap))] = True
    return mask.reshape(shape)


def refuse_empty(densities: Mapping[str, float], sizes: Mapping[str, int]) -> None:
    """Reject densities that are out of range or leave no connection."""
    for name, density in densities.items():
        if not 0 < density <= 1 or round(density * sizes[name]) < 1:
            raise BadInput(
                f"sparsity.density: {density} leaves no connection of {sizes[name]}; allowed: above "
                f"{0.5 / sizes[name]:.2g} up to 1"
            )


def _positions(size: int, outputs: int, count: int, rng: np.random.Generator, cap: int | None) -> NDArray[np.int64]:
    return (
        rng.choice(size, size=count, replace=False) if cap is None else positions_within(size, outputs, count, rng, cap)
    )


def positions_within(size: int, outputs: int, count: int, rng: np.random.Generator, cap: int) -> NDArray[np.int64]:
    """Draw positions one after the other, each among those of outputs that have fewer than ``cap`` yet; sorted."""
    return draw_ranks(np.full(outputs, size // outputs), np.full(outputs, cap), count, rng)


def sparse_layer(
    name: str, weight: nn.Parameter, density: float, rng: np.random.Generator, cap: int | None = None
) -> SparseLayer:
    """Give a weight an Erdos-Renyi mask, and rescale the remaining values.

    The weights are rescaled by ``1 / sqrt(density)``, because each output now sums that share of them.
    """
    return _rescaled(name, weight, erdos_renyi_mask(tuple(weight.shape), density, rng, cap))


def layer_of_positions(name: str, weight: nn.Parameter, positions: NDArray[np.int64]) -> SparseLayer:
    """Give a weight a mask with these flat indices, and rescale the remaining values as :func:`sparse_layer` does."""
    mask = torch.zeros(weight.numel(), dtype=torch.bool)
    mask[torch.from_numpy(positions)] = True
    return _rescaled(name, weight, mask.reshape(weight.shape))


def _rescaled(name: str, weight: nn.Parameter, mask: Tensor) -> SparseLayer:
    mask = mask.to(weight.device)
    layer = SparseLayer(name, weight, mask, mask.clone())
    with torch.no_grad():
        weight.div_(layer.density**0.5)
    layer.apply_mask()
    return layer


def dense_layer(name: str, weight: nn.Parameter) -> SparseLayer:
    """Return a layer with all connections and unchanged values."""
    mask = torch.ones(weight.shape, dtype=torch.bool, device=weight.device)
    return SparseLayer(name, weight, mask, mask.clone())
