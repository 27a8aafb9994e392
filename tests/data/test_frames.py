"""Frames, against a loop over single events."""

from __future__ import annotations

import math
import warnings
from bisect import bisect_right
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esl_neuro.data.frames import CUTS, EVENT, FrameSettings, frames, shrink
from esl_neuro.errors import BadInput

SHAPE = (2, 3, 4)

events_lists = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 3), st.integers(0, 2), st.integers(0, 1)), max_size=40
)


def recording(events):
    return np.array(events, dtype=EVENT)


def slow_frames(events, steps, cut, binary):
    """Frame bounds as fractions, then one event after the other."""
    ordered = sorted(events, key=lambda event: event[0])
    result = np.zeros((steps, *SHAPE), dtype=np.int64)
    if cut == "count":
        positions = list(range(len(ordered)))
        bounds = [Fraction(len(ordered) * frame, steps) for frame in range(steps)]
    else:
        positions = [event[0] for event in ordered]
        length = positions[-1] - positions[0] + 1 if positions else 1
        bounds = [Fraction(length * frame, steps) + (positions[0] if positions else 0) for frame in range(steps)]
    for position, (_, x, y, p) in zip(positions, ordered, strict=True):
        frame = bisect_right(bounds, position) - 1
        result[frame, p, y, x] = 1 if binary else result[frame, p, y, x] + 1
    return result


@given(events=events_lists, steps=st.integers(1, 12), cut=st.sampled_from(["count", "time"]), binary=st.booleans())
def test_frames_equal_the_loop(events, steps, cut, binary):
    result = frames(recording(events), steps, SHAPE, cut, binary)
    assert result.dtype == (np.uint8 if binary else np.uint16)
    assert result.shape == (steps, *SHAPE)
    assert np.array_equal(result, slow_frames(events, steps, cut, binary))


@given(events=events_lists, steps=st.integers(1, 12))
def test_equal_count_is_equal_and_loses_nothing(events, steps):
    sizes = frames(recording(events), steps, SHAPE, "count", binary=False).sum(axis=(1, 2, 3), dtype=np.int64)
    assert sizes.sum() == len(events)
    assert sizes.max() - sizes.min() <= 1


@given(events=events_lists, seed=st.integers(0, 9), cut=st.sampled_from(["count", "time"]))
def test_order_of_storage_does_not_matter(events, seed, cut):
    # Times are made unique, because events of the same moment have no order of their own.
    timed = [(time * 100 + number, *rest) for number, (time, *rest) in enumerate(events)]
    shuffled = [timed[index] for index in np.random.default_rng(seed).permutation(len(timed))]
    assert np.array_equal(
        frames(recording(timed), 5, SHAPE, cut, False), frames(recording(shuffled), 5, SHAPE, cut, False)
    )


def test_frames_by_hand():
    events = recording([(0, 0, 0, 0), (1, 0, 0, 0), (2, 3, 2, 1), (99, 1, 0, 0)])
    counted = frames(events, 2, SHAPE, "count", binary=False)
    assert counted[0, 0, 0, 0] == 2
    assert counted[1, 1, 2, 3] == counted[1, 0, 0, 1] == 1
    timed = frames(events, 2, SHAPE, "time", binary=False)
    assert timed[0].sum() == 3
    assert timed[1, 0, 0, 1] == 1
    assert frames(events, 2, SHAPE)[0, 0, 0, 0] == 1


@pytest.mark.parametrize("cut", ["count", "time"])
def test_no_events_are_empty_frames(cut):
    assert not frames(recording([]), 3, SHAPE, cut).any()


@pytest.mark.parametrize(("event", "message"), [((0, 4, 0, 0), "x = 4, expected 0 to 3"), ((0, 0, -1, 0), "y = -1")])
def test_event_outside_the_sensor_is_refused(event, message):
    with pytest.raises(BadInput, match=f"tape: event with {message}"):
        frames(recording([event]), 2, SHAPE, origin="tape")


def test_count_that_does_not_fit_is_refused():
    many = np.zeros(65_536, dtype=EVENT)
    assert frames(many[1:], 1, SHAPE, "count", binary=False).max() == 65_535
    with pytest.raises(BadInput, match="65536 events at one place of a frame, at most 65535 fit; use more frames"):
        frames(many, 1, SHAPE, "count", binary=False)


