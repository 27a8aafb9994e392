"""Inputs of a compiled network: layouts are declared, spikes remain unchanged, graded values become payloads."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from esl_neuro.compiler.program import Program
from esl_neuro.data import prepare
from esl_neuro.errors import BadInput
from esl_neuro.pipeline.inputs import Samples, arrange, evaluation_samples, payloads, spread
from esl_neuro.recipes.sections import DataSection

STEPS_FIRST = "steps,samples,..."


def program(bits, scale):
    return Program("loihi2", 3, 1, 1e-4, (), (), input_bits=bits, input_scale=scale)


# Layout.


def test_arrays_are_samples_then_steps():
    values = np.arange(5 * 4 * 6).reshape(5, 4, 2, 3)
    assert np.array_equal(arrange(values, (2, 3), 4).values, values.reshape(5, 4, 6))


def test_another_layout_is_said():
    values = np.arange(5 * 4 * 6).reshape(5, 4, 6)
    again = arrange(values.swapaxes(0, 1), (6,), 4, STEPS_FIRST)
    assert np.array_equal(again.values, values)


def test_torch_tensors_are_arrays():
    values = torch.ones(5, 4, 6, requires_grad=True)
    assert arrange(values, (6,), 4).values.tolist() == np.ones((5, 4, 6)).tolist()


def test_as_many_samples_as_steps_without_a_layout_are_refused():
    square = np.zeros((4, 4, 6))
    with pytest.raises(BadInput, match=r"\(4, 4, 6\) have 4 samples and 4 steps.*layout='steps,samples,\.\.\.'"):
        arrange(square, (6,), 4)
    for layout in ("samples,steps,...", STEPS_FIRST):
        assert arrange(square, (6,), 4, layout).steps == 4
    assert arrange(Samples(square), (6,), 4).steps == 4  # these are (samples, steps, ...) by definition
    assert arrange(np.zeros((1, 1, 6)), (6,), 1).steps == 1


@pytest.mark.parametrize(
    ("shape", "layout", "words"),
    [
        ((4, 5, 6), None, r"have 5 steps per sample; the network requires 4.*give layout='steps,samples,\.\.\.'"),
        (
            (5, 4, 6),
            STEPS_FIRST,
            r"have 5 steps per sample; the network requires 4.*give layout='samples,steps,\.\.\.'",
        ),
        ((9, 5, 6), None, r"have 5 steps per sample; the network requires 4.*compile with steps=5"),
        ((9, 2, 3), None, r"have 2 steps per sample; the network requires 4.*The axis of steps is missing"),
        ((9, 4, 7), None, r"\(9, 4, 7\).*have 7 lines per step; the network requires 6, of shape \(2, 3\)"),
        ((9, 4, 3, 2), None, r"have the shape \(3, 2\) at each step; the network requires \(2, 3\): move the axes"),
        (
            (9, 6),
            None,
            r"\(9, 6\), but need at least three axes \(samples, steps, \.\.\.\).*one sample with layout='steps,\.\.\.'",
        ),
        ((9, 4, 6), "samples,step,...", r"did you mean 'samples,steps,\.\.\.'"),
    ],
)
def test_a_contradiction_names_both_shapes_and_the_fix(shape, layout, words):
    with pytest.raises(BadInput, match=words):
        arrange(np.zeros(shape), (2, 3), 4, layout)


def test_an_array_of_unknown_steps_can_be_read_in_two_ways_and_is_refused_with_both():
    with pytest.raises(BadInput, match=r"5 samples of 4 steps or 4 samples of 5 steps, and the.*; give one: layout="):
        arrange(np.zeros((5, 4, 6)), (2, 3))
    for layout, steps in (("samples,steps,...", 4), (STEPS_FIRST, 5)):
        assert arrange(np.zeros((5, 4, 6)), (2, 3), layout=layout).steps == steps


def test_one_sample_is_said():
    values = np.arange(24).reshape(4, 6)
    with pytest.raises(
        BadInput, match=r"give one sample with layout='steps,\.\.\.' .*, and constant values as numpy\.repeat"
    ):
        arrange(values, (2, 3), 4)  # 4 steps, or 4 samples of constant values
    assert arrange(values, (2, 3), 4, "steps,...").values.tolist() == [values.tolist()]
    image = values.reshape(4, 2, 3)
    assert arrange(image, (2, 3), 4, "steps,...").values.tolist() == [values.tolist()]
    with pytest.raises(BadInput, match=r"They fit one sample of 4 steps: give layout='steps,\.\.\.'"):
        arrange(image, (2, 3), 4)
    with pytest.raises(BadInput, match="have 4 steps per sample; the network requires 5"):
        arrange(image, (2, 3), 5, "steps,...")


@pytest.mark.parametrize("shape", [(3, 4, 2, 5, 6), (3, 4, 60), (3, 4, 1, 2, 5, 6)])
def test_images_keep_their_order_of_lines(shape):
    values = np.arange(3 * 4 * 60).reshape(shape)
    assert arrange(values, (2, 5, 6), 4).values.ravel().tolist() == values.ravel().tolist()
    assert arrange(values.swapaxes(0, 1), (2, 5, 6), 4, STEPS_FIRST).values.ravel().tolist() == values.ravel().tolist()


def test_several_inputs_are_given_by_name_and_their_lines_follow_each_other():
    shape = {"a": (2,), "b": (1, 3)}
    a, b = np.arange(16).reshape(2, 4, 2), np.arange(24).reshape(2, 4, 1, 3)
    joined = arrange({"b": b, "a": a}, shape, 4).values
    assert np.array_equal(joined, np.concatenate([a, b[:, :, 0]], axis=2))
    assert np.array_equal(arrange(joined, shape, 4).values, joined)
    with pytest.raises(BadInput, match="inputs are given for 'a'; the network has the inputs 'a', 'b'"):
        arrange({"a": a}, shape, 4)
    with pytest.raises(BadInput, match=r"input 'b': .*have 2 lines per step; the network requires 3"):
        arrange({"a": a, "b": a}, shape, 4)
    with pytest.raises(BadInput, match="different samples and steps"):
        arrange({"a": a, "b": b[:1]}, shape, 4)
    with pytest.raises(BadInput, match=r"by name \(a\), but the network has one input"):
        arrange({"a": a}, (2,), 4)


def test_a_layout_for_samples_is_refused():
    with pytest.raises(BadInput, match="omit it"):
        arrange(Samples(np.zeros((2, 4, 6))), (6,), 4, STEPS_FIRST)


def test_what_is_no_number_is_refused():
    with pytest.raises(BadInput, match="give numbers"):
        arrange(np.full((2, 4, 6), "a"), (6,), 4)


def test_labels_are_one_for_each_sample():
    with pytest.raises(BadInput, match="3 labels are given for 2 samples"):
        Samples(np.zeros((2, 4, 6)), np.zeros(3, np.int64))


def test_more_samples_than_there_are_are_refused():
    samples = Samples(np.zeros((2, 4, 6)), np.zeros(2, np.int64))
    assert len(samples.first(1)) == len(samples.first(1).labels) == 1
    with pytest.raises(BadInput, match="3 samples are too many; there are only 2"):
        samples.first(3)


# Payloads.


def test_spikes_stay_as_they_are():
    spikes = np.array([[[0, 1, 1]]], np.uint8)
    for kept in (spikes, spikes.astype(bool), spikes.astype(np.float32), spikes.astype(np.int64)):
        assert payloads(kept, program(1, 1.0)).tolist() == spikes.tolist()
        assert payloads(kept, program(1, 1.0)).dtype == np.uint8


def test_graded_values_are_rounded_to_payloads():
    values = np.array([[[0.0, 0.5, 1.0]]], np.float32)
    assert payloads(values, program(8, 255.0)).tolist() == [[[0, 128, 255]]]
    assert payloads(values, program(8, 255.0)).dtype == np.uint8
    assert payloads(values, program(12, 4095.0)).tolist() == [[[0, 2048, 4095]]]
    assert payloads(values, program(12, 4095.0)).dtype == np.int32


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan])
def test_values_without_a_payload_are_refused(value):
    with pytest.raises(BadInput, match=r"payload of 8 bits can represent 0 to 1$"):
        payloads(np.array([[[value]]], np.float32), program(8, 255.0))


@pytest.mark.parametrize("values", [[2], [0.2, 0.5, 0.9, 1.0], [-1], [np.nan]])
def test_spikes_other_than_0_and_1_are_refused(values):
    with pytest.raises(BadInput, match=r"values other than 0 and 1.*of 1 bit.*input_bits=8"):
        payloads(np.array([[values]]), program(1, 1.0))


def test_steps_of_the_encoding_arrive_in_steps_of_the_program():
    data = DataSection(name="digits", encoding="binary_single_spike", steps=2)
    short = payloads(evaluation_samples(data).values, program(1, 1.0))
    later = spread(short, 30, [0, 18])
    assert short.shape[1:] == (2, 64)
    assert later.shape[1:] == (30, 64)
    assert np.array_equal(later[:, [0, 18]], short)
    assert later.sum() == short.sum() == 64 * len(short)
    assert spread(short, 2, None) is short


# Where they come from.


def test_test_samples_are_those_of_the_data_set():
    data = DataSection(name="digits", encoding="direct", steps=4)
    dataset = prepare(data)
    some = evaluation_samples(data, 7)
    assert some.name == "7 test samples"
    assert some.labels.tolist() == dataset.test.labels[:7].tolist()
    assert np.array_equal(some.values[:, 3], dataset.test.batch()[:7])
    with pytest.raises(BadInput, match="samples 1000: the test set of 'digits' has 359 samples"):
        evaluation_samples(data, 1000)
