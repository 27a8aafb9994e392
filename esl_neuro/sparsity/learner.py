"""What every structure learner offers, and how a recipe makes one by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Protocol, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.optim import Optimizer

from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.registry import Registry
from esl_neuro.sparsity.masks import SparseLayer
from esl_neuro.sparsity.selection import LayerNames
from esl_neuro.sparsity.telemetry import RewiringUpdate

Share = Annotated[float, Field(ge=0, le=1)]
Density = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


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


# ``factory(model, optimizer, *, layers, iterations, seed, **options)``; its keywords are the options of a recipe, its
# defaults the published setting where there is one.
LearnerFactory = Callable[..., Learner]

LEARNERS: Registry[LearnerFactory] = Registry("learner")

_GIVEN = ("model", "optimizer", "layers", "iterations", "seed")


def make_learner(
    name: str,
    model: nn.Module,
    optimizer: Optimizer,
    *,
    layers: LayerNames,
    iterations: int,
    seed: int,
    options: Mapping[str, Any],
) -> Learner:
    """Make a learner by name, as a recipe asks for it.

    Parameters
    ----------
    name : str
        A name of ``LEARNERS``.
    model : nn.Module
        Holds the layers.
    optimizer : torch.optim.Optimizer
        Updates the weights.
    layers : sequence of str, or "all"
        Names of the masked layers.
    iterations : int
        Optimiser steps of the whole run.
    seed : int
        Seed of everything random about the structure.
    options : mapping of str to value
        Keywords of the learner's factory.

    Raises
    ------
    BadInput
        If the learner, an option or a value is not allowed.
    """
    factory = LEARNERS[name]
    allowed = [option for option in inspect.signature(factory).parameters if option not in _GIVEN]
    types = get_type_hints(factory, include_extras=True)
    for option, value in options.items():
        if option not in allowed:
            hint = did_you_mean(option, allowed) if allowed else "it takes none"
            raise BadInput(f"sparsity.options: learner '{name}' has no option '{option}'; {hint}")
        try:
            TypeAdapter(types[option], config=ConfigDict(strict=True)).validate_python(value)
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Input ")
            raise BadInput(f"sparsity.options: {option} = {value!r} is not allowed: it {reason}") from error
    return factory(model, optimizer, layers=layers, iterations=iterations, seed=seed, **options)
