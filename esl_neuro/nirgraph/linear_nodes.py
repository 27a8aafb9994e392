"""Read NIR nodes without state as linear maps with a bias."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from esl_neuro.nirgraph.kernel import Kernel
from esl_neuro.nirgraph.linear_maps import LARGEST_SIGNAL, Floats, Map
from esl_neuro.nirgraph.sparse_nodes import SparseAffine, note_problems, problems_of

Shape = tuple[int, ...]


class Unsupported(Exception):
    """A node that contradicts itself or its input.

    Attributes
    ----------
    reasons : tuple of (str, str)
        Kind and message of each :class:`~esl_neuro.nirgraph.findings.Finding`.
    """

    def __init__(self, kind: str, message: str, *others: tuple[str, str]) -> None:
        super().__init__(message)
        self.reasons = ((kind, message), *others)


@dataclass(frozen=True)
class LinearNode:
    """A linear node with input ``x``: ``y = weights x + bias``, then each output is delayed.

    Attributes
    ----------
    weights : Map
        Shape (outputs, inputs).
    shape : tuple of int
        Shape of the output.
    bias : float64 array, shape (outputs,), or None
    delay : int64 array, shape (outputs,), or None
        Steps.
    """

    weights: Map
    shape: Shape
    bias: Floats | None = None
    delay: NDArray[np.int64] | None = None


def floats(node: Any, name: str) -> Floats:
    """Return a parameter of a node as finite float64 numbers.

    Raises
    ------
    Unsupported
        If it is missing, not numeric, or not finite.
    """
    try:
        value = np.asarray(getattr(node, name))
        if np.iscomplexobj(value):
            raise TypeError("complex numbers")
        value = value.astype(np.float64)
    except (AttributeError, TypeError, ValueError) as error:
        shown = " ".join(repr(getattr(node, name, None)).split())  # an array of several rows has several lines
        raise Unsupported("malformed", f"{name} is {shown:.60}; expected numbers") from error
    if not np.isfinite(value).all():
        raise Unsupported("not-finite", f"{name} contains values that are not finite")
    return value


def whole_numbers(node: Any, name: str, count: int, least: int) -> tuple[int, ...]:
    """Return a parameter as a number of integers; a single value is repeated.

    Raises
    ------
    Unsupported
        If they are not whole, too few, or below ``least``.
    """
    value = floats(node, name).ravel()
    if value.size == 1:
        value = np.repeat(value, count)
    if value.size != count or np.any(value != np.rint(value)) or np.any(value < least) or np.any(value > 2**31):
        raise Unsupported(
            "malformed",
            f"{name} is {value.tolist()}; expected {count} whole number{'s' * (count > 1)}, at least {least}",
        )
    return tuple(int(number) for number in value)


def spread(values: Floats, shape: Shape, name: str) -> Floats:
    """Return a flat array with the parameter of each element of a signal; a single value is repeated.

    Raises
    ------
    Unsupported
        If the shapes contradict each other.
    """
    if values.size == 1:
        return np.full(math.prod(shape), values.item())
    if values.size == math.prod(shape):
        return np.array(values.ravel())
    # One value per position (row and column) is the same for all channels. One value per feature is not: there the axis
    # in front is the batch of a file that keeps it.
    own = (1,) * (len(shape) - values.ndim) + values.shape
    if (
        values.ndim > 1
        and len(own) == len(shape)
        and all(size in (1, whole) for size, whole in zip(own, shape, strict=True))
    ):
        return np.array(np.broadcast_to(values, shape).ravel())
    raise Unsupported(
        "shape-mismatch",
        f"{name} has shape {values.shape}, the input has shape {shape}; give one value, or one per element",
    )


def linear_node(node: Any, shape: Shape, dt_s: float) -> LinearNode:
    """Read a linear node whose input has a shape.

    Raises
    ------
    Unsupported
        If its parameters contradict each other or the input.
    """
    return LINEAR[type(node)](node, shape, dt_s)


def _identity(_node: Any, shape: Shape, _dt_s: float) -> LinearNode:
    return LinearNode(None, shape)


@dataclass(eq=False)
class Port(nir.NIRNode):  # type: ignore[misc]
    """One of several inputs of a graph: some of the lines of the only input that a structure has.

    Attributes
    ----------
    shape : tuple of int
        Its declared shape.
    first, lines : int
        First of its lines, and lines of all inputs together.
    """

    shape: Shape
    first: int
    lines: int

    def __post_init__(self) -> None:
        self.input_type = {"input": np.array([self.lines])}
        self.output_type = {"output": np.array(self.shape)}


def _port(node: Any, _shape: Shape, _dt_s: float) -> LinearNode:
    size = math.prod(node.shape)
    own = np.arange(size)
    chosen = sp.csr_matrix((np.ones(size), (own, node.first + own)), shape=(size, node.lines))
    return LinearNode(chosen, node.shape)


def _matrix(node: Any, shape: Shape, _dt_s: float) -> LinearNode:
    weight = floats(node, "weight")
    if weight.ndim != 2:
        raise Unsupported(
            "shape-mismatch",
            f"weight has {weight.ndim} dimension{'s' * (weight.ndim != 1)}; expected 2: (outputs, inputs)",
        )
    outputs, inputs = weight.shape
    if inputs != math.prod(shape):
        raise Unsupported(
            "shape-mismatch",
            f"weight has shape {weight.shape}, the input has shape {shape} ({math.prod(shape)} elements)",
        )
    _refuse(note_problems(node))
    bias = _bias(node, outputs) if isinstance(node, nir.Affine) else None
    return LinearNode(sp.csr_matrix(weight), (outputs,), bias)


def _connections(node: Any, shape: Shape, _dt_s: float) -> LinearNode:
    _refuse(problems_of(node))  # again, since a node can be changed after it is made
    outputs, inputs = node.sizes
    if inputs != math.prod(shape):
        raise Unsupported(
            "shape-mismatch",
            f"shape is ({outputs}, {inputs}), the input has shape {shape} ({math.prod(shape)} elements)",
        )
    return LinearNode(node.matrix(), (outputs,), floats(node, "bias"))


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        first, *others = (("malformed", problem) for problem in problems)
        raise Unsupported(*first, *others)


def _bias(node: Any, channels: int) -> Floats:
    bias = floats(node, "bias")
    if bias.size not in (1, channels):
        raise Unsupported(
            "shape-mismatch", f"bias has shape {bias.shape}; expected {channels} value{'s' * (channels != 1)}"
        )
    return np.full(channels, bias.item()) if bias.size == 1 else bias.ravel().copy()


def _scale(node: Any, shape: Shape, _dt_s: float) -> LinearNode:
    return LinearNode(sp.csr_matrix(sp.diags(spread(floats(node, "scale"), shape, "scale"))), shape)


def _delay(node: Any, shape: Shape, dt_s: float) -> LinearNode:
    seconds = spread(floats(node, "delay"), shape, "delay")
    steps = np.rint(seconds / dt_s)
    wrong = np.abs(seconds / dt_s - steps) > 1e-3
    if np.any(seconds < 0):
        raise Unsupported("delay", f"delay is {seconds.min():g} s; it must not be negative")
    if wrong.any():
        example = float(seconds[wrong][0])
        raise Unsupported(
            "delay",
            f"delay is {example:g} s, which is {example / dt_s:g} steps of {dt_s:g} s; use a whole number of steps, "
            f"nearest: {np.floor(example / dt_s) * dt_s:g} and {np.ceil(example / dt_s) * dt_s:g} s",
        )
    return LinearNode(None, shape, delay=steps.astype(np.int64))


def _flatten(node: Any, shape: Shape, _dt_s: float) -> LinearNode:
    count = len(shape)
    (start,), (end,) = (whole_numbers(node, name, 1, -count) for name in ("start_dim", "end_dim"))
    first, last = (dim + count if dim < 0 else dim for dim in (start, end))
    if not 0 <= first <= last < count:
        raise Unsupported("shape-mismatch", f"flattens dimensions {start} to {end}, the input has shape {shape}")
    return LinearNode(None, (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :]))


def _convolution(node: Any, shape: Shape, _dt_s: float) -> LinearNode:
    axes = 1 if isinstance(node, nir.Conv1d) else 2
    weight = floats(node, "weight")
    if weight.ndim != 2 + axes or 0 in weight.shape:
        raise Unsupported("shape-mismatch", f"weight has shape {weight.shape}; expected {2 + axes} dimensions")
    if len(shape) != 1 + axes:
        raise Unsupported(
            "shape-mismatch", f"needs an input of {1 + axes} dimensions (channels first), the input has shape {shape}"
        )
    _check_input_shape(node, shape, axes)
    (groups,) = whole_numbers(node, "groups", 1, 1)
    if weight.shape[1] * groups != shape[0] or weight.shape[0] % groups:
        raise Unsupported(
            "shape-mismatch",
            f"weight has shape {weight.shape} in {groups} groups, which needs {weight.shape[1] * groups} input "
            f"channels; the input has {shape[0]} (the number of groups must divide the output channels)",
        )
    stride, dilation = (whole_numbers(node, name, axes, 1) for name in ("stride", "dilation"))
    if axes == 1:  # an image of one row
        weight, shape, stride, dilation = weight[:, :, None], (shape[0], 1, shape[1]), (1, *stride), (1, *dilation)
    weight, padding, dilation = _padded(node, weight, stride, dilation, axes)
    kernel = _kernel(weight, shape, stride, padding, dilation, groups)
    output = kernel.output_shape
    bias = np.repeat(_bias(node, weight.shape[0]), output[1] * output[2])
    return LinearNode(kernel, output if axes == 2 else (output[0], output[2]), bias)


def _check_input_shape(node: Any, shape: Shape, axes: int) -> None:
    if getattr(node, "input_shape", None) is None:
        return
    declared = tuple(int(size) for size in floats(node, "input_shape").ravel())
    if declared != shape[-axes:]:
        raise Unsupported("shape-mismatch", f"input_shape is {declared}, the input has shape {shape[-axes:]}")


def _padded(
    node: Any, weight: Floats, stride: Shape, dilation: Shape, axes: int
) -> tuple[Floats, tuple[int, ...], tuple[int, ...]]:
    """Return weight, padding and dilation; ``"same"`` with an odd total adds zero weights in front."""
    padding = getattr(node, "padding", None)
    padding = padding.decode() if isinstance(padding, bytes) else padding
    if not isinstance(padding, str):
        numbers = whole_numbers(node, "padding", axes, 0)
        return weight, (0, *numbers) if axes == 1 else numbers, dilation
    if padding == "valid":
        return weight, (0, 0), dilation
    if padding != "same":
        raise Unsupported("padding", f"padding is '{padding}'; allowed: same, valid, or numbers")
    if max(stride) > 1:
        raise Unsupported(
            "padding",
            f"padding 'same' with stride {stride[-axes:]} is ambiguous between programs; give the padding as numbers",
        )
    sums = [step * (taps - 1) for step, taps in zip(dilation, weight.shape[2:], strict=True)]
    for axis, total in enumerate(sums):
        if total % 2:  # PyTorch pads one more at the end: pad both sides by that, with a zero first tap
            taps = weight.shape[2 + axis]
            spaced = np.zeros((*weight.shape[: 2 + axis], total + 2, *weight.shape[3 + axis :]))
            np.moveaxis(spaced, 2 + axis, 0)[1 :: dilation[axis]][:taps] = np.moveaxis(weight, 2 + axis, 0)
            weight = spaced
            dilation = (*dilation[:axis], 1, *dilation[axis + 1 :])
    return weight, tuple((total + 1) // 2 for total in sums), dilation


def _pooling(node: Any, shape: Shape, _dt_s: float) -> LinearNode:
    if len(shape) != 3:
        raise Unsupported(
            "shape-mismatch", f"needs an input of 3 dimensions (channels, rows, columns), the input has shape {shape}"
        )
    window, stride = (whole_numbers(node, name, 2, 1) for name in ("kernel_size", "stride"))
    padding = whole_numbers(node, "padding", 2, 0)
    if math.prod(window) > LARGEST_SIGNAL:
        raise Unsupported("too-large", f"kernel_size is {window}; at most {LARGEST_SIGNAL:,} elements are supported")
    factor = 1 / math.prod(window) if isinstance(node, nir.AvgPool2d) else 1.0
    kernel = _kernel(np.full((shape[0], 1, *window), factor), shape, stride, padding, (1, 1), shape[0])
    return LinearNode(kernel, kernel.output_shape)


def _kernel(weight: Floats, shape: Shape, stride: Shape, padding: Shape, dilation: Shape, groups: int) -> Kernel:
    steps, pads, gaps = ((int(pair[0]), int(pair[1])) for pair in (stride, padding, dilation))
    kernel = Kernel(weight, (shape[0], shape[1], shape[2]), steps, pads, gaps, groups)
    output = kernel.output_shape
    if min(output) < 1:
        raise Unsupported("shape-mismatch", f"window {weight.shape[2:]} is larger than the padded input {shape}")
    if math.prod(output) > LARGEST_SIGNAL:
        raise Unsupported(
            "too-large", f"has {math.prod(output):,} output elements; at most {LARGEST_SIGNAL:,} are supported"
        )
    return kernel


LINEAR: dict[type, Callable[[Any, Shape, float], LinearNode]] = {
    Port: _port,
    nir.Input: _identity,
    nir.Output: _identity,
    nir.Linear: _matrix,
    nir.Affine: _matrix,
    SparseAffine: _connections,
    nir.Scale: _scale,
    nir.Delay: _delay,
    nir.Flatten: _flatten,
    nir.Conv1d: _convolution,
    nir.Conv2d: _convolution,
    nir.SumPool2d: _pooling,
    nir.AvgPool2d: _pooling,
}
"""By the type of the node: ``(node, shape of what arrives, dt_s) -> LinearNode``. Another type is one more entry."""
