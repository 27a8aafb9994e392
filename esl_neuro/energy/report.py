"""Report of a run: counts, prices and warnings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from esl_neuro.backends.trace import Trace
from esl_neuro.compiler.program import Program
from esl_neuro.compiler.timing import timing
from esl_neuro.energy.breakeven import WITH_CONNECTIONS, BreakEven, break_even, scaling
from esl_neuro.energy.core_map import CoreMap
from esl_neuro.energy.core_use import core_uses
from esl_neuro.energy.counts import Counts, count
from esl_neuro.energy.estimate import (
    BOARD,
    CHIP,
    OPERATIONS,
    REFUSED,
    Estimate,
    comparable,
    headline,
    relation,
    representative,
)
from esl_neuro.energy.fans import largest_fan_in
from esl_neuro.energy.measurement import Measurement
from esl_neuro.energy.modes import Mode, modes, pace_name
from esl_neuro.energy.parts import Parts, parts
from esl_neuro.energy.prices import price
from esl_neuro.energy.uncertainty import Distribution, Draws, distribution, median_ratio
from esl_neuro.errors import BadInput, counted
from esl_neuro.hardware import PROCESSORS, Constant, HardwareTarget, load_target
from esl_neuro.nirgraph.findings import Finding

SCHEMA = 4
SAVED = 0.9  # the share of synaptic operations whose saving is shown


@dataclass(frozen=True)
class Saving:
    """What fewer synaptic operations would save, with the neurons and steps unchanged.

    Attributes
    ----------
    estimate : Estimate
    operations, energy : float
        Share of the synaptic operations, and median share of the energy, that are saved.
    """

    estimate: Estimate
    operations: float
    energy: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "model": self.estimate.name,
            "level": self.estimate.level,
            "operations_saved": self.operations,
            "energy_saved": self.energy,
        }


@dataclass(frozen=True)
class Ratio:
    """Ratio of two estimates, with the scope of both.

    Attributes
    ----------
    first, second : Estimate
        Numerator and denominator.
    median : float
        Median ratio, with common draws.
    """

    first: Estimate
    second: Estimate
    median: float

    @property
    def relation(self) -> str:
        """``">="`` or ``"<="`` if one side is a lower bound, ``"~"`` if both are (then nothing bounds the ratio)."""
        return relation(self.first, self.second)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            side: {"target": estimate.target, "model": estimate.model, "scope": estimate.scope}
            for side, estimate in (("first", self.first), ("second", self.second))
        } | {
            "relation": self.relation,
            "first_lower_bound": self.first.lower_bound,
            "second_lower_bound": self.second.lower_bound,
            "median": self.median,
        }


@dataclass(frozen=True, repr=False)
class EnergyReport:
    """A run with its counts and estimated energy.

    Attributes
    ----------
    backend, program_target : str
        Backend of the run, and the chip that the program was compiled for.
    ran_on : str
        Description of the inputs.
    accuracy : float or None
        Share of correct predictions; None if unknown.
    samples, steps : int
        Samples, and time steps per sample.
    tick_s : float or None
        Duration of a time step of real time on a chip, in seconds; None if the chips run freely.
    inputs, neurons : int
        Input lines and neurons.
    stored, dense : int
        Stored connections, and connections of the dense network of the same shape.
    counts : Counts
        Exact counts.
    estimates : tuple of Estimate
        One per target and price model, the one that represents the target first.
    distributions : tuple of Distribution or None
        Distribution of each estimate, None if refused.
    break_evens : tuple of BreakEven
        Break-evens of each whole chip with the board of each processor.
    modes : tuple of Mode
        Time and energy of each chip, running freely and in real time.
    savings : tuple of Saving
        What fewer synaptic operations would save, where a price is open.
    measurements : tuple of Measurement
        Measured energies to report with the estimates.
    ratios : tuple of Ratio
        GPU (first) over chips (second).
    warnings : tuple of str
        Warnings for the reader.
    silent : tuple of str
        Layers that never spike.
    network : str
        Name or path of the network.
    findings : tuple of Finding
        What the compiler found of the network.
    """

    backend: str
    program_target: str
    ran_on: str
    accuracy: float | None
    samples: int
    steps: int
    tick_s: float | None
    inputs: int
    neurons: int
    stored: int
    dense: int
    counts: Counts
    estimates: tuple[Estimate, ...]
    distributions: tuple[Distribution | None, ...]
    break_evens: tuple[BreakEven, ...]
    measurements: tuple[Measurement, ...]
    ratios: tuple[Ratio, ...]
    warnings: tuple[str, ...]
    modes: tuple[Mode, ...] = ()
    savings: tuple[Saving, ...] = ()
    silent: tuple[str, ...] = ()
    network: str = ""
    findings: tuple[Finding, ...] = ()

    @property
    def density(self) -> float:
        """Stored connections per connection of the dense network (0 for a network without any)."""
        return self.stored / self.dense if self.dense else 0.0

    @property
    def pace(self) -> str:
        """Pace of the chips, in words."""
        return pace_name(self.tick_s)

    @property
    def rows(self) -> tuple[tuple[Estimate, Distribution | None], ...]:
        """Every estimate with its distribution."""
        return tuple(zip(self.estimates, self.distributions, strict=True))

    @property
    def summary(self) -> tuple[tuple[Estimate, Distribution | None], ...]:
        """The representative estimate of each target with its distribution."""
        return tuple({estimate.target: (estimate, found) for estimate, found in reversed(self.rows)}.values())[::-1]

    @property
    def levels(self) -> dict[str, tuple[tuple[Estimate, Distribution | None], ...]]:
        """The representative estimates of operations, of chips and of boards; refused targets under ``"refused"``."""
        found = {estimate.name: found for estimate, found in self.rows}
        levels = {level: [e for e in self.estimates if e.level == level] for level in (OPERATIONS, CHIP, BOARD)}
        priced = {e.target for e in self.estimates if e.level is not None}
        levels[REFUSED] = [e for e in self.estimates if e.target not in priced]
        return {level: tuple((e, found[e.name]) for e in representative(rows)) for level, rows in levels.items()}

    @property
    def headlines(self) -> tuple[Estimate, ...]:
        """The estimate that stands for each target; a target without a figure has none."""
        targets = dict.fromkeys(estimate.target for estimate in self.estimates)
        found = (headline([each for each in self.estimates if each.target == target]) for target in targets)
        return tuple(each for each in found if each is not None)

    @property
    def parts(self) -> dict[str, Parts]:
        """Dynamic, static and total energy of each target with a figure; see :func:`~esl_neuro.energy.parts.parts`."""
        draws = Draws()
        return {estimate.target: parts(estimate, draws) for estimate in self.headlines}

    @property
    def constants(self) -> tuple[Constant, ...]:
        """Every constant of every estimate, once."""
        return tuple({c.id: c for estimate in self.estimates for c in estimate.constants}.values())

    def __repr__(self) -> str:
        targets = ", ".join(estimate.target for estimate, _ in self.summary)
        return f"EnergyReport({counted(self.samples, 'sample')} x {self.steps} steps, {self.backend}; {targets})"

    def __str__(self) -> str:
        """Summarise the run and its estimated energies, each with its scope, in about ten lines."""
        accuracy = "" if self.accuracy is None else f", accuracy {100 * self.accuracy:.2f} %"
        number = len(self.warnings)
        return "\n".join(
            [
                f"{self.ran_on} x {self.steps} steps ({self.backend}){accuracy}",
                f"{self.counts.per_sample('sop_effective'):,.0f} synaptic operations per sample, "
                f"{self.stored:,} of {self.dense:,} connections",
                "estimated energy per sample, median (5 - 95 %):",
                *(_line(estimate, found) for estimate, found in self.summary),
                f"counts are exact, prices published or assumed; {counted(number, 'warning')}",
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON: exact integer counts, energies in pJ per sample."""
        return {
            "schema": SCHEMA,
            "ran_on": self.ran_on,
            "run": {
                "backend": self.backend,
                "program_target": self.program_target,
                "accuracy": self.accuracy,
                "samples": self.samples,
                "steps": self.steps,
                "tick_s": self.tick_s,
            },
            "network": {
                "inputs": self.inputs,
                "neurons": self.neurons,
                "stored": self.stored,
                "dense": self.dense,
                "density": self.density,
            },
            "counts": self.counts.to_dict(),
            "sop_effective_spread": vars(self.counts.spread()),
            "estimates": [
                estimate.to_dict() | {"distribution": None if found is None else found.to_dict()}
                for estimate, found in self.rows
            ],
            "measurements": [measurement.to_dict() for measurement in self.measurements],
            "break_even": [meeting.to_dict() for meeting in self.break_evens],
            "modes": [mode.to_dict() for mode in self.modes],
            "savings": [saving.to_dict() for saving in self.savings],
            "parts_median_pj_per_sample": [
                {"target": target}
                | {name: None if energy is None else energy.median_pj for name, energy in vars(found).items()}
                for target, found in self.parts.items()
            ],
            "silent": list(self.silent),
            "ratios": [ratio.to_dict() for ratio in self.ratios],
            "constants": {c.id: c.model_dump() for c in self.constants},
            "warnings": list(self.warnings),
        }


