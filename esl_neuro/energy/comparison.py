"""Two networks by the same prices: ratios in which what both share cancels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from esl_neuro.energy.counts import Counts
from esl_neuro.energy.estimate import Estimate
from esl_neuro.energy.prices import price
from esl_neuro.energy.uncertainty import Draws, quantiles
from esl_neuro.hardware import load_target

SCHEMA = 1
COMPARED = ("sop_effective", "sop_executed", "sop_executed_dense", "neuron_updates", "spikes_in", "macs_dense")


@dataclass(frozen=True)
class Comparison:
    """Two estimates by one model on one target.

    Attributes
    ----------
    first, second : Estimate
        Of the two networks.
    ratio, low, high : float
        Median and 5-95 % interval of first / second, constants drawn once for both.
    probability : float
        Probability that the first needs less.
    """

    first: Estimate
    second: Estimate
    ratio: float
    low: float
    high: float
    probability: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        numbers = {key: value for key, value in vars(self).items() if key not in ("first", "second")}
        energies = {
            side: None if estimate.energy_pj is None else estimate.energy_pj.nominal
            for side, estimate in (("first_pj", self.first), ("second_pj", self.second))
        }
        return {
            "target": self.first.target,
            "model": self.first.model,
            "scope": self.first.scope,
            **energies,
            **numbers,
        }


@dataclass(frozen=True)
class ComparisonReport:
    """Two networks on several targets.

    Attributes
    ----------
    names : tuple of str
        Of the two networks.
    counts : tuple of Counts
        Of the two networks.
    comparisons : tuple of Comparison
        One per target and price model that has a number for both.
    """

    names: tuple[str, str]
    counts: tuple[Counts, Counts]
    comparisons: tuple[Comparison, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "schema": SCHEMA,
            "names": list(self.names),
            "counts_per_sample": {name: [c.per_sample(name) for c in self.counts] for name in COMPARED},
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
        }


def compare_counts(
    names: tuple[str, str], counts: tuple[Counts, Counts], targets: Sequence[str], tick_s: float
) -> ComparisonReport:
    """Price two runs by every model of every target and take the ratios.

    Raises
    ------
    BadInput
        If a target is unknown, or a run has no samples.
    """
    found, draws = [], Draws()
    for name in targets:
        target = load_target(name)
        pairs = zip(*(price(each, target, tick_s) for each in counts), strict=True)
        found += [_compare(first, second, draws) for first, second in pairs if first.terms and second.terms]
    return ComparisonReport(names, counts, tuple(comparison for comparison in found if comparison is not None))


def _compare(first: Estimate, second: Estimate, draws: Draws) -> Comparison | None:
    a, b = first.sample(draws), second.sample(draws)
    if a is None or b is None or not np.all(b > 0):
        return None
    low, median, high = quantiles(a / b)
    return Comparison(first, second, median, low, high, float(np.mean(a < b)))
