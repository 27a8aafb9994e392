"""The schedule of a program on a chip where every connection takes one time step.

A program uses aligned time: step ``t`` of every group belongs to input step ``t``, and a connection without delay
delivers the spikes of step ``t`` in step ``t``. On the chip, a group works ``latency`` steps after the input, and a
connection on a short path delays its spikes so that parallel paths have the same length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from esl_neuro.compiler.program import INPUT, Program


class Link(Protocol):
    """A connection from one group to another, with integer or floating-point weights."""

    @property
    def source(self) -> str:
        """Name of the group, or ``"input"``."""

    @property
    def target(self) -> str:
        """Name of the group."""

    @property
    def delay(self) -> int:
        """Delay of the spikes, in steps."""


@dataclass(frozen=True)
class Timing:
    """The schedule of a program.

    Attributes
    ----------
    latency : dict of str to int
        Steps by which each group works after the input (0 for the input itself).
    hold : tuple of int
        For each connection, the delay in steps beyond the one step that every connection takes.
    flush : int
        Steps between two samples in which all groups are silent and reset, because spikes of the last sample are still
        in transit: the longest delay. 0 for a network without delays and loops.
    """

    latency: dict[str, int]
    hold: tuple[int, ...]
    flush: int

    @property
    def depth(self) -> int:
        """Latency of the slowest group."""
        return max(self.latency.values())


class TooFast(Exception):
    """A loop has more connections than steps of delay.

    Attributes
    ----------
    groups : tuple of str
        The groups of the loop.
    """

    def __init__(self, groups: tuple[str, ...]) -> None:
        super().__init__(f"the loop {' -> '.join((*groups, groups[0]))} has fewer steps of delay than connections")
        self.groups = groups


def timing(program: Program) -> Timing:
    """Return the schedule of a program, with the smallest possible latencies.

    ``latency[target] >= latency[source] + 1 - delay`` for every connection.

    Raises
    ------
    TooFast
        If a loop has more connections than steps of delay, so that no schedule exists.
    """
    latency = latencies([group.name for group in program.groups], program.connections)
    hold = tuple(latency[each.target] - latency[each.source] - 1 + each.delay for each in program.connections)
    return Timing(latency, hold, max((each.delay for each in program.connections), default=0))


def latencies(groups: list[str], connections: Sequence[Link]) -> dict[str, int]:
    """Return the longest paths, where each connection counts ``1 - delay`` steps; see :func:`timing`."""
    latency = {INPUT: 0, **dict.fromkeys(groups, 1)}
    before: dict[str, str] = {}
    for _ in range(len(groups) + 1):
        late = [each for each in connections if latency[each.source] + 1 - each.delay > latency[each.target]]
        if not late:
            return latency
        for each in late:
            latency[each.target] = max(latency[each.target], latency[each.source] + 1 - each.delay)
            before[each.target] = each.source
    raise TooFast(_loop(before, late[0].target))


def _loop(before: dict[str, str], start: str) -> tuple[str, ...]:
    """Walk back until a group repeats; the groups in between form a loop."""
    seen = [start]
    while before[seen[-1]] not in seen:
        seen.append(before[seen[-1]])
    return tuple(reversed(seen[seen.index(before[seen[-1]]) :]))
