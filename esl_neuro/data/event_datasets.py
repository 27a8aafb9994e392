"""Data sets of event cameras and of a cochlea model: N-MNIST, DVS-CIFAR10, DVS128-Gesture and SHD.

The folders have the layout of tonic. tonic (GPL-3.0, an extra) downloads all four and reads the binary format of
N-MNIST and its own AEDAT4 copy of DVS-CIFAR10; DVS-CIFAR10 as its authors distribute it (AEDAT 2.0) is read without it,
gestures are plain numpy files and SHD is plain HDF5. The conversion to frames is our own.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esl_neuro.data.aedat import read_aedat2
from esl_neuro.data.augment import Augment, flip_and_roll
from esl_neuro.data.datasets import DATASETS, Dataset, Request, Split, split_validation
from esl_neuro.data.folders import Layout, matches, optional_module
from esl_neuro.data.frames import EVENT, Events, FrameSettings, frames, shrink
from esl_neuro.errors import BadInput, EslNeuroError
from esl_neuro.reading.arrays import SINGLE, read_arrays
from esl_neuro.reading.documents import reason
from esl_neuro.reading.hdf5 import open_hdf5
from esl_neuro.reading.limits import refuse_large
from esl_neuro.storage import write_arrays

TONIC = "pip install 'esl-neuro[events]'"

DVS_CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
DVS_CIFAR10_SIZE = (48, 48)  # as in TET
SHD_UNITS = 700
SHD_FILE = "a file of SHD"
LONGEST_S = 1e6  # of a recording; microseconds of it fit int64
AEDAT2, AEDAT4 = AEDATS = (".aedat", ".aedat4")
CACHE_VERSION = 1  # of the conversion to frames


@dataclass(frozen=True)
class Part:
    """The recordings of one official part.

    Attributes
    ----------
    name : str
        ``"train"`` or ``"test"``.
    files : list of Path
        Files of the recordings.
    labels : int64 array, shape (recordings,)
    read : callable
        Yields the origin of each recording, for messages, and its events, in the order of the labels.
    """

    name: str
    files: list[Path]
    labels: NDArray[np.int64]
    read: Callable[[], Iterator[tuple[str, Events]]]


def _tonic(name: str, *, parts: bool = True) -> Callable[[Path], object]:
    """Return a function that downloads with tonic's class of that name."""

    def fetch(folder: Path) -> object:
        dataset = getattr(optional_module("tonic.datasets", f"downloading {name}", TONIC), name)
        return [dataset(str(folder), train=train) for train in (True, False)] if parts else dataset(str(folder))

    return fetch


N_MNIST = Layout("n_mnist", ("Train/*/*.bin", "Test/*/*.bin"), _tonic("NMNIST"))
DVS_CIFAR10 = Layout(
    "dvs_cifar10",
    tuple(f"{name}/*.aedat*" for name in DVS_CIFAR10_CLASSES),
    _tonic("CIFAR10DVS", parts=False),
    aliases=("CIFAR10DVS",),
)
DVS128_GESTURE = Layout(
    "dvs128_gesture",
    ("ibmGestureTrain/*/*.npy", "ibmGestureTest/*/*.npy"),
    _tonic("DVSGesture"),
    aliases=("DVSGesture",),
)
SHD = Layout("shd", ("shd_train.h5", "shd_test.h5"), _tonic("SHD"))


@DATASETS.register
def n_mnist(request: Request) -> Dataset:
    """Digits before a moving event camera (Orchard et al. 2015): 60,000 and 10,000 of 2x34x34, 10 classes."""
    home = N_MNIST.locate(request.folder, request.download)
    parts = [
        _part_of_files(name, files, [int(path.parent.name) for path in files], _read_n_mnist)
        for name, files in (("train", matches(home, "Train/*/*.bin")), ("test", matches(home, "Test/*/*.bin")))
    ]
    return _dataset("n_mnist", 10, home, parts, (2, 34, 34), request)


@DATASETS.register
def dvs_cifar10(request: Request) -> Dataset:
    """CIFAR-10 images moving before an event camera (Li et al. 2017): 10,000 recordings, 2x128x128, 10 classes.

    There is no official test part: of each class, the first 90 % of the recordings by number train and the rest test
    (9,000 and 1,000). Frames are 48x48 by default. The files are the authors' AEDAT 2.0 or tonic's AEDAT4 copy; whether
    these have the same orientation is not known, so a folder with both is refused.
    """
    home = DVS_CIFAR10.locate(request.folder, request.download)
    suffix = _suffix_of_recordings(home)
    read = read_aedat2 if suffix == AEDAT2 else read_aedat4
    divided: dict[str, list[tuple[Path, int]]] = {"train": [], "test": []}
    for label, name in enumerate(DVS_CIFAR10_CLASSES):
        files = sorted(matches(home, f"{name}/*{suffix}"), key=_recording_number)
        border = len(files) * 9 // 10
        divided["train"] += [(path, label) for path in files[:border]]
        divided["test"] += [(path, label) for path in files[border:]]
    parts = [
        _part_of_files(name, [path for path, _ in recordings], [label for _, label in recordings], read)
        for name, recordings in divided.items()
    ]
    return _dataset("dvs_cifar10", 10, home, parts, (2, 128, 128), request, DVS_CIFAR10_SIZE, flip_and_roll)


