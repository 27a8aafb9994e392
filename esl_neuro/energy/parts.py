"""Dynamic, static and total energy of one estimate, as medians with their 5-95 % interval.

A median of a sum is not the sum of medians, so dynamic and static energy add up to the total only nearly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from esl_neuro.energy.estimate import OPERATIONS, STATIC_POWER, Estimate, Term
from esl_neuro.energy.uncertainty import Draws, quantiles


@dataclass(frozen=True)
class Energy:
    """A part of the energy of one sample.

    Attributes
    ----------
    median_pj, low_pj, high_pj : float
        Median, 5 % and 95 % quantile, in pJ.
    lower_bound : bool
        True if the energy is at least this.
    """

    median_pj: float
    low_pj: float
    high_pj: float
    lower_bound: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return vars(self).copy()


@dataclass(frozen=True)
class Parts:
    """The parts of an estimate; None where nothing is published for a part.

    Attributes
    ----------
    dynamic, static, total : Energy or None
        Energy of the operations, of the static power over the time of the sample, and both. A board of a processor has
        a total only, operations without a chip have a dynamic energy only.
    """

    dynamic: Energy | None = None
    static: Energy | None = None
    total: Energy | None = None


def parts(estimate: Estimate, draws: Draws) -> Parts:
    """Return dynamic, static and total energy, each where the estimate has it; nothing if it is refused."""
    if not estimate.terms:
        return Parts()
    whole = _energy(estimate.terms, estimate.lower_bound, draws)
    if estimate.level == OPERATIONS:
        return Parts(dynamic=whole)
    held = [term for term in estimate.terms if term.what.startswith(STATIC_POWER)]
    if not held:
        return Parts(total=whole)
    rest = [term for term in estimate.terms if term not in held]
    return Parts(_energy(rest, estimate.lower_bound, draws), _energy(held, False, draws), whole)


def _energy(terms: Sequence[Term], lower_bound: bool, draws: Draws) -> Energy:
    low, median, high = quantiles(np.sum([term.sample(draws) for term in terms], axis=0))
    return Energy(median, low, high, lower_bound)
