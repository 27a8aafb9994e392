"""Networks trained for random budgets of a chip, each of which the compiler then checks.

    python tests/budget/random_budgets.py --budgets 200

A network of any kind gets random densities and random limits of cores, some of which bind; a few rewirings follow, with
random gradients, and the exported file is checked as `esl-neuro check` does. A budget that is refused must be refused
before training; it is drawn again. Exits with 1 at the first network that does not fit.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import nir
import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from budget.networks import NETWORKS
from esl_neuro.budget.cores import CoreBudget
from esl_neuro.budget.wiring import weighted_modules
from esl_neuro.compiler.check import Checked, check_graph
from esl_neuro.compiler.core_planning import CORES
from esl_neuro.errors import BadInput
from esl_neuro.hardware import HardwareTarget, load_target
from esl_neuro.interchange import read_nir, to_nir, write_nir
from esl_neuro.snn import observe
from esl_neuro.sparsity import Rewirer, SparseLinear
from esl_neuro.sparsity.cores import RESOURCES

UPDATES = 3


@dataclass
class Trained:
    """A network after a few rewirings within a budget."""

    network: nn.Module
    shape: tuple[int, ...]
    budget: CoreBudget
    rewirer: Rewirer
    births: int

    def exported(self) -> nir.NIRGraph:
        """The graph of the network, with its cores, as a reader of the file gets it."""
        graph = to_nir(self.network, 4, shape=self.shape)
        graph.metadata["cores"] = self.budget.core_plan.to_document()
        with tempfile.TemporaryDirectory() as folder:
            write_nir(Path(folder) / "network.nir", graph)
            return read_nir(Path(folder) / "network.nir")


def rewirer_of(network: nn.Module, budget: CoreBudget, density: float, growth: str, seed: int) -> Rewirer:
    """A rewirer that changes connections at every step."""
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    return Rewirer(network, optimizer, layers=list(budget.layers), density=density, cores=budget.plan, seed=seed,
                   end=100, update_every=1, alpha=0.5, growth={growth: 1.0})  # fmt: skip


def random_limits(rng: np.random.Generator, name: str, layers: list[str], density: float) -> HardwareTarget:
    """A chip with limits about what random connections need on random numbers of cores: most bind."""
    chip = load_target(str(rng.choice(["loihi2", "loihi"])))
    make, shape = NETWORKS[name]
    few = {} if rng.random() < 0.3 else {"neurons_per_core": int(rng.integers(2, 100))}
    loose = CoreBudget(network := make(), shape, layers, chip.with_limits(few, ""))
    placement = loose.check(rewirer_of(network, loose, density, "random", 0).layers)
    limits = {CORES: placement.cores + int(rng.integers(-1, 3)), **few}
    for resource in RESOURCES:
        if rng.random() < 0.5:
            limits[f"{resource}_per_core"] = max(1, int(placement.used[resource].max() * rng.uniform(0.5, 1.1)))
    return chip.with_limits({**limits, CORES: max(1, limits[CORES])}, "a random budget")


def trained(rng: np.random.Generator, name: str) -> Trained:
    """Train a network for a random budget.

    Raises
    ------
    BadInput
        If the budget is not possible; before training.
    """
    density, seed = float(rng.uniform(0.1, 0.6)), int(rng.integers(2**31))
    make, shape = NETWORKS[name]
    torch.manual_seed(seed)
    network = make()
    stored = any(isinstance(module, SparseLinear) for module in network.modules())
    layers = list(weighted_modules(network))
    if not stored and rng.random() < 0.3:
        layers.pop(int(rng.integers(len(layers))))  # a dense one
    target = random_limits(rng, name, layers, density)
    growths = ["random", "random_unfired", "gradient", "gradient_on_candidates" if stored else "momentum"]
    budget = CoreBudget(network, shape, layers, target)
    rewirer = rewirer_of(network, budget, density, str(rng.choice(growths)), seed)
    counts, births = [layer.connections for layer in rewirer.layers], 0
    for _ in range(UPDATES):
        rewirer.optimizer.zero_grad()
        observe(network, (torch.rand(4, 3, *shape) < 0.5).float()).outputs.square().sum().backward()
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter.grad += 0.1 * torch.randn_like(parameter.grad)
        rewirer.optimizer.step()
        births += sum(update.births for update in rewirer.step())
        assert [layer.connections for layer in rewirer.layers] == counts
        assert budget.cores.within()
        budget.check(rewirer.layers)
    return Trained(network, shape, budget, rewirer, births)


def checked(example: Trained) -> list[Checked]:
    """The verdicts of the compiler: on the chip, and on the chip with the limits of the budget."""
    graph, target = example.exported(), example.budget.target
    return [check_graph(graph, chip) for chip in (target.name, target)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budgets", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    kinds, refused, births, binding, seed = Counter(), 0, 0, 0, arguments.seed
    while kinds.total() < arguments.budgets:
        rng = np.random.default_rng(seed := seed + 1)
        name = list(NETWORKS)[seed % len(NETWORKS)]
        try:
            example = trained(rng, name)
        except BadInput as error:
            if not str(error).startswith("budget: "):
                raise
            refused += 1
            continue
        for verdict in checked(example):
            if not (verdict.compiles and verdict.fits):
                print(f"{name}, seed {seed}: {'; '.join(map(str, verdict.findings))}")
                return 1
        kinds[name] += 1
        print(f"{kinds.total()}: {name}", file=sys.stderr)
        births += example.births
        cores = example.budget.cores
        binding += bool((cores.counters.used.max(axis=1) == cores.limits).any())
    for name in NETWORKS:
        print(f"{name}: {kinds[name]}")
    print(f"{kinds.total()} of {kinds.total()} networks fit; {births:,} connections were replaced")
    print(f"a limit of a core was reached in {binding}; {refused} other budgets were refused before training")
    return 0


if __name__ == "__main__":
    sys.exit(main())
