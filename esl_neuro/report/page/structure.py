"""The structure and the activity of a program for a report page: degrees, thresholds, cores, spikes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esl_neuro.compiler.fidelity import Fidelity
from esl_neuro.compiler.placement import PER_CORE, Placement, Utilisation
from esl_neuro.compiler.program import Group, Program
from esl_neuro.energy.fans import connection_fans
from esl_neuro.report.page.data import (
    Agreement,
    Core,
    Cores,
    Histogram,
    LayerAgreement,
    LayerStructure,
    Raster,
    Resource,
)

BINS = 24
SHOWN_NEURONS = 128  # of a raster
SHOWN_STEPS = 200


def histogram(values: NDArray[Any]) -> Histogram:
    """Count values in bins of one width; those of whole numbers have whole numbers in their middle.

    Parameters
    ----------
    values : array
        Finite numbers, at least one.

    Examples
    --------
    >>> histogram(np.array([1, 1, 3])).counts
    (2, 0, 1)
    """
    low, high = float(values.min()), float(values.max())
    if values.dtype.kind in "iu":
        width = max(1, int(np.ceil((high - low + 1) / BINS)))
        edges = np.arange(low - 0.5, high + 0.5 + width, width)
    elif low == high:
        reach = abs(low) / 2 or 0.5
        edges = np.array([low - reach, low + reach])
    else:
        edges = np.linspace(low, high, BINS + 1)
    counts, _ = np.histogram(values, edges)
    return Histogram(tuple(edges.tolist()), tuple(counts.tolist()), low, float(values.mean()), high)


def layer_structures(program: Program) -> tuple[LayerStructure, ...]:
    """Return degrees and thresholds of each layer, from input to output."""
    return tuple(_structure(group, program) for group in program.groups if group.neurons)


def _structure(group: Group, program: Program) -> LayerStructure:
    incoming = [each for each in program.connections if each.target == group.name]
    fans = {id(each): connection_fans(each) for each in incoming}
    return LayerStructure(
        group.name,
        group.neurons,
        sum(each.stored for each in incoming),
        int(sum(found[:, 2].sum() for found in fans.values())),
        histogram(np.sum([each.fan_in for each in incoming] or [np.zeros(group.neurons, np.int64)], axis=0)),
        histogram(np.concatenate([found[:, 1] for found in fans.values()] or [np.zeros(1, np.int64)])),
        histogram(group.vth / group.scale),
    )


def rasters(spikes: Mapping[str, NDArray[Any]]) -> tuple[Raster, ...]:
    """Return the spikes of the first sample, of each layer and the input.

    Parameters
    ----------
    spikes : mapping of str to array, shape (samples, steps, neurons)
        Spikes, or payloads that are not zero.
    """
    return tuple(_raster(name, values[0] != 0) for name, values in spikes.items())


def _raster(name: str, fired: NDArray[np.bool_]) -> Raster:
    steps, neurons = fired.shape
    shown = fired[:SHOWN_STEPS, :SHOWN_NEURONS]
    places = tuple((int(step), int(neuron)) for step, neuron in np.argwhere(shown))
    return Raster(name, neurons, min(steps, SHOWN_STEPS), places, shown.shape[1], int(fired.sum()))


def cores(program: Program, placement: Placement, use: Sequence[Utilisation], chip: str) -> Cores:
    """Return the layer and the load of every core, beside the limits of the chip."""
    resources = tuple(Resource(row.resource, row.used, row.mean, row.limit, row.unit) for row in use)
    limits = {row.name.removesuffix("_per_core"): row.limit for row in resources if row.name.endswith("_per_core")}
    layers_of: dict[int, tuple[str, ...]] = dict.fromkeys(range(placement.cores), ())
    for group in program.groups:
        for core in np.unique(placement.core_of_neuron[group.name]).tolist():
            layers_of[core] += (group.name,)
    return Cores(
        chip,
        resources,
        tuple(_core(layers, placement, number, limits) for number, layers in layers_of.items()),
    )


def _core(layers: tuple[str, ...], placement: Placement, number: int, limits: Mapping[str, float | None]) -> Core:
    shares = {
        name: int(placement.used[name][number]) / limit
        for name in PER_CORE
        if (limit := limits.get(name)) is not None and limit > 0
    }
    fullest = max(shares, key=lambda name: shares[name], default="")
    used = placement.used
    return Core(layers, int(used["neurons"][number]), int(used["synapses"][number]), shares.get(fullest), fullest)


def agreement(fidelity: Fidelity | None) -> Agreement | None:
    """Return the comparison of floats and integers, as plain numbers."""
    if fidelity is None:
        return None
    return Agreement(
        fidelity.inputs,
        tuple(
            LayerAgreement(
                each.layer,
                each.spikes_float,
                each.spikes_integer,
                each.moved,
                each.moved_share,
                each.potential_error,
                each.rounding.weights,
                each.rounding.lost,
                each.rounding.threshold_error,
            )
            for each in fidelity.layers
        ),
    )
