"""Which run or export a command takes: the given one, or the latest, which it says in its first line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from esl_neuro.cli.commands import print_status
from esl_neuro.errors import BadInput

MAKE_RUN = "make one with 'esl-neuro train'"
MAKE_EXPORT = "make one with 'esl-neuro export'"


def chosen_run(given: Path | None, runs: Path) -> Path:
    """Return the given run, or the one that was completed last.

    Raises
    ------
    BadInput
        If it does not exist, or there is no completed run.
    """
    if given is not None:
        return existing(given, f"not a run: no such folder; {MAKE_RUN}")
    return _latest(runs.glob("*/result.json"), "run", f"{runs}: contains no completed run; {MAKE_RUN}")


def chosen_export(given: Path | None, runs: Path) -> Path:
    """Return the given export, run or NIR file, or the export that was made last.

    Raises
    ------
    BadInput
        If it does not exist, or there is no export.
    """
    if given is not None:
        return existing(given, f"not an export, a run or a NIR file: no such file or folder; {MAKE_EXPORT}")
    return _latest(runs.glob("*/*/export.json"), "export", f"{runs}: contains no export; {MAKE_EXPORT}")


def existing(path: Path, otherwise: str) -> Path:
    """Return a path, or raise an error if nothing is there, before anything slow is loaded."""
    if not path.exists():
        raise BadInput(f"{path}: {otherwise}")
    return path


def _latest(files: Iterable[Path], kind: str, otherwise: str) -> Path:
    found = max(files, key=lambda path: (path.stat().st_mtime_ns, path), default=None)
    if found is None:
        raise BadInput(otherwise)
    print_status(f"{found.parent}: the latest {kind}")
    return found.parent
