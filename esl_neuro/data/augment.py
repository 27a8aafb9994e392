"""Augment training samples: pure functions of a batch and a random stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esl_neuro.errors import BadInput
from esl_neuro.registry import Registry

CROP_PADDING = 4
ROLL = 5
SHIFT = 1

Augment = Callable[[NDArray[Any], np.random.Generator], NDArray[Any]]

AUGMENTATIONS: Registry[Augment] = Registry("augmentation")


@AUGMENTATIONS.register
def none(values: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:  # noqa: ARG001 (shared signature)
    """Leave the samples as they are, also those of a data set that has an augmentation of its own."""
    return values


@AUGMENTATIONS.register
def shift_one_pixel(values: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """Shift each image by -1, 0 or 1 pixels in each direction, drawn independently; zeros come in (ours).

    Parameters
    ----------
    values : array, shape (samples, channels, height, width)
    rng : numpy.random.Generator

    Returns
    -------
    array of the same shape and type

    Raises
    ------
    BadInput
        If the samples are not images.
    """
    _refuse_others("shift_one_pixel", values, "images of (channels, height, width)", 4)
    samples, _, height, width = values.shape
    padded = np.pad(values, ((0, 0), (0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)))
    top, left = rng.integers(0, 2 * SHIFT + 1, (2, samples, 1))
    return _gather(padded, top + np.arange(height), left + np.arange(width))


@AUGMENTATIONS.register
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
    _refuse_others("crop_and_flip", values, "images of (channels, height, width)", 4)
    samples, _, height, width = values.shape
    edge = (CROP_PADDING, CROP_PADDING)
    padded = np.pad(values, ((0, 0), (0, 0), edge, edge))
    top, left = rng.integers(0, 2 * CROP_PADDING + 1, (2, samples, 1))
    columns = left + _mirrored(np.arange(width), width, rng.random((samples, 1)) < 0.5)
    return _gather(padded, top + np.arange(height), columns)


@AUGMENTATIONS.register
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
    _refuse_others("flip_and_roll", values, "frames of (steps, polarities, height, width)", 5)
    samples, height, width = values.shape[0], *values.shape[-2:]
    down, right = rng.integers(-ROLL, ROLL + 1, (2, samples, 1))
    columns = _mirrored((np.arange(width) - right) % width, width, rng.random((samples, 1)) < 0.5)
    return _gather(values, (np.arange(height) - down) % height, columns)


def _refuse_others(name: str, values: NDArray[Any], wanted: str, axes: int) -> None:
    if values.ndim != axes:
        raise BadInput(
            f"data.augment = '{name}' takes {wanted}, not samples of shape {values.shape[1:]}; allowed there: 'none'"
        )


def _mirrored(columns: NDArray[np.int64], width: int, mirrored: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.where(mirrored, width - 1 - columns, columns)


def _gather(values: NDArray[Any], rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[Any]:
    """Select rows (samples, height) and columns (samples, width) of each sample from the last two axes."""
    picked = np.empty((*values.shape[:-2], rows.shape[1], columns.shape[1]), values.dtype)
    for sample, (of_rows, of_columns) in enumerate(zip(rows, columns, strict=True)):
        picked[sample] = values[sample].take(of_rows, axis=-2).take(of_columns, axis=-1)
    return picked
