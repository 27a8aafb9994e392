"""A cap of the fan-in: which densities fit under it, and how many connections an update may replace."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.sparsity.capped_choice import IntArray, accept
from esl_neuro.sparsity.indexed_layer import IndexedLayer
from esl_neuro.sparsity.masks import Layer

FanIn = int | Mapping[str, int]


def caps_by_name(fan_in: FanIn, names: Sequence[str]) -> dict[str, int]:
    """Return the cap of each layer, from one for all or from one for each.

    Raises
    ------
    BadInput
        If a cap is below 1, or there is not exactly one per layer; with all findings.
    """
    caps = dict(fan_in) if isinstance(fan_in, Mapping) else dict.fromkeys(names, fan_in)
    findings = [f"'{name}' is not a sparse layer; {did_you_mean(name, names)}" for name in caps if name not in names]
    findings += [f"no cap for '{name}'; give one for every sparse layer" for name in names if name not in caps]
    findings += [f"{cap} for '{name}' is out of range; allowed: 1 and above" for name, cap in caps.items() if cap < 1]
    if findings:
        raise BadInput("budget.fan_in: " + "; ".join(findings))
    return caps


def fitting_caps(
    fan_in: FanIn | None, densities: Mapping[str, float], shapes: Mapping[str, Sequence[int]]
) -> dict[str, int]:
    """Return the cap of each layer, none without a fan-in, if the connections fit under them.

    Parameters
    ----------
    fan_in : int, mapping of str to int, or None
        Largest number of connections of an output, for all layers or by name.
    densities : mapping of str to float
        Density of each layer.
    shapes : mapping of str to sequence of int
        (outputs, inputs, ...) of each layer.

    Raises
    ------
    BadInput
        With the connections, the most that fit and the density of these, for every layer that does not fit.
    """
    if fan_in is None:
        return {}
    caps, findings = caps_by_name(fan_in, list(shapes)), []
    for name, cap in caps.items():
        outputs, size = shapes[name][0], math.prod(shapes[name])
        inputs = size // outputs
        count, most = round(densities[name] * size), outputs * min(cap, inputs)
        if count > most:
            findings.append(
                f"layer '{name}' has {count:,} connections at density {densities[name]:.4g}, and {outputs:,} neurons "
                f"or channels of at most {cap} hold {most:,}; lower the density to {rounded_down(most / size)}, "
                f"or raise the cap to {-(-count // outputs)}"
            )
    if findings:
        raise BadInput("budget.fan_in: " + "; ".join(findings))
    return caps


def rounded_down(density: float) -> str:
    """Write a density with four digits, none of them rounded up."""
    scale = 10 ** (3 - math.floor(math.log10(density)))
    return f"{math.floor(density * scale) / scale:.4g}"


def refuse_above(layers: Sequence[Layer], caps: Mapping[str, int]) -> None:
    """Reject connections from elsewhere that exceed the caps.

    Raises
    ------
    BadInput
        With the largest fan-in of every layer above its cap.
    """
    found = {layer.name: int(layer.fan_in().max(initial=0)) for layer in layers if layer.name in caps}
    above = [f"'{name}' has {most}, allowed {caps[name]}" for name, most in found.items() if most > caps[name]]
    if above:
        raise BadInput(f"budget.fan_in: the connections to start from exceed it: {'; '.join(above)}; raise the cap")


# --- updates --------------------------------------------------------------------------------------------------------


def outputs_of(layer: Layer, places: Tensor) -> IntArray:
    """Return the output neuron or channel of places in the weight of a layer."""
    flat = places.cpu().numpy()
    if isinstance(layer, IndexedLayer):
        return np.searchsorted(layer.module.index.starts, flat, side="right") - 1
    return np.asarray(flat // layer.shape()[1])


def room_after(layer: Layer, cap: int, dead: Tensor) -> IntArray:
    """Return the room of each output once connections have died."""
    return np.asarray(cap - layer.fan_in() + _died(layer, dead))


def births_after(layer: Layer, cap: int, dead: Tensor) -> int:
    """Return how many connections can be born once others have died, at positions that were free before."""
    inputs = layer.shape()[1]
    return int(np.minimum(room_after(layer, cap, dead), inputs - layer.fan_in()).sum())


def most_births(
    layers: Sequence[Layer], caps: Mapping[str, int], dead: Sequence[Tensor], room: Sequence[int]
) -> list[int]:
    """Return how many connections each layer may gain: as many as ``room`` or its deaths, if its cap allows them.

    Together they are at least the deaths, which :func:`spare` has made possible.
    """
    able = [births_after(layer, caps[layer.name], places) for layer, places in zip(layers, dead, strict=True)]
    wanted = [max(least, places.numel()) for least, places in zip(room, dead, strict=True)]
    most = [min(pair) for pair in zip(able, wanted, strict=True)]
    return most if sum(most) >= sum(places.numel() for places in dead) else able


def spare(layers: Sequence[Layer], caps: Mapping[str, int], dead: Sequence[Tensor]) -> list[Tensor]:
    """Let connections live that would die without making room for as many births.

    An output with nearly all of its inputs has fewer free positions than room. Of its deaths that no birth can follow,
    those of the largest weights are cancelled, as many as births are missing.

    Returns
    -------
    list of int64 Tensor
        Of each layer, the connections that die: not more in total than can be born.
    """
    missing = sum(places.numel() for places in dead) - sum(
        births_after(layer, caps[layer.name], places) for layer, places in zip(layers, dead, strict=True)
    )
    if missing <= 0:
        return list(dead)
    idle = [_idle(layer, caps[layer.name], places) for layer, places in zip(layers, dead, strict=True)]
    sizes = [
        layer.weight.detach().flatten()[places].abs().cpu().numpy()[which]
        for layer, places, which in zip(layers, dead, idle, strict=True)
    ]
    saved = np.argsort(-np.concatenate(sizes), kind="stable")[:missing]
    ends = np.cumsum([len(which) for which in idle])
    kept = []
    for places, which, end in zip(dead, idle, ends, strict=True):
        mine = saved[(saved >= end - len(which)) & (saved < end)] - (end - len(which))
        stay = np.ones(places.numel(), np.bool_)
        stay[which[mine]] = False
        kept.append(places[torch.from_numpy(stay).to(places.device)])
    return kept


def _idle(layer: Layer, cap: int, dead: Tensor) -> IntArray:
    """Return which deaths leave an output with more room than free positions, the largest weights of each output."""
    sizes = layer.weight.detach().flatten()[dead].abs().cpu().numpy()
    order = np.argsort(sizes, kind="stable")
    useful = np.full(layer.shape()[0], max(layer.shape()[1] - cap, 0))
    first = accept(outputs_of(layer, dead)[order], useful, len(order))
    return np.delete(order, first)


def _died(layer: Layer, dead: Tensor) -> IntArray:
    return np.bincount(outputs_of(layer, dead), minlength=layer.shape()[0])
