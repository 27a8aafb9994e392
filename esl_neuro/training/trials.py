"""Trials of a search: what is measured of each, which are stopped, and which no other beats. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import mean, median_low
from typing import Any

DONE, STOPPED, REFUSED, STARTED = "done", "stopped", "refused", "started"
PEERS = 4
"""Other trials at the same epoch, without which none is stopped."""


@dataclass(frozen=True)
class Measure:
    """What is measured of a network on the validation part, as integers of the chip; means over the seeds.

    Attributes
    ----------
    accuracy : float
        Share of the samples with the right class.
    energy_pj : float
        Energy of one sample at the nominal prices of the target.
    connections : float
        Connections of the network.
    """

    accuracy: float
    energy_pj: float
    connections: float

    @classmethod
    def mean_of(cls, measures: Sequence[Measure]) -> Measure:
        """Return the mean of each figure."""
        return cls(**{name: mean(getattr(each, name) for each in measures) for name in asdict(measures[0])})

    def costs(self, objectives: Sequence[str]) -> tuple[float, ...]:
        """Return the objectives that are the better the smaller they are."""
        return tuple(self.value(name) for name in objectives if name != "accuracy")

    def value(self, objective: str) -> float:
        """Return one objective: accuracy, energy (in pJ) or connections."""
        return float(getattr(self, "energy_pj" if objective == "energy" else objective))

    def beats(self, other: Measure, objectives: Sequence[str]) -> bool:
        """Return whether it is as good in every objective, and better in one."""
        least = [self.accuracy - other.accuracy]
        least += [theirs - ours for ours, theirs in zip(self.costs(objectives), other.costs(objectives), strict=True)]
        return min(least) >= 0 and max(least) > 0


@dataclass(frozen=True)
class TrialRecord:
    """What is known of a trial.

    Attributes
    ----------
    number : int
        From 0 on, in the order in which the trials began.
    state : str
        ``"done"``, ``"stopped"``, ``"refused"`` or ``"started"``.
    values : dict of str to Any
        The fields that are searched, and their values.
    reached : dict of int to Measure
        What was measured after the epochs at which trials are compared.
    measure : Measure or None
        Of the whole run, if it is done.
    reason : str
        Why it was stopped or refused; else "".
    """

    number: int
    state: str
    values: Mapping[str, Any]
    reached: Mapping[int, Measure] = field(default_factory=dict)
    measure: Measure | None = None
    reason: str = ""


def beaten(number: int, epoch: int, records: Sequence[TrialRecord], objectives: Sequence[str]) -> str | None:
    """Return why a trial is stopped after an epoch; None if it goes on.

    The trials that have reached an epoch are ranked by what was measured of each then, and one whose rank is worse than
    that of the middle one is stopped: asynchronous successive halving with several objectives (Schmucker et al., arXiv
    2106.12639, 2021), with a rate of 2. So a trial of rank 1 goes on, such as the cheapest one, and one that is stopped
    was beaten in every objective by another one, at the same epoch. None is stopped as long as fewer than
    :data:`PEERS` others have reached the epoch.

    Parameters
    ----------
    number : int
        The trial.
    epoch : int
        An epoch that it has reached.
    records : sequence of TrialRecord
        All trials.
    objectives : sequence of str
        Names of the objectives.
    """
    reached = {each.number: each.reached[epoch] for each in records if epoch in each.reached}
    if len(reached) <= PEERS:
        return None
    found = ranks(reached, objectives)
    middle = median_low(found.values())
    if found[number] <= middle:
        return None
    return (
        f"{100 * reached[number].accuracy:.2f} % after {epoch} epochs: rank {found[number]} of {len(reached)} trials; "
        f"the middle one has rank {middle}"
    )


def ranks(measures: Mapping[int, Measure], objectives: Sequence[str]) -> dict[int, int]:
    """Return the rank of each trial, by its number.

    Rank 1 is the Pareto set: no other trial beats them. Rank 2 are those that only these beat, and so on.
    """
    left, found, rank = dict(measures), dict[int, int](), 0
    while left:
        rank += 1
        best = [
            number for number, own in left.items() if not any(other.beats(own, objectives) for other in left.values())
        ]
        for number in best:
            found[number] = rank
            del left[number]
    return found
