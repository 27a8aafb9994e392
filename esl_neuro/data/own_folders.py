"""A user's own folder as a data set: one folder of images or of event recordings per class.

The folders of the classes are directly in it, or in its folders ``train`` and ``test``.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esl_neuro.data.aedat import LAST, read_aedat2
from esl_neuro.data.datasets import Dataset
from esl_neuro.data.event_datasets import as_events, read_aedat4, reading_recording
from esl_neuro.data.frames import Events, FrameSettings, frames, shrink
from esl_neuro.data.own_arrays import X_TEST, Y_TEST, X, Y, from_arrays
from esl_neuro.errors import BadInput
from esl_neuro.reading.arrays import read_arrays
from esl_neuro.reading.images import SUFFIXES as IMAGES
from esl_neuro.reading.images import read_image
from esl_neuro.reading.limits import refuse_large
from esl_neuro.reading.names import printable

TRAIN, TEST = "train", "test"
EVENT_ARRAYS, AEDAT2, AEDAT4 = RECORDINGS = (".npz", ".aedat", ".aedat4")
FIELDS = ("t", "x", "y", "p")
DVS128 = (LAST + 1, LAST + 1)
POLARITIES = 2
SHOWN = 3


@dataclass(frozen=True)
class Listing:
    """The files of a part, and their classes."""

    files: list[Path]
    labels: NDArray[np.int64]


def holds_classes(folder: Path) -> bool:
    """Return whether two or more folders in a folder, or in its ``train``, have images or recordings in them."""
    inside = _folders(folder)
    within = [each for home in inside if home.name.lower() == TRAIN for each in _folders(home)]
    return any(sum(bool(_kept(each)) for each in folders) > 1 for folders in (inside, within))


def from_folder(
    folder: Path,
    timed: int | None,
    seed: int,
    settings: FrameSettings,
    shape: tuple[int, int, int] | None,
    sensor: tuple[int, int] | None,
) -> Dataset:
    """Return the data set of a folder.

    Parameters
    ----------
    folder : Path
        The folder.
    timed, seed
        As for :func:`~esl_neuro.data.own_arrays.from_arrays`.
    settings : FrameSettings
        Conversion of recordings to frames.
    shape : tuple of int, optional
        Channels, height and width to which images are converted, and to which frames are drawn.
    sensor : tuple of int, optional
        Height and width of the event camera.

    Raises
    ------
    BadInput
        If it has no such folders, a class is empty, files are damaged or of several kinds, or images differ in size.
    """
    names, parts, ignored = _listed(folder)
    suffixes = Counter(path.suffix.lower() for part in parts.values() for path in part.files)
    images = [suffix for suffix in suffixes if suffix in IMAGES]
    if images and len(images) < len(suffixes):
        raise BadInput(f"{folder}: contains images and recordings ({', '.join(sorted(suffixes))}); keep one kind")
    if images and timed is not None:
        raise BadInput(f"{folder}: contains images, but data.encoding takes event frames; choose another encoding")
    if not images and timed is None:
        raise BadInput(f"{folder}: contains event recordings; set data.encoding = 'events' or 'event_counts'")
    arrays: dict[str, Any] = {}
    for (x, y), part in zip(((X, Y), (X_TEST, Y_TEST)), parts.values(), strict=False):
        arrays[y] = part.labels
        arrays[x] = _images(part, shape) if images else _recordings(part, settings, sensor, suffixes)
    dataset = from_arrays(arrays, str(folder), timed, seed, names)
    notes = dataset.notes
    if names != tuple(map(str, range(len(names)))):
        classes = ", ".join(f"{label} = {printable(name)}" for label, name in enumerate(names))
        notes += (f"{folder}: classes {classes}",)
    for name, part in parts.items():
        absent = [printable(names[label]) for label in range(len(names)) if label not in part.labels]
        if absent:
            notes += (f"{folder}: the {name} part has no sample of {', '.join(absent)}",)
    if ignored:
        notes += (f"{folder}: left out {len(ignored)} other files, such as {', '.join(ignored[:SHOWN])}",)
    return replace(dataset, name=folder.name, notes=notes, class_names=names)


def files_of(folder: Path) -> list[Path]:
    """Return all images or recordings of a folder, sorted."""
    return [path for part in _listed(folder)[1].values() for path in part.files]


def digest_of_files(folder: Path, files: list[Path]) -> str:
    """Return one SHA-256 of the names and contents of files."""
    digest = hashlib.sha256()
    for path in files:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


# Files.


def _folders(home: Path) -> list[Path]:
    found = (
        [each for each in home.iterdir() if each.is_dir() and not each.name.startswith(".")] if home.is_dir() else []
    )
    by_number = all(each.name.isascii() and each.name.isdigit() for each in found)
    return sorted(found, key=lambda each: (int(each.name) if by_number else 0, each.name))


def _kept(folder: Path) -> list[Path]:
    """Return the images or recordings of a folder, sorted; a link to nothing is a sample that is missing."""
    named = [path for path in folder.iterdir() if path.suffix.lower() in (*IMAGES, *RECORDINGS)]
    broken = sorted(path for path in named if path.is_symlink() and not path.exists())
    if broken:
        raise BadInput(
            f"{printable(str(broken[0]))}: is one of {len(broken)} links in its folder that lead to no file; fetch the "
            "files, or delete the links"
        )
    return sorted(path for path in named if path.is_file())


def _parts(folder: Path) -> dict[str, Path]:
    """Return the folders of the official parts by name; none if the classes are directly in the folder."""
    by_name = {each.name.lower(): each for each in _folders(folder)}
    found = {name: by_name[name] for name in (TRAIN, TEST) if name in by_name}
    others = sorted(each.name for name, each in by_name.items() if name not in found)
    if not found or _kept(next(iter(found.values()))):
        return {}
    if len(found) < 2 or others:
        raise BadInput(
            f"{folder}: has the folders {', '.join(each.name for each in _folders(folder))}; give train and test, and "
            "no other (the validation part is taken from train), or one folder per class"
        )
    return found


def _listed(folder: Path) -> tuple[tuple[str, ...], dict[str, Listing], list[str]]:
    """Return the names of the classes, the files of each part, and the names of other files."""
    homes = _parts(folder) or {TRAIN: folder}
    names = tuple(each.name for each in _folders(homes[TRAIN]))
    if len(names) < 2:
        raise BadInput(
            f"{homes[TRAIN]}: has {len(names)} folders, expected one for each class, with images ({', '.join(IMAGES)}) "
            f"or recordings ({', '.join(RECORDINGS)}) in it"
        )
    findings, ignored, parts = [], [], {}
    for part, home in homes.items():
        unknown = [each.name for each in _folders(home) if each.name not in names]
        findings += [f"{home / name}: there is no such class in {homes[TRAIN]}" for name in unknown]
        files, labels = [], []
        for label, name in enumerate(names):
            kept = _kept(home / name) if (home / name).is_dir() else []
            if not kept and part == TRAIN:
                findings.append(f"{home / name}: contains no image or recording")
            files += kept
            labels += [label] * len(kept)
            ignored += _others(home / name, kept)
        parts[part] = Listing(files, np.array(labels, dtype=np.int64))
    if findings:
        raise BadInput("; ".join(map(printable, findings)))
    return names, parts, ignored


def _others(folder: Path, kept: Iterable[Path]) -> list[str]:
    if not folder.is_dir():
        return []
    kept = {*kept}
    return [printable(each.name) for each in folder.iterdir() if each not in kept and not each.name.startswith(".")]


# Images.


def _images(part: Listing, shape: tuple[int, int, int] | None) -> NDArray[np.uint8]:
    channels, size = (None, None) if shape is None else (shape[0], (shape[1], shape[2]))
    if channels not in (None, 1, 3):
        raise BadInput(f"data.shape: images have 1 or 3 channels, not {channels}")
    first = read_image(part.files[0], size, channels)
    refuse_large(part.files[0].parent.parent, f"{len(part.files):,} images take", len(part.files) * first.nbytes)
    images = np.empty((len(part.files), *first.shape), np.uint8)
    for number, path in enumerate(part.files):
        image = read_image(path, size, channels)
        if image.shape != first.shape:
            raise BadInput(
                f"{path}: has the shape {image.shape} (channels, height, width), {part.files[0]} has {first.shape}; "
                f"set data.shape, such as {list(first.shape)}, to which all are converted"
            )
        images[number] = image
    return images


# Recordings.


def _recordings(
    part: Listing, settings: FrameSettings, sensor: tuple[int, int] | None, suffixes: Counter[str]
) -> NDArray[Any]:
    if len(suffixes) > 1:
        raise BadInput(f"{part.files[0].parent.parent}: recordings in {', '.join(sorted(suffixes))}; keep one format")
    sensor = sensor or (DVS128 if AEDAT2 in suffixes else None)
    if sensor is None:
        first = _recording(part.files[0])
        needed = [int(first[axis].max(initial=0)) + 1 for axis in "yx"]
        raise BadInput(
            f"data.sensor: is missing; give the height and width of the camera, at least {needed} for {part.files[0]}"
        )
    size = _frame_size(settings, sensor)
    shape = (POLARITIES, *size)
    dtype = np.uint8 if settings.binary else np.uint16
    cells = len(part.files) * settings.steps * POLARITIES * size[0] * size[1]
    refuse_large(part.files[0].parent.parent, "its frames take", cells * np.dtype(dtype).itemsize)
    made = np.empty((len(part.files), settings.steps, *shape), dtype)
    for number, path in enumerate(part.files):
        made[number] = _frames(path, settings, sensor)
    return made


def recording_frames(path: Path, settings: FrameSettings, sensor: tuple[int, int] | None) -> NDArray[Any]:
    """Read one recording as training reads those of a folder.

    Parameters
    ----------
    path : Path
        An ``.npz`` file with ``t``, ``x``, ``y`` and ``p``, or an ``.aedat`` or ``.aedat4`` file.
    settings : FrameSettings
        Conversion to frames.
    sensor : tuple of int, optional
        Height and width of the camera; that of a DVS128 for ``.aedat`` files.

    Returns
    -------
    array, shape (steps, 2, height, width)
        uint8 if binary, else uint16.

    Raises
    ------
    BadInput
        If the file is damaged, an event is outside the sensor, or its size is not known.
    """
    sensor = sensor or (DVS128 if path.suffix.lower() == AEDAT2 else None)
    if sensor is None:
        raise BadInput(f"{path}: the size of the camera is not known; train with data.sensor = [height, width]")
    return _frames(path, settings, sensor)


def _frame_size(settings: FrameSettings, sensor: tuple[int, int]) -> tuple[int, int]:
    size = settings.size or sensor
    if size[0] > sensor[0] or size[1] > sensor[1]:
        raise BadInput(f"data.shape: frames of {size} are larger than the sensor of {sensor}; give its size or less")
    return size


def _frames(path: Path, settings: FrameSettings, sensor: tuple[int, int]) -> NDArray[Any]:
    size = _frame_size(settings, sensor)
    events = _within(_recording(path), sensor, path)
    moved = events if size == sensor else shrink(events, sensor, size)
    shape = (POLARITIES, *size)
    return frames(
        moved, settings.steps, shape, settings.cut, settings.binary, str(path), settings.duration, settings.start
    )


def _within(events: Events, sensor: tuple[int, int], path: Path) -> Events:
    for axis, most in zip("yx", sensor, strict=True):
        if events.size and not (int(events[axis].min()) >= 0 and int(events[axis].max()) < most):
            raise BadInput(
                f"{path}: event with {axis} from {events[axis].min()} to {events[axis].max()}; data.sensor is "
                f"{list(sensor)}, height and width"
            )
    return events


def _recording(path: Path) -> Events:
    readers = {EVENT_ARRAYS: _read_event_arrays, AEDAT2: read_aedat2, AEDAT4: read_aedat4}
    return reading_recording(path, readers[path.suffix.lower()])


def _read_event_arrays(path: Path) -> Events:
    """Read ``t``, ``x``, ``y`` and ``p``, one entry per event: whole numbers, the time in microseconds."""
    arrays = read_arrays(path)
    if sorted(arrays) != sorted(FIELDS):
        raise BadInput(f"{path}: has the arrays {', '.join(map(printable, arrays)) or 'none'}; expected t, x, y and p")
    lengths = {name: arrays[name].shape for name in FIELDS}
    if len(set(lengths.values())) != 1 or arrays["t"].ndim != 1:
        raise BadInput(f"{path}: t, x, y and p have the shapes {lengths}; give one entry per event in each")
    if any(array.dtype.kind not in "buif" or not np.isfinite(array).all() for array in arrays.values()):
        raise BadInput(f"{path}: t, x, y and p are not all finite numbers")
    return as_events(*(arrays[name] for name in FIELDS))
