"""What every structure learner offers, and how a recipe makes one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from esl_neuro.recipes.sections import SparsitySection
from esl_neuro.registry import Registry
from esl_neuro.sparsity.masks import SparseLayer
from esl_neuro.sparsity.telemetry import RewiringUpdate


class Learner(Protocol):
    """Decides which connections exist while a network trains.

    In a loop: add ``penalty()`` to the loss and call ``step()`` after every ``optimizer.step()``. After ``step()``,
    weights without a connection are exactly zero.
    """

    layers: list[SparseLayer]

    @property
    def density(self) -> float:
        """Connections of all masked layers as a share of all that are possible there."""
        ...

    def step(self) -> list[RewiringUpdate]:
        """Take note of an optimiser step and change the structure where it is due."""
        ...

    def penalty(self) -> Tensor | float:
        """Term to add to the loss, 0 for most learners."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Everything a resumed run needs, as tensors."""
        ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over the state of a learner of the same layers and settings."""
        ...


# ``factory(model, optimizer, *, layers, iterations, seed, **options)``; options and their defaults, the published
# setting where there is one, are the fields of the learner's section.
LearnerFactory = Callable[..., Learner]

LEARNERS: Registry[LearnerFactory] = Registry("learner")


def make_learner(
    section: SparsitySection, model: nn.Module, optimizer: Optimizer, *, iterations: int, seed: int
) -> Learner:
    """Make the learner that a recipe asks for.

    Parameters
    ----------
    section : SparsitySection
        Names learner and layers, and holds the learner's options.
    model : nn.Module
        Holds the layers.
    optimizer : torch.optim.Optimizer
        Updates the weights.
    iterations : int
        Optimiser steps of the whole run.
    seed : int
        Seed of everything random about the structure.

    Raises
    ------
    BadInput
        If a layer or a rule does not exist, or values do not go together.
    """
    layers = "all" if section.layers == ["all"] else section.layers
    return LEARNERS[section.learner](
        model, optimizer, layers=layers, iterations=iterations, seed=seed, **section.options
    )
