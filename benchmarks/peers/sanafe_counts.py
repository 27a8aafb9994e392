"""Simulate an integrate-and-fire network on SANA-FE's Loihi, in an environment that has SANA-FE (which is GPL).

``python sanafe_counts.py NETWORK.npz`` reads weights, input spikes, thresholds and cores, and prints JSON: what SANA-FE
counts, what it costs, and every spike. It imports nothing of ours, and nothing of ours imports it.
"""

from __future__ import annotations

import itertools
import json
import sys
from typing import Any

import numpy as np
import sanafe

GROUPS = ("input", "hidden", "output")
FLUSH = 3  # steps without input, so that every spike arrives


def simulate(network: dict[str, Any]) -> dict[str, Any]:
    """Map the network, run it, return counts, energies in J, and spikes as (step, group, neuron)."""
    arch, net = sanafe.load_loihi(), sanafe.Network()
    spikes = np.concatenate([network["spikes"], np.zeros((FLUSH, network["spikes"].shape[1]), dtype=int)])
    groups = {"input": net.create_neuron_group("input", spikes.shape[1])}
    for name in GROUPS[1:]:
        groups[name] = net.create_neuron_group(
            name,
            len(network[f"cores_{name}"]),
            model_attributes={"threshold": float(network[f"threshold_{name}"]), "leak_decay": 1.0, "reset": 0.0},
            default_synapse_hw_name="loihi_sparse_synapse",
            default_dendrite_hw_name="loihi_dendrites",
            soma_hw_name="loihi_lif",
            log_spikes=True,
        )
    for index, neuron in enumerate(groups["input"]):
        train = {"spikes": spikes[:, index].astype(int).tolist()}
        neuron.set_attributes(soma_hw_name=f"loihi_inputs[{index}]", log_spikes=True, model_attributes=train)
    for source, target in itertools.pairwise(GROUPS):
        rows, columns = np.nonzero(network[f"weights_{target}"])
        weights = network[f"weights_{target}"][rows, columns].astype(float).tolist()
        attributes = {"weight": weights, "synapse_hw_name": ["loihi_sparse_synapse"] * len(weights)}
        pairs = list(zip(columns.tolist(), rows.tolist(), strict=True))
        groups[source].connect_neurons_sparse(groups[target], attributes, pairs)
    for name in GROUPS:
        for neuron, core in zip(groups[name], network[f"cores_{name}"].tolist(), strict=True):
            neuron.map_to_core(arch.tiles[core // 4].cores[core % 4])
    chip = sanafe.SpikingChip(arch)
    chip.load(net)
    result = chip.sim(len(spikes), spike_trace=True, perf_trace=True, processing_threads=1)
    return {
        "synaptic_operations": int(result["spikes"]),
        "messages": int(result["packets_sent"]),
        "hops": int(np.sum(result["perf_trace"]["hops"])),
        "energy_j": result["energy"],
        "spikes": [
            (step, neuron.group_name, neuron.neuron_offset)
            for step, fired in enumerate(result["spike_trace"])
            for neuron in fired
        ],
        "steps": len(spikes),
    }


if __name__ == "__main__":
    print(json.dumps(simulate(dict(np.load(sys.argv[1])))))
