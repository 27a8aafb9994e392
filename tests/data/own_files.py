"""A user's own data as files: arrays, images and recordings of a few classes that a network can tell apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np

CLASSES = ("left", "middle", "right")


def samples(count: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images of 6 x 6 pixels, uint8, with a bright pair of columns that tells the class."""
    rng, labels = np.random.default_rng(seed), np.arange(count) % len(CLASSES)
    images = rng.integers(0, 60, (count, 6, 6))
    for image, label in zip(images, labels, strict=True):
        image[:, 2 * label : 2 * label + 2] += 150
    return images.astype(np.uint8), labels


def write_arrays(path: Path, count: int = 60) -> None:
    """Write an ``.npz`` file with x and y."""
    x, y = samples(count)
    np.savez(path, x=x, y=y)


def write_images(folder: Path, count: int = 60) -> None:
    """Write one folder of PNG files per class."""
    from PIL import Image

    for number, (image, label) in enumerate(zip(*samples(count), strict=True)):
        home = folder / CLASSES[label]
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(home / f"{number:03d}.png")


def write_events(folder: Path, count: int = 30, size: int = 6) -> None:
    """Write one folder of recordings per class: events in a pair of columns that tells the class."""
    rng = np.random.default_rng(0)
    for number in range(count):
        label, events = number % len(CLASSES), 80
        home = folder / CLASSES[label]
        home.mkdir(parents=True, exist_ok=True)
        np.savez(
            home / f"{number:03d}.npz",
            t=np.sort(rng.integers(0, 10**5, events)),
            x=rng.integers(0, 2, events) + 2 * label,
            y=rng.integers(0, size, events),
            p=rng.integers(0, 2, events),
        )
