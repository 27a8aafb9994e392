"""Price models of GPUs and CPUs: dense kernels, so zeros cost as much as weights."""

from __future__ import annotations

import numpy as np

from esl_neuro.energy.counts import Counts
from esl_neuro.energy.estimate import PJ_PER_J, STATIC_UNIT, Estimate, Factor, Price, Sampler, Term, counted, operation
from esl_neuro.hardware import Constant, HardwareTarget, Interval

DENSE = "sparse weights do not make dense kernels cheaper, so zeros are counted"


def flop_price(power: Constant, rate: Constant) -> Interval:
    """Energy per FLOP in pJ at full power and full rate."""
    return _flop(power, rate).interval


def _flop(power: Constant, rate: Constant) -> Price:
    return Price((Factor(power, "W"), Factor(rate, "FLOP/s", -1)), PJ_PER_J)


def _peak_flops(target: HardwareTarget, model: str, prices: str, flops: Term) -> Estimate:
    return Estimate(
        target.name,
        target.target.kind,
        model,
        "peak_tdp",
        prices,
        (flops,),
        best_case=True,
        notes=("a network this small cannot fill a GPU, so the datasheet peak is a lower bound", DENSE),
    )


def _board(target: HardwareTarget) -> tuple[Price, str]:
    power, rate = target.constant("board_power"), target.constant("peak_fp32")
    price = _flop(power, rate)
    return price, f"{price.interval.nominal:.5g} pJ ({power.text} / {rate.text})"


def peak_2_flop(counts: Counts, target: HardwareTarget, _tick_s: float | None) -> Estimate:
    """Dense network of the same shape in every step, a multiply-add counted as two FLOPs as datasheets do."""
    prices = "the dense network of the same shape, 2 FLOPs per multiply-add, every step"
    return _peak_flops(target, "peak-2-flop", prices, _two_flops(counts, *_board(target)))


def _two_flops(counts: Counts, price: Price, text: str) -> Term:
    # The count twice: a multiplication and an addition.
    return counted("floating-point operations", counts, ("macs_dense", "macs_dense"), "FLOP", price, text)


def peak_1_flop_once(counts: Counts, target: HardwareTarget, _tick_s: float | None) -> Estimate:
    """One FLOP per connection of the dense network, once per sample: the convention of Table 1 of ESL-SNNs."""
    runs = max(counts.samples * counts.steps, 1)
    by_layer = {layer.name: layer.macs_dense / runs for layer in counts.layers}
    prices = "the dense network of the same shape, 1 FLOP per connection, one pass for all steps"
    price, text = _board(target)
    total = counts.per_sample("macs_dense") / max(counts.steps, 1)
    term = Term("floating-point operations", total, "FLOP", price, text, None, by_layer)
    return _peak_flops(target, "peak-1-flop-once", prices, term)


def utilisation(counts: Counts, target: HardwareTarget, _tick_s: float | None) -> Estimate:
    """Dense network at a share of the peak rate, the board at full power.

    ``E = 2 x MACs x P_board / (rate_peak x utilisation)``, the utilisation anywhere in an assumed band.
    """
    share = target.constant("utilisation")
    board, _ = _board(target)
    price = Price((*board.factors, Factor(share, "1", -1)), board.scale)
    band = share.interval("1")
    text = f"{price.interval.nominal:.5g} pJ (board power / peak rate / {band.nominal:g})"
    return Estimate(
        target.name,
        target.target.kind,
        "utilisation",
        "utilisation",
        f"the dense network of the same shape, at {100 * band.low:.1f} % to {100 * band.high:.0f} % of the peak rate "
        "and full power",
        (_two_flops(counts, price, text),),
        notes=("the utilisation is an assumption: measure it (esl-neuro energy measure)", DENSE),
    )


def per_mac(counts: Counts, target: HardwareTarget, _tick_s: float | None) -> Estimate:
    """Measured energy of a whole application per multiply-accumulate."""
    mac = target.constant("e_mac")
    return Estimate(
        target.name,
        target.target.kind,
        "per-mac",
        "measured_app",
        "the dense network of the same shape, at the energy per MAC of a measured application",
        (operation("multiply-accumulates", counts, "macs_dense", "MAC", mac),),
        notes=("measured on another application with a large load", DENSE),
    )


def batch_1(counts: Counts, target: HardwareTarget, tick_s: float | None) -> Estimate:
    """Price the board of a GPU while it launches small kernels, one sample at a time.

    ``E = P_board x max(steps x tick, steps x layers x kernels x t_kernel)``: a small network does not fill a GPU, so
    the time is that of the launches and not of the arithmetic. Between the steps of real time, the board stays on.
    """
    layers = len(counts.layers)
    launches, seconds = Factor(target.constant("kernels_per_layer"), "1"), Factor(target.constant("t_kernel"), "s")
    power = target.constant("p_batch_1")
    busy = Price((Factor(power, "W"), launches, seconds), PJ_PER_J)
    runs = float(counts.steps * layers)
    free = runs * launches.interval().nominal * seconds.interval().nominal
    waits = tick_s is not None and counts.steps * tick_s > free
    if waits and tick_s is not None:
        held = Price((Factor(power, "W"),), PJ_PER_J)
        term = Term("power of the board x time", counts.steps * tick_s, STATIC_UNIT, held, power.text)
        mode = "steps of real time, which are longer than the launches"
    else:
        text = f"{power.text} x {launches.constant.text} x {seconds.constant.text}"
        term = Term("power of the board x launches", runs, "layer and step", busy, text)
        mode = "one launch after the other"
    return Estimate(
        target.name,
        target.target.kind,
        "batch-1",
        "board",
        f"the power of the board at batch 1 over the time of a sample: {mode}",
        (term,),
        notes=("batches of many samples need far less for each; the time of a sample is then longer", DENSE),
    )


def launch_time(counts: Counts, target: HardwareTarget) -> Interval | None:
    """Return the time of a sample at batch 1, launch-bound, in seconds; None if nothing is published."""
    if "t_kernel" not in target.constants:
        return None
    parts = [target.constant("kernels_per_layer").interval("1"), target.constant("t_kernel").interval("s")]
    low, nominal, high = (
        parts[0].low * parts[1].low,
        parts[0].nominal * parts[1].nominal,
        parts[0].high * parts[1].high,
    )
    return Interval(low, nominal, high).times(counts.steps * len(counts.layers))


def launch_time_median(counts: Counts, target: HardwareTarget, draws: Sampler) -> float:
    """Return the median of :func:`launch_time`, in seconds."""
    kernels, seconds = Factor(target.constant("kernels_per_layer"), "1"), Factor(target.constant("t_kernel"), "s")
    return float(np.median(kernels.sample(draws) * seconds.sample(draws))) * counts.steps * len(counts.layers)
