"""What a run of any network leaves for counting: plain arrays, whoever made them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIGNALS = ("spike", "graded", "analog")


@dataclass(frozen=True)
class RecordedLayer:
    """One weighted layer with everything that went through it.

    Attributes
    ----------
    name, source : str
        The layer, and the layer (or ``"input"``) before it.
    signal : str
        Declared kind of what arrives, one of :data:`SIGNALS`: a spike costs an addition, anything else a
        multiplication and an addition.
    inputs, neurons : int
        Input lines and output neurons (of a convolution, all positions).
    declared, stored : int
        Connections of the dense layer inside the image, and those whose effective weight is not zero.
    weights : int
        Effective weights that are not zero; those of a convolution once, though every position uses them.
    arriving : array, shape (samples, steps, inputs)
        What arrived.
    fan_out, fan_out_dense : int64 array, shape (inputs,)
        Connections of each input line whose effective weight is not zero, and all of them.
    touched : int64 array, shape (samples, steps)
        Neurons that something arrives at through an effective weight.
    emitted : int64 array, shape (samples, steps)
        Spikes that the layer's neurons emit; zeros where it has none.
    biased : int
        Neurons with a bias that is not zero.
    states : int
        State variables of all its neurons that each step reads and writes.
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
