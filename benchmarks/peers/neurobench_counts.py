"""Count a network by NeuroBench and by our own recorder, in an environment that has NeuroBench.

``python neurobench_counts.py`` prints JSON: for each case what both say per sample. NeuroBench must see zeros in place:
with ``prune`` or ``parametrize`` it returns nothing or nonsense.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import snntorch
import torch
from neurobench.benchmarks import Benchmark
from neurobench.metrics.workload import SynapticOperations
from neurobench.models import TorchModel
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from esl_neuro.energy.counts import count_recording
from esl_neuro.interchange.record import record

DENSITY = 0.159


class Network(nn.Module):
    """Weighted layers with zeros in place, each before leaky neurons; maps (batch, steps, ...) to spikes."""

    def __init__(self, *layers: nn.Linear | nn.Conv2d) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        for layer in layers:
            layer.weight.data *= 4 * (torch.rand_like(layer.weight) < DENSITY)
        self.neurons = nn.ModuleList(
            snntorch.Leaky(0.9, threshold=0.6, init_hidden=True, output=layer is layers[-1]) for layer in layers
        )

    def forward(self, signal: Tensor) -> Tensor:
        """Return the output spikes of every step."""
        outputs = []
        for step in signal.unbind(1):
            for layer, neurons in zip(self.layers, self.neurons, strict=True):
                step = step.flatten(1) if isinstance(layer, nn.Linear) else step
                spikes = neurons(layer(step))
                step = spikes[0] if isinstance(spikes, tuple) else spikes
            outputs.append(step)
        return torch.stack(outputs, 1)

    def rest(self) -> None:
        """Bring every neuron to rest."""
        for neurons in self.neurons:
            neurons.reset_mem()  # type: ignore[operator]


def linear() -> Network:
    """Make 300-200-100-10."""
    return Network(nn.Linear(300, 200), nn.Linear(200, 100), nn.Linear(100, 10))


def convolution() -> Network:
    """Make a strided convolution and a linear layer."""
    return Network(nn.Conv2d(2, 8, 3, stride=2, padding=1), nn.Linear(8 * 16, 10))


class Meeting(nn.Module):
    """Layers that meet: a residual block, then recurrent neurons, whose own weights are a linear layer inside them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.short, self.last = (nn.Linear(i, o) for i, o in ((60, 40), (40, 40), (60, 40), (40, 10)))
        self.first, self.second = (snntorch.Leaky(0.9, threshold=0.6, init_hidden=True) for _ in range(2))
        self.recurrent = snntorch.RLeaky(0.9, threshold=0.6, linear_features=10, init_hidden=True)
        for layer in (self.a, self.b, self.short, self.last, self.recurrent.recurrent):
            layer.weight.data *= 4 * (torch.rand_like(layer.weight) < DENSITY)

    def forward(self, signal: Tensor) -> Tensor:
        """Return the output spikes of every step."""
        outputs = []
        for step in signal.unbind(1):
            hidden = self.second(self.b(self.first(self.a(step))) + self.short(step))
            outputs.append(self.recurrent(self.last(hidden)))
        return torch.stack(outputs, 1)

    def rest(self) -> None:
        """Bring every neuron to rest."""
        self.first.reset_mem()
        self.second.reset_mem()
        self.recurrent.reset_mem()


def both(make: Callable[[], Network | Meeting], signal: Tensor, analog: bool) -> dict[str, dict[str, float]]:
    """Count one network by NeuroBench and by us, per sample."""
    network = make()
    network.rest()
    first = {"layers.0": "analog"} if analog else {}
    layers = record(
        network,
        signal.transpose(0, 1).contiguous(),
        signals=first,
        neurons=(snntorch.Leaky, snntorch.RLeaky),
        run=lambda net, steps: net(steps.transpose(0, 1)),
    )
    counts = count_recording(layers)
    network.rest()
    data = DataLoader(TensorDataset(signal, torch.zeros(len(signal))), batch_size=len(signal))
    benchmark = Benchmark(TorchModel(network), data, [], [], [[], [SynapticOperations]])
    theirs = benchmark.run(quiet=True)["SynapticOperations"]
    ours = {
        "Effective_ACs": counts.per_sample("sop_effective"),
        "Effective_MACs": counts.per_sample("macs_effective"),
        "Dense": counts.per_sample("macs_dense"),
    }
    return {"ours": ours, "neurobench": {name: float(theirs[name]) for name in ours}}


def main() -> None:
    """Print all cases."""
    torch.manual_seed(0)
    cases = {
        "spikes into linear layers": both(linear, (torch.rand(8, 20, 300) < 0.2).float(), analog=False),
        "analog values into linear layers": both(linear, torch.rand(8, 20, 300), analog=True),
        "spikes into a convolution": both(convolution, (torch.rand(4, 5, 2, 8, 8) < 0.2).float(), analog=False),
    }
    cases["layers that meet"] = both(Meeting, (torch.rand(8, 20, 60) < 0.2).float(), analog=False)
    print(json.dumps(cases, indent=2))


if __name__ == "__main__":
    main()
