"""The cap of each layer's fan-in, from the budget of a neuron."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from esl_neuro.budget.wiring import LayerWiring, layer_wirings, weight_of, weighted_modules
from esl_neuro.errors import BadInput
from esl_neuro.sparsity.redistribution import apportion
from esl_neuro.sparsity.selection import LayerNames, indexed_layers, named_weights


def fan_in_caps(network: nn.Module, shape: tuple[int, ...], layers: LayerNames, fan_in: int) -> dict[str, int]:
    """Return how many connections of each sparse layer a neuron may have, so that it has ``fan_in`` synapses in all.

    Layers that feed the same neurons, as the recurrent weights of a layer or a shortcut do, divide the budget in
    proportion to their sizes; the synapses of a dense one, or of a path without weights, are spent. A connection behind
    an average pooling of ``k`` by ``k`` is ``k^2`` synapses, as on the chip.

    Parameters
    ----------
    network : nn.Module
        Network of a recipe or of your own.
    shape : tuple of int
        Shape of an input sample.
    layers : sequence of str or "all"
        The sparse layers, as structure learning names them.
    fan_in : int
        Largest number of synapses of a neuron.

    Returns
    -------
    dict of str to int
        By the names of the sparse layers; give it to :class:`~esl_neuro.sparsity.Rewirer`.

    Raises
    ------
    BadInput
        If a dense layer has more synapses, or nothing is left for a sparse one; with all findings.
    """
    wirings = layer_wirings(network, shape)
    full = {id(weight_of(module)): name for name, module in weighted_modules(network).items()}
    indexed = {layer.name: layer.module.values for layer in indexed_layers(network, layers)}
    sparse = {full[id(weight)]: name for name, weight in (indexed or named_weights(network, layers)).items()}
    caps, findings = {}, []
    for group in _meeting(wirings):
        spent = max(wirings[name].fixed for name in group)
        spent += sum(wirings[name].synapses for name in group if name not in sparse)
        members = [name for name in group if name in sparse]
        if spent > fan_in or (members and spent == fan_in):
            dense = [f"'{name}' ({wirings[name].synapses:,} synapses)" for name in group if name not in sparse]
            findings.append(
                f"the neurons of the dense layer {' and '.join(dense)} have more; add it to sparsity.layers"
            )
            continue
        sizes = [wirings[name].synapses for name in members]
        shares = apportion(sizes, min(fan_in - spent, sum(sizes)), sizes)
        for name, share in zip(members, shares, strict=True):
            caps[sparse[name]] = share // wirings[name].each
            if caps[sparse[name]] < 1:
                findings.append(
                    f"layer '{name}' may have {share} synapses, and one connection is {wirings[name].each}; "
                    f"use {fan_in * wirings[name].each} or more"
                )
    if findings:
        raise BadInput(f"budget.fan_in: {fan_in} is not possible: {'; '.join(findings)}")
    return {name: caps[name] for name in (indexed or named_weights(network, layers))}


def _meeting(wirings: Mapping[str, LayerWiring]) -> list[list[str]]:
    """Return the groups of layers that feed the same neurons."""
    groups: list[tuple[set[str], list[str]]] = []
    for name, wiring in wirings.items():
        neurons, members = set(wiring.neurons), [name]
        for group in [group for group in groups if group[0] & neurons]:
            groups.remove(group)
            neurons, members = group[0] | neurons, [*group[1], *members]
        groups.append((neurons, members))
    return [members for _, members in groups]
