"""Compare every published measurement with the prediction of the price models for its workload."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from esl_neuro.energy.counts import Counts, LayerCounts
from esl_neuro.energy.estimate import PJ_PER_J, Estimate
from esl_neuro.energy.prices import PRICE_MODELS
from esl_neuro.energy.uncertainty import Draws, distribution
from esl_neuro.hardware import HardwareTarget, load_target

# TrueNorth, Akopyan 2015: every core full, 128 synapses a neuron; the sweep of Fig. 17 and the other workloads.
SYNAPSES_PER_NEURON = 128
SWEEP_HZ = (("sweep_11_58_hz", 11.58), ("sweep_20_07_hz", 20.07), ("sweep_95_93_hz", 95.93))
WORKLOAD_HZ = 20.0
PEAK_SOP_PER_S = 58e9
PEAK_W = 0.145
# Loihi and a GPU, Blouw 2018: a keyword spotter of two hidden layers.
KWS_SIZES = (390, 256, 256, 29)
READING_MW = 0.5  # the published powers of TrueNorth are whole milliwatts


@dataclass(frozen=True)
class ValidationPoint:
    """A measurement and, where its workload is known, a prediction.

    Attributes
    ----------
    target, what, model : str
        Hardware, what was measured, and the price model behind the prediction ("" for none).
    predicted, low, high : float or None
        Nominal value and 5-95 % interval, in ``unit``; None if it cannot be predicted.
    measured : float
        As published, in ``unit``.
    unit : str
    fitted : bool
        True if a constant of the model was fitted to it or read off it, so that agreement proves little.
    remark : str
        Basis of the comparison.
    repeatability : float or None
        Scatter of the instrument on the same program, as a fraction; None if not published.
    suspect : bool
        True if its source gives reason to doubt it.
    lower_bound : bool
        True if the prediction is at least this: it takes a published minimum, or leaves operations out. The nominal
        value may then lie below its own interval.
    """

    target: str
    what: str
    model: str
    predicted: float | None
    low: float | None
    high: float | None
    measured: float
    unit: str
    fitted: bool
    remark: str
    repeatability: float | None = None
    suspect: bool = False
    lower_bound: bool = False

    @property
    def residual(self) -> float | None:
        """(predicted - measured) / measured."""
        return None if self.predicted is None or not self.measured else self.predicted / self.measured - 1

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return vars(self) | {"residual": self.residual}


def validation() -> tuple[ValidationPoint, ...]:
    """Return all published measurements of published workloads beside the predictions."""
    from esl_neuro.energy.validation_loihi2 import loihi2_points

    return (*_truenorth(), *_loihi(), *_gpu(), *loihi2_points())


def workload(sop: float, updates: float = 0.0, touched: float = 0.0, steps: int = 1) -> Counts:
    """Return the counts of one inference (or one second) of a workload with known totals only."""
    one = {"sop_effective": round(sop), "neuron_updates_touched": round(touched)}
    layer = LayerCounts(
        name="workload",
        source="input",
        signal="spike",
        inputs=0,
        neurons=round(updates / steps),
        stored=0,
        weights=0,
        declared=0,
        spikes_in=0,
        spikes_out=0,
        sop_executed=round(sop),
        sop_executed_dense=round(sop),
        sop_bound=round(sop),
        macs_effective=0,
        macs_dense=0,
        neuron_updates=round(updates),
        neuron_updates_idle=round(updates - touched),
        bias_adds=0,
        weight_words_read=round(sop),
        state_reads=round(updates),
        state_writes=round(updates),
        messages=None,
        hops_ew=None,
        hops_ns=None,
        runs={"spikes_in": np.zeros((1, steps), dtype=np.int64)},
        **one,
    )
    return Counts(1, steps, (layer,))


def _truenorth() -> Iterator[ValidationPoint]:
    chip = load_target("truenorth")
    second = 1.0  # a step of one second makes energy per sample a power

    def power(model: str, sop_per_s: float) -> Estimate:
        return PRICE_MODELS[model](workload(sop_per_s), chip, second)

    for key, rate in SWEEP_HZ:
        measured = chip.constant(key)
        yield _point(
            power("marginal-static", _sop_per_s(chip, rate)),
            f"{rate} Hz, 0.8 V",
            measured.nominal,
            "mW",
            True,
            "the two parameters are fitted to these three points",
            repeatability=READING_MW / measured.nominal,
        )
    busy = _sop_per_s(chip, WORKLOAD_HZ)
    remark = "fitted at 0.8 V, measured at another voltage"
    merolla, akopyan = chip.constant("p_typ2").nominal, chip.constant("p_typ").nominal
    yield _point(power("all-in", busy), "20 Hz, 0.775 V (Merolla)", merolla, "mW", True, "the point of 26 pJ")
    yield _point(power("marginal-static", busy), "20 Hz, 0.775 V (Merolla)", merolla, "mW", False, remark)
    yield _point(power("marginal-static", busy), "20 Hz, 0.75 V (Akopyan)", akopyan, "mW", False, remark)
    yield _point(
        power("marginal-static", PEAK_SOP_PER_S),
        "58 GSOPS, 0.75 V (Akopyan)",
        1e3 * PEAK_W,
        "mW",
        False,
        remark,
    )


def _sop_per_s(chip: HardwareTarget, rate_hz: float) -> float:
    cores, neurons = (chip.limits[key].value for key in ("cores_per_chip", "neurons_per_core"))
    assert cores is not None
    assert neurons is not None
    return cores * neurons * SYNAPSES_PER_NEURON * rate_hz


def _loihi() -> Iterator[ValidationPoint]:
    chip = load_target("loihi")
    steps = int(chip.constant("val_kws_steps").nominal)
    sop = sum(a * b for a, b in itertools.pairwise(KWS_SIZES)) * steps
    updates = sum(KWS_SIZES) * steps
    counts = workload(sop, updates, updates, steps)
    remark = (
        f"every connection in each of {steps} steps, more than can have happened: SOPs and updates are the smaller "
        "part of what was measured; input and output over the board and the processors on the chip are in no model"
    )
    waiting = (
        f"every connection in each of {steps} steps, more than can have happened, beside what the power logs show "
        "above the same program waiting for input"
    )
    dynamic, active = chip.constant("val_kws").nominal, chip.constant("val_kws_active").nominal
    for model in ("silicon", "table2"):
        estimate = PRICE_MODELS[model](counts, chip, 1e-3)
        scatter = chip.constant("val_kws_active")
        spread = ((scatter.high or active) - (scatter.low or active)) / 2 / active
        yield _point(estimate, "KWS above waiting bound", active, "mJ", False, waiting, repeatability=spread)
        yield _point(estimate, "KWS above idle bound", dynamic, "mJ", False, remark)


def _gpu() -> Iterator[ValidationPoint]:
    chip = load_target("quadro-k4000")
    layers = len(KWS_SIZES) - 1
    one = workload(0).layers[0]
    counts = Counts(1, 1, (one,) * layers)
    remark = "the time of a layer is the mean of larger networks, its range ends at this one: launches, not arithmetic"
    yield _point(
        PRICE_MODELS["batch-1"](counts, chip, None),
        "KWS on the board at batch 1",
        chip.constant("val_kws_total").nominal,
        "mJ",
        True,
        remark,
    )


def quantiles_of(estimate: Estimate, scale: float) -> tuple[float, float, float]:
    """Return 5 % quantile, nominal value and 95 % quantile of an energy, times ``scale`` (1 for pJ)."""
    found = distribution(estimate, Draws())
    assert found is not None
    assert estimate.energy_pj is not None
    return found.low_pj * scale, estimate.energy_pj.nominal * scale, found.high_pj * scale


def _point(
    estimate: Estimate,
    what: str,
    measured: float,
    unit: str,
    fitted: bool,
    remark: str,
    repeatability: float | None = None,
) -> ValidationPoint:
    low, nominal, high = quantiles_of(estimate, 1e3 / PJ_PER_J)  # mJ, or mW over one second
    return ValidationPoint(
        estimate.target,
        what,
        estimate.model,
        nominal,
        low,
        high,
        measured,
        unit,
        fitted,
        remark,
        repeatability,
        lower_bound=estimate.lower_bound,
    )
