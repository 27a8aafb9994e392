"""Linear maps between signals: composed, added and scaled without rounding.

A map is a sparse float64 matrix, a :class:`~esl_neuro.nirgraph.kernel.Kernel` if every position of an image has the
same weights, or None for the identity. Signals are vectors in row-major order, so flattening is the identity.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from esl_neuro.nirgraph.kernel import Kernel

Floats = NDArray[np.float64]
Matrix: TypeAlias = sp.csr_matrix
Map: TypeAlias = "sp.csr_matrix | Kernel | None"

LARGEST_SIGNAL = 10**8  # elements; a hundred times the neurons of the largest chip


def as_matrix(linear: Map, size: int) -> Matrix:
    """Write a map as a sparse matrix; ``size`` is the length of its input."""
    if linear is None:
        return sp.identity(size, dtype=np.float64, format="csr")
    return linear.matrix() if isinstance(linear, Kernel) else linear


def compose(second: Map, first: Map, size: int) -> Map:
    """Return ``second(first(x))`` for ``x`` of length ``size``; two kernels become one kernel if that is exact."""
    if first is None or second is None:
        return second if first is None else first
    if isinstance(first, Kernel) and isinstance(second, Kernel) and _joins(second, first):
        return _join(second, first)
    return sp.csr_matrix(as_matrix(second, first.shape[0]) @ as_matrix(first, size))


def add(one: Map, other: Map, size: int) -> Map:
    """Return the sum of two maps of the same input; kernels of the same geometry become one kernel."""
    if isinstance(one, Kernel) and isinstance(other, Kernel) and _same_geometry(one, other):
        return replace(one, weights=one.weights + other.weights)
    return sp.csr_matrix(as_matrix(one, size) + as_matrix(other, size))


def scale_outputs(linear: Map, gain: Floats, size: int) -> Map:
    """Multiply each output by its own gain; a kernel stays a kernel if all positions of a channel share the gain."""
    if np.all(gain == 1):
        return linear
    if isinstance(linear, Kernel):
        channels = gain.reshape(linear.weights.shape[0], -1)
        if np.all(channels == channels[:, :1]):
            return replace(linear, weights=linear.weights * channels[:, 0][:, None, None, None])
    return sp.csr_matrix(sp.diags(gain) @ as_matrix(linear, size))


def apply(linear: Map, signal: Floats) -> Floats:
    """Map signals of shape (inputs, columns) to shape (outputs, columns) without expanding a kernel."""
    if linear is None:
        return signal
    if not isinstance(linear, Kernel):
        return np.asarray(linear @ signal)
    groups, columns = linear.groups, signal.shape[1]
    (top, left), (rows, columns_out) = linear.padding, linear.output_shape[1:]
    image = np.pad(signal.reshape(*linear.input_shape, columns), ((0, 0), (top, top), (left, left), (0, 0)))
    image = image.reshape(groups, -1, *image.shape[1:])
    weights = linear.weights.reshape(groups, -1, *linear.weights.shape[1:])
    result = np.zeros((groups, weights.shape[1], rows, columns_out, columns))
    for y, x in np.ndindex(*weights.shape[3:]):
        starts = (y * linear.dilation[0], x * linear.dilation[1])
        seen = image[
            :,
            :,
            starts[0] : starts[0] + (rows - 1) * linear.stride[0] + 1 : linear.stride[0],
            starts[1] : starts[1] + (columns_out - 1) * linear.stride[1] + 1 : linear.stride[1],
        ]
        result += np.einsum("goi,gihwc->gohwc", weights[..., y, x], seen, optimize=True)
    return result.reshape(-1, columns)


def _same_geometry(one: Kernel, other: Kernel) -> bool:
    names = ("input_shape", "stride", "padding", "dilation", "groups")
    return one.weights.shape == other.weights.shape and all(getattr(one, n) == getattr(other, n) for n in names)


def _joins(second: Kernel, first: Kernel) -> bool:
    """Tell whether the second kernel's padding coincides with zeros that the first kernel would compute from padding.

    A flattening in between may have changed the shape of the first kernel's output.
    """
    return first.output_shape == second.input_shape and all(_joins_along(second, first, axis) for axis in (0, 1))


def _joins_along(second: Kernel, first: Kernel, axis: int) -> bool:
    taps, middle = second.weights.shape[2 + axis], first.output_shape[1 + axis]
    before = second.padding[axis]  # positions before the first that the second kernel reads
    last = (second.output_shape[1 + axis] - 1) * second.stride[axis] - before + (taps - 1) * second.dilation[axis]
    reach = (first.weights.shape[2 + axis] - 1) * first.dilation[axis]
    step, padding, size = first.stride[axis], first.padding[axis], first.input_shape[1 + axis]
    starts_outside = before == 0 or reach - step - padding < 0
    ends_outside = last < middle or middle * step - padding >= size
    return starts_outside and ends_outside


def _join(second: Kernel, first: Kernel) -> Kernel:
    """Compose two kernels to one: strides multiply, and each tap of the second kernel places the taps of the first."""
    inner = _dense_taps(first)
    taps = [
        (second.weights.shape[2 + axis] - 1) * second.dilation[axis] * first.stride[axis] + inner.shape[2 + axis]
        for axis in (0, 1)
    ]
    depthwise = first.weights.shape[1] == 1 and first.groups == first.weights.shape[0] == first.input_shape[0]
    outer = second.weights if depthwise else _without_groups(second)
    inputs = outer.shape[1] if depthwise else first.input_shape[0]
    weights = np.zeros((outer.shape[0], inputs, *taps))
    for y, x in np.ndindex(*outer.shape[2:]):
        top, left = (index * second.dilation[a] * first.stride[a] for a, index in enumerate((y, x)))
        area = np.s_[:, :, top : top + inner.shape[2], left : left + inner.shape[3]]
        if depthwise:
            per_output = _channels_of(second)
            weights[area] += outer[:, :, y, x, None, None] * inner[per_output, 0]
        else:
            weights[area] += np.einsum("om,mihw->oihw", outer[:, :, y, x], _without_groups(first, inner))
    return Kernel(
        weights,
        first.input_shape,
        stride=(first.stride[0] * second.stride[0], first.stride[1] * second.stride[1]),
        padding=(
            first.padding[0] + second.padding[0] * first.stride[0],
            first.padding[1] + second.padding[1] * first.stride[1],
        ),
        groups=second.groups if depthwise else 1,
    )


def _dense_taps(kernel: Kernel) -> Floats:
    """Expand a dilated kernel with zeros to dilation 1."""
    rows, columns = (
        (size - 1) * step + 1 for size, step in zip(kernel.weights.shape[2:], kernel.dilation, strict=True)
    )
    weights = np.zeros((*kernel.weights.shape[:2], rows, columns))
    weights[:, :, :: kernel.dilation[0], :: kernel.dilation[1]] = kernel.weights
    return weights


def _channels_of(kernel: Kernel) -> NDArray[np.int64]:
    """Return the source channels of each output channel, shape (out channels, in channels / groups)."""
    outputs, per_group = kernel.weights.shape[:2]
    first = np.arange(outputs)[:, None] // (outputs // kernel.groups) * per_group
    return np.asarray(first + np.arange(per_group))


def _without_groups(kernel: Kernel, weights: Floats | None = None) -> Floats:
    """Expand grouped weights with zeros between the groups, shape (out channels, in channels, height, width)."""
    grouped = kernel.weights if weights is None else weights
    full = np.zeros((grouped.shape[0], kernel.input_shape[0], *grouped.shape[2:]))
    full[np.arange(grouped.shape[0])[:, None], _channels_of(kernel)] = grouped
    return full


def split_by_delay(linear: Map, delays: NDArray[np.int64], size: int) -> Iterator[tuple[int, Map]]:
    """Split the outputs of a map by their delays: one map for each distinct delay, zero for the other outputs."""
    for delay in np.unique(delays):
        chosen = delays == delay
        yield int(delay), linear if chosen.all() else scale_outputs(linear, chosen.astype(np.float64), size)
