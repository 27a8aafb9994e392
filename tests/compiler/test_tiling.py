"""Boxes of a layer: every neuron in one of them, patches from the whole image down to single positions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esl_neuro.compiler.tiling import Tiling, patches


@given(shape=st.tuples(*[st.integers(1, 7)] * 3), data=st.data())
def test_every_neuron_is_in_the_box_that_its_place_says(shape, data):
    channels, rows, columns = shape
    parts = tuple(data.draw(st.integers(1, size)) for size in (rows, columns, channels))
    tiling = Tiling.even(shape, parts)
    assert tiling.parts == parts
    values = np.random.default_rng(0).integers(0, 100, shape)
    tile = tiling.tile_of_neuron()
    assert np.array_equal(np.bincount(tile), tiling.neurons.ravel())
    assert np.array_equal(np.bincount(tile, values.ravel()), tiling.sums(values.ravel()).ravel())
    for bounds in (tiling.rows, tiling.columns, tiling.channels):
        assert np.ptp(np.diff(bounds)) <= 1
    box = tile.reshape(shape)[: tiling.channels[1], : tiling.rows[1], : tiling.columns[1]]
    assert np.all(box == 0)
    assert np.count_nonzero(tile == 0) == box.size


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (48, 48), (7, 3), (1, 100), (33, 32)])
def test_patches_go_from_the_whole_image_to_single_positions_in_few_steps(rows, columns):
    found = list(patches(rows, columns))
    assert found[0] == (1, 1)
    assert found[-1] == (rows, columns)
    assert len(found) == 1 + math.ceil(math.log2(rows)) + math.ceil(math.log2(columns))
    for down, across in found:
        if 1 < down < rows and 1 < across < columns:
            assert 0.5 <= (rows / down) / (columns / across) <= 2
