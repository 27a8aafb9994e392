"""How long a sample takes on a chip: in real time, or as fast as the published floors allow.

A step of real time takes what the caller says. A free-running chip takes

- ``t_step_design`` where the chip has a clock of its own (TrueNorth, SpiNNaker);
- ``max(t_step_floor, t_sop_core x SOP of the busiest core)`` where a floor was measured (Loihi 2);
- ``t_step_floor + t_neuron_core x neurons of the fullest core + t_sop_core x SOP of the busiest core`` where the parts
  are published (Loihi).

Which part of the maximum holds is decided for each step at nominal values, so that the time is a sum of counts times
constants, as an energy is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esl_neuro.energy.counts import Counts
from esl_neuro.energy.estimate import (
    BUSIEST,
    PJ_PER_J,
    STATIC_POWER,
    STATIC_UNIT,
    STEP,
    Factor,
    Price,
    Refused,
    Sampler,
    Term,
)
from esl_neuro.hardware import Constant, HardwareTarget, Interval

Floats = NDArray[np.float64]

REAL_TIME, FREE, DESIGN = "real time", "free running", "by design"


@dataclass(frozen=True)
class Span:
    """A part of the time of a sample: a count times a duration; without a constant the count is in seconds."""

    what: str
    count: float
    unit: str
    constant: Constant | None = None
    each_sample: Floats | None = None

    def seconds(self) -> Interval:
        """Nominal duration and range."""
        one = Interval(1.0, 1.0, 1.0) if self.constant is None else self.constant.interval("s")
        return one.times(self.count)

    def sample(self, draws: Sampler) -> Floats:
        """Return draws of the duration in seconds."""
        count = draws.mean(self.each_sample, self.count)
        return np.asarray(count if self.constant is None else count * Factor(self.constant, "s").sample(draws))

    def energy(self, power: Constant, chips: int = 1) -> Term:
        """Return the term of the constant power of some chips over this part of the time."""
        time = () if self.constant is None else (Factor(self.constant, "s"),)
        text = power.text if self.constant is None else f"{power.text} x {self.constant.text}"
        price = Price((Factor(power, "W"), *time), PJ_PER_J)
        what = f"{STATIC_POWER} x {self.what}" + (f" x {chips:,} chips" if chips > 1 else "")
        each = None if self.each_sample is None else self.each_sample * chips
        return Term(what, self.count * chips, self.unit, price, text, each)


@dataclass(frozen=True)
class Timing:
    """The time of a sample on one target.

    Attributes
    ----------
    target : str
        Name of the target.
    mode : str
        ``"real time"``, ``"free running"`` or ``"by design"``.
    steps : int
        Steps of a sample.
    spans : tuple of Span
        Parts of the time, which are added.
    lower_bound : bool
        True if a part has no published duration, or the cores are unknown.
    notes : tuple of str
    """

    target: str
    mode: str
    steps: int
    spans: tuple[Span, ...]
    lower_bound: bool = False
    notes: tuple[str, ...] = ()

    @property
    def latency_s(self) -> Interval:
        """Time from the first to the last step of a sample."""
        return reduce(Interval.__add__, (span.seconds() for span in self.spans))

    @property
    def step_s(self) -> Interval:
        """Mean duration of a step."""
        return self.latency_s.times(1 / max(self.steps, 1))

    def sample(self, draws: Sampler) -> Floats:
        """Return draws of the latency in seconds."""
        return np.asarray(np.sum([span.sample(draws) for span in self.spans], axis=0))

    def energy(self, power: Constant, chips: int = 1) -> tuple[Term, ...]:
        """Return the terms of the constant power of some chips over the time of a sample."""
        return tuple(span.energy(power, chips) for span in self.spans)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "target": self.target,
            "mode": self.mode,
            "step_s": vars(self.step_s),
            "latency_s": vars(self.latency_s),
            "lower_bound": self.lower_bound,
            "constants": [span.constant.id for span in self.spans if span.constant is not None],
            "notes": list(self.notes),
        }


def timing(counts: Counts, target: HardwareTarget, tick_s: float | None) -> Timing:
    """Return the time of a sample.

    Parameters
    ----------
    counts : Counts
        Counts of the run; with the use of the cores of this target where the time depends on it.
    target : HardwareTarget
        The chip.
    tick_s : float or None
        Duration of a step in real time, in seconds; None for a free-running chip.

    Raises
    ------
    Refused
        If the chip runs freely and no duration of a step is published.
    BadInput
        If the file of the chip lacks a duration that belongs to another one.
    """
    if tick_s is None:
        return _own(counts, target)
    given = Timing(target.name, REAL_TIME, counts.steps, (Span("time", counts.steps * tick_s, STATIC_UNIT),))
    if not {"t_step_floor", "t_step_design"} & target.constants.keys():
        return given
    own = _own(counts, target)
    if own.latency_s.nominal <= given.latency_s.nominal:
        return given
    slow = f"the chip cannot keep a step of {tick_s:g} s: it needs {own.step_s.nominal:.3g} s, which is used instead"
    return replace(own, notes=(slow, *own.notes))


def _own(counts: Counts, target: HardwareTarget) -> Timing:
    known = target.constants
    if "t_step_design" in known:
        span = Span("time of a step", counts.steps, STEP, known["t_step_design"])
        note = f"a step takes {known['t_step_design'].text} by design of the chip, whatever the tick"
        return Timing(target.name, DESIGN, counts.steps, (span,), notes=(note,))
    if "t_step_floor" not in known:
        raise Refused(f"no time of a step of '{target.name}' is published; give one, such as --tick 1ms")
    use = counts.core_use.get(target.name)
    if use is None:
        note = "the cores are unknown, so the time is that of steps without work"
        floor = Span("shortest step", counts.steps, STEP, known["t_step_floor"])
        return Timing(target.name, FREE, counts.steps, (floor,), lower_bound=True, notes=(note,))
    work = use.busiest.astype(np.float64)
    spans = _added(work, use.fullest, target) if "t_neuron_core" in known else _larger(work, target)
    return Timing(target.name, FREE, counts.steps, tuple(span for span in spans if span.count))


def _larger(work: Floats, target: HardwareTarget) -> Sequence[Span]:
    floor, each = target.constant("t_step_floor"), target.constant("t_sop_core")
    waits = work * each.interval("s").nominal <= floor.interval("s").nominal
    idle, busy = waits.sum(axis=1).astype(np.float64), np.where(waits, 0, work).sum(axis=1)
    return (
        Span("shortest step", float(idle.mean()), STEP, floor, idle),
        Span("work of the busiest core", float(busy.mean()), BUSIEST, each, busy),
    )


def _added(work: Floats, fullest: int, target: HardwareTarget) -> Sequence[Span]:
    steps, busy = work.shape[1], work.sum(axis=1)
    return (
        Span("barrier of a step", steps, STEP, target.constant("t_step_floor")),
        Span(
            "updates of the fullest core",
            steps * fullest,
            "update of the fullest core",
            target.constant("t_neuron_core"),
        ),
        Span("work of the busiest core", float(busy.mean()), BUSIEST, target.constant("t_sop_core"), busy),
    )


def summed(found: Timing, draws: Sampler) -> tuple[float, float, float]:
    """Return 5 %, median and 95 % of the latency in seconds."""
    low, median, high = np.quantile(found.sample(draws), (0.05, 0.5, 0.95))
    return float(low), float(median), float(high)
