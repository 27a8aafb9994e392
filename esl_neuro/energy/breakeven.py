"""Break-even of two estimates: the firing rate, density or utilisation at which they are equal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from esl_neuro.energy.counts import Counts
from esl_neuro.energy.estimate import BUSIEST, Estimate

# Units of the terms that scale with rate and with density. Updates and time scale with neither.
WITH_ACTIVITY = frozenset({"SOP", "MAC", "spike", "message", "hop", "weight read", BUSIEST})
WITH_CONNECTIONS = frozenset({"SOP", "MAC", "weight read", BUSIEST})


@dataclass(frozen=True)
class BreakEven:
    """Where an estimate of a chip equals one of a processor, with everything else unchanged.

    Counts are assumed proportional to the firing rate (SOPs, effective multiplications of graded input, spikes,
    messages) or to the density (SOPs and effective multiplications); updates and static power are constant. This is a
    first-order statement about this network, not about a retrained one.

    Attributes
    ----------
    chip, processor : Estimate
        The two estimates.
    rate, density : float
        Spikes per source line and step, and density, of this run.
    rate_at, density_at : float or None
        Rate (density) at which the energies are equal; None if there is none.
    utilisation_at : float or None
        Share of its peak rate at which the processor would need as little energy as the chip; above 1 is impossible.
    probability : float or None
        Probability that the chip needs less.
    """

    chip: Estimate
    processor: Estimate
    rate: float
    density: float
    rate_at: float | None
    density_at: float | None
    utilisation_at: float | None
    probability: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        numbers = {key: value for key, value in vars(self).items() if key not in ("chip", "processor")}
        bounds = {"chip_lower_bound": self.chip.lower_bound, "processor_lower_bound": self.processor.lower_bound}
        return {"chip": self.chip.name, "processor": self.processor.name, **bounds, **numbers}


def firing_rate(counts: Counts) -> float:
    """Return the mean spikes per source line and step, over all layers."""
    lines = sum(layer.inputs for layer in counts.layers) * counts.samples * counts.steps
    return counts.total("spikes_in") / lines if lines else 0.0


def density(counts: Counts) -> float:
    """Return the stored share of the connections of the dense network."""
    runs = counts.samples * counts.steps
    dense = counts.total("macs_dense") / runs if runs else 0.0
    return sum(layer.stored for layer in counts.layers) / dense if dense else 0.0


def split(estimate: Estimate, units: frozenset[str]) -> tuple[float, float]:
    """Return the nominal energy in pJ of the terms with these units, and of all others."""
    energies = [(term.count_unit in units, term.energy_pj.nominal) for term in estimate.terms]
    return sum(e for inside, e in energies if inside), sum(e for inside, e in energies if not inside)


def scaled(estimate: Estimate, units: frozenset[str], factor: float) -> float:
    """Return the nominal energy in pJ with the terms of these units multiplied by a factor."""
    growing, fixed = split(estimate, units)
    return growing * factor + fixed


def break_even(
    counts: Counts, chip: Estimate, processor: Estimate, probability: float | None, utilisation: float | None
) -> BreakEven:
    """Find the break-even of a chip and a processor.

    Parameters
    ----------
    counts : Counts
        Counts of the run that both price.
    chip, processor : Estimate
        Estimates with a number.
    probability : float, optional
        Probability that the chip needs less.
    utilisation : float, optional
        Utilisation assumed for ``processor``, None without assumption.
    """
    assert chip.energy_pj is not None
    assert processor.energy_pj is not None
    target = processor.energy_pj.nominal
    rate, share = firing_rate(counts), density(counts)
    return BreakEven(
        chip,
        processor,
        rate,
        share,
        _meet(chip, WITH_ACTIVITY, target, rate),
        _meet(chip, WITH_CONNECTIONS, target, share),
        None if utilisation is None else utilisation * target / (chip.energy_pj.nominal or float("inf")),
        probability,
    )


def _meet(estimate: Estimate, units: frozenset[str], target: float, now: float) -> float | None:
    growing, fixed = split(estimate, units)
    return now * (target - fixed) / growing if growing > 0 and target > fixed else None
