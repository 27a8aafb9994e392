"""Prepare the data of a recipe: load, limit the number of samples, resize."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy import ndimage

from esl_neuro.data.augment import AUGMENTATIONS
from esl_neuro.data.datasets import Dataset, Split, load_dataset
from esl_neuro.data.frames import FrameSettings
from esl_neuro.data.own import is_own, load_own
from esl_neuro.errors import BadInput
from esl_neuro.random_streams import stream
from esl_neuro.reading.limits import refuse_large
from esl_neuro.recipes.sections import DataSection


def prepare(section: DataSection, seed: int = 0, *, download: bool = False) -> Dataset:
    """Load the data set of a recipe.

    Parameters
    ----------
    section : DataSection
        Section with the name of the data set; ``shape``, ``samples`` and ``augment`` modify it.
    seed : int
        Decides which training samples become the validation part.
    download : bool
        Download what is not in the folder.

    Raises
    ------
    BadInput
        If the data set is unknown, files are missing or damaged, or the samples cannot be resized.
    """
    frames = frame_settings(section)
    if is_own(section.name):
        dataset = load_own(section, seed, frames)
    else:
        _refuse_fields_of_own(section)
        dataset = load_dataset(section.name, seed=seed, download=download, frames=frames)
    if section.samples is not None:
        dataset = limit(dataset, section.samples)
    if section.shape is not None:
        dataset = shape(dataset, (section.shape[0], section.shape[1], section.shape[2]))
    if section.augment is not None:
        dataset = replace(dataset, augment=AUGMENTATIONS[section.augment])
    return dataset


def frame_settings(section: DataSection) -> FrameSettings:
    """Return how the data of a recipe are converted from recordings to frames."""
    size = (section.shape[1], section.shape[2]) if section.shape else None
    # Count encodings need counts; all others take binary frames.
    binary = section.encoding != "event_counts"
    return FrameSettings(section.steps, section.cut, binary, size, section.frame_us, section.start_us or 0)


def _refuse_fields_of_own(section: DataSection) -> None:
    given = [f"data.{name}" for name in ("sensor", "sha256") if getattr(section, name) is not None]
    if given:
        raise BadInput(
            f"{' and '.join(given)}: for your own data only, a path or module:function, and '{section.name}' is a data "
            "set by name; omit it"
        )


def limit(dataset: Dataset, samples: int) -> Dataset:
    """Return the data set with a limited number of samples in each part, the same in every run."""

    def some(split: Split) -> Split:
        chosen = stream(0, "samples").permutation(len(split))[:samples]
        return split.select(np.sort(chosen))

    return _each_part(dataset, some)


def shape(dataset: Dataset, wanted: tuple[int, int, int]) -> Dataset:
    """Return the data set with samples of shape (channels, height, width).

    Images are resized bilinearly, and a single channel is repeated; event frames already have the size.

    Raises
    ------
    BadInput
        If the samples are not images, or have another number of channels.
    """
    if len(dataset.shape) != 3:
        raise BadInput(
            f"data.shape: data set '{dataset.name}' has samples of shape {dataset.shape}, which are not images"
        )
    channels = dataset.shape[0]
    if channels not in (1, wanted[0]):
        raise BadInput(
            f"data.shape: {wanted[0]} channels cannot be made of the {channels} of data set '{dataset.name}'; "
            f"allowed: {channels}"
        )
    if dataset.shape == wanted or dataset.steps is not None:
        return dataset

    def enlarged(split: Split) -> Split:
        size = len(split) * math.prod(wanted) * 4
        refuse_large(f"data.shape = {list(wanted)}", f"{len(split):,} images of this shape take", size)
        factors = (1, 1, wanted[1] / split.values.shape[2], wanted[2] / split.values.shape[3])
        images = ndimage.zoom(split.values.astype(np.float32), factors, order=1, mode="nearest", grid_mode=True)
        if split.values.dtype.kind == "u":
            images = np.rint(images)
        images = np.repeat(images.astype(split.values.dtype), wanted[0] // channels, axis=1)
        return Split(images, split.labels, split.divisor)

    return _each_part(dataset, enlarged)


def _each_part(dataset: Dataset, change: Callable[[Split], Split]) -> Dataset:
    return replace(
        dataset, train=change(dataset.train), validation=change(dataset.validation), test=change(dataset.test)
    )
