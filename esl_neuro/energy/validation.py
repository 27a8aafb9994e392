"""Compare published measurements with the predictions of the price models for the published workloads."""

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
# Loihi, Blouw 2018: a keyword spotter of two hidden layers.
KWS_SIZES = (390, 256, 256, 29)


@dataclass(frozen=True)
class ValidationPoint:
    """A prediction and a measurement.

    Attributes
    ----------
    target, what, model : str
        Hardware, what was measured, and the price model (and workload) behind the prediction.
    predicted, low, high : float
        Nominal value and 5-95 % interval, in ``unit``.
    measured : float
        As published, in ``unit``.
    unit : str
        ``"mW"`` or ``"mJ"``.
    fitted : bool
        True if the model was fitted to this measurement, so that agreement proves little.
    remark : str
        Basis of the comparison.
    """

    target: str
    what: str
    model: str
    predicted: float
    low: float
    high: float
    measured: float
    unit: str
    fitted: bool
    remark: str

    @property
    def residual(self) -> float:
        """(predicted - measured) / measured."""
        return self.predicted / self.measured - 1

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return vars(self) | {"residual": self.residual}


def validation() -> tuple[ValidationPoint, ...]:
    """Return all comparisons with published measurements of published workloads."""
    return (*_truenorth(), *_loihi(), *_loihi2())


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
            f"power, {rate} Hz, 0.8 V",
            measured.nominal,
            "mW",
            True,
            "the two parameters are fitted to these three points",
        )
    busy = _sop_per_s(chip, WORKLOAD_HZ)
    remark = "fitted at 0.8 V, measured at another voltage"
    merolla, akopyan = chip.constant("p_typ2").nominal, chip.constant("p_typ").nominal
    yield _point(power("all-in", busy), "power, 20 Hz, 0.775 V (Merolla)", merolla, "mW", True, "the point of 26 pJ")
    yield _point(power("marginal-static", busy), "power, 20 Hz, 0.775 V (Merolla)", merolla, "mW", False, remark)
    yield _point(power("marginal-static", busy), "power, 20 Hz, 0.75 V (Akopyan)", akopyan, "mW", False, remark)
    yield _point(
        power("marginal-static", PEAK_SOP_PER_S),
        "power, 58 GSOPS, 0.75 V (Akopyan)",
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
        yield _point(estimate, f"KWS above waiting, bound ({model})", active, "mJ", False, waiting)
        yield _point(estimate, f"KWS above idle, bound ({model})", dynamic, "mJ", False, remark)


def _loihi2() -> Iterator[ValidationPoint]:
    chip = load_target("loihi2")
    sop, updates = (chip.constant(f"val_pilotnet_{key}").nominal for key in ("synops", "updates"))
    duration = 1 / chip.constant("val_pilotnet_rate").nominal
    dynamic, total = (chip.constant(f"val_pilotnet_lif_{key}").nominal for key in ("dyn", "total"))
    counts = workload(sop, updates, updates / 2)
    remark = "counts read from a plot (+-20 %); half of the updates taken as active; spikes and messages unknown"
    static = _milli(PRICE_MODELS["static"](counts, chip, duration))
    yield _point(
        PRICE_MODELS["static"](counts, chip, duration), "PilotNet, static", total - dynamic, "mJ", True,
        "measured static power times the published time",
    )  # fmt: skip
    for name, estimate in (
        ("proxy", PRICE_MODELS["proxy"](counts, chip, duration)),
        ("loihi:table2", PRICE_MODELS["table2"](counts, load_target("loihi"), duration)),
    ):
        yield _point(estimate, f"PilotNet, dynamic ({name})", dynamic, "mJ", False, remark, "loihi2")
        low, median, high = _quantiles(estimate)
        yield ValidationPoint(
            "loihi2",
            f"PilotNet, total ({name})",
            f"{estimate.model} + static",
            median + static,
            low + static,
            high + static,
            total,
            "mJ",
            False,
            f"{remark}; two rows of different scope, added here only because the measurement has both",
        )


def _milli(estimate: Estimate) -> float:
    """Return the nominal energy in mJ."""
    assert estimate.energy_pj is not None
    return estimate.energy_pj.nominal / PJ_PER_J * 1e3


def _quantiles(estimate: Estimate) -> tuple[float, float, float]:
    """Return 5 % quantile, nominal value and 95 % quantile, in mJ (or mW)."""
    found = distribution(estimate, Draws())
    assert found is not None
    return found.low_pj / PJ_PER_J * 1e3, _milli(estimate), found.high_pj / PJ_PER_J * 1e3


def _point(
    estimate: Estimate, what: str, measured: float, unit: str, fitted: bool, remark: str, target: str | None = None
) -> ValidationPoint:
    low, nominal, high = _quantiles(estimate)
    name = target or estimate.target
    return ValidationPoint(name, what, estimate.model, nominal, low, high, measured, unit, fitted, remark)
