"""Find the latest run and the latest export."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from esl_neuro.errors import BadInput


def latest_run(runs: Path) -> Path:
    """Return the folder of the run that was completed last.

    Raises
    ------
    BadInput
        If there is no completed run.
    """
    return _latest(runs.glob("*/result.json"), f"{runs}: contains no completed run; make one with 'esl-neuro train'")


def latest_export(runs: Path) -> Path:
    """Return the folder of the export that was made last.

    Raises
    ------
    BadInput
        If there is no export.
    """
    return _latest(runs.glob("*/*/export.json"), f"{runs}: contains no export; make one with 'esl-neuro export'")


def _latest(files: Iterable[Path], otherwise: str) -> Path:
    found = max(files, key=lambda path: (path.stat().st_mtime_ns, path), default=None)
    if found is None:
        raise BadInput(otherwise)
    return found.parent
