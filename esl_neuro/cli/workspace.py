"""Which run or export a command takes: the given one, or the latest, which it says in its first line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from esl_neuro.cli.commands import print_status
from esl_neuro.errors import BadInput
from esl_neuro.reading.names import nearest_path

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
    return _latest(latest_run(runs), "run", f"{runs}: contains no completed run; {MAKE_RUN}")


def chosen_export(given: Path | None, runs: Path) -> Path:
    """Return the given export, run or NIR file, or the export that was made last.

    Raises
    ------
    BadInput
        If it does not exist, or there is no export.
    """
    if given is not None:
        return existing(given, f"not an export, a run or a NIR file: no such file or folder; {MAKE_EXPORT}")
    latest = _newest(runs.glob("*/*/export.json"))
    return _latest(latest, "export", f"{runs}: contains no export; {MAKE_EXPORT}")


def latest_run(runs: Path) -> Path | None:
    """Return the run that was completed last; None if there is none."""
    return _newest(runs.glob("*/result.json"))


def existing(path: Path, otherwise: str) -> Path:
    """Return a path, or raise an error if nothing is there, before anything slow is loaded."""
    if not path.exists():
        raise BadInput(f"{path}: {otherwise}{nearest_path(path)}")
    return path


def _newest(files: Iterable[Path]) -> Path | None:
    found = max(files, key=lambda path: (path.stat().st_mtime_ns, path), default=None)
    return None if found is None else found.parent


def _latest(found: Path | None, kind: str, otherwise: str) -> Path:
    if found is None:
        raise BadInput(otherwise)
    print_status(f"{found}: the latest {kind}")
    return found
