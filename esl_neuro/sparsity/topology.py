"""Networks of equal fan-in whose connections are mostly local: windows, and a few long-range connections.

A neuron reads input lines around its own place, as neurons of a sheet do, and a few anywhere else, which keep every two
neurons a few steps apart (a small world, Watts and Strogatz 1998). Neurons that are neighbours share their inputs, so a
core of a chip, which holds neighbours, receives few lines, and so does the cache of a processor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from esl_neuro.errors import BadInput

Positions = NDArray[np.int64]
"""Places of connections in the dense matrix, ``neuron * inputs + line``, sorted without duplicates."""


@dataclass(frozen=True)
class Topology:
    """How many connections each neuron has, and where they begin.

    Attributes
    ----------
    connections : int
        Connections of each neuron; all lines, if there are fewer.
    window : int, optional
        Input lines around the place of a neuron from which its connections come. Default: from anywhere.
    long_range : int
        How many of the connections come from outside the window.
    """

    connections: int
    window: int | None = None
    long_range: int = 0

    def __post_init__(self) -> None:
        findings = []
        if self.window is None and self.long_range:
            findings.append(f"long_range is {self.long_range}, but there is no window; give one, or omit long_range")
        if self.long_range > self.connections:
            findings.append(f"long_range is {self.long_range}, more than per_neuron ({self.connections})")
        if self.window is not None and self.window < self.connections - self.long_range:
            findings.append(
                f"window is {self.window}, which has fewer lines than per_neuron - long_range "
                f"({self.connections - self.long_range})"
            )
        if findings:
            raise BadInput(f"sparsity: {'; '.join(findings)}")

    def draw(self, inputs: int, outputs: int, rng: np.random.Generator) -> Positions:
        """Draw the connections of a layer: positions ``neuron * inputs + line``, sorted, without duplicates.

        The window of neuron ``i`` is centred at line ``(i + 1/2) inputs / outputs``, and moved inside at the ends. Sets
        of lines in the window, and outside it, are equally probable. Lines that a layer does not have outside its
        window are taken from the window.
        """
        count = min(self.connections, inputs)
        width = inputs if self.window is None else min(self.window, inputs)
        distant = min(self.long_range, inputs - width, count)
        near = min(count - distant, width)
        first = np.round((np.arange(outputs) + 0.5) * (inputs / outputs) - width / 2).astype(np.int64)
        first = np.clip(first, 0, inputs - width)[:, None]
        inside = first + distinct_in_rows(width, outputs, near, rng)
        outside = distinct_in_rows(inputs - width, outputs, distant, rng)
        outside += np.where(outside < first, 0, width)
        lines = np.concatenate([inside, outside], axis=1)
        lines.sort(1)
        return (lines + np.arange(outputs, dtype=np.int64)[:, None] * inputs).ravel()


def distinct_in_rows(total: int, rows: int, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw ``count`` of ``total`` numbers in each row, all sets with equal probability (Floyd's algorithm).

    Returns
    -------
    int64 array, shape (rows, count)
        Distinct within a row, in no particular order.
    """
    lines = np.empty((rows, count), np.int64)
    for drawn, last in enumerate(range(total - count, total)):
        line = rng.integers(last + 1, size=rows)
        repeated = (lines[:, :drawn] == line[:, None]).any(1)
        lines[:, drawn] = np.where(repeated, last, line)
    return lines