def energy_report(
    program: Program,
    trace: Trace,
    targets: Sequence[str] = ("truenorth", "loihi", "loihi2", "cmos45", "v100-pcie"),
    tick_s: float | None = None,
    placement: CoreMap | None = None,
    measurements: Sequence[Measurement] = (),
    ran_on: str = "",
    accuracy: float | None = None,
    network: str = "",
    findings: Sequence[Finding] = (),
) -> EnergyReport:
    """Count a run and price it for several targets.

    Parameters
    ----------
    program : Program
        The integer program that ran.
    trace : Trace
        Spikes of the run, at least one sample.
    targets : sequence of str
        Names of hardware targets, or paths of TOML files.
    tick_s : float, optional
        Duration of one time step of real time on a chip, in seconds. Default: the chips run freely, each step as short
        as its published times allow.
    placement : CoreMap, optional
        Cores of the neurons, for messages and hops.
    measurements : sequence of Measurement
        Measured energies to report with the estimates.
    ran_on : str
        Description of the inputs. Default: the number of samples.
    accuracy : float, optional
        Share of correct predictions.
    network : str
        Name or path of the network.
    findings : sequence of Finding
        What the compiler found of the network.

    Raises
    ------
    BadInput
        If the trace is empty or of another program, a target is unknown, or the tick is not positive.
    """
    _check_run(trace, tick_s)
    hardware = tuple(load_target(name) for name in targets)
    counts = replace(count(program, trace, placement), core_use=core_uses(program, trace, hardware, placement))
    draws = Draws()
    estimates = tuple(estimate for target in hardware for estimate in price(counts, target, tick_s))
    return EnergyReport(
        backend=trace.backend,
        program_target=program.target,
        ran_on=ran_on or counted(trace.samples, "sample"),
        accuracy=accuracy,
        samples=trace.samples,
        steps=trace.steps,
        tick_s=tick_s,
        inputs=program.input_size,
        neurons=program.neurons,
        stored=program.synapses,
        dense=counts.total("macs_dense") // (trace.samples * trace.steps) if trace.steps else 0,
        counts=counts,
        estimates=estimates,
        distributions=tuple(distribution(estimate, draws) for estimate in estimates),
        break_evens=tuple(_break_evens(counts, estimates, hardware, draws)),
        measurements=tuple(measurements),
        ratios=gpu_ratios(estimates, draws),
        warnings=tuple(_warnings(program, trace, counts, hardware, placement, bool(measurements))),
        modes=modes(counts, hardware, tick_s, draws),
        savings=tuple(_savings(estimates, draws)),
        silent=_silent(program, counts),
        network=network,
        findings=tuple(findings),
    )


