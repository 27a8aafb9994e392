"""The units of published constants, and their conversion."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", float, NDArray[np.float64])

# Unit: (dimension, factor to the base unit). The base unit of a dimension has the factor 1.
UNITS: dict[str, tuple[str, float]] = {
    "pJ": ("energy", 1.0),
    "nJ": ("energy", 1e3),
    "uJ": ("energy", 1e6),
    "mJ": ("energy", 1e9),
    "J": ("energy", 1e12),
    "W": ("power", 1.0),
    "mW": ("power", 1e-3),
    "s": ("time", 1.0),
    "ms": ("time", 1e-3),
    "us": ("time", 1e-6),
    "ns": ("time", 1e-9),
    "FLOP/s": ("rate of FLOP", 1.0),
    "TFLOPS": ("rate of FLOP", 1e12),
    "OP/s": ("rate of integer OP", 1.0),
    "TOPS": ("rate of integer OP", 1e12),
    "Hz": ("frequency", 1.0),
    "MHz": ("frequency", 1e6),
    "GSOPS/W": ("efficiency", 1.0),
    "pJ/bit": ("energy per bit", 1.0),
    "fJ/bit": ("energy per bit", 1e-3),
    "1": ("number", 1.0),
}


def convert(value: Number, unit: str, to: str) -> Number:
    """Convert a number or an array between two units of one dimension.

    ``GSOPS/W`` also converts to ``pJ``, energy per operation.

    Raises
    ------
    ValueError
        If the units measure different things.

    Examples
    --------
    >>> convert(13.5, "nJ", "pJ")
    13500.0
    >>> convert(400.0, "GSOPS/W", "pJ")
    2.5
    """
    if (unit, to) == ("GSOPS/W", "pJ"):
        return 1000.0 / value  # 1 GSOPS/W = 1e9 operations per joule = 1000 pJ per operation
    dimension, factor = UNITS[unit]
    wanted, wanted_factor = UNITS[to]
    if dimension != wanted:
        raise ValueError(f"'{unit}' is a unit of {dimension}, '{to}' is a unit of {wanted}; give a unit of {wanted}")
    return value if unit == to else value * factor / wanted_factor
