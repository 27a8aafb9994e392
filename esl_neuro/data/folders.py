"""Where data sets lie on disk, and how to ask for what is not there."""

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

VARIABLE = "ESL_NEURO_DATA"
OPTIONAL_GZIP = "(.gz)"


def default_folder() -> Path:
    """Return the folder of all data sets: ``$ESL_NEURO_DATA``, or ``data`` below the current directory."""
    return Path(os.environ.get(VARIABLE) or "data")


def optional_module(name: str, purpose: str, command: str) -> Any:
    """Import a module that not every installation has.

    Parameters
    ----------
    name : str
        Module to import.
    purpose : str
        What needs it, for the message.
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
    """How one data set lies on disk.

    Attributes
    ----------
    name : str
        Name of the data set. Its folder may be spelt in any case, with hyphens, underscores or neither.
    expected : tuple of str
        Files below its folder, as patterns; ``(.gz)`` at the end: plain or compressed.
    fetch : callable
        Downloads the data set into the folder of all data sets.
    aliases : tuple of str
        Other names of its folder.
    inner : tuple of str
        Folders below its folder that may hold the files instead.
    twins : tuple of str
        Data sets whose files have the same names: a folder named like one of them is never taken for this one.
    """

    name: str
    expected: tuple[str, ...]
    fetch: Callable[[Path], object]
    aliases: tuple[str, ...] = ()
    inner: tuple[str, ...] = ()
    twins: tuple[str, ...] = ()

    def locate(self, folder: Path, download: bool = False) -> Path:
        """Return the folder that holds the files of the data set.

        Parameters
        ----------
        folder : Path
            The data set's own folder, or the folder of all data sets.
        download : bool
            Download what is not there.

        Raises
        ------
        BadInput
            If the files are not there, or the download failed.
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
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with redirect_stdout(sys.stderr):  # standard output belongs to the command's own result
                self.fetch(folder)
        except (OSError, RuntimeError) as error:
            reason = (str(error).splitlines() or [repr(error)])[0]
            raise BadInput(f"data set '{self.name}': the download to {folder.absolute()} failed: {reason}") from error


def matches(home: Path, pattern: str) -> list[Path]:
    """Files below a folder that match a pattern of :class:`Layout`, sorted, the plain before the compressed one."""
    stem = pattern.removesuffix(OPTIONAL_GZIP)
    patterns = (stem, f"{stem}.gz") if stem != pattern else (pattern,)
    return [path for wanted in patterns for path in sorted(home.glob(wanted)) if path.is_file()]


def _spelling(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
