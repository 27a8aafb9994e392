"""Who wrote a folder, for the message about a format version that this version does not read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from esl_neuro.errors import BadInput
from esl_neuro.reading.documents import read_json
from esl_neuro.version import __version__

VERSION = re.compile(r"[0-9][0-9A-Za-z.+!-]{0,40}")


def other_version(origin: Path, folder: Path, what: str, found: object, known: tuple[int, ...], fix: str) -> BadInput:
    """Return the error about a file of a format version that this version does not read.

    Parameters
    ----------
    origin : Path
        File or folder, for the message.
    folder : Path
        Folder of the file, which names the version that wrote it.
    what : str
        Name of the format.
    found : object
        Its version, as stated in the file.
    known : tuple of int
        Versions that can be read.
    fix : str
        What to do with a file of an earlier version, or with one that was added to a folder of this version.
    """
    by = written_by(folder)
    later = isinstance(found, int) and found > max(known)
    if by == __version__:  # it wrote the rest of the folder, and not this file
        by, later = "", False
    remedy = f"install {f'esl-neuro {by}' if by else 'the version that wrote it'}" if later else fix
    return BadInput(
        f"{origin}: {what} schema is {ascii(found)[:40]}{f', written by esl-neuro {by}' if by else ''}; this version "
        f"({__version__}) reads {' and '.join(map(str, known))}; {remedy}"
    )


def written_by(folder: Path) -> str:
    """Return the version of esl-neuro that wrote a run or an export; "" if the folder does not tell."""
    for name, place in (("export.json", ("environment", "esl_neuro")), ("environment.json", ("esl_neuro",))):
        found: Any = read_quietly(folder / name)
        for key in place:
            found = found.get(key) if isinstance(found, dict) else None
        if isinstance(found, str) and VERSION.fullmatch(found):
            return found
    return ""


def read_quietly(path: Path) -> Any:
    """Return the content of a JSON document, None if there is none or it is damaged."""
    try:
        return read_json(path)
    except BadInput:
        return None
