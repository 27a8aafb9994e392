"""Optimisers and learning-rate schedules by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.optim import Optimizer

from esl_neuro.recipes.sections import TrainingSection
from esl_neuro.registry import Registry
from esl_neuro.sparsity.masked_adam import MaskedAdam, MaskedAdamW

MakeOptimiser = Callable[[Iterable[nn.Parameter], TrainingSection], Optimizer]
RateSchedule = Callable[[float, float], float]

OPTIMISERS: Registry[MakeOptimiser] = Registry("optimiser")
RATE_SCHEDULES: Registry[RateSchedule] = Registry("learning-rate schedule")


@OPTIMISERS.register
def adam(parameters: Iterable[nn.Parameter], section: TrainingSection) -> Optimizer:
    """Adam; weight decay, if any, is added to the gradient."""
    return _fastest(MaskedAdam, torch.optim.Adam, list(parameters), section)


@OPTIMISERS.register
def adamw(parameters: Iterable[nn.Parameter], section: TrainingSection) -> Optimizer:
    """Adam with decoupled weight decay."""
    return _fastest(MaskedAdamW, torch.optim.AdamW, list(parameters), section)


def _fastest(
    on_processor: Callable[..., Optimizer],
    elsewhere: Callable[..., Optimizer],
    parameters: list[nn.Parameter],
    section: TrainingSection,
) -> Optimizer:
    """Make our compiled optimiser on the CPU, and torch's fused one on other devices."""
    rates = {"lr": section.learning_rate, "weight_decay": section.weight_decay}
    if all(parameter.device.type == "cpu" for parameter in parameters):
        return on_processor(parameters, **rates)
    return elsewhere(parameters, **rates, fused=True)


@OPTIMISERS.register
def sgd(parameters: Iterable[nn.Parameter], section: TrainingSection) -> Optimizer:
    """Stochastic gradient descent with the recipe's momentum."""
    return torch.optim.SGD(
        parameters, lr=section.learning_rate, momentum=section.momentum, weight_decay=section.weight_decay
    )


@RATE_SCHEDULES.register
def cosine(done: float, final: float) -> float:
    """Fall from 1 to ``final`` along half a cosine; ``done`` is the finished share of the run."""
    return final + (1 - final) / 2 * (1 + math.cos(math.pi * done))


@RATE_SCHEDULES.register
def exponential(done: float, final: float) -> float:
    """Fall from 1 to ``final`` by the same factor at every iteration."""
    return float(final**done)


@RATE_SCHEDULES.register
def constant(done: float, final: float) -> float:  # noqa: ARG001 (shared signature)
    """Stay at 1."""
    return 1.0
