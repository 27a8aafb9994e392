"""Statistics of an update of a layer, and pictures of its connections."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from esl_neuro.sparsity.masks import Layer, count_true

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
    explored : float or None
        Share of the possible connections that were ever active (R_s of ITOP); None where it is not tracked.
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
    explored: float | None
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


def describe_update(layer: Layer, iteration: int, births: int, deaths: int) -> RewiringUpdate:
    """Measure a layer after an update."""
    weight, fan_in = layer.weight.detach(), layer.fan_in()
    connections = int(fan_in.sum())
    positive, nonzero = count_true(weight > 0), count_true(weight != 0)
    return RewiringUpdate(
        layer=layer.name,
        iteration=iteration,
        births=births,
        deaths=deaths,
        connections=connections,
        density=connections / layer.possible,
        turnover=births / connections if connections else 0.0,
        explored=layer.explored,
        positive_share=positive / nonzero if nonzero else 0.5,
        fan_in=_degrees(fan_in),
        fan_out=_degrees(layer.fan_out()),
    )


def _degrees(counts: NDArray[np.int64]) -> Degrees:
    exact = torch.from_numpy(counts).double()
    return Degrees(int(exact.min()), float(exact.mean()), int(exact.max()), float(exact.std(correction=0)))


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


def picture_connections(layer: Layer, iteration: int) -> ConnectionPicture:
    """Count the connections of a layer in blocks, at most :data:`CELLS` by :data:`CELLS`."""
    (outputs, inputs), (rows, columns) = layer.shape(), (_block_starts(size) for size in layer.shape())
    counts = layer.count_blocks(rows, columns)
    return ConnectionPicture(
        layer.name,
        iteration,
        np.diff([*rows, outputs]).tolist(),
        np.diff([*columns, inputs]).tolist(),
        counts.tolist(),
    )


def _block_starts(size: int) -> NDArray[np.int64]:
    """Return where the blocks of an axis begin; all have one size, except a smaller one at the end."""
    return np.arange(0, size, -(-size // CELLS))
