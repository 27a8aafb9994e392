"""Price models of a chip whose energy of a step was fitted to measurements.

``E = steps x (e_chip_step + e_core_step x cores) + operations_factor x (e_sop x SOP + e_neuron x neuron updates)``

The measurements fix one sum of the two prices of operations, not each of them. So there are two pairs, the ends of what
fits: ``synapse`` prices operations as Loihi does, ``neuron`` charges most of the energy to the neurons. The
representative model leaves open which holds.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from esl_neuro.energy.counts import Counts
from esl_neuro.energy.estimate import STEP, Estimate, Factor, Price, Refused, Term, counted, left_out
from esl_neuro.hardware import HardwareTarget

CORNERS = ("synapse", "neuron")
READINGS = {"synapse": "priced as Loihi 1", "neuron": "priced by updates"}
"""What the prices of each pair are, in words."""
OPEN = "which pair of prices holds"
GRADED = (
    "a graded spike is priced like a binary one: the chip multiplies by its payload; the only measured runs with "
    "graded spikes (S4D) are uncertain by as much as they need"
)


def fitted(counts: Counts, target: HardwareTarget, _tick_s: float | None) -> Estimate:
    """Price a run, with the pair of prices left open: the interval covers both."""
    what = "with the pair of prices open between 'fitted-synapse' and 'fitted-neuron'"
    return _fitted(counts, target, "fitted", what, *(_open(target, name) for name in ("e_sop", "e_neuron")))


def fitted_synapse(counts: Counts, target: HardwareTarget, _tick_s: float | None) -> Estimate:
    """Price a run if operations cost as on Loihi."""
    return _corner(counts, target, "synapse", "if operations cost as on Loihi")


def fitted_neuron(counts: Counts, target: HardwareTarget, _tick_s: float | None) -> Estimate:
    """Price a run if most energy is that of neuron updates."""
    return _corner(counts, target, "neuron", "if most of the energy of operations is that of the neurons")


def is_open(estimate: Estimate) -> bool:
    """Return whether an estimate leaves open which pair of prices holds."""
    return any(term.price.reading == OPEN for term in estimate.terms)


def _corner(counts: Counts, target: HardwareTarget, corner: str, what: str) -> Estimate:
    sop, neuron = (_price(target, f"{name}_{corner}") for name in ("e_sop", "e_neuron"))
    return replace(_fitted(counts, target, f"fitted-{corner}", what, sop, neuron), reading=corner)


def _price(target: HardwareTarget, key: str) -> Price:
    return Price((Factor(target.constant(key)), Factor(target.constant("operations_factor"), "1")))


def _open(target: HardwareTarget, name: str) -> Price:
    first, second = (_price(target, f"{name}_{corner}") for corner in CORNERS)
    return replace(first, instead=second, reading=OPEN)


def _fitted(counts: Counts, target: HardwareTarget, model: str, what: str, sop: Price, neuron: Price) -> Estimate:
    use = counts.core_use.get(target.name)
    if use is not None and use.chips > 1:
        raise Refused(
            f"the run needs {use.cores:,} cores on {use.chips} chips, and the model holds for one chip: it is wrong by "
            "a factor of 5 on the one published system of 16 chips; make the network smaller, or measure it"
        )
    # Each core holds neurons of one layer, so there are at least as many cores as layers.
    cores = sum(1 for layer in counts.layers if layer.neuron_updates) if use is None else use.cores
    notes: tuple[str, ...] = (GRADED,) if counts.total("macs_effective") else ()
    if use is None:
        notes += ("the cores are unknown here, so at least one for each layer is charged",)
    return Estimate(
        target.name,
        target.target.kind,
        model,
        "dynamic",
        f"steps, occupied cores, executed SOPs and neuron updates, fitted to measurements of one chip, {what}",
        (
            _steps("steps of the chip", counts.steps, target, "e_chip_step"),
            _steps("steps of occupied cores", counts.steps * cores, target, "e_core_step"),
            _operations(counts, sop),
            counted("neuron updates", counts, "neuron_updates", "update", neuron, _text(neuron)),
        ),
        left_out(multiply_accumulates_of_analog_values=_analog(counts)),
        best_case=use is None,
        notes=("spikes and messages have no price of their own: the fit holds what they cost", *notes),
    )


def _steps(what: str, count: float, target: HardwareTarget, key: str) -> Term:
    constant = target.constant(key)
    return Term(what, count, STEP, Price((Factor(constant),)), constant.text)


def _operations(counts: Counts, price: Price) -> Term:
    """Return the term of the stored weights that binary or graded spikes meet."""
    spiking = tuple(layer for layer in counts.layers if layer.signal != "analog")
    if not spiking:
        return Term("synaptic operations", 0.0, "SOP", price, _text(price), np.zeros(counts.samples))
    part = replace(counts, layers=spiking)
    return counted("synaptic operations", part, "weight_words_read", "SOP", price, _text(price))


def _analog(counts: Counts) -> float:
    return sum(layer.macs_effective for layer in counts.layers if layer.signal == "analog") / max(counts.samples, 1)


def _text(price: Price) -> str:
    nominal = f"{price.interval.nominal:.3g} pJ"
    return nominal if price.instead is None else f"{nominal} (to {price.instead.interval.nominal:.3g} pJ)"
