"""Augment training samples: pure functions of a batch and a random stream."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

CROP_PADDING = 4
ROLL = 5


def crop_and_flip(values: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """Pad each image by 4 zeros on each side, crop it randomly to its size, mirror it with probability 1/2.

    The standard augmentation of CIFAR (RandomCrop(32, padding=4), RandomHorizontalFlip), drawn independently for each
    image.

    Parameters
    ----------
    values : array, shape (samples, channels, height, width)
    rng : numpy.random.Generator

    Returns
    -------
    array of the same shape and type
    """
    samples, _, height, width = values.shape
    edge = (CROP_PADDING, CROP_PADDING)
    padded = np.pad(values, ((0, 0), (0, 0), edge, edge))
    top, left = rng.integers(0, 2 * CROP_PADDING + 1, (2, samples, 1))
    columns = left + _mirrored(np.arange(width), width, rng.random((samples, 1)) < 0.5)
    return _gather(padded, top + np.arange(height), columns)


def flip_and_roll(values: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """Mirror each recording with probability 1/2, and roll all its frames by the same offset of up to 5 pixels.

    The augmentation of DVS-CIFAR10 in TET (Deng et al., ICLR 2022, official code).

    Parameters
    ----------
    values : array, shape (samples, steps, polarities, height, width)
    rng : numpy.random.Generator

    Returns
    -------
    array of the same shape and type
    """
    samples, height, width = values.shape[0], *values.shape[-2:]
    down, right = rng.integers(-ROLL, ROLL + 1, (2, samples, 1))
    columns = _mirrored((np.arange(width) - right) % width, width, rng.random((samples, 1)) < 0.5)
    return _gather(values, (np.arange(height) - down) % height, columns)


def _mirrored(columns: NDArray[np.int64], width: int, mirrored: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.where(mirrored, width - 1 - columns, columns)


def _gather(values: NDArray[Any], rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[Any]:
    """Select rows (samples, height) and columns (samples, width) of each sample from the last two axes."""
    picked = np.empty((*values.shape[:-2], rows.shape[1], columns.shape[1]), values.dtype)
    for sample, (of_rows, of_columns) in enumerate(zip(rows, columns, strict=True)):
        picked[sample] = values[sample].take(of_rows, axis=-2).take(of_columns, axis=-1)
    return picked
