"""How much memory one file, or one number in it, may ask for.

A file of a few kilobytes can declare arrays of any size, and a recipe layers of any, so sizes are compared with a limit
before memory is taken.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

from esl_neuro.errors import BadInput

CONTENT_VARIABLE = "ESL_NEURO_MAX_READ_MB"
SECONDS_VARIABLE = "ESL_NEURO_MAX_READ_S"
CONTENT_MB = 4096.0
SECONDS = 5.0
DOCUMENT_MB = 64  # of JSON and TOML, whose objects take many times the size of their text
BYTES_PER_SECOND = 10_000_000  # a slow machine reads compressed data faster


def content_limit() -> int:
    """Return the largest content of one file, in bytes: ``ESL_NEURO_MAX_READ_MB``, 4096 MB by default."""
    return int(_positive(CONTENT_VARIABLE, CONTENT_MB) * 1e6)


def time_limit(size: int) -> float:
    """Return the processor time that a file of some bytes may take, in seconds.

    ``ESL_NEURO_MAX_READ_S``, 5 s by default, and a second for every 10 MB.
    """
    return _positive(SECONDS_VARIABLE, SECONDS) + size / BYTES_PER_SECOND


def refuse_large(origin: Path | str, what: str, size: int) -> None:
    """Reject content that is larger than the limit.

    Parameters
    ----------
    origin : Path or str
        Where it comes from, for the message.
    what : str
        What takes the memory, with its verb: ``"its arrays take"``.
    size : int
        Bytes.

    Raises
    ------
    BadInput
        If it is; the message names size, limit and the variable that raises it.
    """
    limit = content_limit()
    if size > limit:
        raise BadInput(
            f"{origin}: {what} {size / 1e6:,.0f} MB, more than the limit of {limit / 1e6:,.0f} MB; "
            f"{CONTENT_VARIABLE} raises it"
        )


def _positive(variable: str, default: float) -> float:
    text = os.environ.get(variable)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise BadInput(f"{variable} is '{text}'; give a positive number")
    return value
