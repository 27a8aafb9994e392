"""Schedules of the share of connections replaced during training.

``schedule(iteration, alpha, end)`` returns the share; every schedule is 0 from ``end`` on.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from esl_neuro.registry import Registry

Schedule = Callable[[int, float, int], float]

SCHEDULES: Registry[Schedule] = Registry("schedule")

# Final value of the cosine of sparse momentum (Dettmers & Zettlemoyer 2019).
FLOOR = 0.005


@SCHEDULES.register
def cosine(iteration: int, alpha: float, end: int) -> float:
    """Return the share of connections to replace at an iteration (ESL-SNNs eq. 2).

    ``f(t) = alpha / 2 (1 + cos(pi t / T_end))`` before ``T_end``, 0 from then on.

    Parameters
    ----------
    iteration : int
        ``t``.
    alpha : float
        Share at ``t = 0``.
    end : int
        ``T_end``, the iteration from which the structure is fixed.
    """
    if iteration >= end:
        return 0.0
    return alpha / 2 * (1 + math.cos(math.pi * iteration / end))


cosine_fraction = cosine  # a descriptive name for imports without the module's name


@SCHEDULES.register
def cosine_floor(iteration: int, alpha: float, end: int) -> float:
    """Replace at least :data:`FLOOR` of the connections: ``f(t) = F + (alpha - F) / 2 (1 + cos(pi t / T_end))``.

    As in sparse momentum and in ITOP; 0 from ``T_end`` on, and constant ``alpha`` if it is below the floor.
    """
    if iteration >= end:
        return 0.0
    floor = min(FLOOR, alpha)
    return floor + cosine(iteration, alpha - floor, end)


@SCHEDULES.register
def constant(iteration: int, alpha: float, end: int) -> float:
    """Replace the same share until the end (SET): ``f(t) = alpha`` before ``T_end``, 0 from then on."""
    return alpha if iteration < end else 0.0


@SCHEDULES.register
def linear(iteration: int, alpha: float, end: int) -> float:
    """Replace a linearly decreasing share: ``f(t) = alpha (1 - t / T_end)`` before ``T_end``, 0 from then on."""
    return alpha * (1 - iteration / end) if iteration < end else 0.0
