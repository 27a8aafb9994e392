"""Every kind of network that this project writes as NIR, in every independent reader: a table of differences.

``python benchmarks/readers.py`` writes a network of each kind with random weights, runs it in every reader that
``esl-neuro verify --install-readers`` has installed, and its integers in Lava. A cell counts the entries of all spike
trains that differ; below stand the first difference with its likely cause, or why a reader refused.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from esl_neuro.cli.commands import print_status
from esl_neuro.interchange import to_nir, write_nir
from esl_neuro.interchange.single_spikes import input_spikes, steps_needed
from esl_neuro.pipeline.choices import READERS
from esl_neuro.pipeline.readers import verify_nir
from esl_neuro.report.tables import table
from esl_neuro.snn import build_layers
from esl_neuro.snn.architectures import ResidualBlock
from esl_neuro.snn.layers import BatchNorm2d, Conv2d, GlobalAvgPool2d, Linear
from esl_neuro.snn.network import weighted_layers
from esl_neuro.snn.neurons import LIF, CubaLIF, RecurrentLIF
from esl_neuro.snn.temporal import TemporalNetwork

STEPS, SAMPLES = 20, 8
IMAGE = (2, 8, 8)
GAIN = 5.0  # of the weights that torch draws, which make hardly any neuron fire
SINGLE_SPIKE_DT_S = 1e-3
Make = Callable[[tuple[int, ...]], nn.Module]


def neurons(kind: str = "lif") -> Make:
    """Return what makes neurons of a kind, one threshold for each neuron or channel."""

    def make(shape: tuple[int, ...]) -> nn.Module:
        thresholds = (shape[0], *[1] * (len(shape) - 1))
        if kind == "cuba":
            return CubaLIF(thresholds, 0.5, 0.5, 1.0, "arctan", 1.0, True)
        return LIF(thresholds, 1.0 if kind == "if" else 0.5, 1.0, "arctan", 1.0, True)

    return make


class Recurrent(nn.Module):
    """A recurrent layer, behind synapses."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = Linear(64, 32), Linear(32, 10)
        self.lif1, self.lif2 = RecurrentLIF(32, 0.5, 1.0, "arctan", 1.0, True, 0.5), neurons()((10,))

    def forward(self, signal: Tensor) -> Tensor:
        """Run (steps, batch, 64)."""
        spikes: Tensor = self.lif2(self.fc2(self.lif1(self.fc1(signal))))
        return spikes


def residual() -> nn.Module:
    """Return a stem and two blocks of ResNet-19, one of them strided."""
    make = neurons()
    stem: list[nn.Module] = [Conv2d(2, 8, 3, 1, 1, bias=False), BatchNorm2d(8), make((8, 8, 8))]
    blocks = [ResidualBlock(8, 8, (8, 8), 1, make), ResidualBlock(8, 16, (4, 4), 2, make)]
    return nn.Sequential(*stem, *blocks, GlobalAvgPool2d(), Linear(16, 10), make((10,)))


def layers(notation: str, kind: str = "lif", shape: tuple[int, ...] = (64,)) -> Callable[[], nn.Module]:
    """Return what builds a network of the papers' notation."""
    return lambda: build_layers(notation, shape, neurons(kind), spiking_output=True)


KINDS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "LIF": (layers("64-128-10"), (64,), "folded"),
    "LIF, thresholds of their own": (layers("64-128-10"), (64,), "native"),
    "CUBA-LIF": (layers("64-128-10", "cuba"), (64,), "folded"),
    "IF": (layers("64-128-10", "if"), (64,), "folded"),
    "convolutions, mean pooling": (layers("8C3-AP2-16C3-AP2-10", shape=IMAGE), IMAGE, "folded"),
    "the same with batch norm": (layers("8C3-BN-AP2-16C3-BN-AP2-10", shape=IMAGE), IMAGE, "folded"),
    "residual, batch norm": (residual, IMAGE, "folded"),
    "recurrent, CUBA-LIF": (Recurrent, (64,), "folded"),
}
SINGLE_SPIKES = "single spikes"


def randomise(network: nn.Module) -> nn.Module:
    """Give a network the statistics and thresholds that training would, so that no two neurons are alike."""
    with torch.no_grad():
        for connection in weighted_layers(network).values():
            connection.weight.mul_(GAIN)
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                assert layer.running_mean is not None
                assert layer.running_var is not None
                layer.running_mean.normal_(0, 0.2)
                layer.running_var.uniform_(0.5, 2.0)
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.normal_(0, 0.2)
            elif isinstance(layer, LIF):
                layer.raw_threshold.add_(torch.randn_like(layer.raw_threshold) / 5)
    return network.eval()


def judge(name: str, file: Path, readers: tuple[str, ...]) -> list[dict[str, Any]]:
    """Write a network of a kind and run it in the readers."""
    torch.manual_seed(0)
    if name == SINGLE_SPIKES:
        steps, intensities = steps_needed(SINGLE_SPIKE_DT_S), np.random.default_rng(0).random((SAMPLES, 64))
        write_nir(file, to_nir(TemporalNetwork((64, 100, 10)), steps, SINGLE_SPIKE_DT_S))
        inputs = input_spikes(intensities.astype(np.float32), SINGLE_SPIKE_DT_S, steps)
        verdicts: list[dict[str, Any]] = verify_nir(file, readers, on_status=print_status, inputs=inputs).to_dict()[
            "readers"
        ]
        return verdicts
    build, shape, thresholds = KINDS[name]
    write_nir(file, to_nir(randomise(build()), STEPS, shape=shape, thresholds=thresholds))  # type: ignore[arg-type]
    verdicts = verify_nir(file, readers, on_status=print_status, samples=SAMPLES).to_dict()["readers"]
    return verdicts


def render(results: dict[str, list[dict[str, Any]]], readers: Iterable[str]) -> str:
    """Write the table, then everything that is not simply equal."""
    rows, more = [], []
    for name, verdicts in results.items():
        ran = next((verdict for verdict in verdicts if verdict["compared"]), {"compared": 0, "spikes": 0})
        rows.append((name, f"{ran['compared']:,}", f"{ran['spikes']:,}", *map(_cell, verdicts)))
        for verdict in verdicts:
            if verdict["reason"]:
                more.append(f"{name}, {verdict['reader']} {verdict['status']}: {verdict['reason']}")
            if verdict["divergence"]:
                where = verdict["divergence"]
                more.append(f"{name}, {verdict['reader']}: '{where['layer']}', step {where['step']}: {where['cause']}")
    return "\n".join([table(("network", "entries", "spikes", *readers), rows), "", *more])


def _cell(verdict: dict[str, Any]) -> str:
    return f"{verdict['differing']:,}" if verdict["status"] in ("equal", "different") else str(verdict["status"])


def main() -> None:
    """Run every kind in every reader."""
    parser = argparse.ArgumentParser(description="Every kind of network in every reader of NIR that is installed.")
    parser.add_argument("--reader", choices=READERS, action="append", help="only this one; several may be given")
    parser.add_argument("--network", choices=(*KINDS, SINGLE_SPIKES), action="append", help="only this kind; likewise")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    options = parser.parse_args()
    readers = tuple(options.reader or READERS)
    names = tuple(options.network or (*KINDS, SINGLE_SPIKES))
    with TemporaryDirectory() as scratch:
        results = {name: judge(name, Path(scratch) / "network.nir", readers) for name in names}
    print(json.dumps(results, indent=2) if options.json else render(results, readers))
    sys.exit(any(verdict["status"] == "broken" for verdicts in results.values() for verdict in verdicts))


if __name__ == "__main__":
    main()
