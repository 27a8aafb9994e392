"""Statistics of an update of a layer, and pictures of its connections."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esl_neuro.sparsity.masks import SparseLayer, count_true

CELLS = 40
"""Rows and columns of a picture, at most, so that that of a large layer is as small as that of others."""


@dataclass(frozen=True)
class Degrees:
    """Connections per neuron or channel: minimum, mean, maximum and standard deviation."""

    min: int
    mean: float
    max: int
    std: float


@dataclass(frozen=True)
class RewiringUpdate:
    """Statistics of one update of one layer.

    Attributes
    ----------
    layer : str
        Name of the layer.
    iteration : int
        Iteration, counted from 1.
    births, deaths : int
        Created and removed connections.
    connections : int
        Connections after the update.
    density : float
        Connections as a share of all possible ones.
    turnover : float
        Births as a share of the connections.
    explored : float
        Share of the possible connections that were ever active (R_s of ITOP).
    positive_share : float
        Share of positive weights among the non-zero ones; 0.5 if there are none.
    fan_in : Degrees
        Connections that reach an output neuron or channel.
    fan_out : Degrees
        Connections that leave an input neuron or channel (for a grouped convolution: an input position of the groups).
    """

    layer: str
    iteration: int
    births: int
    deaths: int
    connections: int
    density: float
    turnover: float
    explored: float
    positive_share: float
    fan_in: Degrees
    fan_out: Degrees

    @property
    def replaced(self) -> int:
        """Created connections; as many were removed, unless layers exchange connections."""
        return self.births

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers for a log."""
        return asdict(self)


def describe_update(layer: SparseLayer, iteration: int, births: int, deaths: int) -> RewiringUpdate:
    """Measure a layer after an update."""
    weight, mask = layer.weight.detach(), layer.mask.float()  # sums of floats are fast, and exact below 2**24
    fan_in = mask.flatten(1).sum(1)
    fan_out = mask.flatten(2).sum(2).sum(0) if mask.ndim > 2 else mask.sum(0)
    connections = int(fan_in.sum(dtype=torch.float64))
    positive, nonzero = count_true(weight > 0), count_true(weight != 0)
    return RewiringUpdate(
        layer=layer.name,
        iteration=iteration,
        births=births,
        deaths=deaths,
        connections=connections,
        density=connections / layer.mask.numel(),
        turnover=births / connections if connections else 0.0,
        explored=layer.explored,
        positive_share=positive / nonzero if nonzero else 0.5,
        fan_in=_degrees(fan_in),
        fan_out=_degrees(fan_out),
    )


def _degrees(counts: Tensor) -> Degrees:
    exact = counts.double()
    return Degrees(int(counts.min()), float(exact.mean()), int(counts.max()), float(exact.std(correction=0)))


@dataclass(frozen=True)
class ConnectionPicture:
    """The connections of a layer at one moment, counted in blocks of outputs and inputs.

    Attributes
    ----------
    layer : str
        Name of the layer.
    iteration : int
        Iterations done; 0 before the first one.
    rows, columns : list of int
        Outputs in each row of blocks, and inputs in each column; a weight of a kernel counts as an input of its own.
    counts : list of list of int
        Connections in each block, by row.
    """

    layer: str
    iteration: int
    rows: list[int]
    columns: list[int]
    counts: list[list[int]]

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers for a log."""
        return asdict(self)


def picture_connections(layer: SparseLayer, iteration: int) -> ConnectionPicture:
    """Count the connections of a layer in blocks, at most :data:`CELLS` by :data:`CELLS`."""
    mask = layer.mask.detach().flatten(1).cpu().numpy()
    rows, columns = (_block_starts(size) for size in mask.shape)
    counts = np.add.reduceat(np.add.reduceat(mask, rows, axis=0, dtype=np.int64), columns, axis=1)
    return ConnectionPicture(
        layer.name,
        iteration,
        np.diff([*rows, mask.shape[0]]).tolist(),
        np.diff([*columns, mask.shape[1]]).tolist(),
        counts.tolist(),
    )


def _block_starts(size: int) -> NDArray[np.int64]:
    """Return where the blocks of an axis begin; all have one size, except a smaller one at the end."""
    return np.arange(0, size, -(-size // CELLS))
