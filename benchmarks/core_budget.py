"""What training within the cores of a chip gains over pruning a trained network until it fits.

    python benchmarks/core_budget.py --json benchmarks/core_budget.json

For each limit of the input axons of a core and each seed, a network is trained within it (`[budget] cores`), and beside
it the same recipe without a budget, whose connections are then kept from the largest to the smallest as long as the
same cores hold them. Both are tested on the whole test set. The axons are the scarce resource here, because they limit
which connections there can be, and not only how many.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from esl_neuro.pipeline.training import TrainingRun, train
from esl_neuro.storage import write
from esl_neuro.training.budgets import core_budget_of
from esl_neuro.training.evaluation import accuracy


def changes(cores: int, density: float, epochs: int | None) -> list[str]:
    """Return the settings of both runs."""
    common = ['sparsity.layers=["all"]', f"sparsity.density={density}", f"budget.cores={cores}", "training.threads=1"]
    return common + ([] if epochs is None else [f"training.epochs={epochs}"])


def pruned_afterwards(run: TrainingRun, axons: int) -> dict[str, float]:
    """Test a trained network with the largest connections that its cores hold."""
    assert run.recipe.budget is not None
    budget = run.recipe.budget.model_copy(update={"input_axons_per_core": axons})
    network = run.network
    cores = core_budget_of(run.recipe.model_copy(update={"budget": budget}), network, run.dataset)
    assert cores is not None
    weights = {name: network.get_parameter(f"{full}.weight").detach() for name, full in cores.layers.items()}
    counts = {name: int(weight.count_nonzero()) for name, weight in weights.items()}
    held = cores.plan(counts)
    kept = 0
    for name, whole in weights.items():
        weight = whole.view(-1)
        there = np.flatnonzero(weight.numpy())
        order = there[np.argsort(-np.abs(weight.numpy()[there]), kind="stable")]
        chosen = order[held.add_fitting(name, order, len(order), np.full(len(whole), len(order)))]
        weight[np.setdiff1d(there, chosen)] = 0
        kept += len(chosen)
    test = accuracy(network, run.dataset, run.dataset.test, run.recipe.data)
    return {"test_accuracy": test, "connections": kept}


def measure(recipe: str, seed: int, axons: int, settings: list[str]) -> dict[str, Any]:
    """Return the accuracies at one limit."""
    with tempfile.TemporaryDirectory() as folder:
        within = train(recipe, seed=seed, changes=[*settings, f"budget.input_axons_per_core={axons}"], runs=folder)
        figures = within.figures
        assert figures.cores is not None
        free = train(recipe, seed=seed, changes=settings, runs=folder)
        return {
            "recipe": recipe,
            "seed": seed,
            "input_axons_per_core": axons,
            "within": {"test_accuracy": figures.test_accuracy, "connections": figures.connections},
            "cores": figures.cores.resources["cores_per_chip"].used,
            "without": {"test_accuracy": free.accuracy, "connections": free.figures.connections},
            "pruned": pruned_afterwards(free, axons),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="mlp-digits")
    parser.add_argument("--axons", type=int, nargs="+", default=[16, 24])
    parser.add_argument("--cores", type=int, default=4)
    parser.add_argument("--density", type=float, default=0.06)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--json", type=Path, help="save the rows as JSON")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    arguments = parser.parse_args()
    settings = changes(arguments.cores, arguments.density, arguments.epochs)
    rows = []
    for axons in arguments.axons:
        for seed in arguments.seeds:
            rows.append(measure(arguments.recipe, seed, axons, settings))
            row = rows[-1]
            print(
                f"{axons} axons, seed {seed}, {row['cores']} cores: within {row['within']['test_accuracy']:.4f}, "
                f"without a budget {row['without']['test_accuracy']:.4f}, then pruned to it "
                f"{row['pruned']['test_accuracy']:.4f} ({row['pruned']['connections']:,} of "
                f"{row['without']['connections']:,} connections)",
                flush=True,
            )
    if arguments.json:
        write(arguments.json, json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
