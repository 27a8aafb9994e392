"""Free running beside real time: latency, throughput and energy of each chip, and the board of each processor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from esl_neuro.energy.counts import Counts
from esl_neuro.energy.estimate import BOARD, CHIP, Estimate, Refused, relation, representative
from esl_neuro.energy.prices import price
from esl_neuro.energy.processors import launch_time, launch_time_median
from esl_neuro.energy.step_time import Timing, timing
from esl_neuro.energy.uncertainty import Distribution, Draws, distribution, quantiles
from esl_neuro.hardware import PROCESSORS, HardwareTarget, Interval

REAL_TIME_S = 1e-3  # the step of real time that is shown beside a free-running chip
BEST_CASE = "peak-2-flop"


@dataclass(frozen=True)
class Against:
    """The board of a processor over a chip.

    Attributes
    ----------
    processor : Estimate
    relation : str
        How the ratio is bounded, see :func:`~esl_neuro.energy.estimate.relation`.
    ratio, low, high : float
        Median and 5-95 % of processor / chip, with common draws.
    probability : float
        Probability that the chip needs less.
    """

    processor: Estimate
    relation: str
    ratio: float
    low: float
    high: float
    probability: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**vars(self), "processor": self.processor.name}


@dataclass(frozen=True)
class Mode:
    """One target at one pace.

    Attributes
    ----------
    target : str
    asked : str
        ``"free running"``, or the step that was asked for.
    time : Timing or None
        None if no step is published.
    refusal : str
        Why there is no time; else "".
    latency_s : Interval or None
        From the first step of the input to the last one of the output.
    energies : tuple of (Estimate, Distribution)
        The whole chip (or board of a processor), for each reading of its prices.
    against : tuple of tuple of Against
        For each energy, the boards of the processors.
    latency_median_s, step_median_s : float or None
        Medians of the latency and of the mean step; None as above.
    """

    target: str
    asked: str
    time: Timing | None
    refusal: str
    latency_s: Interval | None
    energies: tuple[tuple[Estimate, Distribution], ...] = ()
    against: tuple[tuple[Against, ...], ...] = ()
    latency_median_s: float | None = None
    step_median_s: float | None = None

    @property
    def samples_per_s(self) -> float | None:
        """Samples one after the other without a gap, at the median step; None where there are no steps."""
        steps = 0 if self.time is None else self.time.steps
        return 1 / (self.step_median_s * steps) if self.step_median_s and steps else None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, energies in pJ per sample."""
        return {
            "target": self.target,
            "asked": self.asked,
            "time": None if self.time is None else self.time.to_dict(),
            "refusal": self.refusal,
            "latency_s": None if self.latency_s is None else vars(self.latency_s),
            "latency_median_s": self.latency_median_s,
            "step_median_s": self.step_median_s,
            "samples_per_s": self.samples_per_s,
            "energies": [
                {
                    "model": estimate.name,
                    "level": estimate.level,
                    "lower_bound": estimate.lower_bound,
                    **found.to_dict(),
                    "against": [each.to_dict() for each in others],
                }
                for (estimate, found), others in zip(self.energies, self.against, strict=True)
            ],
        }


def paces(tick_s: float | None) -> tuple[float | None, float | None]:
    """Return the pace that was asked for, and the other one."""
    return (None, REAL_TIME_S) if tick_s is None else (tick_s, None)


def pace_name(tick_s: float | None) -> str:
    """Return the name of a pace."""
    return "free running" if tick_s is None else f"{tick_s * 1e3:g} ms a step"


def modes(counts: Counts, hardware: Sequence[HardwareTarget], tick_s: float | None, draws: Draws) -> tuple[Mode, ...]:
    """Return every chip at both paces, beside the boards of the processors at the same pace."""
    chips = [target for target in hardware if target.target.kind == "neuromorphic"]
    boards = [target for target in hardware if target.target.kind in PROCESSORS]
    return tuple(
        mode
        for pace in paces(tick_s)
        for mode in (
            *(_chip(counts, target, pace, _boards(counts, boards, pace), draws) for target in chips),
            *(_processor(counts, target, pace, draws) for target in boards if launch_time(counts, target) is not None),
        )
    )


def _boards(counts: Counts, hardware: Sequence[HardwareTarget], pace: float | None) -> list[Estimate]:
    """Return the first estimate of each processor, and its best case."""
    found: list[Estimate] = []
    for target in hardware:
        every = [each for each in price(counts, target, pace) if each.level == BOARD and each.terms]
        found += [each for number, each in enumerate(every) if not number or each.model == BEST_CASE]
    return found


def _chip(counts: Counts, target: HardwareTarget, pace: float | None, boards: Sequence[Estimate], draws: Draws) -> Mode:
    try:
        time = timing(counts, target, pace)
    except Refused as reason:
        return Mode(target.name, pace_name(pace), None, str(reason), None)
    use = counts.core_use.get(target.name)
    behind = 0 if use is None else use.latency_steps
    step_s = float(np.median(time.sample(draws))) / max(time.steps, 1)
    energies = tuple(_energies(price(counts, target, pace), draws))
    return Mode(
        target.name,
        pace_name(pace),
        time,
        "",
        time.step_s.times(time.steps + behind),
        energies,
        tuple(tuple(_against(board, estimate, draws) for board in boards) for estimate, _ in energies),
        step_s * (time.steps + behind),
        step_s,
    )


def _energies(estimates: Sequence[Estimate], draws: Draws) -> Iterator[tuple[Estimate, Distribution]]:
    for estimate in representative([each for each in estimates if each.level == CHIP and each.terms]):
        found = distribution(estimate, draws)
        if found is not None and found.low_pj > 0:
            yield estimate, found


def _processor(counts: Counts, target: HardwareTarget, pace: float | None, draws: Draws) -> Mode:
    busy = launch_time(counts, target)
    assert busy is not None
    slept = 0.0 if pace is None else counts.steps * pace
    latency = Interval(*(max(slept, each) for each in (busy.low, busy.nominal, busy.high)))
    first = _boards(counts, [target], pace)[0]
    found = distribution(first, draws)
    energies = () if found is None else ((first, found),)
    return Mode(
        target.name,
        pace_name(pace),
        None,
        "launch-bound, batch 1",
        latency,
        energies,
        ((),) * len(energies),
        max(slept, launch_time_median(counts, target, draws)),
    )


def _against(board: Estimate, chip: Estimate, draws: Draws) -> Against:
    over, under = board.sample(draws), chip.sample(draws)
    assert over is not None
    assert under is not None
    low, median, high = quantiles(over / under)
    return Against(board, relation(board, chip), median, low, high, float(np.mean(under < over)))
