"""Comparing two runs finds the earliest difference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from esl_neuro.backends.trace import Difference, Trace, first_difference


def trace_of(samples=2, steps=3, backend="integer"):
    shapes = {"hidden": 4, "output": 2}
    spikes = {name: np.zeros((samples, steps, neurons), np.uint8) for name, neurons in shapes.items()}
    return Trace(backend, np.zeros((samples, steps, 5), np.uint8), spikes)


def test_equal_traces():
    assert first_difference(trace_of(), trace_of(backend="lava")) is None


@pytest.mark.parametrize(
    ("flips", "expected"),
    [
        ([("hidden", (1, 2, 3))], Difference("hidden", 1, 2, 3, 0, 1)),
        # the earlier sample, although its step is later and its layer deeper
        ([("hidden", (1, 0, 0)), ("output", (0, 2, 1))], Difference("output", 0, 2, 1, 0, 1)),
        # the earlier step, although its layer is deeper
        ([("hidden", (0, 2, 0)), ("output", (0, 1, 1))], Difference("output", 0, 1, 1, 0, 1)),
        # the layer nearest the input, although its neuron is higher
        ([("hidden", (0, 1, 3)), ("output", (0, 1, 0))], Difference("hidden", 0, 1, 3, 0, 1)),
        ([("hidden", (0, 1, 3)), ("hidden", (0, 1, 2))], Difference("hidden", 0, 1, 2, 0, 1)),
    ],
)
def test_earliest_difference(flips, expected):
    second = trace_of()
    for name, place in flips:
        second.spikes[name][place] = 1
    assert first_difference(trace_of(), second) == expected
    swapped = first_difference(second, trace_of())
    assert swapped is not None
    assert (swapped.first, swapped.second) == (1, 0)


def test_sentence():
    sentence = Difference("fc1", 4, 2, 7, 0, 1).describe("integer", "lava")
    assert sentence == "layer 'fc1', neuron 7, step 2 of sample 4: integer has 0, lava has 1"


def test_other_shapes_or_layers_cannot_be_compared():
    with pytest.raises(ValueError, match="cannot be compared"):
        first_difference(trace_of(), trace_of(steps=4))
    with pytest.raises(ValueError, match="cannot be compared"):
        first_difference(trace_of(), Trace("lava", trace_of().input_spikes, {"hidden": trace_of().spikes["hidden"]}))


def test_sizes_and_predictions():
    trace = trace_of(samples=3)
    trace.spikes["output"][1, :, 1] = 1
    trace.spikes["output"][2, 0, :] = 1
    assert (trace.samples, trace.steps) == (3, 3)
    assert trace.output_spikes is trace.spikes["output"]
    assert trace.predictions().tolist() == [0, 1, 0]


def test_the_first_spike_tells_the_class_where_the_program_says_so():
    trace = replace(trace_of(samples=4), readout="first_spike")
    trace.spikes["output"][0, 2, 1] = 1  # only one fires
    trace.spikes["output"][1, 0, 1] = trace.spikes["output"][1, 1:, 0] = 1  # more spikes do not help
    trace.spikes["output"][2, 1, :] = 1  # the lowest among equals
    assert trace.predictions().tolist() == [1, 1, 0, 0]
    assert trace.ties().tolist() == [False, False, True, True]  # the last is silent


def test_the_highest_potential_tells_the_class_where_it_is_read_out():
    trace = replace(trace_of(samples=3), readout="potential", potential=np.array([[5, 7], [-1, -3], [4, 4]]))
    trace.spikes["output"][:, :, 0] = 1  # spikes do not count
    assert trace.predictions().tolist() == [1, 0, 0]
    assert trace.ties().tolist() == [False, False, True]


def test_a_neuron_that_fires_last_beats_a_silent_one():
    trace = replace(trace_of(samples=1), readout="first_spike")
    trace.spikes["output"][0, 2, 1] = 1
    assert trace.scores().tolist() == [[-3, -2]]
    assert trace.ties().tolist() == [False]


def test_counted_spikes_do_not_overflow():
    trace = trace_of(samples=1, steps=300)
    trace.spikes["output"][0, :, 1] = 1
    trace.spikes["output"][0, :100, 0] = 1
    assert trace.predictions().tolist() == [1]


def test_traces_that_cannot_be_compared_are_named_with_their_layers():
    with pytest.raises(
        ValueError, match=r"layers and shapes are \{'hidden': \(2, 3, 4\), .*\} and \{'hidden': \(2, 4, 4\)"
    ):
        first_difference(trace_of(), trace_of(steps=4))
