"""The metrics of an epoch. No torch here, so that they are shown without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class EpochMetrics:
    """Metrics of one epoch.

    Attributes
    ----------
    spikes_per_neuron : float
        Mean spikes per neuron and training sample, all layers.
    density : float
        Connections as a share of the possible ones, in the masked layers.
    births : int
        Connections born (and as many pruned) in this epoch.
    explored : float or None
        Share of possible connections that were ever active, in the masked layers; None where it is not tracked.
    thresholds : dict of str to list of float
        Minimum, mean and maximum threshold of each layer.
    energy : dict of str to value, or None
        With an energy budget, that of a validation sample, and the multiplier of the epoch.
    """

    epoch: int
    iteration: int
    loss: float
    train_accuracy: float
    validation_accuracy: float
    spikes_per_neuron: float
    density: float
    connections: int
    births: int
    explored: float | None
    learning_rate: float
    thresholds: dict[str, list[float]]
    energy: dict[str, Any] | None = None