@given(events=events_lists, size=st.tuples(st.integers(1, 3), st.integers(1, 4)))
def test_shrinking_sums_areas(events, size):
    shrunk = frames(shrink(recording(events), SHAPE[1:], size), 2, (2, *size), "count", binary=False)
    full = frames(recording(events), 2, SHAPE, "count", binary=False)
    expected = np.zeros((2, 2, *size), dtype=np.int64)
    for row in range(SHAPE[1]):
        for column in range(SHAPE[2]):
            expected[:, :, row * size[0] // SHAPE[1], column * size[1] // SHAPE[2]] += full[:, :, row, column]
    assert np.array_equal(shrunk, expected)


def test_areas_of_48_in_128_are_2_or_3_pixels_wide():
    events = recording([(0, x, x, 0) for x in range(128)])
    moved = shrink(events, (128, 128), (48, 48))
    for axis in "xy":
        widths = np.bincount(moved[axis])
        assert widths.size == 48
        assert set(widths.tolist()) == {2, 3}


def test_settings_are_checked():
    assert CUTS.names() == ["count", "time"]
    with pytest.raises(BadInput, match="steps is 0, expected 1 or more"):
        FrameSettings(steps=0)
    with pytest.raises(BadInput, match=r"cut of events into frames 'cont' is unknown; did you mean 'count'\?"):
        FrameSettings(cut="cont")
    with pytest.raises(BadInput, match=r"size is \(0, 3\)"):
        FrameSettings(size=(0, 3))


def steady(length, every=10_000, start=100_000):
    """A recording of a constant event rate after a silent start, in microseconds."""
    return recording([(time, 0, 0, 0) for time in range(start, length, every)])


def test_frames_of_a_duration_are_the_same_time_in_every_recording():
    """The same rate gives the same frame, and silence at the start stays; "time" stretches the short recording."""
    short, long = steady(400_000), steady(1_200_000)
    counts = [
        frames(each, 12, SHAPE, "duration", False, duration=100_000).sum(axis=(1, 2, 3)) for each in (short, long)
    ]
    assert counts[0].tolist() == [0, 10, 10, 10, *[0] * 8]
    assert counts[1].tolist() == [0, *[10] * 11]
    assert frames(short, 10, SHAPE, "time", False).sum(axis=(1, 2, 3)).tolist() == [3] * 10


def test_events_after_the_last_frame_are_counted():
    with pytest.warns(UserWarning, match="gesture: 20 of 110 events come after the last frame and are left out"):
        found = frames(steady(1_200_000), 10, SHAPE, "duration", False, "gesture", 100_000)
    assert found.sum() == 90


@given(events=events_lists, steps=st.integers(1, 12), duration=st.integers(5, 60))
def test_every_event_is_in_the_frame_of_its_time(events, steps, duration):
    late = [event for event in events if event[0] >= steps * duration]
    expected = np.zeros((steps, *SHAPE), int)
    for time, x, y, p in events:
        if time < steps * duration:
            expected[time // duration, p, y, x] += 1
    if late:
        with pytest.warns(UserWarning, match=f"{len(late)} of {len(events)} events"):
            found = frames(recording(events), steps, SHAPE, "duration", False, duration=duration)
    else:
        found = frames(recording(events), steps, SHAPE, "duration", False, duration=duration)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"cut": "duration"}, "needs the duration of a frame"),
        ({"cut": "time", "duration": 5}, "a duration of 5 is given, but the cut is 'time'"),
    ],
)
def test_a_duration_belongs_to_its_cut(settings, words):
    with pytest.raises(BadInput, match=words):
        FrameSettings(**settings)
    with pytest.raises(BadInput, match=words):
        frames(steady(400_000), 10, SHAPE, **settings)


@given(events=events_lists, steps=st.integers(1, 12), duration=st.integers(5, 60), start=st.integers(0, 60))
def test_a_later_start_moves_the_frames(events, steps, duration, start):
    expected = np.zeros((steps, *SHAPE), int)
    early = late = 0
    for time, x, y, p in events:
        frame = math.floor((time - start) / duration)
        early += frame < 0
        late += frame >= steps
        if 0 <= frame < steps:
            expected[frame, p, y, x] += 1
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = frames(recording(events), steps, SHAPE, "duration", False, duration=duration, start=start)
    assert np.array_equal(found, expected)
    words = [f"recording: {early} of {len(events)} events come before the first frame and are left out"] * (early > 0)
    words += [f"recording: {late} of {len(events)} events come after the last frame and are left out"] * (late > 0)
    assert [str(warning.message) for warning in caught] == words


@pytest.mark.parametrize("settings", [{"cut": "time", "start": 5}, {"cut": "duration", "duration": 5, "start": -1}])
def test_a_start_belongs_to_frames_of_a_duration(settings):
    with pytest.raises(BadInput, match=r"frames: the start is (5|-1) with the cut .* allowed: 0 or more with cut"):
        FrameSettings(**settings)
    with pytest.raises(BadInput, match="the start is"):
        frames(steady(400_000), 10, SHAPE, **settings)


def test_an_event_before_the_start_is_refused():
    with pytest.raises(BadInput, match="an event is at time -3, before the start"):
        frames(recording([(-3, 0, 0, 0)]), 2, SHAPE, "duration", duration=10)
