"""Sparse from the first step in a training loop of your own: connections are pruned and regrown, never more of them."""

import torch
from torch import nn

import esl_neuro as esl
from esl_neuro.data import load_dataset
from esl_neuro.snn import LIF
from esl_neuro.sparsity import Rewirer

STEPS, ITERATIONS = 4, 60

torch.manual_seed(0)
digits = load_dataset("digits")
images, labels = torch.from_numpy(digits.train.batch()[:600]), torch.from_numpy(digits.train.labels[:600])


def neurons(count: int) -> LIF:
    """Return neurons that forget half of their potential in a step and learn their thresholds."""
    return LIF(count, tau=0.5, threshold=1.0, surrogate="arctan", surrogate_width=1.0, learn_threshold=True)


network = nn.Sequential(nn.Linear(64, 256), neurons(256), nn.Linear(256, 10), neurons(10))
optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
rewirer = Rewirer(network, optimizer, density=0.1, layers=["0"], end=ITERATIONS)
for _ in range(ITERATIONS):
    drawn = (torch.rand(STEPS, *images.shape) < images).float()  # one spike train for each pixel
    loss = nn.functional.cross_entropy(network(drawn).sum(0), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    rewirer.step()
print(f"{rewirer.layers[0].connections:,} of {rewirer.layers[0].mask.numel():,} connections")

test = torch.from_numpy(digits.test.batch())
spikes = torch.rand(STEPS, *test.shape) < test
chip = esl.compile(network, "loihi2", steps=STEPS)
result = chip.run(spikes, layout="steps,samples,...")
print(f"{chip.program.synapses:,} synapses on the chip")
print(f"test accuracy {(result.predictions == digits.test.labels).mean():.4f}")