def _line(estimate: Estimate, found: Distribution | None) -> str:
    """Return the line of one target: median energy, interval and scope, or the reason for no figure."""
    if found is None:
        return f"  {estimate.target:<12} no figure: {estimate.refusal or 'no operation of the run has a price'}"
    bound = ">=" if estimate.lower_bound else "  "
    interval = f"({found.low_pj / 1e3:.4g} - {found.high_pj / 1e3:.4g})"
    return f"  {estimate.target:<12} {bound} {found.median_pj / 1e3:>9.4g} nJ  {interval:<23} {estimate.scope}"


def _check_run(trace: Trace, tick_s: float | None) -> None:
    if tick_s is not None and not (math.isfinite(tick_s) and tick_s > 0):
        raise BadInput(f"tick_s is {tick_s}; give the duration of a time step in seconds, above 0, such as 1e-3")
    if not trace.samples:
        raise BadInput("the trace has 0 samples, so there is no energy per sample; run at least 1 sample")


def _break_evens(
    counts: Counts, estimates: Sequence[Estimate], hardware: Sequence[HardwareTarget], draws: Draws
) -> Iterator[BreakEven]:
    """Compare each whole chip, for every reading of its prices, with the board of each processor."""
    utilisations = {
        target.name: target.constants["utilisation"] for target in hardware if "utilisation" in target.constants
    }
    priced = [each for each in estimates if each.terms]
    chips = representative([each for each in priced if each.level == CHIP])
    for processor in representative([e for e in priced if e.kind in PROCESSORS and e.level == BOARD]):
        assumed = utilisations.get(processor.target) if processor.scope == "utilisation" else None
        for chip in chips:
            yield break_even(counts, chip, processor, draws, assumed)


