"""Names that come from files: which are allowed, and how they are written where they could mean something else."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

# Also the name of a file or folder, so it is no path and not hidden.
PLAIN_NAME = r"^[A-Za-z0-9_][A-Za-z0-9._-]*$"
CHIP_NAME = r"^\w[\w .,'+()-]*$"
LONGEST_NAME = 100
# Control characters, separators of lines, marks that change the direction of writing, halves of characters.
_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def is_plain(name: str) -> bool:
    r"""Return whether a name can also be that of a file or folder.

    Examples
    --------
    >>> is_plain("loihi2"), is_plain("../loihi2"), is_plain("loihi2\n")
    (True, False, False)
    """
    return len(name) <= LONGEST_NAME and re.fullmatch(PLAIN_NAME.strip("^$"), name) is not None


def is_printable(name: str) -> bool:
    r"""Return whether a name has only characters that are printed as they are, and no line break.

    Examples
    --------
    >>> is_printable("fc 1"), is_printable("fc\x1b[2J"), is_printable("fc\n1")
    (True, False, False)
    """
    return _OBEYED.search(name) is None


def printable(text: str, kept: str = "") -> str:
    r"""Escape the characters that a terminal would obey rather than print.

    Parameters
    ----------
    text : str
        Text to print.
    kept : str
        Characters to leave, such as line breaks.

    Examples
    --------
    >>> print(printable("fc\x1b[2J"))
    fc\x1b[2J
    """
    return _OBEYED.sub(lambda found: found[0] if found[0] in kept else ascii(found[0])[1:-1], text)


def spreadsheet_cell(value: object) -> object:
    """Return the value of a CSV cell that no spreadsheet takes for a formula: such a text gets an apostrophe in front.

    Examples
    --------
    >>> spreadsheet_cell("=1+1"), spreadsheet_cell("fc1"), spreadsheet_cell(-1.5)
    ("'=1+1", 'fc1', -1.5)
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def nearest_path(path: Path) -> str:
    """Return a hint with the nearest path that exists, ``"; did you mean 'runs/x'?"``; empty if there is none.

    Parameters
    ----------
    path : Path
        One that is not what is wanted; each part that does not exist is replaced by the nearest name in its folder.
    """
    found = Path(path.anchor)
    for part in path.relative_to(path.anchor).parts:
        if not (found / part).exists():
            try:
                names = [each.name for each in found.iterdir()]
            except OSError:
                return ""
            close = difflib.get_close_matches(part, names, n=1, cutoff=0.6)
            if not close:
                return ""
            part = close[0]
        found /= part
    return "" if found == path else f"; did you mean '{printable(str(found))}'?"
