"""Optimisers and learning-rate schedules by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from esl_neuro.registry import Registry
from esl_neuro.sections import TrainingSection

MakeOptimiser = Callable[[Iterable[nn.Parameter], TrainingSection], Optimizer]
RateSchedule = Callable[[float, float], float]

OPTIMISERS: Registry[MakeOptimiser] = Registry("optimiser")
RATE_SCHEDULES: Registry[RateSchedule] = Registry("learning-rate schedule")


@OPTIMISERS.register
def adam(parameters: Iterable[nn.Parameter], section: TrainingSection) -> Optimizer:
    """Adam; weight decay, if any, is added to the gradient."""
    trained = list(parameters)
    decay = section.weight_decay
    return torch.optim.Adam(trained, section.learning_rate, weight_decay=decay, **_fastest_form(trained))


@OPTIMISERS.register
def adamw(parameters: Iterable[nn.Parameter], section: TrainingSection) -> Optimizer:
    """Adam with decoupled weight decay."""
    trained = list(parameters)
    decay = section.weight_decay
    return torch.optim.AdamW(trained, section.learning_rate, weight_decay=decay, **_fastest_form(trained))


def _fastest_form(parameters: list[nn.Parameter]) -> dict[str, Any]:
    """Fused where this torch has it (on the processor since 2.4), else foreach, which equals the plain loop."""
    probe = [nn.Parameter(torch.zeros(1, device=device)) for device in {each.device for each in parameters}]
    try:
        torch.optim.Adam(probe, fused=True)
    except RuntimeError:
        return {"foreach": True}
    return {"fused": True}


@OPTIMISERS.register
def sgd(parameters: Iterable[nn.Parameter], section: TrainingSection) -> Optimizer:
    """Stochastic gradient descent with the recipe's momentum."""
    return torch.optim.SGD(
        parameters, lr=section.learning_rate, momentum=section.momentum, weight_decay=section.weight_decay
    )


@RATE_SCHEDULES.register
def cosine(done: float, final: float) -> float:
    """Fall from 1 to ``final`` along half a cosine; ``done`` is the share of the run that is over."""
    return final + (1 - final) / 2 * (1 + math.cos(math.pi * done))


@RATE_SCHEDULES.register
def exponential(done: float, final: float) -> float:
    """Fall from 1 to ``final`` by the same factor at every iteration."""
    return float(final**done)


@RATE_SCHEDULES.register
def constant(done: float, final: float) -> float:  # noqa: ARG001 (shared signature)
    """Stay at 1."""
    return 1.0
