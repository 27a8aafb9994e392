"""How far are the integers of trained networks from the float networks? Counts the hidden spikes that move.

``python benchmarks/fidelity.py RUN ...`` compiles trained runs for a chip and runs their test sets twice, in floating
point and as integers. A spike has moved in a step where only one of the two fires; each layer receives the spikes of
its own network, so later layers inherit what earlier layers moved. Without runs, it trains small networks on the 8x8
digits first (about a minute). Prints a table; ``--json FILE`` saves it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import esl_neuro as esl
from esl_neuro.backends.integer import run_integer
from esl_neuro.compiler.float_groups import run_groups
from esl_neuro.compiler.frontend import read_network
from esl_neuro.report.tables import table

RECIPES = {
    "digits, LIF": (),
    "digits, LIF, seed 1": ("training.seed=1",),
    "digits, CUBA-LIF": ("network.neuron='cuba_lif'", "network.tau_syn=0.5"),
    "digits, CUBA-LIF, slow": ("network.neuron='cuba_lif'", "network.tau_syn=0.9", "network.tau=0.9"),
}
BATCH = 256  # samples that run at a time in floating point


@dataclass(frozen=True)
class Fidelity:
    """Spikes of one layer on the test set.

    Attributes
    ----------
    network, layer : str
    float_spikes, integer_spikes : int
        Spikes in floating point and as integers.
    moved : int
        Neurons and steps in which only one of the two fires.
    lost, declared : int
        Connections rounded to zero, and all.
    """

    network: str
    layer: str
    float_spikes: int
    integer_spikes: int
    moved: int
    lost: int
    declared: int

    @property
    def moved_percent(self) -> float:
        """Spikes moved, in percent of the spikes in floating point."""
        return 100 * self.moved / max(1, self.float_spikes)


def measure(name: str, run: str | Path, target: str) -> Iterator[Fidelity]:
    """Compile a run and compare each layer with floating point, spike by spike."""
    compiled = esl.compile(run, target, any_size=True)
    samples, arriving = compiled.payloads(compiled.test_set())
    network = read_network(compiled.source)
    trace = run_integer(compiled.program, arriving)
    values = samples.values.reshape(*samples.values.shape[:2], -1)
    layers = [group.name for group in network.groups]
    counts = dict.fromkeys(layers, np.zeros(3, np.int64))
    for start in range(0, len(values), BATCH):
        traced = run_groups(network, values[start : start + BATCH])
        for layer in layers:
            one, other = traced.spikes[layer], trace.spikes[layer][start : start + BATCH]
            counts[layer] = counts[layer] + [one.sum(), other.sum(), (one != other).sum()]
    for layer, error in zip(layers, compiled.quantisation, strict=True):
        wanted, got, moved = map(int, counts[layer])
        yield Fidelity(name, layer, wanted, got, moved, error.lost, error.declared)


def trained(folder: Path, epochs: int) -> dict[str, Path]:
    """Train the small networks."""
    length = f"training.epochs={epochs}"
    return {
        name: esl.train("mlp-digits", changes=(length, *changes), runs=folder).folder
        for name, changes in RECIPES.items()
    }


def show(rows: Sequence[Fidelity]) -> str:
    """Format the table."""
    return table(
        ("network", "layer", "float", "integer", "moved", "moved %", "lost"),
        [
            (
                row.network,
                row.layer,
                f"{row.float_spikes:,}",
                f"{row.integer_spikes:,}",
                f"{row.moved:,}",
                f"{row.moved_percent:.2f}",
                f"{row.lost:,} of {row.declared:,}",
            )
            for row in rows
        ],
        left=2,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Hidden spikes that rounding moves.")
    parser.add_argument("runs", nargs="*", type=Path, help="folders of trained runs; default: train small networks")
    parser.add_argument("--epochs", type=int, default=40, help="of the networks that are trained here")
    parser.add_argument("--target", default="loihi2")
    parser.add_argument("--json", type=Path, help="save the rows as JSON")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        runs = {path.name: path for path in options.runs} or trained(Path(folder), options.epochs)
        rows = [row for name, run in runs.items() for row in measure(name, run, options.target)]
    print(show(rows))
    if options.json:
        document = [asdict(row) | {"moved_percent": row.moved_percent} for row in rows]
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
