"""Locate data sets on disk, and download missing ones."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esl_neuro.errors import BadInput, MissingDependency
from esl_neuro.storage import refusing

VARIABLE = "ESL_NEURO_DATA"
OPTIONAL_GZIP = "(.gz)"


def default_folder() -> Path:
    """Return the folder of all data sets: ``$ESL_NEURO_DATA``, or ``data`` below the current directory."""
    return Path(os.environ.get(VARIABLE) or "data")


def optional_module(name: str, purpose: str, command: str) -> Any:
    """Import an optional module.

    Parameters
    ----------
    name : str
        Module to import.
    purpose : str
        Purpose of the module, for the message.
    command : str
        Command that installs it.

    Raises
    ------
    MissingDependency
        If it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependency(f"{purpose} needs '{name}', which is not installed; install it: {command}") from error


@dataclass(frozen=True)
class Layout:
    """Layout of one data set on disk.

    Attributes
    ----------
    name : str
        Name of the data set. The folder name may have any case, with hyphens, underscores or neither.
    expected : tuple of str
        Patterns of the files below its folder; a final ``(.gz)`` means plain or compressed.
    fetch : callable
        Downloads the data set into the folder of all data sets.
    aliases : tuple of str
        Alternative names of its folder.
    inner : tuple of str
        Subfolders that may contain the files instead.
    twins : tuple of str
        Data sets with the same file names: a folder named like one of them is never used for this one.
    """

    name: str
    expected: tuple[str, ...]
    fetch: Callable[[Path], object]
    aliases: tuple[str, ...] = ()
    inner: tuple[str, ...] = ()
    twins: tuple[str, ...] = ()

    def locate(self, folder: Path, download: bool = False) -> Path:
        """Return the folder with the files of the data set.

        Parameters
        ----------
        folder : Path
            The data set's own folder, or the folder of all data sets.
        download : bool
            Download missing files.

        Raises
        ------
        BadInput
            If files are missing, or the download failed.
        MissingDependency
            If the package that downloads is not installed.
        """
        home = self._find(folder)
        if home is None and download:
            self._download(folder)
            home = self._find(folder)
        if home is None:
            raise BadInput(
                f"data set '{self.name}' is not in {folder.absolute()}: expected {', '.join(self.expected)} there or "
                f"in its sub-folder {self.name}; copy the files there, set {VARIABLE}, or train "
                "once with --download"
            )
        return home

    def _find(self, folder: Path) -> Path | None:
        homes = (home for home in self._candidates(folder) if not self._is_of_a_twin(home))
        return next((home for home in homes if all(matches(home, pattern) for pattern in self.expected)), None)

    def _candidates(self, folder: Path) -> Iterator[Path]:
        names = {_spelling(name) for name in (self.name, *self.aliases)}
        named = [path for path in folder.glob("*") if path.is_dir() and _spelling(path.name) in names]
        for home in (*sorted(named), folder):
            yield home
            for inner in self.inner:
                yield home / inner

    def _is_of_a_twin(self, home: Path) -> bool:
        path = home.absolute()
        name = path.parent.name if path.name in self.inner else path.name
        return _spelling(name) in {_spelling(twin) for twin in self.twins}

    def _download(self, folder: Path) -> None:
        with refusing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            with redirect_stdout(sys.stderr):  # standard output is reserved for the result of the command
                self.fetch(folder)
        except (OSError, RuntimeError, ValueError) as error:
            reason = (str(error).splitlines() or [repr(error)])[0]
            raise BadInput(f"data set '{self.name}': the download to {folder.absolute()} failed: {reason}") from error


def matches(home: Path, pattern: str) -> list[Path]:
    """Return the sorted files below a folder that match a pattern of :class:`Layout`, plain before compressed."""
    stem = pattern.removesuffix(OPTIONAL_GZIP)
    patterns = (stem, f"{stem}.gz") if stem != pattern else (pattern,)
    return [path for wanted in patterns for path in sorted(home.glob(wanted)) if path.is_file()]


def _spelling(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
