"""The width of texts: that of the terminal, or a fixed one for a file or another program."""

from __future__ import annotations

import os
import sys
from typing import TextIO

PAPER = 100  # columns of a text that is printed into a file
NARROWEST = 40


def terminal_width(stream: TextIO | None = None) -> int | None:
    """Return the columns of the terminal that a stream (standard output) prints to; None if it is no terminal.

    The variable COLUMNS takes the place of the terminal.
    """
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return max(int(given), NARROWEST)
    stream = sys.stdout if stream is None else stream
    try:
        columns = os.get_terminal_size(stream.fileno()).columns if stream.isatty() else 0
    except (AttributeError, OSError, ValueError):  # no stream, one that is closed, or one that is no file
        columns = 0
    return max(columns, NARROWEST) if columns else None


def text_width() -> int:
    """Return the columns to which a paragraph is wrapped."""
    return terminal_width() or PAPER
