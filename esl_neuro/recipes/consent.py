"""Whose code a recipe may import: ``module:function`` in ``network.notation`` or ``data.name`` runs that module.

A recipe is trusted where its reader works: in the current folder and below it, in the folder of ``ESL_NEURO_RUNS``,
and in this package. Anywhere else it may be a stranger's, and importing its code needs consent. What the user types
(``--set``) is consent.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from esl_neuro.errors import BadInput
from esl_neuro.reading.names import printable
from esl_neuro.recipes.own import is_path
from esl_neuro.resources import resource_folder

RUNS_VARIABLE = "ESL_NEURO_RUNS"
FIELDS = ("network.notation", "data.name")
"""The fields that can name code."""

Code = tuple[str, str]
"""A field, and the code that it names as ``module:function``."""


def code_of(changes: Mapping[str, Any]) -> list[Code]:
    """Return the code that a recipe names, or changes of its fields or of whole sections.

    Examples
    --------
    >>> code_of({"data": {"name": "mymod:samples"}, "network.notation": "64-10"})
    [('data.name', 'mymod:samples')]
    """
    return [
        (field, given)
        for field in FIELDS
        for given in _values(changes, field)
        # Whatever has a colon and is no path: what is not imported in the end is asked for once too often.
        if isinstance(given, str) and ":" in given and not (field == "data.name" and is_path(given))
    ]


def modules_of(documents: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the modules of the code that recipes name."""
    return sorted({code.partition(":")[0] for document in documents for _, code in code_of(document)})


def _values(changes: Mapping[str, Any], field: str) -> Iterator[Any]:
    """Yield what changes say of a field: as the field itself, or within its section."""
    yield changes.get(field)
    name, _, key = field.partition(".")
    section = changes.get(name)
    yield section.get(key) if isinstance(section, Mapping) else None


def replaced(field: str, overrides: Iterable[str]) -> bool:
    """Return whether the user's own words, ``"field=value"``, replace a field or its section."""
    given = {override.partition("=")[0].strip() for override in overrides}
    return bool(given & {field, field.partition(".")[0]})


def refuse_code(path: Path, found: Iterable[Code]) -> None:
    """Reject code that a file names, unless the file is trusted.

    Raises
    ------
    BadInput
        If it lies outside the trusted folders.
    """
    named = " and ".join(f"{field} = '{printable(code)}'" for field, code in found)
    if named and not is_trusted(path):
        raise BadInput(
            f"{path}: {named} runs code, and the file is outside the current folder, so it may "
            "be a stranger's; read the code, then consent with --allow-code (allow_code=True in Python), or work in "
            "the folder of the file"
        )


def is_trusted(path: Path) -> bool:
    """Return whether a file is in a folder whose code is imported without asking.

    The home folder and the root of the file system contain everybody's files; of these, only files directly in them are
    trusted.
    """
    real, here = path.resolve(), Path.cwd().resolve()
    if here in (Path.home().resolve(), Path(here.anchor)):
        return real.parent == here
    runs = os.environ.get(RUNS_VARIABLE)
    folders = [here, *(resource_folder(kind).resolve() for kind in ("models", "sweeps", "searches"))]
    folders += [Path(runs).resolve()] if runs else []
    return any(real.is_relative_to(folder) for folder in folders)
