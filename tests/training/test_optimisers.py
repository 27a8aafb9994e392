"""Optimisers and learning-rate schedules by name."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from esl_neuro.errors import BadInput
from esl_neuro.recipes import load_recipe
from esl_neuro.training.optimisers import OPTIMISERS, RATE_SCHEDULES


def one_step(name, **changes):
    """Weight after one step from 2.0 with gradient 1.0."""
    section = load_recipe("mlp-digits").training.model_copy(update={"learning_rate": 0.1, **changes})
    weight = nn.Parameter(torch.tensor([2.0]))
    optimizer = OPTIMISERS[name]([weight], section)
    weight.grad = torch.tensor([1.0])
    optimizer.step()
    return weight.item()


def test_each_optimiser_takes_its_first_step():
    assert one_step("adam") == pytest.approx(1.9)  # the first step of Adam is the learning rate
    assert one_step("adamw") == pytest.approx(1.9)
    assert one_step("sgd") == pytest.approx(1.9)


def test_weight_decay_is_decoupled_in_adamw_only():
    assert one_step("adamw", weight_decay=0.5) == pytest.approx(2.0 * (1 - 0.1 * 0.5) - 0.1)
    assert one_step("sgd", weight_decay=0.5) == pytest.approx(2.0 - 0.1 * (1 + 0.5 * 2))
    assert one_step("adam", weight_decay=0.5) == pytest.approx(1.9)  # Adam divides the sum out again


def test_an_unknown_optimiser_gets_the_nearest_spelling():
    with pytest.raises(BadInput, match=r"did you mean 'adam'\?"):
        OPTIMISERS["adan"]


@pytest.mark.parametrize("name", RATE_SCHEDULES.names())
@pytest.mark.parametrize("final", [0.01, 0.5])
def test_rates_start_at_one_and_never_rise(name, final):
    rates = [RATE_SCHEDULES[name](done / 100, final) for done in range(101)]
    assert rates[0] == pytest.approx(1)
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(rates))
    assert rates[-1] == pytest.approx(1 if name == "constant" else final)


def test_courses_halfway():
    assert RATE_SCHEDULES["cosine"](0.5, 0.0) == pytest.approx(0.5)
    assert RATE_SCHEDULES["cosine"](0.25, 0.2) == pytest.approx(0.2 + 0.4 * (1 + math.cos(math.pi / 4)))
    assert RATE_SCHEDULES["exponential"](0.5, 0.01) == pytest.approx(0.1)
