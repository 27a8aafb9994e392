"""Whose code a recipe may import: ``network.notation = "module:function"`` runs whatever is in that module.

A recipe is trusted where its reader works: in the current folder and below it, in the folder of ``ESL_NEURO_RUNS``,
and in this package. Anywhere else it may be a stranger's, and importing its code needs consent. What the user types
(``--set``) is consent.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from esl_neuro.errors import BadInput
from esl_neuro.reading.names import printable
from esl_neuro.resources import resource_folder

RUNS_VARIABLE = "ESL_NEURO_RUNS"
FIELD = "network.notation"


def code_of(notation: Any) -> str:
    """Return the notation if it names code, as ``module:function``, else an empty text."""
    return notation if isinstance(notation, str) and ":" in notation else ""


def code_of_changes(changes: Mapping[str, Any]) -> str:
    """Return the code that changes of fields or of whole sections name, else an empty text."""
    section = changes.get("network")
    return code_of(changes.get(FIELD)) or code_of(section.get("notation") if isinstance(section, dict) else None)


def refuse_code(path: Path, code: str) -> None:
    """Reject code that a file names, unless the file is trusted.

    Raises
    ------
    BadInput
        If it lies outside the trusted folders.
    """
    if code and not is_trusted(path):
        raise BadInput(
            f"{path}: {FIELD} = '{printable(code)}' runs code, and the file is outside the current folder, so it may "
            "be a stranger's; read the code, then consent with --allow-code of 'esl-neuro train', 'sweep', 'evaluate' "
            "and 'export' (allow_code=True in Python), or work in the folder of the file"
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
    folders = [here, *(resource_folder(kind).resolve() for kind in ("models", "sweeps"))]
    folders += [Path(runs).resolve()] if runs else []
    return any(real.is_relative_to(folder) for folder in folders)
