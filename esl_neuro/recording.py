"""Recorded layers of a run as plain arrays, the input of counting for any network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIGNALS = ("spike", "graded", "analog")


@dataclass(frozen=True)
class RecordedLayer:
    """One weighted layer with all its signals.

    Attributes
    ----------
    name, source : str
        The layer, and the layer (or ``"input"``) before it.
    signal : str
        Declared kind of the input, one of :data:`SIGNALS`: a spike costs an addition, any other value a multiplication
        and an addition.
    inputs, neurons : int
        Input lines and output neurons (of a convolution, all positions).
    declared, stored : int
        Connections of the dense layer inside the image, and those with a non-zero effective weight.
    weights : int
        Non-zero effective weights; those of a convolution count once.
    arriving : array, shape (samples, steps, inputs)
        Input of the layer.
    fan_out, fan_out_dense : int64 array, shape (inputs,)
        Connections of each input line with a non-zero effective weight, and all of them.
    touched : int64 array, shape (samples, steps)
        Neurons that at least one event reaches through an effective weight.
    emitted : int64 array, shape (samples, steps)
        Spikes of the layer's neurons; zeros if it has no neurons.
    biased : int
        Neurons with a non-zero bias.
    states : int
        State variables of all its neurons that each step reads and writes.
    updated : int
        Neurons whose updates are counted with this layer: all, or 0 if another layer that feeds the same neurons has
        them (then ``touched``, ``emitted``, ``biased`` and ``states`` are 0 as well).
    """

    name: str
    source: str
    signal: str
    inputs: int
    neurons: int
    declared: int
    stored: int
    weights: int
    arriving: NDArray[Any]
    fan_out: NDArray[np.int64]
    fan_out_dense: NDArray[np.int64]
    touched: NDArray[np.int64]
    emitted: NDArray[np.int64]
    biased: int
    states: int
    updated: int
