"""Inputs of an export: spikes stay as they are, graded values become payloads."""

from __future__ import annotations

import numpy as np
import pytest

from esl_neuro.compiler.bundle import payloads, program_inputs
from esl_neuro.compiler.program import Program
from esl_neuro.data import prepare
from esl_neuro.errors import BadInput
from esl_neuro.recipes.sections import DataSection


def program(bits, scale):
    return Program("loihi2", 3, 1, 1e-4, (), (), input_bits=bits, input_scale=scale)


def test_spikes_stay_as_they_are():
    spikes = np.array([[[0, 1, 1]]], np.uint8)
    assert payloads(spikes, program(1, 1.0)).tolist() == spikes.tolist()
    assert payloads(spikes, program(1, 1.0)).dtype == np.uint8


def test_graded_values_are_rounded_to_payloads():
    values = np.array([[[0.0, 0.5, 1.0]]], np.float32)
    assert payloads(values, program(8, 255.0)).tolist() == [[[0, 128, 255]]]
    assert payloads(values, program(8, 255.0)).dtype == np.uint8
    assert payloads(values, program(12, 4095.0)).tolist() == [[[0, 2048, 4095]]]
    assert payloads(values, program(12, 4095.0)).dtype == np.int32


@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_values_without_a_payload_are_refused(value):
    with pytest.raises(BadInput, match=r"payload of 8 bits holds 0 to 1$"):
        payloads(np.array([[[value]]], np.float32), program(8, 255.0))


def test_spikes_other_than_0_and_1_are_refused():
    with pytest.raises(BadInput, match="payload of 1 bits"):
        payloads(np.array([[[2]]], np.uint8), program(1, 1.0))


def test_steps_of_the_encoding_arrive_in_steps_of_the_program():
    dataset = prepare(DataSection(name="digits", encoding="binary_single_spike", steps=2), 0)
    data = DataSection(name="digits", encoding="binary_single_spike", steps=2)
    long = Program("loihi2", 64, 30, 1e-3, (), (), readout="first_spike")
    short, spread = program_inputs(dataset, data, long), program_inputs(dataset, data, long, [0, 18])
    assert short.shape[1:] == (2, 64)
    assert spread.shape[1:] == (30, 64)
    assert np.array_equal(spread[:, [0, 18]], short)
    assert spread.sum() == short.sum() == 64 * len(short)
