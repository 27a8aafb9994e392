"""Write the NIR files and spikes of ``recorded/``: networks that snnTorch and sinabs made, exported and ran themselves.

    python tests/interchange/record_peers.py snntorch FOLDER    # snnTorch 1.0.0, nir 1.0.8
    python tests/interchange/record_peers.py sinabs FOLDER      # sinabs 3.1.3, nir 1.0.4

Needs that program, not esl-neuro. Each network gives ``<name>.nir``, and ``<name>.npz`` with ``inputs`` and the
``spikes`` of its last layer, both (samples, steps, lines).
"""

from __future__ import annotations

import sys
from pathlib import Path

import nir
import numpy as np
import torch
from torch import nn

SAMPLES, STEPS, LINES, HIDDEN, OUTPUTS = 6, 40, 6, 12, 5


def inputs():
    return (torch.rand(SAMPLES, STEPS, LINES, generator=torch.Generator().manual_seed(0)) < 0.4).float()


def linear(before, after, size=3.0):
    layer = nn.Linear(before, after)
    layer.weight.data *= size
    return layer


def save(folder, name, graph, spikes):
    nir.write(folder / f"{name}.nir", graph)
    arrays = {"inputs": inputs().numpy().astype(np.uint8), "spikes": spikes.numpy().astype(np.uint8)}
    np.savez_compressed(folder / f"{name}.npz", **arrays)
    print(name, int(spikes.sum()), "spikes")


def snntorch(folder):
    import snntorch as snn
    from snntorch.export_nir import export_to_nir

    def leaky(size, **options):
        return snn.Leaky(torch.linspace(0.7, 0.95, size), torch.ones(size), init_hidden=True, **options)

    def synaptic(size, **options):
        decays = torch.linspace(0.3, 0.6, size), torch.linspace(0.7, 0.9, size)
        return snn.Synaptic(*decays, torch.ones(size), init_hidden=True, **options)

    def recurrent(size, **options):
        return snn.RLeaky(0.8, linear_features=size, init_hidden=True, **options)

    kinds = {
        "snntorch_default": (leaky, {}),
        "snntorch_synaptic": (synaptic, {}),
        "snntorch_recurrent": (recurrent, {}),
        "snntorch_at_once": (leaky, {"reset_delay": False}),  # weaker weights: no potential above two thresholds
        "snntorch_to_zero": (leaky, {"reset_mechanism": "zero"}),
    }
    for name, (neurons, options) in kinds.items():
        torch.manual_seed(1)
        size = 1.2 if name == "snntorch_at_once" else 3.0
        first, second = linear(LINES, HIDDEN, size), linear(HIDDEN, OUTPUTS, size)
        network = nn.Sequential(first, neurons(HIDDEN, **options), second, leaky(OUTPUTS, **options))
        graph = export_to_nir(network, inputs()[:1, 0], ignore_dims=[0])
        for layer in network[1::2]:
            layer.mem = torch.zeros(0)
            if hasattr(layer, "spk"):
                layer.spk = torch.zeros(0)
        with torch.no_grad():
            spikes = torch.stack([network(step) for step in inputs().unbind(1)], dim=1)
        save(folder, name, graph, spikes)


def sinabs(folder):
    import sinabs.activation
    import sinabs.layers as sl
    import sinabs.nir

    single = sinabs.activation.SingleSpike
    kinds = {
        "sinabs_single_spikes": lambda _: sl.IAFSqueeze(num_timesteps=STEPS, spike_fn=single),
        "sinabs_default": lambda _: sl.IAFSqueeze(num_timesteps=STEPS),
        "sinabs_leaky": lambda size: sl.LIFSqueeze(
            tau_mem=torch.full((size,), 8.0),
            spike_threshold=torch.ones(size),
            num_timesteps=STEPS,
            spike_fn=single,
            norm_input=False,
        ),
    }
    for name, neurons in kinds.items():
        torch.manual_seed(1)
        network = nn.Sequential(linear(LINES, HIDDEN), neurons(HIDDEN), linear(HIDDEN, OUTPUTS), neurons(OUTPUTS))
        flat = inputs().flatten(0, 1)
        with torch.no_grad():
            spikes = network(flat).reshape(SAMPLES, STEPS, OUTPUTS)
        save(folder, name, sinabs.nir.to_nir(network, flat), spikes)


if __name__ == "__main__":
    {"snntorch": snntorch, "sinabs": sinabs}[sys.argv[1]](Path(sys.argv[2]))
