"""Linear maps do what their matrices do, whether they are kernels, sparse matrices or the identity."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from esl_neuro.nirgraph.kernel import Kernel
from esl_neuro.nirgraph.linear_maps import add, apply, as_matrix, compose, scale_outputs, split_by_delay

SEEDS = st.integers(0, 10**6)


def a_kernel(rng, input_shape, padded=True):
    """A convolution with small whole weights, so that sums and products are exact; some of it depthwise."""
    channels = input_shape[0]
    groups = int(rng.choice([count for count in range(1, channels + 1) if channels % count == 0]))
    padding = tuple(int(pad) for pad in rng.integers(0, 3 if padded else 1, 2))
    taps = [
        int(rng.integers(1, min(3, size + 2 * pad) + 1)) for size, pad in zip(input_shape[1:], padding, strict=True)
    ]
    spare = [size + 2 * pad - 1 for size, pad in zip(input_shape[1:], padding, strict=True)]
    dilation = tuple(
        int(rng.integers(1, max(1, room // max(1, tap - 1)) + 1) if tap > 1 else 1)
        for room, tap in zip(spare, taps, strict=True)
    )
    stride = tuple(int(step) for step in rng.integers(1, 4, 2))
    weights = rng.integers(-3, 4, (groups * int(rng.integers(1, 3)), channels // groups, *taps)).astype(float)
    kernel = Kernel(weights, input_shape, stride, padding, dilation, groups)
    assert not kernel.misfit
    return kernel


def an_image(rng):
    return tuple(int(size) for size in rng.integers((1, 2, 2), (5, 7, 7)))


def a_map(rng, input_shape):
    """A kernel, a sparse matrix, or the identity."""
    kind = rng.integers(3)
    size = int(np.prod(input_shape))
    if kind == 0:
        return a_kernel(rng, input_shape)
    return sp.csr_matrix(rng.integers(-3, 4, (int(rng.integers(1, 5)), size)).astype(float)) if kind == 1 else None


def dense(linear, size):
    return np.eye(size) if linear is None else (linear.matrix() if isinstance(linear, Kernel) else linear).toarray()


@settings(max_examples=150)
@given(seed=SEEDS)
def test_two_maps_after_each_other_are_the_product_of_their_matrices(seed):
    rng = np.random.default_rng(seed)
    shape = an_image(rng)
    size = int(np.prod(shape))
    first = a_map(rng, shape)
    between = first.output_shape if isinstance(first, Kernel) else (dense(first, size).shape[0], 1, 1)
    second = a_map(rng, between)
    composed = compose(second, first, size)
    assert np.array_equal(dense(composed, size), dense(second, int(np.prod(between))) @ dense(first, size))
    assert np.array_equal(as_matrix(composed, size).toarray(), dense(composed, size))


@settings(max_examples=80)
@given(seed=SEEDS)
def test_a_kernel_behind_a_kernel_is_one_kernel_if_it_reads_no_padding(seed):
    rng = np.random.default_rng(seed)
    first = a_kernel(rng, an_image(rng))
    second = a_kernel(rng, first.output_shape, padded=False)
    composed = compose(second, first, first.shape[1])
    assert isinstance(composed, Kernel)
    assert composed.output_shape == second.output_shape
    assert np.array_equal(dense(composed, 0), dense(second, 0) @ dense(first, 0))


@pytest.mark.parametrize(
    ("rows", "taps", "stride", "padding", "joins"),
    [
        (6, 2, 2, 0, True),  # the windows end where the image ends
        (5, 2, 2, 0, False),  # a window beyond the last one would see the last row
        (6, 3, 1, 0, False),  # a window before the first one would see the first row
        (6, 1, 1, 0, True),
        (6, 3, 3, 1, False),  # the same, behind padding
        (6, 3, 1, 1, False),
        (6, 3, 1, 2, True),  # all that the second kernel pads, the first one computes from padding alone
        (4, 2, 2, 1, True),
    ],
)
def test_padding_between_two_kernels_stays_zero(rows, taps, stride, padding, joins):
    """The second kernel pads with zeros, not with what the first one would compute there."""
    for axis in (0, 1):
        pair = lambda value, other, axis=axis: (value, other) if axis == 0 else (other, value)  # noqa: E731
        first = Kernel(np.ones((1, 1, *pair(taps, 1))), (1, *pair(rows, 2)), pair(stride, 1), pair(padding, 0))
        second = Kernel(np.ones((1, 1, *pair(3, 1))), first.output_shape, (1, 1), pair(1, 0))
        composed = compose(second, first, first.shape[1])
        assert isinstance(composed, Kernel) == joins
        assert np.array_equal(dense(composed, 0), dense(second, 0) @ dense(first, 0))


def test_depthwise_kernels_stay_depthwise():
    pool = Kernel(np.ones((4, 1, 2, 2)), (4, 6, 6), (2, 2), groups=4)
    other = Kernel(np.ones((4, 2, 1, 1)), (4, 3, 3), groups=2)
    composed = compose(other, pool, 144)
    assert (composed.groups, composed.weights.shape) == (2, (4, 2, 2, 2))
    assert compose(pool, Kernel(np.ones((4, 2, 1, 1)), (4, 6, 6), groups=2), 144).groups == 1


def test_kernels_join_only_in_the_shape_between_them():
    first = Kernel(np.ones((2, 1, 1, 1)), (1, 2, 2))
    composed = compose(Kernel(np.ones((1, 1, 1, 1)), (1, 4, 2)), first, 4)
    assert not isinstance(composed, Kernel)
    assert composed.toarray().tolist() == first.matrix().toarray().tolist()


@settings(max_examples=60)
@given(seed=SEEDS)
def test_maps_of_one_input_are_added(seed):
    rng = np.random.default_rng(seed)
    kernel = a_kernel(rng, an_image(rng))
    size = kernel.shape[1]
    same = replace(kernel, weights=kernel.weights[::-1] + 1)
    matrix = sp.csr_matrix(rng.integers(-3, 4, kernel.shape).astype(float))
    assert isinstance(add(kernel, same, size), Kernel)
    for one, other in ((kernel, same), (kernel, matrix), (matrix, kernel), (matrix, matrix)):
        assert np.array_equal(dense(add(one, other, size), size), dense(one, size) + dense(other, size))
    assert np.array_equal(dense(add(None, None, size), size), 2 * np.eye(size))


@pytest.mark.parametrize(
    ("rows", "taps", "one", "other"),
    [
        (3, 2, {"dilation": (2, 1)}, {"stride": (2, 1)}),
        (2, 1, {}, {"stride": (3, 1), "padding": (1, 0)}),
        (3, 2, {"stride": (2, 1), "dilation": (2, 1)}, {"stride": (2, 1)}),
        (3, 2, {"stride": (3, 1)}, {"stride": (2, 1)}),
    ],
)
def test_kernels_of_another_geometry_are_added_as_matrices(rows, taps, one, other):
    kernels = [Kernel(np.ones((1, 1, taps, 1)), (1, rows, 1), **geometry) for geometry in (one, other)]
    assert kernels[0].shape == kernels[1].shape
    total = add(*kernels, rows)
    assert not isinstance(total, Kernel)
    assert np.array_equal(dense(total, rows), sum(dense(kernel, rows) for kernel in kernels))


@settings(max_examples=60)
@given(seed=SEEDS)
def test_gains_scale_each_output(seed):
    rng = np.random.default_rng(seed)
    shape = an_image(rng)
    size = int(np.prod(shape))
    linear = a_map(rng, shape)
    outputs = dense(linear, size).shape[0]
    gain = rng.integers(-3, 4, outputs).astype(float)
    assert np.array_equal(dense(scale_outputs(linear, gain, size), size), gain[:, None] * dense(linear, size))
    assert scale_outputs(linear, np.ones(outputs), size) is linear


def test_a_kernel_stays_one_if_each_channel_has_one_gain():
    kernel = Kernel(np.ones((2, 1, 1, 1)), (1, 2, 2))
    by_channel = np.array([1.0, 1, 1, 1, 3, 3, 3, 3])
    scaled = scale_outputs(kernel, by_channel, 4)
    assert isinstance(scaled, Kernel)
    assert scaled.weights.ravel().tolist() == [1, 3]
    by_channel[-1] = 2
    assert not isinstance(scale_outputs(kernel, by_channel, 4), Kernel)


@settings(max_examples=100)
@given(seed=SEEDS)
def test_signals_are_mapped_as_by_the_matrix(seed):
    rng = np.random.default_rng(seed)
    shape = an_image(rng)
    size = int(np.prod(shape))
    linear = a_map(rng, shape)
    signal = rng.integers(-3, 4, (size, int(rng.integers(1, 4)))).astype(float)
    assert np.array_equal(apply(linear, signal), dense(linear, size) @ signal)


def test_the_outputs_of_a_map_are_split_by_their_delays():
    matrix = sp.csr_matrix(np.arange(1.0, 7).reshape(3, 2))
    delays = np.array([2, 0, 2])
    parts = {delay: part.toarray() for delay, part in split_by_delay(matrix, delays, 2)}
    assert list(parts) == [0, 2]
    assert np.array_equal(parts[0], [[0, 0], [3, 4], [0, 0]])
    assert np.array_equal(parts[2], [[1, 2], [0, 0], [5, 6]])
    ((delay, whole),) = split_by_delay(matrix, np.array([1, 1, 1]), 2)
    assert (delay, whole) == (1, matrix)
