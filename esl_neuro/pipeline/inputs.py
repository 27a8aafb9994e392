"""Inputs of a compiled network: samples in a declared layout, as spikes or as the payloads of graded values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from esl_neuro.compiler.program import Program
from esl_neuro.data import Dataset, prepare
from esl_neuro.data.inputs import evaluation_inputs
from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.random_streams import stream
from esl_neuro.recipes.sections import DataSection

Layout = Literal["samples,steps,...", "steps,samples,..."]
"""Order of the first two axes of an array; the other axes are the input of the network at one step."""

SAMPLES_FIRST, STEPS_FIRST = get_args(Layout)
GRADED_BITS = 8  # default size of the payload of graded values


@dataclass(frozen=True)
class Samples:
    """Inputs of a network, with labels and a description.

    Attributes
    ----------
    values : array, shape (samples, steps, ...)
        0/1 spikes or graded values in units of the network's input, not yet payloads.
    labels : int64 array, shape (samples,), optional
        Class of each sample, if known.
    name : str
        Description; by default the number of samples.
    """

    values: NDArray[Any] = field(repr=False)
    labels: NDArray[np.int64] | None = field(default=None, repr=False)
    name: str = ""

    def __post_init__(self) -> None:
        if self.values.ndim < 3:
            raise BadInput(_too_few_axes(self.values.shape))
        if self.labels is not None and len(self.labels) != len(self.values):
            raise BadInput(f"{len(self.labels)} labels are given for {len(self.values)} samples")
        if not self.name:
            object.__setattr__(self, "name", f"{len(self.values):,} samples")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def steps(self) -> int:
        """Time steps per sample."""
        return int(self.values.shape[1])

    @property
    def binary(self) -> bool:
        """Whether all values are 0 or 1."""
        return is_binary(self.values)

    def first(self, count: int) -> Samples:
        """Return the first samples.

        Raises
        ------
        BadInput
            If there are fewer samples.
        """
        if count > len(self):
            raise BadInput(f"{count} samples are too many; there are only {len(self)} ({self.name})")
        return Samples(self.values[:count], None if self.labels is None else self.labels[:count])


def is_binary(values: NDArray[Any]) -> bool:
    """Return whether all values are 0 or 1."""
    if values.dtype.kind in "bu":
        return bool(values.max(initial=0) <= 1)
    return bool(((values == 0) | (values == 1)).all())


# Layout.


def arrange(
    given: Samples | ArrayLike, shape: Sequence[int], steps: int | None = None, layout: Layout | None = None
) -> Samples:
    """Return inputs as (samples, steps, lines), checked against the input of a network. No layout is guessed.

    Parameters
    ----------
    given : Samples or array
        An array or torch tensor is (samples, steps, ...) unless ``layout`` declares another order.
    shape : sequence of int
        Shape of the network's input at one step; its lines are numbered in row-major order.
    steps : int, optional
        Time steps per sample that the network requires; any number by default.
    layout : {"samples,steps,...", "steps,samples,..."}, optional
        Order of the first two axes.

    Returns
    -------
    Samples
        Values of shape (samples, steps, lines).

    Raises
    ------
    BadInput
        If the shape contradicts the network's input, or an array without a declared layout has as many samples as
        steps, so that both orders fit.
    """
    if isinstance(given, Samples):
        if layout is not None:
            raise BadInput(f"layout '{layout}' is given for Samples, which are always {SAMPLES_FIRST}; omit it")
        samples = given
    else:
        samples = Samples(samples_first(given, layout, steps))
    size, found = math.prod(shape), samples.values.shape
    if steps is not None and found[1] != steps:
        raise BadInput(_wrong_steps(found, steps, size, swapped=layout == STEPS_FIRST))
    if math.prod(found[2:]) != size:
        raise BadInput(
            f"inputs of shape {found} (samples, steps, ...) have {math.prod(found[2:])} lines per step; the network "
            f"requires {size}, of shape {tuple(shape)}"
        )
    if len(found) > 3 and len(shape) > 1 and found[2:] != tuple(shape):
        raise BadInput(
            f"inputs of shape {found} (samples, steps, ...) have the shape {found[2:]} at each step; the network "
            f"requires {tuple(shape)}: move the axes (numpy.moveaxis), channels come first"
        )
    return replace(samples, values=samples.values.reshape(*found[:2], size))


def _numbers(given: ArrayLike) -> NDArray[Any]:
    tensor: Any = given
    values = np.asarray(tensor.detach().cpu().numpy() if hasattr(tensor, "detach") else given)
    if values.dtype.kind not in "buif":
        raise BadInput(f"inputs have the type {values.dtype}; give numbers of shape (samples, steps, ...)")
    if values.ndim < 3:
        raise BadInput(_too_few_axes(values.shape))
    return values


def _too_few_axes(shape: tuple[int, ...]) -> str:
    return (
        f"inputs have the shape {shape}, but need at least three axes (samples, steps, ...); write one sample as "
        "values[None], and constant values as numpy.repeat(values[:, None], steps, axis=1)"
    )


def samples_first(given: ArrayLike, layout: Layout | None, steps: int | None = None) -> NDArray[Any]:
    """Return an array or tensor as (samples, steps, ...).

    Raises
    ------
    BadInput
        If it does not contain numbers, has too few axes, the layout is unknown, or no layout is given and both fit.
    """
    values = _numbers(given)
    if layout is not None and layout not in (SAMPLES_FIRST, STEPS_FIRST):
        raise BadInput(f"layout '{layout}' is unknown; {did_you_mean(layout, (SAMPLES_FIRST, STEPS_FIRST))}")
    if layout is None and steps is not None and values.shape[0] == values.shape[1] == steps > 1:
        raise BadInput(
            f"inputs of shape {values.shape} have {steps} samples and {steps} steps, so both orders fit; "
            f"give one: layout='{SAMPLES_FIRST}' or layout='{STEPS_FIRST}'"
        )
    return values.swapaxes(0, 1) if layout == STEPS_FIRST else values


def _wrong_steps(found: tuple[int, ...], steps: int, size: int, *, swapped: bool) -> str:
    read = (
        f"inputs of shape {found} (samples, steps, ...) have {found[1]} steps per sample; the network requires {steps}"
    )
    if found[0] == steps:
        other = SAMPLES_FIRST if swapped else STEPS_FIRST
        return f"{read} and {size} input lines. The first axis fits the steps: give layout='{other}'"
    if math.prod(found[1:]) == size:
        return f"{read}. The axis of steps is missing: use numpy.repeat(values[:, None], {steps}, axis=1)"
    return f"{read}. Give {steps} steps per sample, or compile with steps={found[1]}"


# Payloads.


def payloads(values: NDArray[Any], program: Program) -> NDArray[Any]:
    """Round graded values to the payloads of a program's input; 0/1 spikes remain unchanged.

    Raises
    ------
    BadInput
        If a value is negative or too large for the payload, or if the program accepts only spikes and a value is not
        0 or 1.
    """
    if program.input_bits == 1:
        if not is_binary(values):
            raise BadInput(
                f"inputs contain values other than 0 and 1 (from {values.min():g} to {values.max():g}); the program "
                "accepts only spikes, of 1 bit. Compile it for graded input: input_bits=8, or inputs=some of the values"
            )
        return values.astype(np.uint8)
    largest = 2**program.input_bits - 1
    rounded = np.rint(values * program.input_scale)
    if rounded.size and not (values.min() >= 0 and rounded.max() <= largest):
        raise BadInput(
            f"inputs range from {values.min():g} to {values.max():g}; with input_scale {program.input_scale:g}, a "
            f"payload of {program.input_bits} bits can represent 0 to {largest / program.input_scale:g}"
        )
    return rounded.astype(np.uint8 if largest <= 255 else np.int32)


def spread(arriving: NDArray[Any], steps: int, input_steps: Sequence[int] | None) -> NDArray[Any]:
    """Move each step of an encoding to its step in a program that has more steps.

    Parameters
    ----------
    arriving : array, shape (samples, steps of the encoding, lines)
    steps : int
        Time steps of the program.
    input_steps : sequence of int or None
        Step of the program for each step of the encoding; None if they are the same.
    """
    if input_steps is None:
        return arriving
    later = np.zeros((len(arriving), steps, arriving.shape[2]), arriving.dtype)
    later[:, list(input_steps)] = arriving
    return later


def graded_scale(values: NDArray[Any], bits: int) -> float:
    """Return the payload per unit that maps the largest value, but at least 1, to the largest payload."""
    return float(2**bits - 1) / max(float(values.max(initial=0)), 1.0)


# Sources of inputs.


class Tested(Protocol):
    """An object with a test set: a training run, or a network compiled from one."""

    def test_set(self, samples: int | None = None) -> Samples:  # noqa: PT028 (no test)
        """Return the first test samples."""


def test_set(source: Tested, samples: int | None = None) -> Samples:  # noqa: PT028 (no test)
    """Return the first test samples (all by default) of a run or of a compiled network, with their labels.

    Raises
    ------
    BadInput
        If its data set is unknown, or there are fewer samples.
    """
    return source.test_set(samples)


def evaluation_samples(data: DataSection, samples: int | None = None, dataset: Dataset | None = None) -> Samples:
    """Return the first test samples of a data set (all by default), encoded as in every evaluation.

    Raises
    ------
    BadInput
        If the test set has fewer samples.
    """
    loaded = prepare(data) if dataset is None else dataset
    test = loaded.test
    if samples is not None and samples > len(test):
        raise BadInput(f"samples {samples}: the test set of '{data.name}' has {len(test)} samples")
    values = evaluation_inputs(loaded, test, data.encoding, data.steps)[:samples]
    return Samples(values, test.labels[:samples], f"{len(values):,} test samples")


def random_samples(samples: int, steps: int, lines: int, rate: float) -> Samples:
    """Return random spikes with the same probability on each line and step; repeated calls give the same spikes."""
    drawn = stream(0, "input spikes").random((samples, steps, lines)) < rate
    return Samples(drawn.astype(np.uint8), name=f"{samples} samples of random spikes at rate {rate:g} (no real data)")


def read_samples(path: Path) -> Samples:
    """Read spikes or graded values from an ``.npz`` file (its only array, or ``input``) or an ``.npy`` file.

    Raises
    ------
    BadInput
        If the file does not contain non-negative numbers of shape (samples, steps, lines).
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if hasattr(loaded, "files"):
            names = loaded.files
            if "input" not in names and len(names) != 1:
                raise BadInput(f"{path}: contains the arrays {names}; name one of them 'input'")
            loaded = loaded["input" if "input" in names else names[0]]
    except BadInput:
        raise
    except Exception as error:  # numpy and zipfile raise many kinds of errors for a damaged file
        raise BadInput(f"{path}: is not a readable .npz or .npy file: {error}") from error
    if loaded.ndim == 2:
        loaded = loaded[None]
    if loaded.ndim != 3:
        raise BadInput(f"{path}: has the shape {loaded.shape}; give (samples, steps, lines)")
    if loaded.dtype.kind not in "buif" or not np.isfinite(loaded).all() or loaded.min(initial=0) < 0:
        raise BadInput(f"{path}: contains values that are negative or not numbers; give 0 and 1, or graded values")
    return Samples(loaded, name=f"{len(loaded):,} samples of {path}")
