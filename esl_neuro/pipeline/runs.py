"""What is in a folder of runs: each run with its state, figures, date and exports. No torch here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from esl_neuro.errors import BadInput
from esl_neuro.pipeline.export_folder import DOCUMENT
from esl_neuro.training.result import read_result
from esl_neuro.training.run_folder import RunFolder

FINISHED, INTERRUPTED, DAMAGED = "finished", "interrupted", "damaged"


@dataclass(frozen=True)
class RunEntry:
    """One run.

    Attributes
    ----------
    folder : str
    state : str
        ``"finished"``, ``"interrupted"`` (``train --resume`` continues it) or ``"damaged"``.
    changed : str
        Local date and time of its last file.
    recipe, data : str
        Names; empty if it is damaged.
    seed : int or None
    test_accuracy, density : float or None
        Fractions, of a finished run.
    exports : tuple of str
        Names of the folders of its exports.
    problem : str
        What is wrong with a damaged run.
    """

    folder: str
    state: str
    changed: str
    recipe: str = ""
    data: str = ""
    seed: int | None = None
    test_accuracy: float | None = None
    density: float | None = None
    exports: tuple[str, ...] = ()
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def list_runs(runs: Path) -> list[RunEntry]:
    """Return all runs of a folder and of the sweeps in it, the latest one last.

    Raises
    ------
    BadInput
        If there is no such folder.
    """
    if not runs.is_dir():
        raise BadInput(f"{runs}: no such folder; make a run with 'esl-neuro train', or give the folder with --runs")
    dated = sorted(((_changed(folder), folder) for folder in _folders(runs)), key=lambda each: (each[0], str(each[1])))
    return [_entry(folder, datetime.fromtimestamp(seconds)) for seconds, folder in dated]


def _folders(runs: Path) -> Iterator[Path]:
    for depth in ("*", "*/*"):
        yield from (path.parent for path in runs.glob(f"{depth}/config.toml"))


def _changed(folder: Path) -> float:
    files = RunFolder(folder)
    return max(path.stat().st_mtime for path in (files.result, files.metrics, files.config) if path.exists())


def _entry(folder: Path, changed: datetime) -> RunEntry:
    files, date = RunFolder(folder, allow_code=True), changed.isoformat(" ", "minutes")  # nothing is imported
    try:
        recipe = files.recipe()
        figures = read_result(files.result, "train again") if files.result.is_file() else None
    except BadInput as error:
        return RunEntry(str(folder), DAMAGED, date, problem=str(error))
    return RunEntry(
        str(folder),
        INTERRUPTED if figures is None else FINISHED,
        date,
        recipe.name,
        recipe.data.name,
        recipe.training.seed,
        None if figures is None else figures.test_accuracy,
        None if figures is None else figures.density,
        tuple(sorted(path.parent.name for path in folder.glob(f"*/{DOCUMENT}"))),
    )
