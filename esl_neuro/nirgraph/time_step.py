"""The time step of a NIR graph, which NIR itself does not define."""

from __future__ import annotations

import math
from typing import Any

from esl_neuro.errors import BadInput


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
    except (TypeError, ValueError) as error:
        raise BadInput(f"'dt_s' of the NIR graph is {value!r}; it must be a number of seconds") from error
    if not 0 < seconds < math.inf:
        raise BadInput(f"the time step is {seconds:g} s; it must be positive")
    return seconds