def _suffix_of_recordings(home: Path) -> str:
    found = {suffix: [name for name in DVS_CIFAR10_CLASSES if matches(home, f"{name}/*{suffix}")] for suffix in AEDATS}
    complete = [suffix for suffix, classes in found.items() if len(classes) == len(DVS_CIFAR10_CLASSES)]
    if len(complete) != 1 or sum(map(bool, found.values())) != 1:
        counts = " and ".join(f"{len(classes)} as {suffix}" for suffix, classes in found.items())
        raise BadInput(f"{home}: recordings of {counts}, expected all 10 classes in one format; keep one of them")
    return complete[0]


def read_by_tonic(name: str, home: Path) -> bool:
    """Return whether the files of a data set in a folder are read by tonic."""
    return name == N_MNIST.name or (name == DVS_CIFAR10.name and _suffix_of_recordings(home) == AEDAT4)


@DATASETS.register
def dvs128_gesture(request: Request) -> Dataset:
    """Gestures of 29 people before an event camera (Amir et al. 2017): 2x128x128, 11 classes, segmented by tonic.

    There is no mirroring augmentation, because left and right are different classes.
    """
    home = DVS128_GESTURE.locate(request.folder, request.download)

    parts = [
        _part_of_files(name, files, [int(path.stem) for path in files], _read_gesture)
        for name, files in (
            ("train", matches(home, "ibmGestureTrain/*/*.npy")),
            ("test", matches(home, "ibmGestureTest/*/*.npy")),
        )
    ]
    return _dataset("dvs128_gesture", 11, home, parts, (2, 128, 128), request)


@DATASETS.register
def shd(request: Request) -> Dataset:
    """Spoken digits in two languages through a model of the cochlea (Cramer et al. 2020): 700 units, 20 classes."""
    home = SHD.locate(request.folder, request.download)
    if request.frames.size is not None:
        raise BadInput("data set 'shd': frames have no height and width; remove their size")
    parts = [_shd_part(name, home / f"shd_{name}.h5") for name in ("train", "test")]
    return _dataset("shd", 20, home, parts, (1, 1, SHD_UNITS), request)


def _shd_part(name: str, path: Path) -> Part:
    def read() -> Iterator[tuple[str, Events]]:
        with open_hdf5(path, SHD_FILE) as file:
            for number, (seconds, units) in enumerate(zip(file["spikes/times"], file["spikes/units"], strict=True)):
                origin = f"{path}, recording {number}"
                microseconds = (_finite(seconds, 1, origin) * 1e6).astype(np.int64)
                nothing = np.zeros(units.size, dtype=np.int64)
                yield origin, as_events(microseconds, units, nothing, nothing)

    with open_hdf5(path, SHD_FILE) as file:
        labels = file["labels"][:].astype(np.int64)
        recordings = len(file["spikes/times"]), len(file["spikes/units"])
    if labels.ndim != 1:
        raise BadInput(f"{path}: labels have the shape {labels.shape}, expected one label per recording")
    if recordings != (labels.size, labels.size):
        raise BadInput(f"{path}: {recordings} recordings of times and units, expected {labels.size}, one per label")
    return Part(name, [path], labels, read)


def _part_of_files(name: str, files: list[Path], labels: list[int], read: Callable[[Path], Events]) -> Part:
    def recording(path: Path) -> tuple[str, Events]:
        return str(path), reading_recording(path, read)

    return Part(name, files, np.array(labels, dtype=np.int64), lambda: map(recording, files))


def reading_recording(path: Path, read: Callable[[Path], Events]) -> Events:
    """Read a recording; whatever is wrong with it is one error."""
    try:
        return read(path)
    except EslNeuroError:
        raise
    except Exception as error:  # the readers of tonic raise anything for a damaged file
        raise BadInput(f"{path}: not a recording: {reason(error)}") from error


def _read_n_mnist(path: Path) -> Events:
    tonic = optional_module("tonic", "reading N-MNIST", TONIC)
    raw = tonic.io.read_mnist_file(str(path), dtype=tonic.datasets.NMNIST.dtype)
    return as_events(raw["t"], raw["x"], raw["y"], raw["p"])


def read_aedat4(path: Path) -> Events:
    """Read an AEDAT4 recording with tonic."""
    tonic = optional_module("tonic", f"reading {path.name}", TONIC)
    optional_module("aedat", f"reading {path.name}", "pip install aedat")
    raw = tonic.io.read_aedat4(str(path))
    return as_events(
        *(raw[field] for field in raw.dtype.names)
    )  # the name of the fourth field depends on the version of aedat


def _read_gesture(path: Path) -> Events:
    x, y, p, milliseconds = read_arrays(path, "not a recording")[SINGLE].T
    return as_events(_finite(milliseconds, 1e3, str(path)).astype(np.int64) * 1000, x, y, p)


