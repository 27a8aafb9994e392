"""Which data sets are on this machine, without reading them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from esl_neuro.data.event_datasets import DVS128_GESTURE, DVS_CIFAR10, N_MNIST, SHD, TONIC, read_by_tonic
from esl_neuro.data.folders import default_folder, optional_module
from esl_neuro.data.images import CIFAR10, CIFAR100, FASHION_MNIST, MNIST
from esl_neuro.errors import BadInput, MissingDependency

LAYOUTS = {
    layout.name: layout
    for layout in (MNIST, FASHION_MNIST, CIFAR10, CIFAR100, N_MNIST, DVS_CIFAR10, DVS128_GESTURE, SHD)
}


def missing_datasets(names: Iterable[str], folder: Path | None = None) -> dict[str, str]:
    """Return, for each data set that cannot be loaded, what is missing and what to do.

    Parameters
    ----------
    names : iterable of str
        Names of data sets; those without files, and those that a program has registered itself, are not checked.
    folder : Path, optional
        The folder of all data sets; by default as :func:`~esl_neuro.data.datasets.load_dataset`.
    """
    found = {name: _missing(name, folder or default_folder()) for name in names}
    return {name: what for name, what in found.items() if what}


def _missing(name: str, folder: Path) -> str:
    try:
        if name in LAYOUTS:
            home = LAYOUTS[name].locate(folder)
            if read_by_tonic(name, home):
                optional_module("tonic", f"reading {name}", TONIC)
    except (BadInput, MissingDependency) as error:
        return str(error)
    return ""
