"""Kernels: the synapses that they stand for are those of a convolution."""

from __future__ import annotations

import numpy as np
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


def test_taps_in_the_padding_are_no_synapses():
    kernel = Kernel(np.full((1, 1, 3, 3), 2, np.int32), (1, 2, 2), padding=(1, 1))
    assert kernel.nnz == 4 * 4
