"""A user's own arrays as a data set: x, y and optionally x_test, y_test, or what a function returns."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esl_neuro.data.datasets import Dataset, Split, split_validation, stratified_parts
from esl_neuro.errors import BadInput, EslNeuroError
from esl_neuro.reading.documents import reason
from esl_neuro.reading.limits import refuse_large
from esl_neuro.reading.names import printable

X, Y, X_TEST, Y_TEST = NAMES = ("x", "y", "x_test", "y_test")
PIXEL_MAXIMUM = 255
SHARES = (0.2, 0.1)  # test and validation, of data without a test part
SPLIT_SEED = 0  # the same test part in every run, whatever its seed, so that no run is tested on what it learned
MOST_CLASSES = 100_000

Arrays = Mapping[str, Any]


def from_arrays(
    arrays: Arrays, origin: str, timed: int | None, seed: int, class_names: tuple[str, ...] = ()
) -> Dataset:
    """Return a data set of arrays.

    Parameters
    ----------
    arrays : mapping of str to array
        ``x``, shape (samples, ...): uint8 pixels from 0 to 255, truth values, or float values; with a timed encoding
        (samples, steps, ...), where whole numbers count events. ``y``, shape (samples,): classes from 0 on. Optionally
        ``x_test`` and ``y_test``.
    origin : str
        Where they come from, for messages.
    timed : int or None
        Frames per sample that a timed encoding takes; None for the other encodings.
    seed : int
        Decides which training samples become the validation part, if there is a test part.
    class_names : tuple of str
        Names of the classes, if they have any.

    Raises
    ------
    BadInput
        If an array is missing or unknown, or they do not fit each other; the message lists all findings.
    """
    _refuse(origin, _names(arrays))
    given = {name: np.asarray(arrays[name]) for name in NAMES if name in arrays}
    _refuse(origin, _findings(given, timed))
    divisor = PIXEL_MAXIMUM if timed is None and given[X].dtype == np.uint8 else 1
    parts = [
        Split(_values(given[x], timed), given[y].astype(np.int64), divisor)
        for x, y in ((X, Y), (X_TEST, Y_TEST))
        if x in given
    ]
    classes = len(class_names) or int(max(part.labels.max() for part in parts)) + 1
    name = origin.rsplit("/", 1)[-1]
    if len(parts) == 2:
        train, validation = split_validation(parts[0], seed)
        test = parts[1]
        said = f"validation is 10 % of the training samples of each class (seed {seed})"
    else:
        indices = stratified_parts(parts[0].labels, SHARES, SPLIT_SEED)
        test, validation, train = (parts[0].select(part) for part in indices)
        said = (
            f"no test part, so 20 % of each class are for test and 10 % for validation (seed {SPLIT_SEED}, every run)"
        )
    _refuse(origin, _unlearnt(train, classes), _empty(validation, test))
    counts = f"{len(train):,} samples for training, {len(validation):,} for validation, {len(test):,} for test"
    return Dataset(name, classes, train, validation, test, steps=timed, notes=(f"{origin}: {counts}; {said}",))


def _names(arrays: Arrays) -> list[str]:
    shown = ", ".join(printable(str(name)) for name in arrays) or "none"
    findings = []
    missing = [name for name in (X, Y) if name not in arrays]
    if missing:
        findings.append(f"the arrays {' and '.join(missing)} are missing (found: {shown})")
    if (X_TEST in arrays) != (Y_TEST in arrays):
        findings.append(f"{X_TEST} and {Y_TEST} come together (found: {shown})")
    unknown = [printable(str(name)) for name in arrays if name not in NAMES]
    if unknown and not missing:
        findings.append(f"unknown arrays: {', '.join(unknown)}; allowed: {', '.join(NAMES)}")
    return findings


def _findings(given: dict[str, NDArray[Any]], timed: int | None) -> list[str]:
    findings = []
    for x, y in ((X, Y), (X_TEST, Y_TEST)):
        if x in given:
            findings += [*_wrong_values(x, given[x], timed), *_wrong_labels(x, y, given)]
    if X_TEST in given and given[X].shape[1:] != given[X_TEST].shape[1:]:
        findings.append(f"{X} has samples of shape {given[X].shape[1:]}, {X_TEST} of {given[X_TEST].shape[1:]}")
    if X_TEST in given and (given[X].dtype == np.uint8) != (given[X_TEST].dtype == np.uint8):
        findings.append(f"{X} is {given[X].dtype}, {X_TEST} is {given[X_TEST].dtype}; give both in the same unit")
    return findings


def _wrong_values(name: str, values: NDArray[Any], timed: int | None) -> list[str]:
    found = f"{name} is {values.dtype} of shape {values.shape}"
    if values.size == 0 or values.ndim < (2 if timed is None else 3):
        wanted = "(samples, ...)" if timed is None else "(samples, steps, ...)"
        return [f"{found}; give {wanted}, at least one of each"]
    if timed is not None and values.shape[1] != timed:
        return [f"{found} (samples, steps, ...); data.steps is {timed}: set it to {values.shape[1]}"]
    if values.dtype.kind not in "buif":
        return [f"{found}; give real numbers as float32, pixels as uint8, or bool"]
    if values.dtype.kind == "f" and (lost := _lost(values)):
        return [f"{found} and {lost}; remove or replace these samples"]
    sample = values.shape[1:] if timed is None else values.shape[2:]
    if len(sample) not in (1, 2, 3):
        return [f"{found}; a sample is (features,), (height, width) or (channels, height, width)"]
    if len(sample) == 3 and sample[-1] in (1, 3) and sample[0] not in (1, 2, 3):
        return [f"{found}; channels come before height and width: numpy.moveaxis({name}, -1, -3)"]
    if timed is not None:
        return [] if values.min() >= 0 else [f"{found} with negative values; frames hold counts of events"]
    if values.dtype.kind in "ui" and values.dtype != np.uint8:
        return [f"{found}; whole numbers are pixels as uint8, 0 to 255; give other values as float32"]
    if values.dtype == np.uint8 and values.max() <= 1:
        return [f"{found} without a value above 1; uint8 are pixels from 0 to 255, so give 0 and 1 as bool or float32"]
    return []


def _lost(values: NDArray[Any]) -> str:
    """Say which values are NaN, infinite, or too large for the 32 bits of training; empty if none is."""
    lost = ~(np.abs(values) <= np.finfo(np.float32).max)
    if not lost.any():
        return ""
    return (
        f"has {int(lost.sum()):,} values that are not finite as float32, the first in sample "
        f"{int(np.argwhere(lost)[0][0])}"
    )


def _wrong_labels(x: str, name: str, given: dict[str, NDArray[Any]]) -> list[str]:
    labels, samples = given[name], given[x].shape[0] if given[x].ndim else 0
    found = f"{name} is {labels.dtype} of shape {labels.shape}"
    if labels.ndim != 1 or labels.size != samples or labels.dtype.kind not in "ui":
        return [f"{found}; give one whole number for each of the {samples} samples of {x}"]
    if labels.size and not (int(labels.min()) >= 0 and int(labels.max()) < MOST_CLASSES):
        return [f"{name} has classes from {labels.min()} to {labels.max()}; number them from 0 on"]
    return []


def _values(values: NDArray[Any], timed: int | None) -> NDArray[Any]:
    """Return values as a split stores them: images with a channel, floats of 32 bits, frames as whole numbers."""
    axes = 1 if timed is None else 2
    if values.ndim == axes + 2:
        values = np.expand_dims(values, axes)
    if values.dtype == np.uint8 or (timed is not None and values.dtype.kind == "u"):
        return values
    refuse_large("x", "as float32 it takes", values.size * 4)
    return values.astype(np.float32)


def _unlearnt(train: Split, classes: int) -> list[str]:
    absent = np.setdiff1d(np.arange(classes), train.labels)
    if not absent.size:
        return []
    return [f"class {absent[0]} of {classes} has no training sample; number the classes from 0 without gaps"]


def _empty(validation: Split, test: Split) -> list[str]:
    if len(validation) and len(test):
        return []
    return ["too few samples for a validation and a test part; give 5 or more of each class"]


def _refuse(origin: str, *findings: list[str]) -> None:
    every = [finding for some in findings for finding in some]
    if every:
        raise BadInput(f"{origin}: {'; '.join(every)}")


# What a function returns.


def from_function(given: Any, origin: str, timed: int | None, seed: int, contract: str) -> Dataset:
    """Return the data set that a user's function returned, with the SHA-256 of its content.

    Parameters
    ----------
    given
        Arrays or torch tensors ``(x, y)`` or ``(x, y, x_test, y_test)``, a mapping with these names, or two objects
        with a length whose items are a sample and its class, such as torch's ``Dataset``: training and test.
    origin, timed, seed
        As for :func:`from_arrays`.
    contract : str
        For the message if it is something else.

    Raises
    ------
    BadInput
        If it is something else, or as in :func:`from_arrays`.
    """
    try:
        arrays = _arrays_of(given)
    except EslNeuroError:
        raise
    except Exception as error:  # the items of a user's Dataset raise anything
        raise BadInput(
            f"data.name: reading what '{origin}' returned raised {type(error).__name__}: {reason(error)}; {contract}"
        ) from error
    if arrays is None:
        kinds = ", ".join(type(each).__name__ for each in given) if isinstance(given, tuple | list) else ""
        raise BadInput(
            f"data.name: '{origin}' returned {type(given).__name__}{f' ({kinds})' * bool(kinds)}; {contract}"
        )
    plain = {str(name): _plain(array) for name, array in arrays.items()}
    digest = hashlib.sha256()
    for name, array in sorted(plain.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    dataset = from_arrays(plain, origin, timed, seed)
    return replace(dataset, sha256=digest.hexdigest(), source=origin)


def _arrays_of(given: Any) -> Arrays | None:
    if isinstance(given, Mapping):
        return given
    if not isinstance(given, tuple | list) or len(given) not in (2, 4):
        return None
    if all(hasattr(each, "shape") for each in given):
        return dict(zip(NAMES, given, strict=False))
    if len(given) == 2 and all(hasattr(each, "__getitem__") and hasattr(each, "__len__") for each in given):
        train, test = (_stacked(each) for each in given)
        return None if train is None or test is None else dict(zip(NAMES, (*train, *test), strict=True))
    return None


def _stacked(samples: Any) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Return all samples of a torch Dataset, and their classes; None if an item is something else."""
    values, labels = [], []
    for index in range(len(samples)):
        item = samples[index]
        if not isinstance(item, tuple | list) or len(item) != 2:
            return None
        values.append(_channels_first(item[0]))
        labels.append(int(item[1]))
    shapes = sorted({value.shape for value in values})
    if len(shapes) > 1:
        raise BadInput(f"samples of a Dataset have the shapes {', '.join(map(str, shapes[:3]))}; give them one shape")
    return np.stack(values) if values else np.zeros((0, 0)), np.array(labels, dtype=np.int64)


def _channels_first(sample: Any) -> NDArray[Any]:
    array = _plain(sample)
    # An image of Pillow has its channels last.
    return np.moveaxis(array, -1, 0) if hasattr(sample, "getbands") and array.ndim == 3 else array


def _plain(array: Any) -> NDArray[Any]:
    return np.asarray(array.detach().cpu().numpy() if hasattr(array, "detach") else array)
