"""Taps of a kernel: offsets into padded images, from which every sum follows, and parts that fit 16 bits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.random_programs import kernel_of_any_geometry
from esl_neuro.backends.taps import LARGEST_SHORT, VECTOR, Axis, Taps
from esl_neuro.nirgraph.kernel import Kernel


def images_of(taps, kernel, sources):
    """Write sources to padded images."""
    channels, rows, columns = kernel.input_shape
    images = np.zeros(channels * taps.channel_size + VECTOR, np.int64)
    for channel, row, column in np.ndindex(channels, rows, columns):
        place = channel * taps.channel_size + taps.row_places[row] + taps.column_places[column]
        images[place] += sources[(channel * rows + row) * columns + column]
    return images


def sums_of(taps, kernel, images):
    """Add up the taps of every output, shape (outputs,)."""
    channels, rows, columns = kernel.output_shape
    weights = 2 * taps.sizes.astype(np.int64) * np.repeat(taps.signs, np.diff(taps.parts))
    sums = np.zeros((channels, rows, columns), np.int64)
    for channel in range(channels):
        first, last = taps.parts[taps.first_parts[channel]], taps.parts[taps.first_parts[channel + 1]]
        for row, column in np.ndindex(rows, columns):
            seen = images[taps.offsets[first:last].astype(np.int64) + row * taps.pitch + column]
            sums[channel, row, column] = (weights[first:last] * seen).sum()
    return sums.ravel()


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_taps_of_any_kernel_give_its_sums(seed):
    rng = np.random.default_rng(seed)
    kernel = kernel_of_any_geometry(rng)
    assert not kernel.misfit
    taps = Taps.of(kernel)
    sources = rng.integers(0, 2, kernel.shape[1])
    images = images_of(taps, kernel, sources)
    assert images.sum() == sources.sum()
    assert sums_of(taps, kernel, images).tolist() == (kernel.matrix() @ sources).tolist()
    # The last vector of the last output stays inside.
    assert taps.offsets.max(initial=0) + taps.positions <= images.size


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_part_has_one_sign_an_even_number_of_taps_and_sums_of_16_bits(seed):
    rng = np.random.default_rng(seed)
    channels, pool = int(rng.integers(1, 80)), int(rng.integers(1, 4))
    weights = rng.choice([0, 2, 252, 254, -254], (2, channels, 3, 3)).repeat(pool, 2).repeat(pool, 3)
    kernel = Kernel(weights.astype(np.int32), (channels, 6 * pool, 6 * pool), (pool, pool))
    taps = Taps.of(kernel)
    halves = {sign: [np.sort(each[each * sign > 0] * sign) for each in taps.weights.astype(int)] for sign in (1, -1)}
    found = {sign: [[], []] for sign in (1, -1)}
    for output, edges in enumerate(zip(taps.first_parts, taps.first_parts[1:], strict=False)):
        before = last = 0
        for part in range(*edges):
            sizes = taps.sizes[taps.parts[part] : taps.parts[part + 1]].astype(int)
            offsets = taps.offsets[taps.parts[part] : taps.parts[part + 1]]
            assert len(sizes) % 2 == 0
            assert sizes[:-1].all()
            assert sizes[-1] or offsets[-1] == offsets[-2]
            assert sizes.sum() * taps.rows.pool * taps.columns.pool <= LARGEST_SHORT
            if taps.signs[part] == before:  # a part of the same sign is only begun where the one before is full
                assert (last + sizes[0]) * taps.rows.pool * taps.columns.pool > LARGEST_SHORT
            before, last = taps.signs[part], sizes.sum()
            found[before][output] += sizes[sizes > 0].tolist()
    for sign in (1, -1):
        assert [sorted(each) for each in found[sign]] == [each.tolist() for each in halves[sign]]


@pytest.mark.parametrize(
    ("taps", "stride", "outputs", "pool"),
    [(6, 2, 4, 2), (6, 4, 4, 2), (6, 6, 3, 6), (6, 3, 4, 3), (6, 1, 4, 1), (6, 5, 3, 1), (6, 5, 1, 6), (32, 32, 2, 8)],
)
def test_taps_of_equal_weight_that_move_together_are_pooled(taps, stride, outputs, pool):
    size = (outputs - 1) * stride + taps
    axis = Axis.of(Kernel(np.full((1, 1, 1, taps), 2, np.int32), (1, 1, size), (1, stride)), 1)
    assert (axis.outputs, axis.pool, axis.taps) == (outputs, pool, taps // pool)
    assert axis.stride == (stride // pool if outputs > 1 else 1)


def test_unequal_or_dilated_taps_are_not_pooled():
    unequal = np.array([2, 2, 4, 6], np.int32).reshape(1, 1, 1, 4)
    assert Axis.of(Kernel(unequal, (1, 1, 8), (1, 2)), 1).pool == 1
    equal = np.full((1, 1, 1, 4), 2, np.int32)
    assert Axis.of(Kernel(equal, (1, 1, 16), (1, 2), dilation=(1, 2)), 1).pool == 1


def test_the_table_grows_with_the_kernel_and_not_with_the_image():
    weights = np.full((4, 4, 3, 3), 2, np.int32)
    small, large = (Taps.of(Kernel(weights, (4, size, size), padding=(1, 1))) for size in (8, 512))
    for taps in (small, large):
        assert taps.sizes.size == taps.offsets.size == np.count_nonzero(weights)  # an even number
        assert taps.compact
    assert large.row_places.size == 512


@pytest.mark.parametrize(
    ("size", "stride", "padding"), [((4, 4), (1, 1), (500, 500)), ((9, 9), (10_000, 10_000), (9_000, 9_000))]
)
def test_a_kernel_that_is_mostly_padding_gets_no_image(size, stride, padding):
    kernel = Kernel(np.full((1, 1, 3, 3), 2, np.int32), (1, *size), stride, padding)
    taps = Taps.of(kernel)
    assert taps.compact == (taps.channel_size <= 16 * max(math.prod(size), math.prod(kernel.output_shape)))
    assert taps.compact == (stride == (1, 1))  # there the outputs are as many as the padding
