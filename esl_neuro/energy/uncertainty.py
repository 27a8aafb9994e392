"""Uncertainty of an estimate: shared draws of constants, resampled samples.

Each constant is drawn once per report, from a random stream with its name, and the same draw enters every layer and
every row that uses it. So the common uncertainty of two rows cancels in their ratio. The activity is resampled over the
samples of the run (bootstrap), with the same samples in every row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esl_neuro.energy.estimate import Estimate
from esl_neuro.hardware import Constant
from esl_neuro.random_streams import stream

Floats = NDArray[np.float64]

DRAWS = 4000
SEED = 0
# Standard normal quantiles: 95 % of one side, and 95 % of the magnitude.
Z_ONE_SIDE = 1.6448536269514722
Z_MAGNITUDE = 1.959963984540054
# Above this number of samples, group means are resampled: their mean has the same variance, and it is faster.
GROUPS = 500
ACTIVITY = "activity of the samples"
ROUNDING = 1e-18  # variance of a logarithm below which it is a rounding error


def draw(constant: Constant, rng: np.random.Generator, size: int) -> Floats:
    """Draw a constant, in its own unit.

    ====================  ==========================================================================================
    range on both sides   lognormal on each side of the value, 5 % below ``low``, 5 % above ``high``
    range on one side     a published minimum or maximum: lognormal on that side only, 5 % beyond the end
    assumed, or no value  log-uniform between ``low`` and ``high``: no part is known to be more likely
    no range              the value itself: its uncertainty is unknown, not zero
    ====================  ==========================================================================================
    """
    low, nominal, high = dataclasses.astuple(constant.interval(constant.unit))
    if low == high:
        return np.full(size, nominal)
    if low <= 0:
        return np.asarray(rng.triangular(low, nominal, high, size))
    if constant.evidence == "assumed" or constant.value is None:
        return np.asarray(np.exp(rng.uniform(np.log(low), np.log(high), size)))
    z = rng.standard_normal(size)
    down, up = np.log(nominal / low), np.log(high / nominal)
    if down == 0:
        return np.asarray(nominal * np.exp(np.abs(z) / Z_MAGNITUDE * up))
    if up == 0:
        return np.asarray(nominal * np.exp(-np.abs(z) / Z_MAGNITUDE * down))
    return np.asarray(nominal * np.exp(z / Z_ONE_SIDE * np.where(z < 0, down, up)))


class Draws:
    """The draws of one report.

    Parameters
    ----------
    size : int
        Number of draws.
    seed : int
        Seed of the draws.
    only : str, optional
        Draw only this constant (by id) or :data:`ACTIVITY`, with everything else at its nominal value.
    """

    def __init__(self, size: int = DRAWS, seed: int = SEED, only: str | None = None) -> None:
        self.size, self.seed, self.only = size, seed, only
        self._constants: dict[str, Floats] = {}
        self._weights: dict[int, Floats] = {}

    def of(self, constant: Constant) -> Floats:
        """Return draws of a constant in its own unit, the same at every call."""
        if self.only not in (None, constant.id):
            return np.full(self.size, constant.interval(constant.unit).nominal)
        if constant.id not in self._constants:
            self._constants[constant.id] = draw(constant, stream(self.seed, constant.id), self.size)
        return self._constants[constant.id]

    def uniform(self, purpose: str) -> Floats:
        """Return draws between 0 and 1 for something that a source leaves open."""
        return np.zeros(self.size) if self.only not in (None, purpose) else stream(self.seed, purpose).random(self.size)

    def mean(self, each_sample: Floats | None, otherwise: float) -> Floats:
        """Return means of a count over resampled samples; ``otherwise`` if there is nothing to resample."""
        if each_sample is None or len(each_sample) < 2 or self.only not in (None, ACTIVITY):
            return np.full(self.size, otherwise)
        groups = min(len(each_sample), GROUPS)
        # In random order, because a test set in order of class would make the groups similar.
        member = stream(self.seed, "groups of samples", len(each_sample)).permutation(len(each_sample)) % groups
        means = np.bincount(member, weights=each_sample) / np.bincount(member)
        return np.asarray(self._resample(groups, len(each_sample)) @ means)

    def _resample(self, groups: int, samples: int) -> Floats:
        if samples not in self._weights:
            rng = stream(self.seed, ACTIVITY, samples)
            self._weights[samples] = rng.multinomial(groups, np.full(groups, 1 / groups), self.size) / groups
        return self._weights[samples]


@dataclass(frozen=True)
class Distribution:
    """Distribution of an estimate.

    Attributes
    ----------
    median_pj, low_pj, high_pj : float
        Median, 5 % and 95 % quantile of the energy per sample, in pJ.
    leading : str or None
        The constant (or :data:`ACTIVITY`) that contributes most, None if nothing varies.
    leading_share : float
        Its share of the variance of the logarithm, with each source varied alone.
    """

    median_pj: float
    low_pj: float
    high_pj: float
    leading: str | None
    leading_share: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return vars(self).copy()


def distribution(estimate: Estimate, draws: Draws) -> Distribution | None:
    """Return the median, 5-95 % interval and leading source of an estimate; None if it is refused."""
    energies = estimate.sample(draws)
    if energies is None:
        return None
    low, median, high = (float(q) for q in np.quantile(energies, (0.05, 0.5, 0.95)))
    shares = contributions(estimate, draws.seed)
    leading = next(iter(shares), None)
    return Distribution(median, low, high, leading, shares[leading] if leading is not None else 0.0)


def contributions(estimate: Estimate, seed: int = SEED, size: int = 400) -> dict[str, float]:
    """Return the share of each source of variance, largest first, each varied alone."""

    def sampled(draws: Draws) -> Floats | None:
        return estimate.sample(draws)

    return _shares(_sources(estimate), sampled, seed, size)


def leading_of_ratio(over: Estimate, under: Estimate, seed: int = SEED, size: int = 400) -> str | None:
    """Return the source with the largest share of the variance of a ratio; None if nothing varies."""

    def sampled(draws: Draws) -> Floats | None:
        above, below = over.sample(draws), under.sample(draws)
        return None if above is None or below is None or not np.all(below > 0) else np.asarray(above / below)

    sources = tuple(dict.fromkeys((*_sources(over), *_sources(under))))
    return next(iter(_shares(sources, sampled, seed, size)), None)


def _sources(estimate: Estimate) -> tuple[str, ...]:
    readings = {term.price.purpose for term in estimate.terms if term.price.instead is not None}
    return (*(constant.id for constant in estimate.constants), *sorted(readings), ACTIVITY)


def _shares(
    sources: Sequence[str], sampled: Callable[[Draws], Floats | None], seed: int, size: int
) -> dict[str, float]:
    """Return the share of each source in the variance of a logarithm, largest first."""
    variances = {}
    for source in sources:
        values = sampled(Draws(size, seed, only=source))
        if values is not None and values.min(initial=1.0) > 0:
            variances[source] = float(np.var(np.log(values)))
    varying = {source: variance for source, variance in variances.items() if variance > ROUNDING}
    total = sum(varying.values())
    shares = {source: variance / total for source, variance in varying.items()}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def probability_below(first: Estimate, second: Estimate, draws: Draws) -> float | None:
    """Return the probability that the first estimate is below the second, with common draws; None if refused."""
    a, b = first.sample(draws), second.sample(draws)
    return None if a is None or b is None else float(np.mean(a < b))


def median_ratio(over: Estimate, under: Estimate, draws: Draws) -> float:
    """Return the median of the ratio of two estimates with common draws; NaN if one is refused or it has no median.

    A draw in which the second is zero is larger than every ratio; if half of them are, there is no finite median.
    """
    a, b = over.sample(draws), under.sample(draws)
    if a is None or b is None:
        return float("nan")
    median = float(np.median(np.divide(a, b, out=np.full_like(a, np.inf), where=b > 0)))
    return median if np.isfinite(median) else float("nan")


def medians_by_layer(estimate: Estimate, draws: Draws) -> dict[str, float]:
    """Return the median energy of each layer in pJ; terms without a layer are under their own name."""
    shares: dict[str, Floats] = {}
    for term in estimate.terms:
        energy = term.sample(draws)
        parts = term.by_layer or {term.what: term.count}
        for layer, counted in parts.items():
            part = energy * (counted / term.count) if term.count else np.zeros(draws.size)
            shares[layer] = shares.get(layer, np.zeros(draws.size)) + part
    return {layer: float(np.median(values)) for layer, values in shares.items()}


def quantiles(values: Floats, at: Sequence[float] = (0.05, 0.5, 0.95)) -> tuple[float, ...]:
    """Return quantiles as plain floats."""
    return tuple(float(value) for value in np.quantile(values, at))
