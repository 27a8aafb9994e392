"""Price models of GPUs and CPUs: dense kernels, so zeros cost as much as weights."""

from __future__ import annotations

from esl_neuro.energy.counts import Counts
from esl_neuro.energy.estimate import PJ_PER_J, Estimate, Factor, Price, Term, counted, operation
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


def peak_2_flop(counts: Counts, target: HardwareTarget, _tick_s: float) -> Estimate:
    """Dense network of the same shape in every step, a multiply-add counted as two FLOPs as datasheets do."""
    prices = "the dense network of the same shape, 2 FLOPs per multiply-add, every step"
    return _peak_flops(target, "peak-2-flop", prices, _two_flops(counts, *_board(target)))


def _two_flops(counts: Counts, price: Price, text: str) -> Term:
    # The count twice: a multiplication and an addition.
    return counted("floating-point operations", counts, ("macs_dense", "macs_dense"), "FLOP", price, text)


def peak_1_flop_once(counts: Counts, target: HardwareTarget, _tick_s: float) -> Estimate:
    """One FLOP per connection of the dense network, once per sample: the convention of Table 1 of ESL-SNNs."""
    runs = max(counts.samples * counts.steps, 1)
    by_layer = {layer.name: layer.macs_dense / runs for layer in counts.layers}
    prices = "the dense network of the same shape, 1 FLOP per connection, one pass for all steps"
    price, text = _board(target)
    total = counts.per_sample("macs_dense") / max(counts.steps, 1)
    term = Term("floating-point operations", total, "FLOP", price, text, None, by_layer)
    return _peak_flops(target, "peak-1-flop-once", prices, term)


def utilisation(counts: Counts, target: HardwareTarget, _tick_s: float) -> Estimate:
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
        f"the dense network of the same shape, at {band.low:.1%} to {band.high:.0%} of the peak rate and full power",
        (_two_flops(counts, price, text),),
        notes=("the utilisation is an assumption: measure it (esl-neuro energy measure)", DENSE),
    )


def per_mac(counts: Counts, target: HardwareTarget, _tick_s: float) -> Estimate:
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
