"""A torch module of your own, trained in a loop of your own, on the chip."""

import torch
from torch import Tensor, nn

import esl_neuro as esl
from esl_neuro.data import load_dataset
from esl_neuro.snn import LIF

STEPS = 4


def neurons(count: int) -> LIF:
    """Return neurons that forget half of their potential in a step and learn their thresholds."""
    return LIF(count, tau=0.5, threshold=1.0, surrogate="arctan", surrogate_width=1.0, learn_threshold=True)


class Network(nn.Module):
    """64 inputs, 100 hidden neurons, 10 classes; signals are (steps, samples, ...)."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(64, 100), neurons(100)
        self.fc2, self.lif2 = nn.Linear(100, 10), neurons(10)

    def forward(self, signal: Tensor) -> Tensor:
        """Return spikes of the classes."""
        spikes: Tensor = self.lif2(self.fc2(self.lif1(self.fc1(signal))))
        return spikes


torch.manual_seed(0)
digits = load_dataset("digits")
images, labels = torch.from_numpy(digits.train.batch()[:600]), torch.from_numpy(digits.train.labels[:600])
network = Network()
optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
for _ in range(60):
    spikes = network(images.expand(STEPS, *images.shape))  # the same intensities at every step
    loss = nn.functional.cross_entropy(spikes.sum(0), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

test = torch.from_numpy(digits.test.batch())
test = test.expand(STEPS, *test.shape)
chip = esl.compile(network, "loihi2", inputs=test, layout="steps,samples,...")
print(chip)  # says that intensities become payloads of 8 bits

result = chip.run(test, layout="steps,samples,...")
with torch.no_grad():
    classes = network(test).sum(0).argmax(1).numpy()
print(f"float {(classes == digits.test.labels).mean():.4f}")
print(f"integers {(result.predictions == digits.test.labels).mean():.4f}")
