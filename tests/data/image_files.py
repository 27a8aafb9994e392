"""Small image data sets in the real formats."""

from __future__ import annotations

import gzip
import pickle
import struct

import numpy as np

NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
SAMPLES = {"train": 100, "test": 20}


def write_mnist(folder, compress=False, seed=0, label_of=lambda number: number % 10):
    """Write a small MNIST; return its images by part."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for part, (images_name, labels_name) in NAMES.items():
        images = np.random.default_rng(seed).integers(0, 256, (SAMPLES[part], 28, 28), dtype=np.uint8)
        labels = bytes(label_of(number) for number in range(SAMPLES[part]))
        for name, content in (
            (images_name, struct.pack(">4I", 0x803, SAMPLES[part], 28, 28) + images.tobytes()),
            (labels_name, struct.pack(">2I", 0x801, SAMPLES[part]) + labels),
        ):
            if compress:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)
        written[part] = images
    return written


def write_cifar(folder, classes, samples=20, seed=0):
    """Write a small CIFAR-10 or CIFAR-100 in its python version; return its data by part."""
    home = folder / ("cifar-10-batches-py" if classes == 10 else "cifar-100-python")
    home.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    files = (
        ([f"data_batch_{number}" for number in range(1, 6)], ["test_batch"]) if classes == 10 else (["train"], ["test"])
    )
    written = {}
    for part, names in zip(("train", "test"), files, strict=True):
        images, labels = [], []
        for name in names:
            data = rng.integers(0, 256, (samples, 3072), dtype=np.uint8)
            fine = [(3 * number) % classes for number in range(samples)]
            batch = {"batch_label": name, "data": data, "filenames": ["x.png"] * samples}
            batch |= {"labels": fine} if classes == 10 else {"fine_labels": fine, "coarse_labels": [0] * samples}
            (home / name).write_bytes(pickle.dumps(batch, protocol=2))
            images.append(data)
            labels += fine
        written[part] = np.concatenate(images).reshape(-1, 3, 32, 32), labels
    meta, key = ("batches.meta", "label_names") if classes == 10 else ("meta", "fine_label_names")
    (home / meta).write_bytes(pickle.dumps({key: [f"class {label}" for label in range(classes)]}, protocol=2))
    return written
