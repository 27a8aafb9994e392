"""Data sets as plain arrays, split once and for all into training, validation and test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from esl_neuro.registry import Registry


@dataclass(frozen=True)
class Split:
    """Samples and their classes.

    Attributes
    ----------
    values : float32 array, shape (samples, features)
        Intensities in [0, 1].
    labels : int64 array, shape (samples,)
        Class indices.
    """

    values: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.labels.size)


@dataclass(frozen=True)
class Dataset:
    """Three disjoint parts of one data set; the best epoch is chosen on validation, the figure is of test."""

    name: str
    classes: int
    train: Split
    validation: Split
    test: Split

    @property
    def features(self) -> int:
        """Values per sample."""
        return int(self.train.values.shape[1])


DATASETS: Registry[Callable[[], Dataset]] = Registry("data set")


def load_dataset(name: str) -> Dataset:
    """Load a data set by name.

    Raises
    ------
    BadInput
        If the name is unknown.
    """
    return DATASETS[name]()


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


@DATASETS.register
def digits() -> Dataset:
    """8x8 handwritten digits of UCI, as scikit-learn ships them: 1,797 real images, no download.

    Test 20 %, validation 10 %, training 70 %, stratified, the same for every run.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    values = (bunch.data / 16.0).astype(np.float32)
    labels = bunch.target.astype(np.int64)
    test, validation, train = (Split(values[part], labels[part]) for part in stratified_parts(labels, (0.2, 0.1), 0))
    return Dataset("digits", 10, train, validation, test)
