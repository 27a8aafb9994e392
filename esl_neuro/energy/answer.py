"""The answer of an energy report: a row for each target, and sparse on a chip against dense on a GPU.

Every figure is a median, with 5-95 %, of the draws of :mod:`~esl_neuro.energy.uncertainty`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from esl_neuro.energy.estimate import OPERATIONS, PJ_PER_J, Estimate, headline
from esl_neuro.energy.fitted import READINGS, is_open
from esl_neuro.energy.modes import BEST_CASE, Against, Mode, pace_name
from esl_neuro.energy.parts import Energy, parts
from esl_neuro.energy.report import EnergyReport
from esl_neuro.energy.step_time import FREE
from esl_neuro.energy.uncertainty import Draws, leading_of_ratio
from esl_neuro.hardware.copying import COPIED

WRAPPING = {
    "current-wraps": "currents wrap",
    "current-may-wrap": "currents may wrap",
    "potential-may-saturate": "potentials may wrap or saturate",
}
"""Findings of the compiler that put the counts themselves in doubt, in words."""


@dataclass(frozen=True)
class AnswerRow:
    """Energy and time of one sample on one target.

    Attributes
    ----------
    target, model : str
        Name of the target, and of the price model of the total (of the dynamic energy where there is no total).
    dynamic, static, total : Energy or None
        Energy of the operations, of the static power over the time of the sample, and both; None where nothing is
        published for it. A board of a processor has a total only, a process without a chip a dynamic energy only.
    latency_s, samples_per_s : float or None
        From the first step of the input to the last one of the output, and samples one after the other.
    shortest_step_s : float or None
        Mean duration of a step of this program at the published speed of the chip; None if nothing is published.
    chip : bool
        Whether the target is a chip with time steps of its own.
    evidence : str
        Weakest evidence among the constants.
    varies_most_with : str
        Constant with most of the variance of the total; "" if nothing varies.
    readings : tuple of (str, float)
        What the prices are, such as "priced as Loihi 1", and the median of the dynamic energy in pJ at them, for each
        reading of a source that leaves its prices open; empty for prices of the target's own.
    refusal : str
        Why there is no energy; else "".
    """

    target: str
    model: str
    dynamic: Energy | None = None
    static: Energy | None = None
    total: Energy | None = None
    latency_s: float | None = None
    samples_per_s: float | None = None
    shortest_step_s: float | None = None
    chip: bool = False
    evidence: str = ""
    varies_most_with: str = ""
    readings: tuple[tuple[str, float], ...] = ()
    refusal: str = ""

    @property
    def whole(self) -> Energy | None:
        """The total, or the dynamic energy where there is no total."""
        return self.total or self.dynamic

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, energies in pJ per sample."""
        energies = {name: getattr(self, name) for name in ("dynamic", "static", "total")}
        return {
            **vars(self),
            **{name: None if energy is None else energy.to_dict() for name, energy in energies.items()},
            "readings": [{"prices": words, "dynamic_median_pj": median} for words, median in self.readings],
        }


@dataclass(frozen=True)
class Duel:
    """A network on a chip against the dense network of its shape on a GPU: total against total.

    Attributes
    ----------
    chip : Estimate
        The whole chip.
    against, best_case : Against
        The board of the GPU as it runs one sample at a time, and at its datasheet peak; the same where only one is
        published.
    leading : str
        The constant (or the activity) with most of the variance of the ratio.
    meaning : str
        What that constant is, with its condition.
    """

    chip: Estimate
    against: Against
    best_case: Against
    leading: str
    meaning: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "chip": self.chip.name,
            "against": self.against.to_dict(),
            "best_case": self.best_case.to_dict(),
            "varies_most_with": self.leading,
        }


