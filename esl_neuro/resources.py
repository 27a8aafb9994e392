"""Find the data files of the package: recipes (``models/``) and chips (``hw_targets/``)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.reading.documents import read_text, reason
from esl_neuro.reading.names import nearest_path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


WORDS = {
    "models": "recipe",
    "hw_targets": "target",
    "sweeps": "sweep",
    "searches": "search",
    "reproductions": "experiment",
}
"""What a file of each kind is called."""
LISTED = {"models": "esl-neuro models list", "hw_targets": "esl-neuro targets list"}
"""The commands that list all files of a kind."""


def resource_folder(kind: str) -> Path:
    """Return the folder of ``models`` or ``hw_targets``: inside the wheel, or next to the package in a checkout."""
    package = Path(__file__).parent
    installed = package / kind
    return installed if installed.is_dir() else package.parent / kind


def resource_names(kind: str) -> list[str]:
    """Return the names (file stems) of the TOML files of one kind, sorted."""
    return sorted(path.stem for path in resource_folder(kind).glob("*.toml"))


def find_resource(kind: str, name: str) -> Path:
    """Return the path of a TOML file, given its name or the path of a user's own file.

    Raises
    ------
    BadInput
        If neither a built-in nor a user's file has that name.
    """
    if name.endswith(".toml") or "/" in name:
        path = Path(name)
        if path.is_file():
            return path
        fix = nearest_path(path) or f"; give the path of a TOML file or one of: {', '.join(resource_names(kind))}"
        raise BadInput(f"{name}: no such file{fix}")
    if name not in resource_names(kind):
        raise BadInput(f"{WORDS[kind]} '{name}' is unknown; {_meant(kind, name)}")
    return resource_folder(kind) / f"{name}.toml"


def _meant(kind: str, name: str) -> str:
    """Return the nearest name, with all names only if none is near, or no command lists them."""
    hint = did_you_mean(name, resource_names(kind))
    return f"{hint.partition('? ')[0]}? '{LISTED[kind]}' lists all" if "? " in hint and kind in LISTED else hint


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises
    ------
    BadInput
        If the file cannot be read or is not valid TOML; the message includes the line.
    """
    return parse_toml(read_text(path), str(path))


def parse_toml(text: str, origin: str) -> dict[str, Any]:
    """Parse TOML text; error messages name its ``origin``.

    Raises
    ------
    BadInput
        If it is not valid TOML.
    """
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:  # the last for numbers of many digits
        raise BadInput(f"{origin}: not valid TOML: {reason(error)}") from error
