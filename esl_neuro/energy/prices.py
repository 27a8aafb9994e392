"""Price models by name, and pricing of a run with the models of a target.

A price model is one small pure function ``(counts, target, tick_s) -> Estimate``, with ``tick_s`` None for a chip that
runs freely. All energies are means per sample.

Numbers of different scope are not comparable: a chip-level figure contains leakage and routing, a per-term figure does
not. So an estimate rejects constants whose scopes may not be added.
"""

from __future__ import annotations

from collections.abc import Callable

from esl_neuro.energy import chips, cmos, fitted, processors
from esl_neuro.energy.counts import Counts
from esl_neuro.energy.estimate import REFUSED, Estimate, Refused
from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.hardware import HardwareTarget, UnpublishedConstant

PriceModel = Callable[[Counts, HardwareTarget, "float | None"], Estimate]

PRICE_MODELS: dict[str, PriceModel] = {
    "all-in": chips.all_in,
    "marginal-static": chips.marginal_static,
    "marginal": chips.marginal,
    "peak": chips.peak,
    "synapse-neuron": chips.synapse_neuron,
    "table2": chips.table2,
    "silicon": chips.silicon,
    "silicon-dense": chips.silicon_dense,
    "silicon-chip": chips.of_chip(chips.silicon, chips.static, "silicon-chip"),
    "fitted": fitted.fitted,
    "fitted-synapse": fitted.fitted_synapse,
    "fitted-neuron": fitted.fitted_neuron,
    "fitted-chip": chips.of_chip(fitted.fitted, chips.static, "fitted-chip"),
    "fitted-chip-synapse": chips.of_chip(fitted.fitted_synapse, chips.static, "fitted-chip-synapse"),
    "fitted-chip-neuron": chips.of_chip(fitted.fitted_neuron, chips.static, "fitted-chip-neuron"),
    "fitted-chip-n3c1": chips.of_chip(fitted.fitted, chips.static_n3c1, "fitted-chip-n3c1"),
    "fitted-board": chips.board,
    "static": chips.static,
    "static-n3c1": chips.static_n3c1,
    "per-operation": chips.per_operation,
    "system-figures": chips.system_figures,
    "batch-1": processors.batch_1,
    "utilisation": processors.utilisation,
    "peak-2-flop": processors.peak_2_flop,
    "peak-1-flop-once": processors.peak_1_flop_once,
    "per-mac": processors.per_mac,
    "arithmetic": cmos.arithmetic,
    "arithmetic-int8": cmos.arithmetic_int8,
    "with-memory": cmos.with_memory,
    "lemaire": cmos.lemaire,
}


def price(counts: Counts, target: HardwareTarget, tick_s: float | None) -> tuple[Estimate, ...]:
    """Price a run with every model of the target.

    Parameters
    ----------
    counts : Counts
        Counts of the run.
    target : HardwareTarget
        The chip or processor.
    tick_s : float or None
        Duration of one time step on the chip, in seconds; None for a chip that runs as fast as it can.

    Returns
    -------
    tuple of Estimate
        One per model, the representative one first; a refusal with the reason if a price is unpublished.

    Raises
    ------
    BadInput
        If the target lists an unknown model, or lacks a constant that a model needs.
    """
    return tuple(_price_or_refuse(name, counts, target, tick_s) for name in target.target.price_models)


def _price_or_refuse(name: str, counts: Counts, target: HardwareTarget, tick_s: float | None) -> Estimate:
    if name not in PRICE_MODELS:
        raise BadInput(
            f"hardware target '{target.name}': price model '{name}' is unknown; {did_you_mean(name, PRICE_MODELS)}"
        )
    try:
        return PRICE_MODELS[name](counts, target, tick_s)
    except UnpublishedConstant as reason:
        return Estimate(target.name, target.target.kind, name, REFUSED, "nothing", refusal=f"unpublished: {reason}")
    except Refused as reason:
        return Estimate(target.name, target.target.kind, name, REFUSED, "nothing", refusal=str(reason))
