"""The time step of a NIR graph, which NIR itself does not define."""

from __future__ import annotations

import math
from typing import Any

from esl_neuro.errors import BadInput

SHORTEST_S = 1e-15  # far below any clock; shorter ones only lose precision


def metadata_steps(graph: Any) -> int | None:
    """Return the steps per sample in the metadata of a ``nir.NIRGraph``; None if there are none.

    Raises
    ------
    BadInput
        If they are not a whole number of at least 1.
    """
    value = graph.metadata.get("steps")
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadInput(f"'steps' of the NIR graph is {value!s:.60}; it must be a whole number") from error
    if not (1 <= number < 2**31 and number.is_integer()):
        raise BadInput(f"'steps' of the NIR graph is {value}; it must be a whole number from 1 to {2**31 - 1:,}")
    return int(number)


def time_step(graph: Any, dt_s: float | None = None) -> float:
    """Return the time step in seconds: the argument, else ``dt_s`` of the metadata of a ``nir.NIRGraph``.

    Raises
    ------
    BadInput
        If there is none, or it is not positive.
    """
    value = dt_s if dt_s is not None else graph.metadata.get("dt_s")
    if value is None:
        raise BadInput("the NIR graph has no 'dt_s' in its metadata; give the time step in seconds (--dt)")
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadInput(f"'dt_s' of the NIR graph is {value!r:.60}; it must be a number of seconds") from error
    if not 0 < seconds < math.inf:
        raise BadInput(f"the time step is {seconds:g} s; it must be positive")
    if seconds < SHORTEST_S:
        raise BadInput(f"the time step is {seconds:g} s; the shortest is {SHORTEST_S:g} s")
    return seconds
