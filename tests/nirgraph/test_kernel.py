"""Kernels: the synapses that they stand for are those of a convolution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional

from esl_neuro.nirgraph.kernel import Kernel

PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    groups=st.integers(1, 3),
    channels=PAIRS,
    image=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    taps=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=PAIRS,
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=PAIRS,
)
def test_matrix_is_the_convolution_of_torch(seed, groups, channels, image, taps, stride, padding, dilation):
    rng = np.random.default_rng(seed)
    for size, tap, pad, step in zip(image, taps, padding, dilation, strict=True):
        assume(size + 2 * pad >= step * (tap - 1) + 1)
    out, per_group = channels[0] * groups, channels[1]
    weights = 2 * rng.integers(-127, 128, (out, per_group, *taps)) * (rng.random((out, per_group, *taps)) < 0.7)
    kernel = Kernel(weights.astype(np.int32), (per_group * groups, *image), stride, padding, dilation, groups)
    signal = rng.integers(0, 2, (per_group * groups, *image))
    expected = functional.conv2d(
        torch.from_numpy(signal[None]).double(),
        torch.from_numpy(weights).double(),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )[0]
    assert kernel.output_shape == tuple(expected.shape)
    assert (kernel.matrix() @ signal.ravel()).tolist() == expected.ravel().int().tolist()
    assert kernel.nnz == kernel.matrix().nnz
    assert kernel.shape == kernel.matrix().shape
    synapses = kernel.matrix().toarray() != 0
    assert kernel.fan_in().tolist() == synapses.sum(axis=1).tolist()
    assert kernel.fan_out().tolist() == synapses.sum(axis=0).tolist()
    target = int(rng.integers(kernel.shape[0]))
    wanted = kernel.matrix()[target].sorted_indices()
    sources, values = kernel.row(target)
    assert (sources.tolist(), values.tolist()) == (wanted.indices.tolist(), wanted.data.tolist())
    assert kernel.misfit == ""


def test_taps_in_the_padding_are_no_synapses():
    kernel = Kernel(np.full((1, 1, 3, 3), 2, np.int32), (1, 2, 2), padding=(1, 1))
    assert kernel.nnz == 4 * 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weights": np.ones((2, 2, 3))}, "kernel weights have shape (2, 2, 3); expected (out channels, "),
        ({"weights": np.ones((2, 0, 3, 3))}, "kernel weights have shape (2, 0, 3, 3)"),
        ({"input_shape": (2, 3)}, "input_shape is (2, 3); expected (channels, rows, columns), each at least 1"),
        ({"input_shape": (2, 0, 3)}, "input_shape is (2, 0, 3)"),
        ({"stride": (1, 0)}, "stride is (1, 0); expected (rows, columns), each at least 1"),
        ({"stride": (1, 1, 1)}, "stride is (1, 1, 1)"),
        ({"stride": (1, 1.5)}, "stride is (1, 1.5)"),
        ({"padding": (-1, 0)}, "padding is (-1, 0); expected (rows, columns), each at least 0"),
        ({"dilation": (0, 1)}, "dilation is (0, 1); expected (rows, columns), each at least 1"),
        ({"groups": 0}, "0 groups of 2 input channels do not fit 2 input and 4 output channels"),
        ({"groups": 2}, "2 groups of 2 input channels do not fit 2 input and 4 output channels"),
        ({"groups": 3, "input_shape": (6, 5, 4)}, "3 groups of 2 input channels do not fit 6 input and 4 output"),
        ({"input_shape": (2, 2, 4)}, "kernel (3, 3) is larger than its padded input (2, 4)"),
        ({"input_shape": (2, 4, 2)}, "kernel (3, 3) is larger than its padded input (4, 2)"),
    ],
)
def test_a_geometry_that_contradicts_itself_is_named(change, said):
    fitting = {"weights": np.ones((4, 2, 3, 3)), "input_shape": (2, 3, 3)}
    assert Kernel(**fitting).misfit == ""
    assert Kernel(**fitting | change).misfit.startswith(said)