def _finite(times: NDArray[Any], per_second: float, origin: str) -> NDArray[np.float64]:
    """Return the times of events; NaN and what overflows would become some other time.

    Raises
    ------
    BadInput
        If a time is not finite or too large.
    """
    finite: NDArray[np.float64] = times.astype(np.float64)
    if not (np.abs(finite) < LONGEST_S * per_second).all():
        raise BadInput(f"{origin}: times are not all finite and below {LONGEST_S:g} s")
    return finite


def as_events(t: Any, x: Any, y: Any, p: Any) -> Events:
    """Return columns as events.

    Raises
    ------
    ValueError
        If a number is not whole.
    """
    events = np.empty(len(t), dtype=EVENT)
    for name, column in zip(("t", "x", "y", "p"), (t, x, y, p), strict=True):
        events[name] = column
        if column.dtype.kind == "f" and not (events[name] == column).all():
            raise ValueError(f"its {name} are not all whole numbers")
    return events


def _recording_number(path: Path) -> tuple[int, str]:
    number = path.stem.rpartition("_")[2]
    return (int(number) if number.isdigit() else -1, path.name)


def _dataset(
    name: str,
    classes: int,
    home: Path,
    parts: Iterable[Part],
    sensor: tuple[int, int, int],
    request: Request,
    size: tuple[int, int] | None = None,
    augment: Augment | None = None,
) -> Dataset:
    """Convert all recordings to frames of the requested size, else the data set's default, else the sensor's."""
    official, test = (_split(part, classes, home, sensor, request.frames, size) for part in parts)
    train, validation = split_validation(official, request.seed)
    return Dataset(name, classes, train, validation, test, steps=request.frames.steps, augment=augment)


def _split(
    part: Part,
    classes: int,
    home: Path,
    sensor: tuple[int, int, int],
    settings: FrameSettings,
    size: tuple[int, int] | None,
) -> Split:
    if part.labels.size == 0 or part.labels.min() < 0 or part.labels.max() >= classes:
        raise BadInput(f"{home}: labels of the {part.name} part are not all from 0 to {classes - 1}")
    height, width = settings.size or size or sensor[1:]
    if height > sensor[1] or width > sensor[2]:
        raise BadInput(f"frames: size is ({height}, {width}), expected at most {sensor[1:]}, the size of the sensor")
    values = _cached_frames(part, home, sensor, (height, width), settings)
    return Split(values if sensor[1] > 1 else values.reshape(len(values), settings.steps, -1), part.labels)


def _cached_frames(
    part: Part, home: Path, sensor: tuple[int, int, int], size: tuple[int, int], settings: FrameSettings
) -> NDArray[Any]:
    """Return the frames of one part, shape (recordings, steps, polarities, height, width), cached next to the data.

    The name of the cache file contains the settings; the file contains a fingerprint of the recordings.
    """
    kind = "binary" if settings.binary else "counts"
    cut = settings.cut if settings.duration is None else f"{settings.cut}{settings.duration}"
    cut += f"from{settings.start}" if settings.start else ""
    path = home / f"frames-{part.name}-{settings.steps}-{cut}-{kind}-{size[0]}x{size[1]}.npz"
    source = _fingerprint(home, part.files)
    try:
        cache = read_arrays(path)
        wanted = (part.labels.size, settings.steps, sensor[0], *size)
        if int(cache["source"]) == source and cache["frames"].shape == wanted and cache["frames"].dtype.kind == "u":
            return cache["frames"]
    except (BadInput, KeyError, TypeError, ValueError, OverflowError):
        pass  # missing or damaged: rebuild it
    values = _make_frames(part, sensor, size, settings)
    _save_cache(path, values, source)
    return values


def _make_frames(
    part: Part, sensor: tuple[int, int, int], size: tuple[int, int], settings: FrameSettings
) -> NDArray[Any]:
    shape = (sensor[0], *size)
    cells = part.labels.size * settings.steps * math.prod(shape)
    refuse_large(f"the {part.name} part", "its frames take", cells * (1 if settings.binary else 2))
    values = np.zeros((part.labels.size, settings.steps, *shape), dtype=np.uint8 if settings.binary else np.uint16)
    for number, (origin, events) in enumerate(part.read()):
        moved = events if size == sensor[1:] else shrink(events, sensor[1:], size)
        values[number] = frames(
            moved, settings.steps, shape, settings.cut, settings.binary, origin, settings.duration, settings.start
        )
    return values


def _fingerprint(home: Path, files: list[Path]) -> int:
    states = [(path.relative_to(home).as_posix(), path.stat()) for path in files]
    lines = [f"{name} {state.st_size} {state.st_mtime_ns}" for name, state in states]
    return zlib.crc32("\n".join([f"version {CACHE_VERSION}", *lines]).encode())


def _save_cache(path: Path, values: NDArray[Any], source: int) -> None:
    with suppress(BadInput):  # without write access only the cache is lost
        write_arrays(path, {"frames": values, "source": source}, compressed=False)
