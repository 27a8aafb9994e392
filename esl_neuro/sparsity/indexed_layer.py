"""A layer that stores its connections only, as learners see it, and the change of its connections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from esl_neuro.sparsity.capped_choice import Price, Room
from esl_neuro.sparsity.masks import Layer, places_of_true
from esl_neuro.sparsity.sparse_weights import SparseWeights, union
from esl_neuro.sparsity.topology import Positions


@dataclass
class IndexedLayer:
    """A layer in sparse storage with a name; masked layers have the same properties.

    Attributes
    ----------
    name : str
        Name of the layer in the model.
    module : SparseWeights
        The layer.
    explored_positions : int64 array or None
        Sorted positions that have or had a connection; 8 bytes each, so None unless a growth rule needs them.
    room : Room or None
        What this update may create; None without a budget.
    prices : float64 array, shape (connections,), or None
        Price of each connection, in the order of its positions; None if all are equal.
    birth_price : callable or None
        Returns the prices of positions where a connection may be created; None if all are equal.
    total : callable
        Adds gradients over the processes that train the layer together; by default, there is one.
    """

    name: str
    module: SparseWeights
    explored_positions: Positions | None = None
    room: Room | None = None
    prices: NDArray[np.float64] | None = None
    birth_price: Price | None = None
    total: Callable[[Tensor], Tensor] = field(default=lambda values: values, repr=False)

    @property
    def weight(self) -> nn.Parameter:
        """Weights of the connections, shape (connections,)."""
        return self.module.values

    @property
    def mask(self) -> Tensor:
        """True for each weight, for prune rules: every weight is one of a connection."""
        return torch.ones(self.connections, dtype=torch.bool)

    @property
    def connections(self) -> int:
        """Number of connections now."""
        return self.module.connections

    @property
    def possible(self) -> int:
        """Number of possible connections."""
        return self.module.possible

    @property
    def density(self) -> float:
        """Connections as a share of all possible ones."""
        return self.connections / self.possible

    @property
    def explored(self) -> float | None:
        """Share of all possible connections that were ever active, None if it is not tracked."""
        return None if self.explored_positions is None else len(self.explored_positions) / self.possible

    def fan_in(self) -> NDArray[np.int64]:
        """Return the connections that reach each output neuron or channel."""
        return np.diff(self.module.index.starts)

    def fan_out(self) -> NDArray[np.int64]:
        """Return the connections that leave each input line or channel."""
        return self.module.fan_out()

    def shape(self) -> tuple[int, int]:
        """Return the numbers of outputs and inputs; a weight of a kernel counts as an input of its own."""
        return self.module.out_features, self.module.in_features

    def count_blocks(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the connections in blocks of outputs and inputs that begin at these rows and columns."""
        index = self.module.index
        bounds = index.starts[[*rows, self.module.out_features]]
        # row by row, since positions of all connections would take several times their memory
        counts = np.zeros((len(rows), len(columns)), np.int64)
        for row, (first, last) in enumerate(pairwise(bounds)):
            places = np.searchsorted(columns, index.lines[first:last], side="right") - 1
            counts[row] = np.bincount(places, minlength=len(columns))
        return counts


def live_positions(layer: Layer, places: Tensor | None = None) -> Positions:
    """Return the positions of all connections of a layer, or of those at places in its weight."""
    if isinstance(layer, IndexedLayer):
        positions = layer.module.index.positions()
        return positions if places is None else positions[places.numpy()]
    return (places_of_true(layer.mask) if places is None else places).cpu().numpy()


def replace_connections(layer: IndexedLayer, dead: Tensor, born: Positions, optimizer: Optimizer) -> None:
    """Remove connections and create others, with weight and moments of zero; the weights have no gradient afterwards.

    Parameters
    ----------
    layer : IndexedLayer
        The layer.
    dead : int64 Tensor
        Places of connections among the weights.
    born : int64 array
        Positions without a connection, distinct.
    optimizer : torch.optim.Optimizer
        Its moments of the weights, any state of their shape, move with the weights.
    """
    module, weight = layer.module, layer.weight
    before = module.index.positions()
    stay = np.ones(len(before), np.bool_)
    stay[dead.numpy()] = False
    kept, new = np.flatnonzero(stay), np.sort(born)
    merged = np.concatenate([before[kept], new])
    order = np.argsort(merged, kind="stable")  # linear for two sorted parts
    source = np.concatenate([kept, np.full(len(new), -1)])[order]
    fresh = source < 0
    moments = optimizer.state.get(weight, {})
    for name, moment in moments.items():
        if isinstance(moment, Tensor) and moment.shape == weight.shape:
            moments[name] = torch.from_numpy(_moved(moment.numpy(), source, fresh))
    module.connect(merged[order], _moved(weight.detach().numpy(), source, fresh))
    if layer.explored_positions is not None:
        layer.explored_positions = union(layer.explored_positions, new)


def _moved(values: NDArray[np.floating], source: NDArray[np.int64], fresh: NDArray[np.bool_]) -> NDArray[np.floating]:
    moved = values[source] if len(values) else np.zeros(len(source), values.dtype)
    moved[fresh] = 0
    return moved
