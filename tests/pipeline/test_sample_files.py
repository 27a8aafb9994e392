"""Files of inputs: arrays found by name, events counted once each, and nothing guessed."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esl_neuro.errors import BadInput
from esl_neuro.pipeline.inputs import arrange
from esl_neuro.pipeline.sample_files import read_sample_file

SPIKES = (np.random.default_rng(0).random((5, 4, 6)) < 0.4).astype(np.uint8)


def write(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data.npz"


def test_dense_inputs_and_labels_are_found_by_name(path):
    labels = np.array([0, 1, 2, 1, 0])
    for name in ("input", "inputs", "spikes", "data", "x", "anything"):
        samples = arrange(write(path, labels=labels, **{name: SPIKES}), (6,), 4)
        assert np.array_equal(samples.values, SPIKES)
        assert samples.labels.tolist() == labels.tolist()
        assert samples.name == f"5 samples of {path}"
    assert arrange(write(path, a=1 - SPIKES, input=SPIKES), (6,), 4).labels is None


def test_a_file_whose_input_is_not_clear_names_its_arrays(path):
    with pytest.raises(BadInput, match="contains the arrays 'a', 'b'; name one of them 'input'"):
        arrange(write(path, a=SPIKES, b=SPIKES), (6,), 4)
    with pytest.raises(BadInput, match="contains the arrays 'x', 'data'; name one of them 'input'"):
        arrange(write(path, x=SPIKES, data=SPIKES), (6,), 4)
    with pytest.raises(BadInput, match="has the labels 'labels', 'targets'; keep one"):
        arrange(write(path, input=SPIKES, targets=np.zeros(5), labels=np.zeros(5)), (6,), 4)


def test_layouts_of_files_are_said_too(path):
    write(path, input=SPIKES.swapaxes(0, 1), labels=np.arange(5))
    assert np.array_equal(arrange(path, (6,), 4, "steps,samples,...").values, SPIKES)
    with pytest.raises(BadInput, match=r"data\.npz: .*The first axis fits the steps: give layout='steps,samples"):
        arrange(path, (6,), 4)
    with pytest.raises(BadInput, match=r"data\.npz: .*can be 4 samples of 5 steps or 5 samples of 4 steps"):
        arrange(path, (6,))


@pytest.mark.parametrize("labels", [np.zeros((5, 2)), np.full(5, 0.5), np.array(list("abcde"))])
def test_labels_that_are_no_classes_are_refused(path, labels):
    with pytest.raises(BadInput, match="give one whole number per sample"):
        arrange(write(path, input=SPIKES, labels=labels), (6,), 4)


def test_as_many_labels_as_samples(path):
    with pytest.raises(BadInput, match="4 labels are given for 5 samples"):
        arrange(write(path, input=SPIKES, labels=np.zeros(4)), (6,), 4)


@pytest.mark.parametrize("bad", [-SPIKES.astype(int), np.full((5, 4, 6), np.nan), SPIKES.astype(str)])
def test_values_that_no_network_takes_are_refused(path, bad):
    with pytest.raises(BadInput, match="'input' contains values that are negative or not numbers"):
        arrange(write(path, input=bad), (6,), 4)


def test_several_inputs_are_arrays_of_their_names(path):
    shape = {"left": (2,), "right": (4,)}
    write(path, right=SPIKES[:, :, 2:], left=SPIKES[:, :, :2], labels=np.arange(5))
    samples = arrange(path, shape, 4)
    assert np.array_equal(samples.values, SPIKES)
    assert samples.labels.tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(BadInput, match="has the arrays 'left'; the network has the inputs 'left', 'right'"):
        arrange(write(path, left=SPIKES), shape, 4)


# Events.


def events(**more):
    sample, step, line = np.nonzero(SPIKES)
    return {"sample": sample, "step": step, "line": line, **more}


def test_events_are_the_spikes_that_they_list(path):
    labels = np.arange(5)
    assert np.array_equal(arrange(write(path, **events(labels=labels)), (6,), 4).values, SPIKES)
    channel, row, column = np.unravel_index(events()["line"], (1, 2, 3))
    places = {**events(labels=labels), "channel": channel, "row": row, "column": column}
    del places["line"]
    assert np.array_equal(arrange(write(path, **places), (1, 2, 3), 4).values, SPIKES)


def test_events_with_times_are_in_the_step_that_their_time_falls_into(path):
    """Also where a boundary is not a binary fraction: 0.3 is 3 steps of 0.1, though 0.3 / 0.1 is less in floats."""
    timed = events(labels=np.arange(5))
    timed["time_s"] = timed.pop("step") * 0.1
    assert np.array_equal(arrange(write(path, **timed), (6,), 4, dt_s=0.1).values, SPIKES)
    timed["time_s"] = timed["time_s"] + 0.099
    assert np.array_equal(arrange(write(path, **timed), (6,), 4, dt_s=0.1).values, SPIKES)
    with pytest.raises(BadInput, match="'time_s' needs the time step"):
        arrange(path, (6,), 4)


def test_coinciding_events_count_once_and_this_is_said_but_values_are_added(path):
    twice = {name: np.concatenate([values, values]) for name, values in events().items()}
    samples = arrange(write(path, **twice), (6,), 4)
    assert np.array_equal(samples.values, SPIKES)
    count = int(SPIKES.sum())
    assert f"{count} of {2 * count} events coincide with another one and count once" in samples.name
    graded = arrange(write(path, value=np.full(2 * count, 0.25), **twice), (6,), 4)
    assert np.array_equal(graded.values, 0.5 * SPIKES)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"step": np.full(int(SPIKES.sum()), 4)},
            "have a step of 4 or more.*the network has 4 steps and 6 lines",
        ),
        ({"line": np.full(int(SPIKES.sum()), 6)}, "events have a line of 6 or more"),
        ({"labels": np.arange(3)}, "events have a sample of 3 or more"),
        ({"line": np.zeros(3, int)}, "give one entry per event"),
        ({"step": np.full(int(SPIKES.sum()), 0.5)}, "'step' contains numbers that are not whole"),
        ({"time_s": np.zeros(int(SPIKES.sum()))}, "events have both 'step' and 'time_s'"),
        ({"row": np.zeros(int(SPIKES.sum()), int)}, "events have 'line', 'row'; give 'line', or 'channel'"),
    ],
)
def test_events_that_contradict_the_network_or_themselves_are_refused(path, change, words):
    with pytest.raises(BadInput, match=words):
        arrange(write(path, **(events() | change)), (6,), 4)


def test_events_do_not_say_how_long_a_sample_is(path):
    with pytest.raises(BadInput, match="do not determine the number of steps"):
        arrange(write(path, **events()), (6,))
    with pytest.raises(BadInput, match="given for events, which name sample and step"):
        arrange(path, (6,), 4, "samples,steps,...")


# Damaged files.


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_a_file_that_is_cut_anywhere_is_refused_by_its_name(tmp_path, suffix):
    path = tmp_path / f"spikes{suffix}"
    np.save(path, SPIKES) if suffix == ".npy" else np.savez_compressed(path, input=SPIKES)
    whole = path.read_bytes()
    assert np.array_equal(read_sample_file(path).arrays["input"], SPIKES)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(BadInput, match=f"spikes{suffix}: "):
            read_sample_file(path)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(at=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_a_changed_byte_gives_samples_or_one_error(tmp_path, at, byte):
    path = tmp_path / "spikes.npz"
    np.savez_compressed(path, input=np.ones((3, 4, 5), np.uint8))
    content = bytearray(path.read_bytes())
    content[at % len(content)] = byte
    path.write_bytes(content)
    with contextlib.suppress(BadInput):
        assert arrange(path, (5,), 4).values.ndim == 3
