"""Fit the energy of one step of a chip to published measurements.

``E_step = E_chip + E_core x cores + s x (23.6 pJ x SOP + 81 pJ x neuron updates)``

with the prices of Loihi's Table 2 (Davies 2018), because the measurements fix one sum of operations and not the two
prices. The parameters are not negative; errors are those of the table of measurements, a common one for all readings of
a workload among them. Intervals are 5-95 % over redrawn errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from esl_neuro.energy.measurement import Measurement
from esl_neuro.energy.measurements import Point
from esl_neuro.energy.uncertainty import Z_ONE_SIDE
from esl_neuro.errors import BadInput

Floats = NDArray[np.float64]

SOP_PJ, NEURON_PJ = 23.6, 81.0  # Davies 2018, Table 2
CORNERS = {"synapse": (SOP_PJ, NEURON_PJ), "neuron": (4.0, 390.0)}
REDRAWS = 4000
SEED = 0
LEAST_NJ = 3.0  # drift between runs of the best published instrument, the smallest error of a reading
SEPARATE = 4.0
RISE_NEURONS = 1000.0  # the rise of a sweep over sizes is stated for this many neurons


@dataclass(frozen=True)
class Observation:
    """Energy of a step, beside what the model multiplies.

    Attributes
    ----------
    workload : str
        Observations of one workload share the common error, and are left out together.
    energy_nj, scatter_nj, common_nj : float
        Measured energy of a step, its own error, and the error that the workload shares.
    chips, cores, sop, neuron_updates : float
        Chips (0 if only a rise was measured), occupied cores, and operations of a step.
    """

    workload: str
    energy_nj: float
    scatter_nj: float
    common_nj: float
    chips: float
    cores: float
    sop: float
    neuron_updates: float

    def features(self, prices: tuple[float, float] = CORNERS["synapse"]) -> tuple[float, float, float]:
        """Return what the three parameters multiply; operations in nJ."""
        return self.chips, self.cores, (prices[0] * self.sop + prices[1] * self.neuron_updates) / 1e3


@dataclass(frozen=True)
class Parameter:
    """A fitted parameter with its 5-95 % interval."""

    name: str
    value: float
    low: float
    high: float
    unit: str


@dataclass(frozen=True)
class LeftOut:
    """A workload predicted by a fit without it.

    Attributes
    ----------
    workload : str
    measured_nj, predicted_nj, error_nj : float
        Mean over its readings of a step, the prediction, and the error of the measured mean.
    """

    workload: str
    measured_nj: float
    predicted_nj: float
    error_nj: float

    @property
    def ratio(self) -> float:
        """Predicted over measured."""
        return self.predicted_nj / self.measured_nj


@dataclass(frozen=True)
class ChipFit:
    """The fitted model.

    Attributes
    ----------
    parameters : tuple of Parameter
        ``e_chip_step``, ``e_core_step`` and ``operations_factor``.
    line : Parameter
        ``e_SOP + ratio x e_neuron``, the one sum of the two prices that is fixed.
    ratio : float
        Neuron updates per SOP of the workload that fixes the sum.
    left_out : tuple of LeftOut
        Each workload, predicted without it.
    """

    parameters: tuple[Parameter, ...]
    line: Parameter
    ratio: float
    left_out: tuple[LeftOut, ...]

    def step_nj(self, cores: float, sop: float, neuron_updates: float) -> float:
        """Return the fitted energy of a step on one chip, in nJ."""
        row = Observation("", 0, 0, 0, 1, cores, sop, neuron_updates).features()
        return float(np.dot(row, [parameter.value for parameter in self.parameters]))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "parameters": {each.name: vars(each) for each in (*self.parameters, self.line)},
            "ratio": self.ratio,
            "leave_one_out": [vars(each) | {"ratio": each.ratio} for each in self.left_out],
        }


def observations(points: Iterable[Point]) -> list[Observation]:
    """Return the observations of the fitted readings.

    Raises
    ------
    BadInput
        If a fitted reading is of more than one chip, or of unknown cores.
    """
    chosen = [point for point in points if point.fitted]
    wrong = [point for point in chosen if point.workload.chips != 1 or not point.cores]
    if wrong:
        names = ", ".join(point.name for point in wrong)
        raise BadInput(f"{names}: the fit takes readings of one chip with known cores; set use = 'check'")
    rises = dict.fromkeys(point.workload.id for point in chosen if point.workload.fit_rise)
    found = [_level(point) for point in chosen if not point.workload.fit_rise]
    return found + [_rise([point for point in chosen if point.workload.id == name]) for name in rises]


def own_observation(measured: Measurement, chip: str, repeatability: float) -> Observation:
    """Return a measurement of a user's own board as an observation.

    All readings of one target share the repeatability of the instrument as a common error.

    Raises
    ------
    BadInput
        If it is of another chip, contains idle power, or has no counts.
    """
    findings = []
    if measured.target != chip:
        findings.append(f"it is of '{measured.target}', the fit is of '{chip}'")
    if measured.scope != "dynamic":
        findings.append("it contains idle power; import it with --idle-w")
    if None in (measured.steps, measured.cores, measured.sop, measured.neuron_updates):
        findings.append("it has no counts; import it with --steps, --cores, --sop and --neuron-updates")
    if findings:
        raise BadInput(f"measurement of {measured.source}: {'; '.join(findings)}")
    assert measured.steps is not None
    each = 1e9 / measured.steps
    return Observation(
        workload=f"own: {measured.target}",
        energy_nj=measured.energy_j_per_sample * each,
        scatter_nj=max((measured.high_j - measured.low_j) / 2 / Z_ONE_SIDE * each, LEAST_NJ),
        common_nj=repeatability * measured.energy_j_per_sample * each,
        chips=1.0,
        cores=float(measured.cores or 0),
        sop=(measured.sop or 0.0) / measured.steps,
        neuron_updates=(measured.neuron_updates or 0.0) / measured.steps,
    )


@dataclass(frozen=True)
class OpenFit:
    """A fit with both prices of operations free.

    Attributes
    ----------
    e_sop, e_neuron : Parameter
        In pJ.
    """

    e_sop: Parameter
    e_neuron: Parameter

    @property
    def separable(self) -> bool:
        """Whether both are known within a factor of :data:`SEPARATE`."""
        return all(each.low > 0 and each.high < SEPARATE * each.low for each in (self.e_sop, self.e_neuron))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"e_sop": vars(self.e_sop), "e_neuron": vars(self.e_neuron), "separable": self.separable}


def fit_open(given: Sequence[Observation]) -> OpenFit:
    """Fit chip, cores and both prices by weighted least squares with parameters of at least zero."""
    rows = np.array([(each.chips, each.cores, each.sop / 1e3, each.neuron_updates / 1e3) for each in given])
    best, low, high = _solved(given, rows)
    sop, neuron = (Parameter(name, best[i], low[i], high[i], "pJ") for i, name in ((2, "e_sop"), (3, "e_neuron")))
    return OpenFit(sop, neuron)


def _level(point: Point) -> Observation:
    load = point.workload
    common = max(load.common_nj, load.common_fraction * point.step_nj)
    return Observation(
        load.id, point.step_nj, point.scatter_nj, common, 1.0, point.cores, point.sop, point.neuron_updates
    )


def _rise(points: Sequence[Point]) -> Observation:
    """Return the rise of energy and cores with the neurons, by least squares over a sweep."""
    neurons = np.array([point.neuron_updates for point in points])
    rises = [
        RISE_NEURONS * float(np.polyfit(neurons, values, 1)[0])
        for values in ([point.step_nj for point in points], [point.cores for point in points])
    ]
    load = points[0].workload
    return Observation(load.id, rises[0], load.error_nj, 0.0, 0.0, rises[1], 0.0, RISE_NEURONS)


def fit(given: Sequence[Observation], prices: tuple[float, float] = CORNERS["synapse"]) -> ChipFit:
    """Fit the model by weighted least squares with parameters of at least zero.

    Raises
    ------
    BadInput
        If the observations are of fewer than three workloads.
    """
    names = list(dict.fromkeys(each.workload for each in given))
    if len(names) < 3:
        raise BadInput(f"readings of {len(names)} workloads; the fit of three parameters needs at least 3")
    best, low, high = _solved(given, _rows(given, prices))
    labels = (("e_chip_step", "nJ"), ("e_core_step", "nJ"), ("operations_factor", "1"))
    parameters = tuple(Parameter(name, best[i], low[i], high[i], unit) for i, (name, unit) in enumerate(labels))
    largest = max(given, key=lambda each: each.sop)
    ratio = largest.neuron_updates / largest.sop if largest.sop else 0.0
    total = prices[0] + ratio * prices[1]
    factor = parameters[2]
    sums = (total * factor.value, total * factor.low, total * factor.high)
    line = Parameter("e_sop + ratio x e_neuron", sums[0], sums[1], sums[2], "pJ")
    return ChipFit(parameters, line, ratio, tuple(_left_out(given, name, prices) for name in names))


def _rows(given: Sequence[Observation], prices: tuple[float, float]) -> Floats:
    return np.array([each.features(prices) for each in given])


def _solved(given: Sequence[Observation], rows: Floats) -> tuple[list[float], list[float], list[float]]:
    """Return the parameters, and the 5 and 95 % quantiles over redrawn errors."""
    white_rows, white = _whitened(given, rows)
    noise = np.random.default_rng(SEED).standard_normal((REDRAWS, len(given)))
    # A rotation to as many rows as parameters, because least squares sees no more of the data.
    rotation, small = np.linalg.qr(white_rows)
    scale = np.linalg.norm(small, axis=0)
    best, *drawn = (nnls(small / scale, each)[0] / scale for each in np.vstack([white, white + noise]) @ rotation)
    low, high = np.quantile(drawn, (0.05, 0.95), axis=0)
    return best.tolist(), low.tolist(), high.tolist()


def _whitened(given: Sequence[Observation], rows: Floats) -> tuple[Floats, Floats]:
    """Return rows and energies in units in which all errors are independent and of size one."""
    lower = np.linalg.cholesky(_covariance(given))
    return np.linalg.solve(lower, rows), np.linalg.solve(lower, np.array([each.energy_nj for each in given]))


def _covariance(given: Sequence[Observation]) -> Floats:
    same = np.array([[a.workload == b.workload for b in given] for a in given], dtype=float)
    common = np.array([each.common_nj for each in given])
    return np.asarray(np.diag([each.scatter_nj**2 for each in given]) + same * np.outer(common, common))


def _left_out(given: Sequence[Observation], name: str, prices: tuple[float, float]) -> LeftOut:
    rest = [each for each in given if each.workload != name]
    own = [each for each in given if each.workload == name]
    parameters = nnls(*_whitened(rest, _rows(rest, prices)))[0]
    predicted = np.mean(_rows(own, prices) @ parameters)
    error = np.hypot(np.mean([e.common_nj for e in own]), np.mean([e.scatter_nj for e in own]) / len(own) ** 0.5)
    return LeftOut(name, float(np.mean([each.energy_nj for each in own])), float(predicted), float(error))