@dataclass(frozen=True)
class Answer:
    """What a reader asks first.

    Attributes
    ----------
    rows : tuple of AnswerRow
        One for each target, in the order of the report, after the measured ones.
    duel : Duel or None
        Sparse here against dense there; None without a chip or without a GPU.
    known : tuple of str
        What must be known to read the rows: silence, wrapping, lower bounds, slow chips, assumed defaults.
    """

    rows: tuple[AnswerRow, ...]
    duel: Duel | None
    known: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, energies in pJ per sample."""
        return {
            "statistic": "median, and 5 and 95 % quantile",
            "rows": [row.to_dict() for row in self.rows],
            "sparse_against_dense": None if self.duel is None else self.duel.to_dict(),
            "known": list(self.known),
        }


def answer(report: EnergyReport) -> Answer:
    """Return the rows, the duel and what must be known of an energy report."""
    draws = Draws()
    estimated = tuple(_row(report, target, draws) for target in dict.fromkeys(e.target for e in report.estimates))
    return Answer((*_measured(report), *estimated), _duel(report, draws), tuple(_known(report, estimated)))


# Rows.


def _measured(report: EnergyReport) -> Iterator[AnswerRow]:
    for each in report.measurements:
        median, low, high = (PJ_PER_J * joules for joules in (each.energy_j_per_sample, each.low_j, each.high_j))
        energy = Energy(median, low, high)
        part = "dynamic" if each.level == OPERATIONS else "total"
        yield AnswerRow(f"{each.target} measured", "measured", evidence="measured", **{part: energy})  # type: ignore[arg-type]


def _row(report: EnergyReport, target: str, draws: Draws) -> AnswerRow:
    every = [each for each in report.estimates if each.target == target]
    chip = every[0].kind == "neuromorphic"
    asked = _mode(report, target, report.pace)
    free = _mode(report, target, pace_name(None))
    speed: dict[str, Any] = {"chip": chip, "shortest_step_s": None if free is None else free.step_median_s}
    if asked is not None and asked.latency_median_s:
        rate = asked.samples_per_s or 1 / asked.latency_median_s
        speed |= {"latency_s": asked.latency_median_s, "samples_per_s": rate}
    priced = [each for each in every if each.terms and each.level is not None]
    shown = headline(every)
    if shown is None:
        return AnswerRow(target, "", refusal=every[0].refusal or "no operation of the run has a price", **speed)
    found = next(found for each, found in report.rows if each is shown)
    return AnswerRow(
        target,
        shown.model,
        **vars(parts(shown, draws)),
        evidence=shown.evidence,
        varies_most_with="" if found is None or found.leading is None else found.leading,
        readings=tuple(_readings(priced, shown, draws)),
        **speed,
    )


def _mode(report: EnergyReport, target: str, asked: str) -> Mode | None:
    return next((mode for mode in report.modes if (mode.target, mode.asked) == (target, asked)), None)


def _readings(priced: Sequence[Estimate], shown: Estimate, draws: Draws) -> Iterator[tuple[str, float]]:
    """Yield what the prices are at each end of what a source leaves open, with the dynamic energy there."""
    ends = [each for each in priced if each.level == shown.level and each.reading]
    for each in ends if is_open(shown) else [shown] if shown.reading else []:
        dynamic = parts(each, draws).dynamic
        if dynamic is not None:
            yield READINGS.get(each.reading, each.reading), dynamic.median_pj


# Sparse against dense.


def _duel(report: EnergyReport, draws: Draws) -> Duel | None:
    """Compare the program's own chip, or else the first one with a total, with the first GPU."""
    modes = [mode for mode in report.modes if mode.asked == report.pace and any(mode.against)]
    modes.sort(key=lambda mode: mode.target != report.program_target)
    for mode in modes:
        for (estimate, _), others in zip(mode.energies, mode.against, strict=True):
            boards = [each for each in others if each.processor.kind == "gpu"]
            same = [each for each in boards if each.processor.target == boards[0].processor.target]
            if same:
                best = next((each for each in same if each.processor.model == BEST_CASE), same[0])
                leading = leading_of_ratio(same[0].processor, estimate, draws.seed) or ""
                constants = {c.id: c for each in (estimate, same[0].processor) for c in each.constants}
                meaning = constants[leading].quantity if leading in constants else leading
                return Duel(estimate, same[0], best, leading, meaning)
    return None


# What must be known.


def _known(report: EnergyReport, rows: Sequence[AnswerRow]) -> Iterator[str]:
    if report.silent:
        yield silence(report)
    for kind, words in WRAPPING.items():
        places = [finding.place for finding in report.findings if finding.kind == kind]
        if places:
            yield f"WARNING: {words} in {', '.join(dict.fromkeys(places))}; 'esl-neuro check' says by how much"
    yield from _lower_bounds(report, rows)
    for mode in report.modes:
        slow = report.tick_s is not None and mode.asked == report.pace and mode.time is not None
        if slow and mode.time is not None and mode.time.mode == FREE:
            yield f"{mode.target}: {mode.time.notes[0]}"
    yield from (line.partition(";")[0] for line in report.warnings if f": {COPIED} " in line)
    yield from _assumed(report, rows)


def silence(report: EnergyReport) -> str:
    """Warn of layers that never spike: every figure is then of a network that does nothing there."""
    neurons = [layer.name for layer in report.counts.layers if layer.neuron_updates]
    named = ", ".join(f"'{name}'" for name in report.silent)
    which = "no layer ever spikes" if len(report.silent) == len(neurons) else f"never spiking: {named}"
    return f"WARNING: {which} in this run, so the figures below are not those of a working network"


def _lower_bounds(report: EnergyReport, rows: Sequence[AnswerRow]) -> Iterator[str]:
    """Say what each lower bound leaves out; targets that leave out the same share a line."""
    targets_of: dict[str, list[str]] = {}
    shown = {row.target: row.model for row in rows}
    for estimate in report.estimates:
        if estimate.lower_bound and shown.get(estimate.target) == estimate.model:
            without = " and ".join(item.what for item in estimate.unpriced)
            reason = f"{without} have no price" if without else "prices are a published best case"
            targets_of.setdefault(reason, []).append(estimate.target)
    for reason, targets in targets_of.items():
        yield f"lower bounds ('>'): {', '.join(targets)} ({reason})"


def _assumed(report: EnergyReport, rows: Sequence[AnswerRow]) -> Iterator[str]:
    """Say the defaults on which the rows depend."""
    said = []
    if report.tick_s is None and any(row.chip for row in rows):
        said.append("free running (--tick)")
    if not report.counts.placed and any(row.chip for row in rows):
        said.append("no placement (--placement)")
    if any(row.model == "batch-1" for row in rows):
        said.append("GPU at batch 1")
    if any(row.model == "utilisation" for row in rows):
        said.append("a processor at an unknown share of its peak rate")
    if said:
        yield f"assumed: {', '.join(said)}"
