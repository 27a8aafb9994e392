"""Inputs of a compiled network: samples in a declared layout, as spikes or as the payloads of graded values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from esl_neuro.compiler.program import Program
from esl_neuro.data import Dataset, prepare
from esl_neuro.data.inputs import evaluation_inputs
from esl_neuro.errors import BadInput, counted, did_you_mean
from esl_neuro.pipeline.sample_files import frames_of_events, read_sample_file
from esl_neuro.random_streams import stream
from esl_neuro.reading.limits import refuse_large
from esl_neuro.recipes.sections import DataSection

Layout = Literal["samples,steps,...", "steps,samples,...", "steps,..."]
"""Order of the first axes of an array; the other axes are the input of the network at one step. ``"steps,..."`` is one
sample."""

SAMPLES_FIRST, STEPS_FIRST, ONE_SAMPLE = LAYOUTS = get_args(Layout)
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
            object.__setattr__(self, "name", counted(len(self.values), "sample"))

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
        return self.part(count)

    def part(self, count: int | None) -> Samples:
        """Return the first samples, all by default or if there are fewer."""
        if count is None or count >= len(self):
            return self
        name = f"{count:,} of {self.name}" if self.name else ""
        return Samples(self.values[:count], None if self.labels is None else self.labels[:count], name)


def is_binary(values: NDArray[Any]) -> bool:
    """Return whether all values are 0 or 1."""
    if values.dtype.kind in "bu":
        return bool(values.max(initial=0) <= 1)
    return bool(((values == 0) | (values == 1)).all())


# Layout.


Given: TypeAlias = "Samples | ArrayLike | Mapping[str, ArrayLike] | str | Path"
"""Inputs in any form that :func:`arrange` takes."""

InputShape: TypeAlias = "Sequence[int] | Mapping[str, Sequence[int]]"
"""Shape of the input of a network at one step; by name if it has several inputs."""


def arrange(
    given: Given,
    shape: InputShape,
    steps: int | None = None,
    layout: Layout | None = None,
    dt_s: float | None = None,
) -> Samples:
    """Return inputs as (samples, steps, lines), checked against the input of a network. No layout is guessed.

    Parameters
    ----------
    given : Samples, array, mapping of str to array, str or Path
        An array or torch tensor; arrays by the names of the inputs of a network that has several; or an ``.npz`` or
        ``.npy`` file, also of events, with labels (:mod:`~esl_neuro.pipeline.sample_files`).
    shape : sequence of int, or mapping of str to sequence of int
        Shape of the network's input at one step; its lines are numbered in row-major order, and the lines of several
        inputs follow each other.
    steps : int, optional
        Time steps per sample that the network requires; any number by default.
    layout : {"samples,steps,...", "steps,samples,...", "steps,..."}, optional
        Order of the first axes. Default: (samples, steps, ...) if only that fits the steps of the network.
    dt_s : float, optional
        Time step in seconds, for events with times.

    Returns
    -------
    Samples
        Values of shape (samples, steps, lines).

    Raises
    ------
    BadInput
        If the shape contradicts the network's input, or both orders fit and no layout is declared.
    """
    if isinstance(given, str | Path):
        return _from_file(Path(given), shape, steps, layout, dt_s)
    if isinstance(shape, Mapping):
        return _from_ports(given, shape, steps, layout)
    if isinstance(given, Mapping):
        raise BadInput(f"inputs are given by name ({', '.join(map(str, given))}), but the network has one input")
    if isinstance(given, Samples):
        if layout is not None:
            raise BadInput(f"layout '{layout}' is given for Samples, which are always {SAMPLES_FIRST}; omit it")
        samples = given
    else:
        samples = Samples(samples_first(given, layout, steps))
    size, found = math.prod(shape), samples.values.shape
    if steps is not None and found[1] != steps:
        raise BadInput(_wrong_steps(found, steps, size, layout))
    if math.prod(found[2:]) != size:
        raise BadInput(
            f"inputs of shape {found} (samples, steps, ...) have {math.prod(found[2:])} lines per step; the network "
            f"requires {size}, of shape {tuple(shape)}"
        )
    if len(found) > 3 and len(shape) > 1 and _several(found[2:]) != _several(shape):
        raise BadInput(
            f"inputs of shape {found} (samples, steps, ...) have the shape {found[2:]} at each step; the network "
            f"requires {tuple(shape)}: move the axes (numpy.moveaxis), channels come first"
        )
    return replace(samples, values=samples.values.reshape(*found[:2], size))


def _several(shape: Sequence[int]) -> list[int]:
    """Return the lengths of the axes that have more than one element."""
    return [length for length in shape if length > 1]


def _from_file(path: Path, shape: InputShape, steps: int | None, layout: Layout | None, dt_s: float | None) -> Samples:
    file = read_sample_file(path, tuple(shape) if isinstance(shape, Mapping) else ())
    try:
        if file.has_events and not isinstance(shape, Mapping):
            if layout is not None:
                raise BadInput(f"layout '{layout}' is given for events, which name sample and step; omit it")
            values, note = frames_of_events(file, shape, steps, dt_s)
            return Samples(values, file.labels, f"{counted(len(values), 'sample')} of {path}{note}")
        given = file.arrays if isinstance(shape, Mapping) else file.arrays["input"]
        values = arrange(given, shape, steps, layout).values
        return Samples(values, file.labels, f"{counted(len(values), 'sample')} of {path}")
    except BadInput as error:
        text = str(error)
        raise BadInput(text if text.startswith(str(path)) else f"{path}: {text}") from error


def _from_ports(given: Any, shape: Mapping[str, Sequence[int]], steps: int | None, layout: Layout | None) -> Samples:
    if isinstance(given, Samples) or not isinstance(given, Mapping):  # lines of all inputs, one after the other
        return arrange(given, (sum(math.prod(each) for each in shape.values()),), steps, layout)
    if given.keys() != shape.keys():
        raise BadInput(
            f"inputs are given for {', '.join(map(repr, given)) or 'none'}; the network has the inputs "
            f"{', '.join(map(repr, shape))}"
        )
    parts = [_port(name, given[name], shape[name], steps, layout) for name in shape]
    lengths = {name: part.shape[:2] for name, part in zip(shape, parts, strict=True)}
    if len(set(lengths.values())) > 1:
        raise BadInput(f"the inputs have different samples and steps: {lengths}")
    return Samples(np.concatenate(parts, axis=2))


def _port(name: str, given: Any, shape: Sequence[int], steps: int | None, layout: Layout | None) -> NDArray[Any]:
    try:
        return arrange(given, shape, steps, layout).values
    except BadInput as error:
        raise BadInput(f"input '{name}': {error}") from error


def _numbers(given: ArrayLike) -> NDArray[Any]:
    tensor: Any = given
    values = np.asarray(tensor.detach().cpu().numpy() if hasattr(tensor, "detach") else given)
    if values.dtype.kind not in "buif":
        raise BadInput(f"inputs have the type {values.dtype}; give numbers of shape (samples, steps, ...)")
    return values


def _too_few_axes(shape: tuple[int, ...]) -> str:
    return (
        f"inputs have the shape {shape}, but need at least three axes (samples, steps, ...); give one sample with "
        f"layout='{ONE_SAMPLE}' (--layout in a command), and constant values as "
        "numpy.repeat(values[:, None], steps, axis=1)"
    )


def samples_first(given: ArrayLike, layout: Layout | None, steps: int | None = None) -> NDArray[Any]:
    """Return an array or tensor as (samples, steps, ...).

    Raises
    ------
    BadInput
        If it does not contain numbers, has too few axes, the layout is unknown, or no layout is given and both fit.
    """
    values = _numbers(given)
    if layout is not None and layout not in LAYOUTS:
        raise BadInput(f"layout '{layout}' is unknown; {did_you_mean(layout, LAYOUTS)}")
    if layout == ONE_SAMPLE and values.ndim >= 2:
        return values[None]
    if values.ndim < 3:
        raise BadInput(_too_few_axes(values.shape))
    first, second = values.shape[:2]
    choice = f"give one: layout='{SAMPLES_FIRST}' or layout='{STEPS_FIRST}' (--layout in a command)"
    if layout is None and steps is None:
        raise BadInput(
            f"inputs of shape {values.shape} can be {first} samples of {second} steps or {second} samples of {first} "
            f"steps, and the network does not determine its steps; {choice}"
        )
    if layout is None and first == second == steps and first > 1:
        raise BadInput(
            f"inputs of shape {values.shape} have {first} samples and {second} steps, so both orders fit; {choice}"
        )
    return values.swapaxes(0, 1) if layout == STEPS_FIRST else values


def _wrong_steps(found: tuple[int, ...], steps: int, size: int, layout: Layout | None) -> str:
    read = (
        f"inputs of shape {found} (samples, steps, ...) have {found[1]} steps per sample; the network requires {steps}"
    )
    if math.prod(found[1:]) == size:
        if found[0] == steps:
            return f"{read}. They fit one sample of {steps} steps: give layout='{ONE_SAMPLE}' (--layout in a command)"
        return f"{read}. The axis of steps is missing: use numpy.repeat(values[:, None], {steps}, axis=1)"
    if found[0] == steps and layout != ONE_SAMPLE:
        other = SAMPLES_FIRST if layout == STEPS_FIRST else STEPS_FIRST
        fits = f"The first axis fits the steps: give layout='{other}' (--layout in a command)"
        return f"{read} and {size} input lines. {fits}"
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
    return Samples(values, test.labels[:samples], counted(len(values), "test sample"))


def random_samples(samples: int, steps: int, lines: int, rate: float) -> Samples:
    """Return random spikes with the same probability on each line and step; repeated calls give the same spikes.

    Raises
    ------
    BadInput
        If the rate is not a probability, or there would be more spikes than the limit of one file.
    """
    if not 0 <= rate <= 1:
        raise BadInput(f"the rate of random spikes is {rate}; it must be from 0 to 1")
    refuse_large(
        f"{samples} samples of {steps} steps and {lines} lines", "drawing them takes", 8 * samples * steps * lines
    )
    drawn = stream(0, "input spikes").random((samples, steps, lines)) < rate
    return Samples(
        drawn.astype(np.uint8), name=f"{counted(samples, 'sample')} of random spikes at rate {rate:g} (no real data)"
    )
