"""The bits of a signal are its spikes."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from esl_neuro.neuron_major import empty_signal
from esl_neuro.snn.functional import arctan, lif
from esl_neuro.spike_bits import bits_of, numbers_of


def drawn(leading, neurons, seed, *, neuron_major):
    generator = torch.Generator().manual_seed(seed)
    signal = (torch.rand(*leading, neurons, generator=generator) < 0.4).float()
    return empty_signal(leading, neurons, signal.dtype).copy_(signal) if neuron_major else signal


def packed(signal):
    """Bits by numpy, one row per neuron, the first column lowest."""
    columns = signal.detach().reshape(-1, signal.shape[-1]).numpy().T != 0
    padded = np.pad(columns, ((0, 0), (0, -columns.shape[1] % 16)))
    return np.ascontiguousarray(np.packbits(padded, axis=1, bitorder="little")).view(np.uint16)


@given(
    leading=st.tuples(st.integers(1, 4), st.integers(1, 90)),
    neurons=st.integers(1, 150),
    neuron_major=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_bits_are_those_of_the_spikes(leading, neurons, neuron_major, seed):
    signal = drawn(leading, neurons, seed, neuron_major=neuron_major)
    bits = bits_of(signal)
    assert (bits == packed(signal)).all()
    columns = leading[0] * leading[1]
    assert (numbers_of(bits, columns) == signal.reshape(columns, neurons).numpy().T).all()


@pytest.mark.parametrize("neuron_major", [False, True])
@pytest.mark.parametrize("value", [0.5, 2.0, -1.0, torch.nan, torch.inf])
@pytest.mark.parametrize("place", [(0, 0, 0), (2, 36, 69)])
def test_other_values_have_no_bits(value, place, neuron_major):
    signal = drawn((3, 37), 70, 0, neuron_major=neuron_major)
    signal[place] = value
    assert bits_of(signal) is None


def test_neurons_keep_the_bits_of_their_spikes_until_these_change():
    currents = empty_signal((4, 9), 5, torch.float32).copy_(torch.randn(4, 9, 5))
    spikes = lif(currents, 0.5, torch.full((5,), 0.3), arctan, 1.0)
    assert bits_of(spikes) is bits_of(spikes)  # they are kept, not made again
    assert (bits_of(spikes) == packed(spikes)).all()
    assert spikes.any()
    spikes[:, 3] = 0
    assert (bits_of(spikes) == packed(spikes)).all()
    spikes.mul_(0.5)
    assert bits_of(spikes) is None
    assert bits_of(copy.deepcopy(spikes)) is None
