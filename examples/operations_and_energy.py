"""Operations of any torch model, and the energy of two networks on the same chips."""

import numpy as np
import torch
from torch import nn
from torch.nn.utils import prune

import esl_neuro as esl
from esl_neuro.snn import LIF

# Operations of any model, whichever way it is masked.
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
prune.random_unstructured(model[0], "weight", 0.9)
inputs = torch.rand(1, 32, 64)
counts = esl.count_operations(model, inputs, layout="steps,samples,...", signals={"0": "analog", "2": "analog"})
print(f"{counts.per_sample('macs_effective'):,.0f} of {counts.per_sample('macs_dense'):,.0f} multiply-accumulates")
for estimate in esl.price_operations(counts, ["v100-pcie"]):
    print(estimate.name, "refused" if estimate.energy_pj is None else f"{estimate.energy_pj.nominal / 1e6:.3g} uJ")


# Energy of a dense and a sparse network on the same spikes.
def neurons(count: int) -> LIF:
    """Return neurons that forget half of their potential in a step."""
    return LIF(count, tau=0.5, threshold=0.3, surrogate="arctan", surrogate_width=1.0, learn_threshold=False)


def network(density: float) -> nn.Module:
    """Return a spiking network of random weights with this share of its first connections."""
    torch.manual_seed(0)
    first, second = nn.Linear(64, 128), nn.Linear(128, 10)
    with torch.no_grad():
        first.weight *= torch.rand(128, 64) < density
    return nn.Sequential(first, neurons(128), second, neurons(10))


spikes = np.random.default_rng(0).random((20, 16, 64)) < 0.2  # samples, steps, lines
dense, sparse = (esl.compile(network(density), "loihi2", steps=16).run(spikes) for density in (1.0, 0.1))
comparison = esl.compare_energy(dense, sparse, ["truenorth", "loihi", "cmos45"], names=("dense", "sparse"))
for each in comparison.comparisons:
    print(f"{each.first.name}: dense needs {each.ratio:.2f} ({each.low:.2f} to {each.high:.2f}) times as much")
