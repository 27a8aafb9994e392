"""When things happen on a chip where every connection takes one time step.

A program speaks of aligned time: step ``t`` of every group belongs to input step ``t``, and a connection without delay
carries the spikes of step ``t`` into step ``t``. On the chip the group then works ``latency`` steps after the input,
and a connection on a short path holds its spikes back, so that paths that meet are equally long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from esl_neuro.compiler.program import INPUT, Program


class Link(Protocol):
    """What leads from one group to another: a connection of integers or of floating-point numbers."""

    @property
    def source(self) -> str:
        """Name of the group, or ``"input"``."""

    @property
    def target(self) -> str:
        """Name of the group."""

    @property
    def delay(self) -> int:
        """Steps by which spikes are late."""


@dataclass(frozen=True)
class Timing:
    """The schedule of a program.

    Attributes
    ----------
    latency : dict of str to int
        Steps by which each group works after the input (0 for the input itself).
    hold : tuple of int
        For each connection, the steps that it holds spikes back besides the one that every connection takes.
    flush : int
        Steps between two samples during which all groups must be silent and forget, because spikes of the last sample
        are still under way: the longest delay. 0 for a network without delays and loops.
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
    """Return the schedule of a program: the smallest latencies that every connection can keep.

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
    """Longest paths, each connection being worth ``1 - delay`` steps; see :func:`timing`."""
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
    """Walk back until a group comes again; the groups between are a loop."""
    seen = [start]
    while before[seen[-1]] not in seen:
        seen.append(before[seen[-1]])
    return tuple(reversed(seen[seen.index(before[seen[-1]]) :]))
