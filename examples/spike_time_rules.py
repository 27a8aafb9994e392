"""One layer in continuous time on real digits: ten tempotrons, their integers on a chip, and PSD on exact times."""

import numpy as np

import esl_neuro as esl
from esl_neuro.data import load_dataset
from esl_neuro.interchange import to_nir
from esl_neuro.snn.spike_response import Kernel, Pattern
from esl_neuro.training.spike_time_rules import SpikeTimeLayer, on_grid

END_MS, DT_MS, EPOCHS = 60.0, 0.5, 15

digits = load_dataset("digits")


def latencies(image: np.ndarray) -> Pattern:
    """Return one spike for each pixel that is not black: the brighter, the earlier."""
    lines = np.flatnonzero(image)
    return Pattern.of(np.round(40 * (1 - image[lines]) / DT_MS) * DT_MS, lines)


train = [latencies(image) for image in digits.train.batch()]
test = [latencies(image) for image in digits.test.batch()]

# Tempotrons: neuron k should fire for digit k, and for no other.
layer = SpikeTimeLayer.random(10, 64, END_MS, scale=0.01, seed=0)
for epoch in range(EPOCHS):
    for number in np.random.default_rng(epoch).permutation(len(train)):
        wanted = np.arange(10) == digits.train.labels[number]
        layer.learn("tempotron", train[number], wanted, rate=0.01 / (1 + epoch))
decided = np.array([layer.maxima(pattern).potentials.argmax() for pattern in test])
print(f"tempotron: test accuracy {(decided == digits.test.labels).mean():.4f} in continuous time")

steps = round(END_MS / DT_MS)
chip = esl.compile(to_nir(layer.network(DT_MS), steps, DT_MS * 1e-3), "loihi2")
result = chip.run(on_grid(test, 64, DT_MS, steps))
(fired,) = result.trace.spikes.values()
on_chip = fired.any(axis=1)  # a tempotron decides by firing at all
alone = np.array([(layer.maxima(pattern).potentials > layer.threshold) for pattern in test])
print(f"on the chip: {(on_chip == alone).mean():.4f} of the decisions of single neurons are the same")
print(f"on the chip: accuracy {(result.predictions == digits.test.labels).mean():.4f} by most spikes")

# PSD: one neuron learns to fire at four times, whatever it fires at first.
pattern = Pattern.of(np.random.default_rng(0).uniform(0, 190, 400), np.arange(400))
desired = np.array([40.0, 80.0, 120.0, 160.0])
neuron = SpikeTimeLayer.random(1, 400, 200.0, scale=0.01, seed=0, kernel=Kernel(10.0, 2.5))
for _ in range(200):
    neuron.learn("psd", pattern, (desired,), rate=0.01)
print("PSD: desired", desired, "ms, learned", np.round(neuron.spikes(pattern)[0], 1), "ms")
