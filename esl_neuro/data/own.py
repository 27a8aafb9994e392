"""A user's own data, named in a recipe: a function, an ``.npz`` file, or a folder of images or event recordings."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from esl_neuro.data.datasets import Dataset
from esl_neuro.data.encodings import ENCODINGS
from esl_neuro.data.folders import VARIABLE, default_folder
from esl_neuro.data.frames import FrameSettings
from esl_neuro.data.own_arrays import from_arrays, from_function
from esl_neuro.data.own_folders import digest_of_files, files_of, from_folder, holds_classes
from esl_neuro.errors import BadInput
from esl_neuro.reading.arrays import read_arrays
from esl_neuro.reading.names import printable
from esl_neuro.recipes.own import ARRAYS, call_own, is_function, is_path
from esl_neuro.recipes.sections import DataSection

FUNCTION_CONTRACT = (
    "the function takes nothing and returns arrays (x, y) or (x, y, x_test, y_test), a mapping with these names, or "
    "two torch Datasets (train, test) of (sample, class)"
)


def is_own(name: str) -> bool:
    """Return whether a name of data is a path or ``module:function``, rather than that of a data set."""
    return is_function(name) or is_path(name)


def is_own_data(path: Path) -> bool:
    """Return whether a path is data that a recipe can name: an ``.npz`` file, or a folder with a folder per class."""
    return path.suffix == ARRAYS if path.is_file() else holds_classes(path)


def load_own(section: DataSection, seed: int, frames: FrameSettings) -> Dataset:
    """Load a user's own data.

    Parameters
    ----------
    section : DataSection
        Its ``name`` is a path or ``module:function``. A recorded ``sha256`` must be that of the data.
    seed : int
        Decides which training samples become the validation part, if the data come with a test part.
    frames : FrameSettings
        Conversion of event recordings to frames.

    Returns
    -------
    Dataset
        Without a test part of their own, 20 % of each class are the test part and 10 % the validation part, the same in
        every run. ``source`` and ``sha256`` say what was read, ``notes`` what a user should know of it.

    Raises
    ------
    BadInput
        If the data are missing, damaged, of another form than documented, or have changed since the run was trained.
    """
    timed = frames.steps if ENCODINGS[section.encoding].timed else None
    if is_function(section.name):
        given = call_own("data.name", section.name, FUNCTION_CONTRACT)
        dataset = from_function(given, section.name, timed, seed, FUNCTION_CONTRACT)
        _refuse_changed(section, dataset.source, dataset.sha256)
    else:
        dataset = _from_path(located(section), section, timed, seed, frames)
    _refuse_range(dataset, section.encoding)
    return dataset


def _refuse_changed(section: DataSection, source: Path | str, sha256: str | None) -> None:
    if section.sha256 is not None and section.sha256 != sha256:
        raise BadInput(
            f"{source}: the data have changed since the run was trained (SHA-256 {sha256} now, {section.sha256} then), "
            "so samples may have moved between training and test; restore them, or train again"
        )


def _refuse_range(dataset: Dataset, encoding: str) -> None:
    """Reject values that an encoding does not take, before anything is trained on them."""
    if ENCODINGS[encoding].signal != "spikes" or dataset.train.divisor != 1:
        return
    parts = (dataset.train, dataset.validation, dataset.test)
    least, most = min(part.values.min() for part in parts), max(part.values.max() for part in parts)
    if not (least >= 0 and most <= 1):
        fix = "use 'event_counts'" if ENCODINGS[encoding].timed else "scale them, or use 'direct'"
        raise BadInput(
            f"{dataset.source}: values from {least:g} to {most:g}; encoding '{encoding}' takes 0 to 1; {fix}"
        )


def located(section: DataSection) -> Path:
    """Return where the data of a path are: there, or, if they have moved, in the folder of ``--data``.

    Raises
    ------
    BadInput
        If they are in neither place.
    """
    path, folder = Path(section.name), default_folder()
    if section.sha256 is not None:  # what is found elsewhere is the same, or refused
        if folder.exists() and is_own_data(folder):
            return folder.absolute()
        if not path.exists() and (folder / path.name).exists():
            return (folder / path.name).absolute()
    if path.exists():
        return path.absolute()
    moved = f"; if it has moved, give its place with --data or {VARIABLE}" if section.sha256 is not None else ""
    raise BadInput(f"data.name: '{printable(section.name)}': no such file or folder, from {Path.cwd()}{moved}")


def _from_path(path: Path, section: DataSection, timed: int | None, seed: int, frames: FrameSettings) -> Dataset:
    if not path.is_dir() and path.suffix != ARRAYS:
        raise BadInput(
            f"{path}: is neither an {ARRAYS} file with the arrays x and y nor a folder with one folder per class; "
            "for another format, give module:function"
        )
    sha256 = digest_of(path)
    _refuse_changed(section, path, sha256)
    if path.is_dir():
        size = None if section.shape is None else (section.shape[0], section.shape[1], section.shape[2])
        sensor = None if section.sensor is None else (section.sensor[0], section.sensor[1])
        dataset = from_folder(path, timed, seed, frames, size, sensor)
    else:
        dataset = from_arrays(read_arrays(path), str(path), timed, seed)
    return replace(dataset, sha256=sha256, source=str(path))


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, as ``sha256sum`` prints it, or of the names and contents of a folder's files."""
    if path.is_dir():
        return digest_of_files(path, files_of(path))
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for piece in iter(lambda: file.read(2**20), b""):
            digest.update(piece)
    return digest.hexdigest()


def recorded(section: DataSection, dataset: Dataset) -> DataSection:
    """Return the section as a run records it: own data by their absolute path, with their SHA-256."""
    if dataset.sha256 is None:
        return section
    return section.model_copy(update={"name": dataset.source or section.name, "sha256": dataset.sha256})
