"""Data sets as plain arrays, split into training, validation and test."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esl_neuro.data.augment import Augment
from esl_neuro.data.folders import default_folder
from esl_neuro.data.frames import FrameSettings
from esl_neuro.registry import Registry

VALIDATION_SHARE = 0.1


@dataclass(frozen=True)
class Split:
    """Samples and their classes.

    Attributes
    ----------
    values : array, shape (samples, *sample shape)
        As stored: float32 intensities in [0, 1], uint8 pixels from 0 to ``divisor``, or event frames (uint8 if binary,
        uint16 if counts). :meth:`batch` returns the input of encodings.
    labels : int64 array, shape (samples,)
        Class indices.
    divisor : int
        Stored value of intensity 1; 255 for 8-bit pixels.
    """

    values: NDArray[Any]
    labels: NDArray[np.int64]
    divisor: int = 1

    def __len__(self) -> int:
        return int(self.labels.size)

    def batch(self, indices: Any = slice(None)) -> NDArray[np.float32]:
        """Return ``values[indices] / divisor`` as float32; only these samples are converted, to save memory.

        Parameters
        ----------
        indices : slice or integer array
            Samples to return; all by default.
        """
        values: NDArray[np.float32] = self.values[indices].astype(np.float32, copy=False)
        return values if self.divisor == 1 else values / np.float32(self.divisor)

    def select(self, indices: NDArray[np.int64]) -> Split:
        """Return a split with these samples only."""
        return Split(self.values[indices], self.labels[indices], self.divisor)


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each channel, in intensities."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def applied(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return ``(values - mean) / std`` of each channel of images, shape (samples, channels, height, width)."""
        mean, std = (np.array(of_channels, dtype=np.float32)[:, None, None] for of_channels in (self.mean, self.std))
        normalised: NDArray[np.float32] = (values - mean) / std
        return normalised


@dataclass(frozen=True)
class Dataset:
    """Three disjoint parts of one data set; validation selects the best epoch, test gives the final figure.

    Attributes
    ----------
    steps : int, optional
        Frames per sample, if the samples have a time axis (the first one), else None.
    normalisation : Normalisation, optional
        Applied by :meth:`normalise`.
    augment : callable, optional
        Augmentation of a batch of training values ``(values, rng) -> values``, before normalisation.
    source : str
        Absolute path or ``module:function`` of a user's own data; empty for the data sets of the package.
    sha256 : str, optional
        SHA-256 of a user's own data: of the file, of the names and contents of the files of a folder, or of the arrays
        of a function.
    notes : tuple of str
        What a user should know of own data, such as how they were split; the command prints it.
    class_names : tuple of str
        Names of the classes of own data, if they have any.
    """

    name: str
    classes: int
    train: Split
    validation: Split
    test: Split
    steps: int | None = None
    normalisation: Normalisation | None = None
    augment: Augment | None = None
    source: str = ""
    sha256: str | None = None
    notes: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a sample at one step: (features,), (channels, height, width) or (units,)."""
        return self.train.values.shape[1 if self.steps is None else 2 :]

    @property
    def features(self) -> int:
        """Values per sample and step."""
        return math.prod(self.shape)

    def normalise(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return ``(values - mean) / std`` of each channel, or the values unchanged if the data set has no statistics.

        For graded encodings only, because spike encodings need values in [0, 1].

        Parameters
        ----------
        values : float32 array, shape (samples, channels, height, width)
            Intensities in [0, 1].
        """
        return values if self.normalisation is None else self.normalisation.applied(values)


@dataclass(frozen=True)
class Request:
    """Arguments of a loader.

    Attributes
    ----------
    folder : Path
        The data set's own folder, or the folder of all data sets.
    seed : int
        Determines which training samples become the validation part.
    download : bool
        Download missing files.
    frames : FrameSettings
        Conversion of event recordings to frames.
    """

    folder: Path = field(default_factory=default_folder)
    seed: int = 0
    download: bool = False
    frames: FrameSettings = field(default_factory=FrameSettings)


BUILT_IN = ("digits", "digits_images", "spike_lags")  # data sets that need no folder
DATASETS: Registry[Callable[[Request], Dataset]] = Registry("data set")


def load_dataset(
    name: str,
    folder: Path | None = None,
    seed: int = 0,
    *,
    download: bool = False,
    frames: FrameSettings | None = None,
) -> Dataset:
    """Load a data set by name.

    Parameters
    ----------
    name : str
        Name of the data set.
    folder : Path, optional
        The data set's own folder, or the folder of all data sets; by default ``$ESL_NEURO_DATA``, or ``data`` below
        the current directory.
    seed : int
        Decides which training samples become the validation part (10 % of each class), where a data set comes with
        training and test parts only.
    download : bool
        Download missing files.
    frames : FrameSettings, optional
        Conversion of event recordings to frames.

    Raises
    ------
    BadInput
        If the name is unknown, or files are missing or damaged.
    MissingDependency
        If a package that reads or downloads this data set is not installed.
    """
    load = DATASETS[name]
    return load(Request(folder or default_folder(), seed, download, frames or FrameSettings()))


def stratified_parts(labels: NDArray[np.int64], shares: tuple[float, ...], seed: int) -> list[NDArray[np.int64]]:
    """Divide sample indices into parts with the same class proportions.

    Parameters
    ----------
    labels : int64 array, shape (samples,)
        Class of each sample.
    shares : tuple of float
        Share of all but the last part, which takes the rest.
    seed : int
        Seed of the permutation within each class.

    Returns
    -------
    list of int64 array
        Sorted sample indices of each part; every index is in exactly one.
    """
    rng = np.random.default_rng(seed)
    parts: list[list[NDArray[np.int64]]] = [[] for _ in range(len(shares) + 1)]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        cuts = np.rint(np.cumsum(shares) * members.size).astype(int)
        for part, indices in zip(parts, np.split(members, cuts), strict=True):
            part.append(indices)
    return [np.sort(np.concatenate(part)) for part in parts]


def split_validation(train: Split, seed: int, share: float = VALIDATION_SHARE) -> tuple[Split, Split]:
    """Split a stratified validation part off an official training part.

    Returns
    -------
    train, validation : Split
    """
    validation, rest = stratified_parts(train.labels, (share,), seed)
    return train.select(rest), train.select(validation)


@DATASETS.register
def digits(request: Request) -> Dataset:  # noqa: ARG001 (shared signature)
    """8x8 handwritten digits of UCI, as scikit-learn ships them: 1,797 real images, no download.

    Test 20 %, validation 10 %, training 70 %, stratified, the same for every run and seed.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    values = (bunch.data / 16.0).astype(np.float32)
    labels = bunch.target.astype(np.int64)
    test, validation, train = (Split(values[part], labels[part]) for part in stratified_parts(labels, (0.2, 0.1), 0))
    return Dataset("digits", 10, train, validation, test)


@DATASETS.register
def digits_images(request: Request) -> Dataset:
    """Return the images of ``digits`` with a channel, a height and a width, for convolutions."""
    flat = digits(request)
    train, validation, test = (
        replace(part, values=part.values.reshape(-1, 1, 8, 8)) for part in (flat.train, flat.validation, flat.test)
    )
    return replace(flat, name="digits_images", train=train, validation=validation, test=test)