def _savings(estimates: Sequence[Estimate], draws: Draws) -> Iterator[Saving]:
    """Compute what fewer operations save for each reading of prices that its source leaves open."""
    for each in estimates:
        if each.reading and each.energy_pj is not None and each.energy_pj.nominal:
            found = scaling(each, WITH_CONNECTIONS, draws)
            yield Saving(each, SAVED, 1 - float(np.median(found.at(1 - SAVED) / found.at(1))))


def _silent(program: Program, counts: Counts) -> tuple[str, ...]:
    """Return the layers that never spike; a readout of potentials never does."""
    readout = program.output.name if program.readout == "potential" else None
    return tuple(
        layer.name
        for layer in counts.layers
        if layer.spikes_out == 0 and layer.neuron_updates and layer.name != readout
    )


def gpu_ratios(estimates: Sequence[Estimate], draws: Draws) -> tuple[Ratio, ...]:
    """Return the peak estimate of each GPU over every non-zero estimate of a whole chip, or of a board."""
    first_of_gpu = {e.target: e for e in reversed(estimates) if e.kind == "gpu" and e.scope == "peak_tdp"}.values()
    found = (
        Ratio(gpu, chip, median_ratio(gpu, chip, draws))
        for gpu in first_of_gpu
        for chip in estimates
        if chip.kind not in PROCESSORS and comparable(chip, gpu)
        if gpu.energy_pj and chip.energy_pj and chip.energy_pj.nominal
    )
    return tuple(ratio for ratio in found if not math.isnan(ratio.median))


def _warnings(
    program: Program,
    trace: Trace,
    counts: Counts,
    chips: Sequence[HardwareTarget],
    placement: CoreMap | None,
    measured: bool,
) -> Iterator[str]:
    which, end = ("figure but the measured ones", "") if measured else ("figure", ", nothing was measured here")
    yield f"every {which} is an estimate: counts are exact, prices are published or assumed{end}"
    yield "operations, chips and boards are different scopes: compare rows of one table, or a chip with a GPU board"
    if trace.samples == 1:
        yield "counts are of 1 sample, so the spread over samples is unknown; run more"
    if trace.steps != program.steps:
        yield f"the run had {trace.steps} steps per sample, the program was exported for {program.steps}"
    for name in _silent(program, counts):
        yield f"layer '{name}' never spikes in this run: its thresholds may be too high"
    for chip in chips:
        if chip.target.note is not None:
            yield f"{chip.name}: {chip.target.note}"
    executed, dense = counts.total("sop_executed"), counts.total("sop_executed_dense")
    if dense > executed:
        factor = f"{dense / executed:.2f} times as many" if executed else f"{dense:,} instead of 0"
        yield f"executed SOPs are those of sparse synapses; a dense process does not skip zeros and executes {factor}"
    yield from _fan_in_warnings(program, chips)
    longest = max(timing(program).hold, default=0)
    if longest:
        yield (
            f"synapses hold spikes for up to {longest} step{'s' * (longest != 1)}: no price of a delay is published, "
            "so a delayed operation costs what any operation costs"
        )
    if placement is not None:
        yield f"messages and hops are those of {placement.mesh}"


def _fan_in_warnings(program: Program, chips: Sequence[HardwareTarget]) -> Iterator[str]:
    """Yield each layer that does not fit a chip; its counts are priced anyway."""
    for chip in chips:
        limit = chip.limits.get("fan_in")
        if limit is None or limit.value is None:
            continue
        for group in program.groups:
            fan_in = largest_fan_in(program.incoming(group.name))
            if fan_in > limit.value:
                yield (
                    f"{chip.name}: layer '{group.name}' has a fan-in of {fan_in}, the chip takes {limit.value} "
                    f"{limit.unit}; it cannot run there as it is, the price is hypothetical"
                )
