"""Price the operations of a network in training as the energy report prices those of its export. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from esl_neuro.energy.counts import Counts, LayerCounts
from esl_neuro.energy.estimate import Estimate
from esl_neuro.energy.prices import price
from esl_neuro.errors import BadInput
from esl_neuro.hardware import HardwareTarget
from esl_neuro.hardware.units import convert

OPERATIONS = frozenset({"SOP", "MAC", "update", "spike", "message", "hop"})
"""Units of the counts that a network causes; the other terms are steps and static power of the chip."""


@dataclass(frozen=True)
class SourceActivity:
    """What the input or a layer of neurons sent, over all samples and steps.

    Attributes
    ----------
    name : str
        Name of the layer, or ``"input"``.
    neurons : int
        Neurons that are updated in every step; 0 for the input.
    events : int
        Spikes, or values that are not zero.
    synaptic : int
        Events times the synapses that each of them meets.
    graded : bool
        Whether the values are no spikes.
    """

    name: str
    neurons: int
    events: int
    synaptic: int
    graded: bool = False


@dataclass(frozen=True)
class Activity:
    """Activity of a network.

    Attributes
    ----------
    samples, steps : int
        Samples, and steps of each.
    sources : tuple of SourceActivity
        Input, layers of neurons, and an output layer that does not fire.
    """

    samples: int
    steps: int
    sources: tuple[SourceActivity, ...]

    @property
    def synaptic(self) -> float:
        """Synaptic operations of a sample, those of graded input included."""
        return sum(source.synaptic for source in self.sources) / self.samples


@dataclass(frozen=True)
class EnergyPerSample:
    """Energy of a sample on a target.

    Attributes
    ----------
    model : str
        The price model: the representative one of the target.
    operations_nj : float
        Synaptic operations, neuron updates and spikes, as far as the model prices them.
    beside_nj : float
        Everything else: steps of the chip and of its cores, at least one core for each layer, and static power.
    """

    model: str
    operations_nj: float
    beside_nj: float


def energy_per_sample(activity: Activity, target: HardwareTarget) -> EnergyPerSample:
    """Price a sample, the mean over all samples of an activity.

    Raises
    ------
    BadInput
        If the target has no price for operations.
    """
    return _energy(_counts(activity), target)


def synaptic_price_nj(target: HardwareTarget) -> float:
    """Return the nominal price of one more synaptic operation.

    Raises
    ------
    BadInput
        If the target is no chip with priced synaptic operations, or has other prices that depend on activity.
    """
    if target.target.kind != "neuromorphic":
        raise BadInput(f"budget.target: '{target.name}' is no neuromorphic chip; use loihi2 or a chip file of your own")
    idle = _counts(Activity(1, 1, (SourceActivity("input", 0, 0, 0), SourceActivity("layer", 1, 0, 0))))
    one = {"sop_effective": 1, "sop_executed": 1, "sop_executed_dense": 1, "weight_words_read": 1}
    base, synaptic, shared, spike, touched = (
        _energy(_with(idle, change), target).operations_nj
        for change in (
            {},
            one,
            one | {"weights": -1},  # fewer than the connections: weights of a convolution
            {"spikes_out": 1},
            {"neuron_updates_touched": 1, "neuron_updates_idle": 0},
        )
    )
    if synaptic <= base:
        raise BadInput(f"budget.target: '{target.name}' has no price of a synaptic operation; use loihi2")
    if shared != synaptic or spike != base or touched != base:
        raise BadInput(
            f"budget.target: '{target.name}' prices spikes, updates that a spike reaches, or synapses by their format, "
            "which training does not count; use loihi2, or price the export with 'esl-neuro energy report'"
        )
    return synaptic - base


def _with(counts: Counts, changes: dict[str, Any]) -> Counts:
    *others, last = counts.layers
    return replace(counts, layers=(*others, replace(last, **changes)))


def _energy(counts: Counts, target: HardwareTarget) -> EnergyPerSample:
    estimate = _representative(price(counts, target, None), target)
    if estimate.unpriced:
        left = ", ".join(each.what for each in estimate.unpriced)
        raise BadInput(f"budget.target: '{target.name}' has no price for {left}; use loihi2")
    operations = sum(term.energy_pj.nominal for term in estimate.terms if term.count_unit in OPERATIONS)
    beside = sum(term.energy_pj.nominal for term in estimate.terms if term.count_unit not in OPERATIONS)
    return EnergyPerSample(estimate.model, convert(operations, "pJ", "nJ"), convert(beside, "pJ", "nJ"))


def _representative(estimates: Sequence[Estimate], target: HardwareTarget) -> Estimate:
    if not estimates or estimates[0].refusal is not None:
        reason = estimates[0].refusal if estimates else "it has no price model"
        raise BadInput(f"budget.target: '{target.name}' has no energy to keep within a budget: {reason}; use loihi2")
    return estimates[0]


def _counts(activity: Activity) -> Counts:
    """Return counts of which every price of an operation is that of the energy report."""
    runs = {"spikes_in": np.zeros((activity.samples, 1), np.int64)}
    whole = activity.samples * activity.steps
    layers = []
    for source in activity.sources:
        spikes = 0 if source.graded else source.synaptic
        layers.append(
            LayerCounts(
                name=source.name,
                source=source.name,
                signal="graded" if source.graded else "spike",
                inputs=source.neurons,
                neurons=source.neurons,
                stored=0,
                weights=0,
                declared=0,
                spikes_in=source.events,
                spikes_out=source.events if source.neurons else 0,
                sop_effective=spikes,
                sop_executed=spikes,
                sop_executed_dense=spikes,
                sop_bound=0,
                macs_effective=source.synaptic if source.graded else 0,
                macs_dense=0,
                neuron_updates=source.neurons * whole,
                neuron_updates_touched=0,
                neuron_updates_idle=source.neurons * whole,
                bias_adds=0,
                weight_words_read=source.synaptic,
                state_reads=source.neurons * whole,
                state_writes=source.neurons * whole,
                messages=None,
                hops_ew=None,
                hops_ns=None,
                runs=runs,
            )
        )
    return Counts(activity.samples, activity.steps, tuple(layers))
