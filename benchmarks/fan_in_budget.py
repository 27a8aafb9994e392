"""What training within a fan-in gains over pruning a trained network to it.

    python benchmarks/fan_in_budget.py --json benchmarks/fan_in_budget.json

For each recipe and seed, a network is trained with at most so many synapses at each neuron (`[budget] fan_in`). Beside
it, two networks of the same recipe are trained without the budget, a sparse one with as many connections and a dense
one; of each neuron, the largest weights are then kept, as many as the budget allows. All are compiled for Loihi 2 and
tested as integers on the whole test set; Lava repeats some samples, spike by spike.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

import esl_neuro as esl
from esl_neuro.pipeline.training import TrainingRun, train
from esl_neuro.storage import write

LAVA_SAMPLES = 20


def kept_largest(run: TrainingRun, fan_in: int) -> None:
    """Keep the largest weights of each neuron."""
    with torch.no_grad():
        for module in run.network.modules():
            if isinstance(module, torch.nn.Linear):
                beyond = module.weight.abs().argsort(dim=1, descending=True, stable=True)[:, fan_in:]
                module.weight.scatter_(1, beyond, 0.0)


def tested(run: TrainingRun) -> dict[str, Any]:
    """Compile a network and test its integers; Lava computes some samples too, and must compute the same."""
    network, samples = esl.compile(run, "loihi2", accept_loss=True), esl.test_set(run)
    parity = network.run(esl.test_set(run, LAVA_SAMPLES), backend="lava").parity
    assert parity is not None
    assert parity.equal
    weights = [module.weight for module in run.network.modules() if isinstance(module, torch.nn.Linear)]
    return {
        "integer_accuracy": network.run(samples).accuracy,
        "connections": sum(int(weight.count_nonzero()) for weight in weights),
        "largest_fan_in": max(int(weight.count_nonzero(1).max()) for weight in weights),
    }


def measure(recipe: str, seed: int, fan_in: int, density: float, epochs: int) -> dict[str, Any]:
    """Return the accuracies of one recipe and seed."""
    common = [f"training.epochs={epochs}", "training.threads=1"]
    sparse = [*common, 'sparsity.layers=["all"]', f"sparsity.density={density}"]
    dense = [*common, 'sparsity={learner="dense", layers=["all"]}', "training.learning_rate=1e-3"]
    row: dict[str, Any] = {"recipe": recipe, "seed": seed, "fan_in": fan_in}
    with tempfile.TemporaryDirectory() as folder:
        row["within"] = tested(train(recipe, seed=seed, changes=[*sparse, f"budget.fan_in={fan_in}"], runs=folder))
        for name, changes in (("sparse", sparse), ("dense", dense)):
            run = train(recipe, seed=seed, changes=changes, runs=folder)
            row[name] = tested(run)
            kept_largest(run, fan_in)
            row[f"{name}, then pruned"] = tested(run)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", nargs="+", default=["mlp-mnist", "mlp-fashion"])
    parser.add_argument("--fan-in", type=int, default=32)
    parser.add_argument("--density", type=float, default=0.04)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--json", type=Path, help="save the rows as JSON")
    arguments = parser.parse_args()
    rows = []
    for recipe in arguments.recipes:
        for seed in arguments.seeds:
            rows.append(measure(recipe, seed, arguments.fan_in, arguments.density, arguments.epochs))
            figures = {name: each for name, each in rows[-1].items() if isinstance(each, dict)}
            text = (
                f"{name} {each['integer_accuracy']:.4f} ({each['connections']:,})" for name, each in figures.items()
            )
            print(f"{recipe}, seed {seed}: {'; '.join(text)}", flush=True)
            if arguments.json:
                write(arguments.json, json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
