"""Break-even of two estimates: the firing rate, density or utilisation at which they are equal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from esl_neuro.energy.counts import Counts
from esl_neuro.energy.estimate import BUSIEST, Estimate
from esl_neuro.energy.uncertainty import Draws, probability_below
from esl_neuro.hardware import Constant

Floats = NDArray[np.float64]

# Units of the terms that scale with rate and with density. Updates and time scale with neither.
WITH_ACTIVITY = frozenset({"SOP", "MAC", "spike", "message", "hop", "weight read", BUSIEST})
WITH_CONNECTIONS = frozenset({"SOP", "MAC", "weight read", BUSIEST})


@dataclass(frozen=True)
class BreakEven:
    """Where the median of a chip equals that of a processor, with everything else unchanged.

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
        Rate (density) at which the medians are equal; None if there is none.
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


@dataclass(frozen=True)
class Scaling:
    """Draws of an estimate, divided into what grows with a quantity and what stays.

    Attributes
    ----------
    growing_pj, fixed_pj : float64 array, shape (draws,)
        Energy per sample at the quantity of this run.
    """

    growing_pj: Floats
    fixed_pj: Floats

    def at(self, factor: float) -> Floats:
        """Return draws of the energy per sample in pJ, with the quantity multiplied by a factor."""
        return self.growing_pj * factor + self.fixed_pj

    def meet(self, target_pj: float) -> float | None:
        """Return the factor at which the median equals an energy; None if no factor from 0 on gives that energy."""
        median = float(np.median(self.growing_pj))
        if median <= 0 or np.median(self.fixed_pj) >= target_pj:
            return None
        enough = target_pj / median * (1 + 1e-9)  # what is fixed only adds to it
        found: float = brentq(lambda factor: float(np.median(self.at(factor))) - target_pj, 0.0, enough, xtol=1e-300)
        return found


def scaling(estimate: Estimate, units: frozenset[str], draws: Draws) -> Scaling:
    """Divide an estimate into the terms with these units and all others."""
    drawn = [(term.count_unit in units, term.sample(draws)) for term in estimate.terms]
    growing, fixed = (
        np.sum([energy for inside, energy in drawn if inside is wanted] or [np.zeros(draws.size)], axis=0)
        for wanted in (True, False)
    )
    return Scaling(growing, fixed)


def break_even(
    counts: Counts, chip: Estimate, processor: Estimate, draws: Draws, utilisation: Constant | None
) -> BreakEven:
    """Find the break-even of a chip and a processor, where the medians of their draws are equal.

    Parameters
    ----------
    counts : Counts
        Counts of the run that both price.
    chip, processor : Estimate
        Estimates with a number.
    draws : Draws
        The draws of the report.
    utilisation : Constant, optional
        Utilisation assumed for ``processor``, None without assumption.
    """
    needed, drawn = processor.sample(draws), chip.sample(draws)
    assert needed is not None
    assert drawn is not None
    target_pj, chip_pj = float(np.median(needed)), float(np.median(drawn))
    rate, share = firing_rate(counts), density(counts)
    at_rate = scaling(chip, WITH_ACTIVITY, draws).meet(target_pj)
    at_density = scaling(chip, WITH_CONNECTIONS, draws).meet(target_pj)
    at_peak_pj = None if utilisation is None else float(np.median(needed * draws.of(utilisation)))
    return BreakEven(
        chip,
        processor,
        rate,
        share,
        None if at_rate is None else rate * at_rate,
        None if at_density is None else share * at_density,
        None if at_peak_pj is None else at_peak_pj / (chip_pj or float("inf")),
        probability_below(chip, processor, draws),
    )
