"""Convert the events of a sensor to frames with a time axis."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esl_neuro.errors import BadInput
from esl_neuro.registry import Registry

# Time, column, row, polarity; the unit of time is arbitrary.
EVENT = np.dtype([("t", np.int64), ("x", np.int64), ("y", np.int64), ("p", np.int64)])
Events = NDArray[np.void]

CUTS: Registry[Callable[[NDArray[np.int64], int], NDArray[np.int64]]] = Registry("cut of events into frames")


@dataclass(frozen=True)
class FrameSettings:
    """Settings of the conversion of recordings to frames.

    Attributes
    ----------
    steps : int
        Frames per recording.
    cut : str
        ``"count"``: equal numbers of events per frame; ``"time"``: equal parts of the recording, from first to last
        event; ``"duration"``: frames of ``duration`` from ``start``, the same in every recording, as for a chip that
        runs in real time.
    binary : bool
        True: 1 for at least one event; False: number of events.
    size : tuple of int, optional
        Height and width of the frames; None: the default of the data set.
    duration : int, optional
        Duration of a frame in the unit of the event times (microseconds in all data sets), for ``"duration"`` only.
    start : int
        Time in the recording at which the first frame begins, in the same unit, for ``"duration"`` only.
    """

    steps: int = 10
    cut: str = "count"
    binary: bool = True
    size: tuple[int, int] | None = None
    duration: int | None = None
    start: int = 0

    def __post_init__(self) -> None:
        _check_cut(self.cut, self.duration, self.start)
        if self.steps < 1:
            raise BadInput(f"frames: steps is {self.steps}, expected 1 or more")
        if self.size is not None and min(self.size) < 1:
            raise BadInput(f"frames: size is {self.size}, expected a height and a width of 1 or more")


DURATION = "duration"


def _check_cut(cut: str, duration: int | None, start: int) -> None:
    if start < 0 or (start and cut != DURATION):
        raise BadInput(f"frames: the start is {start} with the cut '{cut}'; allowed: 0 or more with cut '{DURATION}'")
    if cut == DURATION:
        if duration is None or duration < 1:
            raise BadInput(f"frames: the cut '{DURATION}' needs the duration of a frame, 1 or more; it is {duration}")
        return
    if duration is not None:
        raise BadInput(f"frames: a duration of {duration} is given, but the cut is '{cut}'; use cut '{DURATION}'")
    CUTS[cut]


@CUTS.register
def count(times: NDArray[np.int64], steps: int) -> NDArray[np.int64]:
    """Equal count: the k-th of n events, in order of time, is in frame ``floor(k steps / n)``."""
    order = np.argsort(times, kind="stable")
    slots = np.empty(times.size, dtype=np.int64)
    slots[order] = np.arange(times.size, dtype=np.int64) * steps // max(times.size, 1)
    return slots


@CUTS.register
def time(times: NDArray[np.int64], steps: int) -> NDArray[np.int64]:
    """Equal time: from first to last event, ``floor((t - t_first) steps / (t_last - t_first + 1))``."""
    if times.size == 0:
        return np.zeros(0, dtype=np.int64)
    elapsed = times - times.min()
    slots: NDArray[np.int64] = elapsed * steps // (elapsed.max() + 1)
    return slots


def frames(
    events: Events,
    steps: int,
    shape: tuple[int, int, int],
    cut: str = "count",
    binary: bool = True,
    origin: str = "recording",
    duration: int | None = None,
    start: int = 0,
) -> NDArray[Any]:
    """Collect events in frames; every event is in exactly one frame.

    With the cut ``"duration"``, events before the first and after the last frame are left out, and warnings count
    them.

    Parameters
    ----------
    events : structured array, shape (events,)
        Fields ``t``, ``x``, ``y``, ``p``, as in :data:`EVENT`; in any order.
    steps : int
        Number of frames.
    shape : tuple of int
        Polarities, height and width of the sensor.
    cut : str
        ``"count"`` or ``"time"``, see :data:`CUTS`; or ``"duration"``.
    binary : bool
        True: 1 for at least one event; False: number of events.
    origin : str
        Source of the events, for messages.
    duration : int, optional
        Duration of a frame, for ``"duration"``: frame ``k`` holds the events of
        ``k duration <= t - start < (k + 1) duration``.
    start : int
        Beginning of the first frame, for ``"duration"``.

    Returns
    -------
    array, shape (steps, polarities, height, width)
        uint8 if binary, else uint16. A recording without events gives empty frames.

    Raises
    ------
    BadInput
        If an event is outside the sensor or before time 0, a count overflows, or the cut has no duration.
    """
    _check_cut(cut, duration, start)
    if cut == DURATION:
        assert duration is not None  # checked above
        events = _within(events, start, start + steps * duration, origin)
    place = tuple(events[name].astype(np.int64) for name in ("p", "y", "x"))
    for axis, places, size in zip("pyx", place, shape, strict=True):
        if places.size and (places.min() < 0 or places.max() >= size):
            outside = int(places.min() if places.min() < 0 else places.max())
            raise BadInput(f"{origin}: event with {axis} = {outside}, expected 0 to {size - 1}")
    times = events["t"].astype(np.int64)
    slots = (times - start) // duration if duration is not None else CUTS[cut](times, steps)
    volume = (steps, *shape)
    cells = np.ravel_multi_index((slots, *place), volume)
    if binary:
        fired = np.zeros(math.prod(volume), dtype=np.uint8)
        fired[cells] = 1
        return fired.reshape(volume)
    counts = np.bincount(cells, minlength=math.prod(volume))
    largest, maximum = counts.max(initial=0), np.iinfo(np.uint16).max
    if largest > maximum:
        raise BadInput(f"{origin}: {largest} events at one place of a frame, at most {maximum} fit; use more frames")
    return counts.astype(np.uint16).reshape(volume)


def _within(events: Events, start: int, end: int, origin: str) -> Events:
    """Return the events from a start to before an end, and warn of the others."""
    times = events["t"].astype(np.int64)
    if times.min(initial=0) < 0:
        raise BadInput(f"{origin}: an event is at time {times.min()}, before the start of the recording")
    early, late = times < start, times >= end
    for left_out, when in ((early, "before the first"), (late, "after the last")):
        if left_out.any():
            warnings.warn(
                f"{origin}: {int(left_out.sum()):,} of {len(events):,} events come {when} frame and are left out",
                stacklevel=3,
            )
    return events[~(early | late)]


def shrink(events: Events, sensor: tuple[int, int], size: tuple[int, int]) -> Events:
    """Move events to a smaller sensor: row ``y`` to ``floor(y height_after / height_before)``, columns alike.

    Every event is kept, so counts are sums over areas and binary frames stay binary. (TET instead resizes binary frames
    with a bilinear filter, which gives graded values.)

    Parameters
    ----------
    events : structured array, shape (events,)
        Fields ``x`` and ``y`` among others.
    sensor, size : tuple of int
        Height and width before and after.
    """
    moved = events.copy()
    for axis, before, after in zip("yx", sensor, size, strict=True):
        moved[axis] = events[axis].astype(np.int64) * after // before
    return moved
