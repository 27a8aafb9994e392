"""Compare two networks at the same prices: common uncertainty cancels in the ratios."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from esl_neuro.energy.counts import Counts
from esl_neuro.energy.estimate import Estimate, comparable, relation
from esl_neuro.energy.modes import pace_name, paces
from esl_neuro.energy.prices import price
from esl_neuro.energy.uncertainty import Draws, quantiles
from esl_neuro.hardware import PROCESSORS, HardwareTarget, load_target

SCHEMA = 3
COMPARED = (
    "sop_effective",
    "sop_executed",
    "sop_executed_dense",
    "macs_effective",
    "macs_dense",
    "neuron_updates",
    "spikes_in",
    "spikes_out",
)


@dataclass(frozen=True)
class Side:
    """One of two networks.

    Attributes
    ----------
    name, ran_on : str
        Name of the network, and a description of its inputs.
    accuracy : float or None
        Share of correct predictions; None if unknown.
    counts : Counts
        Counts of its run.
    """

    name: str
    ran_on: str
    accuracy: float | None
    counts: Counts

    @property
    def stored(self) -> int:
        """Stored connections."""
        return sum(layer.stored for layer in self.counts.layers)


@dataclass(frozen=True)
class EstimateComparison:
    """Two estimates by one model on one target.

    Attributes
    ----------
    first, second : Estimate
        Estimates of the two networks.
    ratio, low, high : float
        Median and 5-95 % interval of first / second, with common draws of the constants.
    probability : float
        Probability that the first network needs less energy.
    first_median_pj, second_median_pj : float
        Median energies per sample.
    """

    first: Estimate
    second: Estimate
    ratio: float
    low: float
    high: float
    probability: float
    first_median_pj: float
    second_median_pj: float

    @property
    def equal(self) -> bool:
        """Whether both need the same in every draw, so that neither needs less."""
        return self.low == self.high == 1

    @property
    def relation(self) -> str:
        """Bound of the ratio, see :func:`esl_neuro.energy.estimate.relation`."""
        return relation(self.first, self.second)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; ``first_lower_bound`` if the energy of the first is at least what is given."""
        numbers = {key: value for key, value in vars(self).items() if key not in ("first", "second")}
        energies = {
            side: None if estimate.energy_pj is None else estimate.energy_pj.nominal
            for side, estimate in (("first_nominal_pj", self.first), ("second_nominal_pj", self.second))
        }
        return {
            "target": self.first.target,
            "model": self.first.model,
            "scope": self.first.scope,
            "relation": self.relation,
            "first_lower_bound": self.first.lower_bound,
            "second_lower_bound": self.second.lower_bound,
            **energies,
            **numbers,
        }


@dataclass(frozen=True)
class Crossing:
    """The first network on a processor relative to the second one on a chip, the comparison of ESL-SNNs.

    Attributes
    ----------
    processor, chip : Estimate
        Estimates of the first and of the second network.
    pace : str
        ``"free running"``, or the step of real time.
    ratio, low, high : float
        Median and 5-95 % interval of processor / chip.
    probability : float
        Probability that the chip needs less.
    """

    processor: Estimate
    chip: Estimate
    pace: str
    ratio: float
    low: float
    high: float
    probability: float

    @property
    def relation(self) -> str:
        """Bound of the ratio, see :func:`esl_neuro.energy.estimate.relation`."""
        return relation(self.processor, self.chip)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        numbers = {key: value for key, value in vars(self).items() if key not in ("processor", "chip")}
        return {
            "processor": self.processor.name,
            "processor_scope": self.processor.scope,
            "chip": self.chip.name,
            "chip_scope": self.chip.scope,
            "relation": self.relation,
            "processor_lower_bound": self.processor.lower_bound,
            "chip_lower_bound": self.chip.lower_bound,
            **numbers,
        }


@dataclass(frozen=True)
class ComparisonReport:
    """Two networks on several targets.

    Attributes
    ----------
    sides : tuple of Side
        The two networks.
    comparisons : tuple of EstimateComparison
        One per target and price model with a number for both.
    crossings : tuple of Crossing
        One for each price model of a processor's board and each of a whole chip or board, running freely and in real
        time.
    """

    sides: tuple[Side, Side]
    comparisons: tuple[EstimateComparison, ...]
    crossings: tuple[Crossing, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "schema": SCHEMA,
            "names": [side.name for side in self.sides],
            "ran_on": [side.ran_on for side in self.sides],
            "accuracy": [side.accuracy for side in self.sides],
            "stored": [side.stored for side in self.sides],
            "samples": [side.counts.samples for side in self.sides],
            "steps": [side.counts.steps for side in self.sides],
            "counts_per_sample": {name: [side.counts.per_sample(name) for side in self.sides] for name in COMPARED},
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
            "crossings": [crossing.to_dict() for crossing in self.crossings],
        }


def compare_counts(first: Side, second: Side, targets: Sequence[str], tick_s: float | None) -> ComparisonReport:
    """Price two runs with every model of every target, and compute the ratios.

    Raises
    ------
    BadInput
        If a target is unknown, or a run has no samples.
    """
    hardware, draws = [load_target(name) for name in targets], Draws()
    ours, theirs = (
        [estimate for target in hardware for estimate in price(side.counts, target, tick_s)] for side in (first, second)
    )
    same = [_compare(a, b, draws) for a, b in zip(ours, theirs, strict=True)]
    crossed = [crossing for pace in paces(tick_s) for crossing in _crossings(first, second, hardware, pace, draws)]
    return ComparisonReport(
        (first, second),
        tuple(comparison for comparison in same if comparison is not None),
        tuple(crossed),
    )


def _crossings(
    first: Side, second: Side, hardware: Sequence[HardwareTarget], pace: float | None, draws: Draws
) -> Iterator[Crossing]:
    """Yield the boards of processors with the first network over the chips with the second one, at one pace."""
    boards = [e for target in hardware if target.target.kind in PROCESSORS for e in price(first.counts, target, pace)]
    chips = [
        e for target in hardware if target.target.kind not in PROCESSORS for e in price(second.counts, target, pace)
    ]
    for processor in boards:
        for chip in chips:
            found = _ratio(processor, chip, draws) if comparable(chip, processor) else None
            if found is not None:
                ratio, low, high, below = found
                yield Crossing(processor, chip, pace_name(pace), ratio, low, high, 1 - below)


def _compare(first: Estimate, second: Estimate, draws: Draws) -> EstimateComparison | None:
    found = _ratio(first, second, draws)
    if found is None:
        return None
    medians = (float(np.median(drawn)) for drawn in (first.sample(draws), second.sample(draws)) if drawn is not None)
    return EstimateComparison(first, second, *found, *medians)


def _ratio(over: Estimate, under: Estimate, draws: Draws) -> tuple[float, float, float, float] | None:
    """Return median and 5-95 % interval of a ratio, and the probability that it is below one; None if refused."""
    a, b = over.sample(draws), under.sample(draws)
    if a is None or b is None or not np.all(b > 0):
        return None
    low, median, high = quantiles(a / b)
    return median, low, high, float(np.mean(a < b))
