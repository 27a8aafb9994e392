"""What does a training step of a convolutional network become when convolutions store their connections only?

    python benchmarks/sparse_conv.py                                        # both networks
    python benchmarks/sparse_conv.py --network conv-fashion --repeat 2      # a quick look

Prints JSON; ``sparse_conv.json`` beside this file is what it printed last. A step is forward, cross-entropy of every
step averaged, backward and Adam, of the network of the recipe ``conv-fashion`` (2 steps, 64 samples, constant images)
and of VGGSNN (4 steps, 16 samples of event frames), with one thread. Masked is the same network with dense weights and
this package's Adam, which masks in its own pass. All convolutions have the same density, the readout is dense. Steps
are timed in turn; medians are printed. The break-even is where the ratio of the processor times crosses 1.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from esl_neuro.snn.architectures import VGGSNN
from esl_neuro.snn.network import build_layers
from esl_neuro.snn.neurons import lif_per_channel
from esl_neuro.sparsity import FewOutputs, MaskedAdam, Rewirer, SparseConv2d
from esl_neuro.training.freed_memory import keep_freed_memory
from measurement import Headline, Times, in_turns, markdown_table, print_record, run
from sparse_break_even import break_even
from training_step import make_step

CLASSES = 10


@dataclass(frozen=True)
class Case:
    """A network, its inputs and the densities at which it is timed."""

    notation: str
    shape: tuple[int, int, int]
    steps: int
    batch: int
    constant: bool
    densities: tuple[float, ...]

    def data(self) -> tuple[Tensor, Tensor]:
        """Return inputs and labels of a batch: images that are constant, or spikes."""
        once = torch.rand(1 if self.constant else self.steps, self.batch, *self.shape)
        inputs = once.expand(self.steps, *once.shape[1:]) if self.constant else (once < RATE).float()
        return inputs, torch.randint(CLASSES, (self.batch,))


RATE = 0.1
CASES = {
    "conv-fashion": Case(
        "32C3-BN-AP2-64C3-BN-AP2-128C3-BN-AP2-10", (1, 28, 28), 2, 64, True, (0.02, 0.1, 0.2, 0.4, 0.8)
    ),
    "VGGSNN": Case(VGGSNN, (2, 48, 48), 4, 16, False, (0.02, 0.1, 0.4)),
}
KINDS = ("sparse", "masked")


class Step:
    """A training step of one kind."""

    def __init__(self, kind: str, case: Case, density: float) -> None:
        torch.manual_seed(0)
        factories: dict[str, Any] = {"conv": _sparse, "linear": _readout} if kind == "sparse" else {}
        self.network = build_layers(case.notation, case.shape, lif_per_channel(tau=0.5), **factories)
        self.optimizer = MaskedAdam(self.network.parameters())
        names = [name for name, _ in self.network.named_children() if name.startswith("conv")]
        Rewirer(self.network, self.optimizer, density=density, layers=names, end=1, growth={"random": 1.0})

    def __call__(self, inputs: Tensor, labels: Tensor) -> None:
        """Make the step."""
        make_step(self.network, self.optimizer, inputs, labels)


def _sparse(_name: str, inputs: int, outputs: int, kernel: int, stride: int, padding: int, bias: bool) -> nn.Module:
    return SparseConv2d(inputs, outputs, kernel, stride, padding, bias)


def _readout(_name: str, inputs: int, outputs: int, bias: bool) -> nn.Module:
    return FewOutputs(inputs, outputs, bias)


def time_steps(case: Case, density: float, repeat: int) -> dict[str, Times]:
    """Time a step of each kind, in turn."""
    inputs, labels = case.data()
    return in_turns({kind: partial(Step(kind, case, density), inputs, labels) for kind in KINDS}, repeat, warm_up=2)


def measure(case: Case, densities: Sequence[float], repeat: int) -> dict[str, Any]:
    """Time the steps of a network at every density."""
    found = {density: time_steps(case, density, repeat) for density in densities}
    ratios = {density: taken["sparse"].processor_ms / taken["masked"].processor_ms for density, taken in found.items()}
    return {
        "break-even density": break_even(ratios),
        "density": {
            str(density): {
                **{kind: each.milliseconds for kind, each in taken.items()},
                "sparse / masked": ratios[density],
            }
            for density, taken in found.items()
        },
    }


def tables(record: Mapping[str, Any]) -> str:
    """Return the table of the documents."""
    rows = [
        (name, density, *(f"{taken[kind]['processor_ms']:g}" for kind in KINDS), f"{taken['sparse / masked']:.2f}")
        for name, found in record["networks"].items()
        for density, taken in found["density"].items()
    ]
    return markdown_table(("network", "density", "sparse, processor ms", "masked, processor ms", "ratio"), rows)


def headlines(record: Mapping[str, Any]) -> list[Headline]:
    """Return the rows of the summary: each network at the density next to 0.1."""
    rows = []
    for name, found in record["networks"].items():
        density = min(found["density"], key=lambda each: abs(float(each) - 0.1))
        ratio = found["density"][density]["sparse / masked"]
        rows.append((f"{name}, step at density {density} of a masked one", f"{ratio:.2f}", ""))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--network", choices=CASES, nargs="+", default=list(CASES))
    parser.add_argument("--density", type=float, nargs="+", help="default: those of each network")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as training does
    found = {
        name: measure(CASES[name], options.density or CASES[name].densities, options.repeat) for name in options.network
    }
    print_record({"settings": {"repeat": options.repeat, "threads": options.threads}, "networks": found})


if __name__ == "__main__":
    run(main)
