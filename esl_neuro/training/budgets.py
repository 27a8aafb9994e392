"""The budgets of a recipe while it trains: the cap of each layer's fan-in, and the energy of a sample."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from esl_neuro.budget.cores import CoreBudget
from esl_neuro.budget.energy import EnergyBudget, Meter, SampleEnergy, Tally, parse_energy
from esl_neuro.budget.fan_in import fan_in_caps
from esl_neuro.data import Dataset
from esl_neuro.data.inputs import evaluation_inputs
from esl_neuro.errors import BadInput
from esl_neuro.hardware import HardwareTarget, arithmetic_of, load_target
from esl_neuro.recipes import Recipe
from esl_neuro.sparsity import Learner, Rewirer
from esl_neuro.sparsity.cores import RESOURCES
from esl_neuro.training.evaluation import EVALUATION_BATCH, evaluate, load_network
from esl_neuro.training.result import CoreFigures, EnergyFigures, ResourceFigures
from esl_neuro.training.run_folder import RunFolder


def fan_in_of(recipe: Recipe, network: nn.Module, dataset: Dataset) -> dict[str, int] | None:
    """Return the cap of each sparse layer, None without a budget."""
    if recipe.budget is None or recipe.budget.fan_in is None:
        return None
    layers = "all" if recipe.sparsity.layers == ["all"] else recipe.sparsity.layers
    return fan_in_caps(network, dataset.shape, layers, recipe.budget.fan_in)


LIMITS = {
    "cores": "cores_per_chip",
    **{name: name for name in (f"{resource}_per_core" for resource in ("neurons", *RESOURCES))},
}
"""Limits of a target by the fields of a budget that lower them."""


def core_budget_of(recipe: Recipe, network: nn.Module, dataset: Dataset) -> CoreBudget | None:
    """Return the budget of cores of a recipe, None without one.

    Raises
    ------
    BadInput
        If it exceeds what the target has; with all findings.
    """
    given = {} if recipe.budget is None else {name: getattr(recipe.budget, name) for name in LIMITS}
    given = {name: value for name, value in given.items() if value is not None}
    if recipe.budget is None or not given:
        return None
    target = load_target(recipe.budget.target)
    arithmetic_of(target)
    findings = []
    for name, value in given.items():
        limit = target.limits.get(LIMITS[name])
        if limit is not None and limit.value is not None and value > limit.value:
            findings.append(f"{name} {value:,} is above the {limit.value:,} of '{target.name}'; lower it to that")
    if findings:
        raise BadInput("budget: " + "; ".join(findings))
    target = target.with_limits({LIMITS[name]: value for name, value in given.items()}, "budget of the recipe")
    layers = "all" if recipe.sparsity.layers == ["all"] else recipe.sparsity.layers
    return CoreBudget(network, dataset.shape, layers, target)


def core_figures(budget: CoreBudget, network: nn.Module) -> CoreFigures:
    """Return what a trained network uses of the cores of its budget."""
    return CoreFigures(
        target=budget.target.name,
        resources={
            row.resource: ResourceFigures(used=row.used, mean=row.mean, limit=row.limit, unit=row.unit)
            for row in budget.used_by(network)
        },
    )


def energy_budget_of(
    recipe: Recipe, network: nn.Module, learner: Learner, dataset: Dataset, total: Callable[[Tensor], Tensor]
) -> EnergyBudget | None:
    """Return the energy budget of a recipe, None without one, and let the learner price connections by it.

    ``total`` adds counts over the processes that train together.
    """
    if recipe.budget is None or recipe.budget.energy is None:
        return None
    target, goal = load_target(recipe.budget.target), parse_energy(recipe.budget.energy)
    most_nj = goal.amount * (_reference_nj(recipe, dataset, target) if goal.relative else 1.0)
    meter = Meter(network, dataset.shape, learner.layers)
    budget = EnergyBudget(meter, target, most_nj, recipe.data.steps, recipe.budget.rate_floor)
    inputs = evaluation_inputs(dataset, dataset.validation, recipe.data.encoding, recipe.data.steps, None)
    arriving = sum(
        torch.from_numpy(np.count_nonzero(inputs[first : first + EVALUATION_BATCH], axis=(0, 1)).ravel())
        for first in range(0, len(inputs), EVALUATION_BATCH)
    )
    budget.leave_room_for_input(torch.as_tensor(arriving) / len(inputs), learner.density)
    if isinstance(learner, Rewirer):
        budget.refuse_shared_synapses()
        learner.spending = partial(budget.spending, total)
    return budget


def _reference_nj(recipe: Recipe, dataset: Dataset, target: HardwareTarget) -> float:
    """Return the energy of the operations of a validation sample in the run that a budget refers to.

    Raises
    ------
    BadInput
        If there is none, it is not finished, or its network reads or computes something else.
    """
    named = None if recipe.budget is None else recipe.budget.reference
    if named is None:
        raise BadInput(
            "budget.energy: a share needs budget.reference, the folder of a finished run of the same recipe without "
            f'budget.energy; train it with: esl-neuro train {recipe.name}, or give an energy such as "400 nJ"'
        )
    folder = RunFolder(Path(named), allow_code=True)  # the network is that of this recipe
    before = folder.recipe()
    if not folder.result.exists():
        raise BadInput(
            f"budget.reference: the run {named} is not finished; finish it with: esl-neuro train --resume {named}"
        )
    for section in ("data", "network"):
        now, then = (getattr(each, section).model_dump(exclude={"sha256"}) for each in (recipe, before))
        differing = [f"{section}.{key}" for key in now if now[key] != then.get(key)]
        if differing:
            raise BadInput(f"budget.reference: {named} differs in {', '.join(differing)}; use a run of the same recipe")
    network = load_network(folder, dataset)
    tally = Meter(network, dataset.shape).tally()
    evaluate(network, dataset, dataset.validation, recipe.data, tally=tally)
    return SampleEnergy.of(tally, target).operations_nj


def energy_figures(budget: EnergyBudget, tally: Tally) -> EnergyFigures:
    """Return the energy of a tested network, beside its budget."""
    energy = budget.priced(tally)
    return EnergyFigures(
        target=budget.target.name,
        budget_nj=budget.budget_nj,
        operations_nj=energy.operations_nj,
        beside_nj=energy.beside_nj,
        synaptic_operations=energy.synaptic_operations,
        within=energy.operations_nj <= budget.budget_nj,
        multiplier_per_nj=budget.multiplier_per_nj,
        points_per_nj=budget.points_per_nj(),
        quiet_layers=energy.below(budget.rate_floor),
    )
