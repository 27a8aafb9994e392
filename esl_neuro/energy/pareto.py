"""Accuracy against energy: which cases of a sweep no other case beats in both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from esl_neuro.energy.parts import Energy


@dataclass(frozen=True)
class PricedCase:
    """Accuracy and energy of one case of a sweep on one target.

    Attributes
    ----------
    case : str
        Its name.
    line, place : str
        The line of the sweep's chart that it belongs to, and its place on that line; "" for a case of its own.
    target, model, covers : str
        Target, price model, and what the energy covers: operations, a chip or a board; "" without a figure.
    accuracy : float
        Mean accuracy of the integer network over the seeds, as a fraction.
    accuracy_stdev : float or None
        Sample standard deviation over the seeds; None for one seed.
    seeds, samples : int
        Runs behind the mean, and samples that each of them ran on.
    energy : Energy or None
        Energy of one sample, mean over the seeds; None without a figure.
    refusal : str
        Why there is no figure; else "".
    """

    case: str
    line: str
    place: str
    target: str
    model: str
    covers: str
    accuracy: float
    accuracy_stdev: float | None
    seeds: int
    samples: int
    energy: Energy | None
    refusal: str = ""

    def beats(self, other: PricedCase) -> bool:
        """Return whether it is as good as another case in accuracy and energy, and better in one; medians and means."""
        if self.energy is None or other.energy is None or self.target != other.target:
            return False
        least = self.energy.median_pj - other.energy.median_pj, other.accuracy - self.accuracy
        return max(least) <= 0 and min(least) < 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, energies in pJ per sample."""
        return {**vars(self), "energy": None if self.energy is None else self.energy.to_dict()}


def front(cases: Sequence[PricedCase]) -> tuple[PricedCase, ...]:
    """Return the cases that no other case of the same target beats, by energy; those without a figure are left out."""
    kept = [each for each in cases if each.energy is not None and not any(other.beats(each) for other in cases)]
    return tuple(sorted(kept, key=_median))


def by_target(cases: Iterable[PricedCase]) -> dict[str, list[PricedCase]]:
    """Return the cases of each target."""
    found: dict[str, list[PricedCase]] = {}
    for each in cases:
        found.setdefault(each.target, []).append(each)
    return found


def _median(case: PricedCase) -> float:
    assert case.energy is not None
    return case.energy.median_pj
