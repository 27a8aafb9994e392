"""What training within an energy gains over pruning a trained network to it.

    python benchmarks/energy_budget.py --json benchmarks/energy_budget.json

For each recipe and seed, a network is trained without a budget. It is then trained anew within shares of that energy
(`[budget] energy = "0.5x"` on loihi2), with as many connections as the synaptic operations that the updates of neurons
leave, and some fewer, so that they can move to busier inputs. Beside each, the connections of the first network are
pruned from the smallest weight on until it costs no more than the second on the validation part, and it is trained
further with the connections that are left, so that both have as many epochs in all. Accuracy and energy are those of
the test part; energy is that of synaptic operations and neuron updates, counted.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from esl_neuro.budget.energy import EnergyBudget, Meter, SampleEnergy
from esl_neuro.data.datasets import Split
from esl_neuro.hardware import load_target
from esl_neuro.pipeline.training import TrainingRun, train
from esl_neuro.storage import write
from esl_neuro.training.checkpoint import Checkpoint
from esl_neuro.training.evaluation import evaluate

TARGET = load_target("loihi2")
ROUNDS = 14
"""Halvings of the number of connections that are kept."""
HEADROOM = 0.85
"""Connections of the network within a budget, as a share of those that fill it."""


def energy_nj(run: TrainingRun, network: torch.nn.Module, part: Split) -> float:
    """Return the energy of the operations of a sample."""
    tally = Meter(network, run.dataset.shape).tally()
    evaluate(network, run.dataset, part, run.recipe.data, tally=tally)
    return SampleEnergy.of(tally, TARGET).operations_nj


def fitting_density(run: TrainingRun, density: float, share: float) -> float:
    """Return the density at which the operations of a sample fit into a share of the energy, with headroom."""
    meter = Meter(run.network, run.dataset.shape)
    updates_nj = EnergyBudget(meter, TARGET, math.inf, run.recipe.data.steps, 0.01).updates_nj
    whole_nj = energy_nj(run, run.network, run.dataset.validation)
    return HEADROOM * density * (share * whole_nj - updates_nj) / (whole_nj - updates_nj)


def tested(run: TrainingRun) -> dict[str, Any]:
    """Return accuracy, energy and connections of a trained network."""
    return {
        "test_accuracy": run.accuracy,
        "energy_nj": energy_nj(run, run.network, run.dataset.test),
        "connections": run.figures.connections,
    }


def pruned(run: TrainingRun, most_nj: float, folder: Path) -> TrainingRun:
    """Copy a run and keep the largest weights of its sparse layers, as many as cost at most an energy."""
    shutil.copytree(run.folder, folder)
    copy = TrainingRun(folder)
    checkpoint = Checkpoint.load(folder, "best")
    names = [name.removesuffix("/mask") for name in checkpoint.part("learner") if name.endswith("/mask")]
    network = copy.network
    weights = {name: network.get_parameter(f"{name}.weight").detach() for name in names}
    before = {name: weight.clone() for name, weight in weights.items()}
    sizes = torch.cat([weight.abs().flatten() for weight in weights.values()]).sort(descending=True).values

    def keep(count: int) -> float:
        for name, weight in weights.items():
            weight.copy_(before[name] * (before[name].abs() >= sizes[count - 1]))
        return energy_nj(copy, network, copy.dataset.validation)

    low, high = 1, int(sizes.count_nonzero())
    for _ in range(ROUNDS):
        middle = (low + high) // 2
        low, high = (middle, high) if keep(middle) <= most_nj else (low, middle)
    keep(low)
    for name, weight in weights.items():
        checkpoint.tensors[f"network/{name}.weight"] = weight.clone()
        checkpoint.tensors[f"learner/{name}/mask"] = weight != 0
    checkpoint.save(folder, "best")
    return copy


def measure(
    recipe: str, seed: int, shares: list[float], density: float, epochs: int, finetune: int, more: list[str]
) -> list[dict[str, Any]]:
    """Return a row for each share of the energy, with one recipe and seed."""
    common = ['sparsity.layers=["fc1"]', "training.threads=1", "sparsity.storage=masked", *more]
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        runs = Path(temporary)
        settings = [*common, f"training.epochs={epochs}"]
        free = train(recipe, seed=seed, changes=[*settings, f"sparsity.density={density}"], runs=runs)
        for share in shares:
            budget = [f'budget.energy="{share}x"', "budget.target=loihi2", f'budget.reference="{free.folder}"']
            fitting = fitting_density(free, density, share)
            sparse = [*common, f"training.epochs={epochs + finetune}", f"sparsity.density={fitting}", *budget]
            within = train(recipe, seed=seed, changes=sparse, runs=runs)
            figures = within.figures.energy
            assert figures is not None
            most_nj = energy_nj(within, within.network, within.dataset.validation)
            start = pruned(free, most_nj, runs / f"pruned-{share}")
            further = [*common, f"training.epochs={finetune}", f'training.start_from="{start.folder}"']
            static = [f'sparsity={{learner="static", layers=["fc1"], density={density}}}', "training.threads=1", *more]
            tuned = train(recipe, seed=seed, changes=[*static, *further[-2:]], runs=runs)
            rows.append(
                {
                    "recipe": recipe,
                    "seed": seed,
                    "share": share,
                    "budget_nj": figures.budget_nj,
                    "points_per_nj": figures.points_per_nj,
                    "without": tested(free),
                    "within": tested(within),
                    "pruned": tested(tuned),
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", nargs="+", default=["mlp-mnist", "mlp-fashion"])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.5, 0.25], help="of the energy without a budget")
    parser.add_argument("--density", type=float, default=0.16, help="without a budget")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--finetune", type=int, default=6, help="epochs after pruning")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--set", nargs="*", default=[], help="changes of all runs, as of 'esl-neuro train --set'")
    parser.add_argument("--json", type=Path, help="save the rows as JSON")
    arguments = parser.parse_args()
    rows = []
    for recipe in arguments.recipes:
        for seed in arguments.seeds:
            settings = (arguments.shares, arguments.density, arguments.epochs, arguments.finetune, arguments.set)
            found = measure(recipe, seed, *settings)
            rows += found
            for row in found:
                each = (
                    f"{name} {row[name]['test_accuracy']:.4f} at {row[name]['energy_nj']:,.0f} nJ "
                    f"({row[name]['connections']:,})"
                    for name in ("without", "within", "pruned")
                )
                print(f"{recipe}, seed {seed}, {row['share']}x: {'; '.join(each)}", flush=True)
            if arguments.json:
                write(arguments.json, json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
