"""Read text and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from esl_neuro.errors import BadInput
from esl_neuro.reading.limits import DOCUMENT_MB
from esl_neuro.reading.names import printable


def read_text(path: Path, fix: str = "") -> str:
    """Read a text file, in UTF-8.

    Parameters
    ----------
    path : Path
        The file.
    fix : str
        What the user can do if it cannot be read, for the message.

    Raises
    ------
    BadInput
        If it cannot be read, or is too large.
    """
    try:
        with path.open("rb") as file:
            content = file.read(DOCUMENT_MB * 1_000_000 + 1)
        if len(content) > DOCUMENT_MB * 1_000_000:
            raise BadInput(f"{path}: is larger than {DOCUMENT_MB} MB, the limit of such a file{_then(fix)}")
        return content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read ({reason(error)}){_then(fix)}") from error


def read_json(path: Path, fix: str = "") -> Any:
    """Read a JSON file; see :func:`read_text`.

    Raises
    ------
    BadInput
        If it cannot be read, or is not JSON.
    """
    try:
        return json.loads(read_text(path, fix))
    except (ValueError, RecursionError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{path}: damaged ({reason(error)}){_then(fix)}") from error


def read_json_object(path: Path, fix: str = "") -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises
    ------
    BadInput
        If it cannot be read, or holds something else.
    """
    document = read_json(path, fix)
    if not isinstance(document, dict):
        raise BadInput(f"{path}: damaged (it holds a {type(document).__name__}, not an object){_then(fix)}")
    return document


def is_number(value: Any) -> bool:
    """Return whether a value of JSON is a finite number; a truth value is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def problems(finding: Mapping[str, Any]) -> str:
    """Return one error of pydantic as field, value and what is wrong."""
    place = ".".join(str(part) for part in finding["loc"])
    message = str(finding["msg"]).removeprefix("Value error, ")
    given = "" if finding["type"] in ("missing", "value_error") else f": {_short(finding['input'])}"
    return printable(f"{place}{given}: {message}" if place else message)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def reason(error: BaseException) -> str:
    """Return the message of an error on one line; of an error of the system, without number and path."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return printable(" ".join(str(error).split())) or type(error).__name__


def _then(fix: str) -> str:
    return f"; {fix}" if fix else ""
