"""Data sets of images: MNIST and Fashion-MNIST (IDX files), CIFAR-10 and CIFAR-100 (batch files)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from esl_neuro.data.augment import crop_and_flip
from esl_neuro.data.cifar import read_batch
from esl_neuro.data.datasets import DATASETS, Dataset, Normalisation, Request, Split, split_validation
from esl_neuro.data.downloads import Download
from esl_neuro.data.folders import Layout, matches
from esl_neuro.data.idx import read_idx
from esl_neuro.errors import BadInput

PIXEL_MAXIMUM = 255

IDX_TRAIN = ("train-images-idx3-ubyte(.gz)", "train-labels-idx1-ubyte(.gz)")
IDX_TEST = ("t10k-images-idx3-ubyte(.gz)", "t10k-labels-idx1-ubyte(.gz)")
CIFAR10_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))

# Channel statistics of the training parts, from TET's official code.
CIFAR10_NORMALISATION = Normalisation((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
CIFAR100_NORMALISATION = Normalisation((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
NORMALISATIONS = {"cifar10": CIFAR10_NORMALISATION, "cifar100": CIFAR100_NORMALISATION}


# SHA-256 sums of the files that the authors published; torchvision 0.18 lists MD5 sums of the same files.
MNIST = Layout(
    "mnist",
    (*IDX_TRAIN, *IDX_TEST),
    Download(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        {
            "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
        "mnist",
    ),
    inner=("raw",),
    twins=("fashion_mnist",),
)
FASHION_MNIST_COMMIT = "b2617bb6d3ffa2e429640350f613e3291e10b141"
FASHION_MNIST = Layout(
    "fashion_mnist",
    (*IDX_TRAIN, *IDX_TEST),
    Download(
        f"https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/{FASHION_MNIST_COMMIT}/data/fashion/",
        {
            "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
        "fashion_mnist",
    ),
    inner=("raw",),
    twins=("mnist",),
)
CIFAR10 = Layout(
    "cifar10",
    (*CIFAR10_TRAIN, "test_batch"),
    Download(
        "https://www.cs.toronto.edu/~kriz/",
        {"cifar-10-python.tar.gz": "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"},
    ),
    inner=("cifar-10-batches-py",),
)
CIFAR100 = Layout(
    "cifar100",
    ("train", "test"),
    Download(
        "https://www.cs.toronto.edu/~kriz/",
        {"cifar-100-python.tar.gz": "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"},
    ),
    inner=("cifar-100-python",),
)


@DATASETS.register
def mnist(request: Request) -> Dataset:
    """Handwritten digits (LeCun et al. 1998): 60,000 and 10,000 images of 28x28 pixels, 10 classes."""
    return _from_idx(MNIST, request)


@DATASETS.register
def fashion_mnist(request: Request) -> Dataset:
    """Zalando's article images (Xiao et al. 2017): 60,000 and 10,000 images of 28x28 pixels, 10 classes."""
    return _from_idx(FASHION_MNIST, request)


@DATASETS.register
def cifar10(request: Request) -> Dataset:
    """Colour photographs (Krizhevsky 2009): 50,000 and 10,000 images of 3x32x32 pixels, 10 classes."""
    home = CIFAR10.locate(request.folder, request.download)
    train = [read_batch(home / name, "labels") for name in CIFAR10_TRAIN]
    test = [read_batch(home / "test_batch", "labels")]
    return _cifar("cifar10", 10, home, train, test, CIFAR10_NORMALISATION, request.seed)


@DATASETS.register
def cifar100(request: Request) -> Dataset:
    """Colour photographs (Krizhevsky 2009): 50,000 and 10,000 images of 3x32x32 pixels, 100 fine classes."""
    home = CIFAR100.locate(request.folder, request.download)
    train, test = ([read_batch(home / name, "fine_labels")] for name in ("train", "test"))
    return _cifar("cifar100", 100, home, train, test, CIFAR100_NORMALISATION, request.seed)


def _from_idx(layout: Layout, request: Request) -> Dataset:
    home = layout.locate(request.folder, request.download)
    official, test = (_idx_part(*(matches(home, name)[0] for name in names)) for names in (IDX_TRAIN, IDX_TEST))
    train, validation = split_validation(official, request.seed)
    return Dataset(layout.name, 10, train, validation, test)


def _idx_part(images_path: Path, labels_path: Path) -> Split:
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.dtype != np.uint8 or images.ndim != 3:
        raise BadInput(f"{images_path}: {images.dtype} in {images.ndim} dimensions, expected uint8 images in 3")
    if labels.dtype != np.uint8 or labels.shape != images.shape[:1]:
        raise BadInput(f"{labels_path}: {labels.dtype} {labels.shape}, expected uint8 labels {images.shape[:1]}")
    return _split(images[:, None], labels.astype(np.int64), 10, labels_path)


def _cifar(
    name: str,
    classes: int,
    home: Path,
    train_batches: list[tuple[NDArray[np.uint8], NDArray[np.int64]]],
    test_batches: list[tuple[NDArray[np.uint8], NDArray[np.int64]]],
    normalisation: Normalisation,
    seed: int,
) -> Dataset:
    official, test = (
        _split(
            np.concatenate([images for images, _ in batches]),
            np.concatenate([labels for _, labels in batches]),
            classes,
            home,
        )
        for batches in (train_batches, test_batches)
    )
    train, validation = split_validation(official, seed)
    return Dataset(name, classes, train, validation, test, normalisation=normalisation, augment=crop_and_flip)


def _split(images: NDArray[np.uint8], labels: NDArray[np.int64], classes: int, origin: Path) -> Split:
    if labels.size == 0 or labels.min() < 0 or labels.max() >= classes:
        found = f"from {labels.min()} to {labels.max()}" if labels.size else "missing"
        raise BadInput(f"{origin}: labels are {found}, expected 0 to {classes - 1}")
    return Split(images, labels, PIXEL_MAXIMUM)
