"""The interface of structure learners, and their creation from a recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from esl_neuro.recipes.sections import SparsitySection
from esl_neuro.registry import Registry
from esl_neuro.sparsity.cores import Plan
from esl_neuro.sparsity.masks import Layer
from esl_neuro.sparsity.telemetry import RewiringUpdate


class Learner(Protocol):
    """Decides which connections exist while a network trains.

    In a loop: add ``penalty()`` to the loss and call ``step()`` after every ``optimizer.step()``. After ``step()``,
    weights without a connection are exactly zero.
    """

    @property
    def layers(self) -> Sequence[Layer]:
        """The layers whose connections it decides."""
        ...

    @property
    def density(self) -> float:
        """Density over all masked layers."""
        ...

    def step(self) -> list[RewiringUpdate]:
        """Process an optimiser step, and change the structure if it is due."""
        ...

    def penalty(self) -> Tensor | float:
        """Return a term to add to the loss, 0 for most learners."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state for a resumed run, as tensors."""
        ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the state of a learner with the same layers and settings."""
        ...


# ``factory(model, optimizer, *, layers, iterations, seed, **options)``; the options and their defaults (published
# settings if there are any) are the fields of the learner's section.
LearnerFactory = Callable[..., Learner]

LEARNERS: Registry[LearnerFactory] = Registry("learner")


def make_learner(
    section: SparsitySection,
    model: nn.Module,
    optimizer: Optimizer,
    *,
    iterations: int,
    seed: int,
    fan_in: Mapping[str, int] | None = None,
    cores: Plan | None = None,
) -> Learner:
    """Make the learner of a recipe.

    Parameters
    ----------
    section : SparsitySection
        Section with the learner, its layers and its options.
    model : nn.Module
        Model with the layers.
    optimizer : torch.optim.Optimizer
        Optimiser of the weights.
    iterations : int
        Optimiser steps of the whole run.
    seed : int
        Seed of the random parts of the structure.
    fan_in : mapping of str to int, optional
        Largest number of connections of an output of each layer, for the learners of :class:`Rewirer`.
    cores : callable, optional
        Plans the cores of a chip, for the same learners.

    Raises
    ------
    BadInput
        If a layer or a rule does not exist, or values are inconsistent.
    """
    layers = "all" if section.layers == ["all"] else section.layers
    budgets = {name: value for name, value in (("fan_in", fan_in), ("cores", cores)) if value is not None}
    options = section.options | budgets
    return LEARNERS[section.learner](model, optimizer, layers=layers, iterations=iterations, seed=seed, **options)
