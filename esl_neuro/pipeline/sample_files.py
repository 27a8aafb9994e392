"""Read inputs with their labels from ``.npz`` and ``.npy`` files: dense arrays, or lists of events.

The arrays of an ``.npz`` file are found by name. Nothing is guessed: a file that can be read in two ways is refused.

======================================  ==============================================================================
arrays                                  meaning
======================================  ==============================================================================
``input`` (or the only array)           dense spikes or graded values, in the declared layout
``labels``                              class of each sample, optional
``sample``, ``step``, and the place     events: one entry per spike; ``time_s`` (seconds from the start of the
                                        sample) instead of ``step``; the place is ``line``, or ``channel``, ``row``
                                        and ``column``; ``value`` for graded events
names of the network's inputs           dense arrays of a network with several inputs
======================================  ==============================================================================
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esl_neuro.errors import BadInput
from esl_neuro.reading.arrays import SINGLE, read_arrays
from esl_neuro.reading.limits import refuse_large
from esl_neuro.reading.names import printable

INPUT_NAMES = ("input", "inputs", "spikes", "data", "x")
LABEL_NAMES = ("labels", "label", "targets", "target")
PLACES = ("line", "channel", "row", "column")
LARGEST_WHOLE = 2**31
EVENT_NAMES = ("sample", "step", "time_s", *PLACES, "value")

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class SampleFile:
    """The contents of a file.

    Attributes
    ----------
    path : Path
        The file.
    arrays : dict of str to array
        Inputs by name: ``input``, the names of several inputs, or the fields of events.
    labels : int64 array, shape (samples,), or None
    """

    path: Path
    arrays: Arrays
    labels: NDArray[np.int64] | None

    @property
    def has_events(self) -> bool:
        """Whether the inputs are events."""
        return "sample" in self.arrays and ("step" in self.arrays or "time_s" in self.arrays)


def read_sample_file(path: Path, inputs: Sequence[str] = ()) -> SampleFile:
    """Read a file.

    Parameters
    ----------
    path : Path
        An ``.npz`` or ``.npy`` file.
    inputs : sequence of str
        Names of the network's inputs, if it has several.

    Raises
    ------
    BadInput
        If the file cannot be read, the arrays are not numbers, or it is not clear which of them is the input.
    """
    arrays = _load(path)
    labels = _labels(path, arrays)
    values = {name: array for name, array in arrays.items() if name not in LABEL_NAMES}
    if len(inputs) > 1:
        missing = [name for name in inputs if name not in values]
        if missing:
            raise BadInput(f"{path}: has the arrays {_names(arrays)}; the network has the inputs {_names(inputs)}")
        chosen = {name: values[name] for name in inputs}
    elif "sample" in values and values.keys() <= set(EVENT_NAMES):
        chosen = values
        if not {"step", "time_s"} & values.keys():
            raise BadInput(f"{path}: has the arrays {_names(arrays)}; events need 'step' or 'time_s', too")
    else:
        chosen = {"input": values[_input_name(path, values, arrays)]}
    for name, array in chosen.items():
        _check_numbers(path, name, array)
    return SampleFile(path, chosen, labels)


def _load(path: Path) -> Arrays:
    arrays = read_arrays(path)
    return {"input": arrays[SINGLE]} if arrays.keys() == {SINGLE} else arrays


def _labels(path: Path, arrays: Arrays) -> NDArray[np.int64] | None:
    found = [name for name in LABEL_NAMES if name in arrays]
    if not found:
        return None
    if len(found) > 1:
        raise BadInput(f"{path}: has the labels {_names(found)}; keep one of these arrays")
    labels = arrays[found[0]]
    whole = labels.dtype.kind in "biu" or (labels.dtype.kind == "f" and bool((labels == np.rint(labels)).all()))
    whole = whole and bool((np.abs(labels.astype(np.float64)) < LARGEST_WHOLE).all())
    if labels.ndim != 1 or not whole:
        raise BadInput(
            f"{path}: '{found[0]}' is {labels.dtype} of shape {labels.shape}; give one whole number per sample"
        )
    return labels.astype(np.int64)


def _input_name(path: Path, values: Arrays, arrays: Arrays) -> str:
    named = [name for name in INPUT_NAMES if name in values]
    if "input" in values or len(named) == 1:
        return "input" if "input" in values else named[0]
    if not named and len(values) == 1:
        return next(iter(values))
    raise BadInput(f"{path}: contains the arrays {_names(arrays)}; name one of them 'input'")


def _names(names: Any) -> str:
    return ", ".join(f"'{printable(name)}'" for name in names) or "none"


def _check_numbers(path: Path, name: str, array: NDArray[Any]) -> None:
    if array.dtype.kind not in "buif" or not (np.isfinite(array).all() and (array >= 0).all()):
        raise BadInput(
            f"{path}: '{name}' contains values that are negative or not numbers ({array.dtype}); give 0 and 1, or "
            "graded values"
        )


# Events.


def frames_of_events(file: SampleFile, shape: Sequence[int], steps: int | None, dt_s: float | None) -> tuple[Any, str]:
    """Return events as an array of shape (samples, steps, lines), and a note on events that coincide.

    An event without a value is a spike: a line with several events in a step spikes once. Values are added.

    Raises
    ------
    BadInput
        If the number of steps is unknown, the fields have different lengths, or an event is outside the network.
    """
    arrays, lines = file.arrays, math.prod(shape)
    if steps is None:
        raise BadInput(f"{file.path}: events do not determine the number of steps per sample; give steps")
    lengths = {name: array.shape for name, array in arrays.items()}
    if any(array.ndim != 1 for array in arrays.values()) or len(set(lengths.values())) != 1:
        raise BadInput(f"{file.path}: the fields of events have the shapes {lengths}; give one entry per event in each")
    sample = _whole(file, "sample")
    place = {"sample": sample, "step": _steps(file, dt_s), "line": _line(file, shape)}
    samples = int(sample.max(initial=-1)) + 1 if file.labels is None else len(file.labels)
    for name, most in (("sample", samples), ("step", steps), ("line", lines)):
        outside = place[name] >= most
        if outside.any():
            raise BadInput(
                f"{file.path}: {int(outside.sum()):,} of {len(sample):,} events have a {name} of {most} or more "
                f"(largest: {int(place[name].max())}); the network has {steps} steps and {lines} lines"
            )
    refuse_large(file.path, "its events as an array take", samples * steps * lines)
    cells = np.ravel_multi_index(tuple(place.values()), (samples, steps, lines))
    merged = len(cells) - len(np.unique(cells))
    if "value" in arrays:
        dense = np.bincount(cells, arrays["value"], samples * steps * lines)
        return dense.reshape(samples, steps, lines), ""
    fired = np.zeros(samples * steps * lines, np.uint8)
    fired[cells] = 1
    note = f", {merged:,} of {len(cells):,} events coincide with another one and count once" if merged else ""
    return fired.reshape(samples, steps, lines), note


def _whole(file: SampleFile, name: str) -> NDArray[np.int64]:
    values = file.arrays[name]
    if (values != np.rint(values)).any():
        raise BadInput(f"{file.path}: '{name}' contains numbers that are not whole")
    if (values >= LARGEST_WHOLE).any():
        raise BadInput(f"{file.path}: '{name}' contains {values.max():g}; numbers must be below 2**31")
    return values.astype(np.int64)


def _steps(file: SampleFile, dt_s: float | None) -> NDArray[np.int64]:
    if "step" in file.arrays and "time_s" in file.arrays:
        raise BadInput(f"{file.path}: events have both 'step' and 'time_s'; keep one")
    if "step" in file.arrays:
        return _whole(file, "step")
    if dt_s is None:
        raise BadInput(f"{file.path}: 'time_s' needs the time step of the network; give dt_s (--dt)")
    found = np.floor(file.arrays["time_s"] / dt_s + 1e-9)
    if (found >= LARGEST_WHOLE).any():
        raise BadInput(
            f"{file.path}: 'time_s' contains {file.arrays['time_s'].max():g} s; steps of {dt_s:g} s are too many"
        )
    return found.astype(np.int64)


def _line(file: SampleFile, shape: Sequence[int]) -> NDArray[np.int64]:
    given = [name for name in PLACES if name in file.arrays]
    if given == ["line"]:
        return _whole(file, "line")
    if given != list(PLACES[1:]):
        raise BadInput(f"{file.path}: events have {_names(given)}; give 'line', or 'channel', 'row' and 'column'")
    if len(shape) != 3:
        raise BadInput(f"{file.path}: events have rows and columns, but the network's input has shape {tuple(shape)}")
    place = [_whole(file, name) for name in given]
    for name, values, most in zip(given, place, shape, strict=True):
        if values.max(initial=0) >= most:
            raise BadInput(f"{file.path}: a {name} is {values.max()}; the network's input has shape {tuple(shape)}")
    return np.ravel_multi_index(tuple(place), tuple(shape)).astype(np.int64)
