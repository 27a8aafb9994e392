"""What optimisers remember about connections that are born and that die."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from esl_neuro.errors import BadInput
from esl_neuro.sparsity import Rewirer
from esl_neuro.sparsity.masks import dense_layer
from esl_neuro.sparsity.moments import forget_moments, group_of
from sparsity.toy_problem import OPTIMISERS, ToyProblem

# What each optimiser keeps for every weight.
KEPT = {
    "plain SGD": [],
    "SGD": ["momentum_buffer"],
    "Adam": ["exp_avg", "exp_avg_sq"],
    "masking Adam": ["exp_avg", "exp_avg_sq"],
    "AdamW": ["exp_avg", "exp_avg_sq"],
    "masking AdamW": ["exp_avg", "exp_avg_sq"],
}


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_newborn_connections_start_without_moments_and_all_others_keep_theirs(optimiser):
    task = ToyProblem(optimiser)
    rewirer = Rewirer(
        task.model, task.optimizer, density=0.3, layers="all", end=10, update_every=4, growth={"gradient": 1}
    )
    for _ in range(3):
        task.learn()
        rewirer.step()
    task.learn()
    masks = [layer.mask.clone() for layer in rewirer.layers]
    before = [
        {key: task.optimizer.state[layer.weight][key].clone() for key in KEPT[optimiser]} for layer in rewirer.layers
    ]
    rewirer.step()
    for layer, mask, moments in zip(rewirer.layers, masks, before, strict=True):
        born, died = layer.mask & ~mask, mask & ~layer.mask
        assert born.any()
        for key, old in moments.items():
            now = task.optimizer.state[layer.weight][key]
            assert (now[born] == 0).all()
            assert torch.equal(now[~born], old[~born])
            assert (now[died] != 0).any()


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_first_step_of_a_newborn_is_that_of_its_gradient_alone(optimiser):
    def first_step(history):
        weight = nn.Parameter(torch.zeros(1, 3))
        optimizer = OPTIMISERS[optimiser]([weight])
        for gradient in (history, history):
            weight.grad = torch.tensor([[gradient, 1.0, -2.0]])
            optimizer.step()
        with torch.no_grad():
            weight[0, 0] = 0
        forget_moments(optimizer, weight, torch.tensor([0]))
        weight.grad = torch.tensor([[0.5, 1.0, -2.0]])
        optimizer.step()
        return weight[0].tolist()

    assert first_step(7.0) == first_step(-0.1)
    assert first_step(7.0)[0] < 0


def test_moments_of_any_layout_and_of_amsgrad_are_forgotten():
    conv = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(conv.parameters(), amsgrad=True)
    rewirer = Rewirer(conv, optimizer, density=0.3, layers="all", end=5, update_every=2)
    for _ in range(2):
        optimizer.zero_grad()
        conv(torch.randn(2, 3, 5, 5)).square().sum().backward()
        optimizer.step()
        mask = rewirer.layers[0].mask.clone()
        rewirer.step()
    born = rewirer.layers[0].mask & ~mask
    assert born.any()
    for key in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"):
        assert (optimizer.state[conv.weight][key][born] == 0).all()
        assert (optimizer.state[conv.weight][key][~born] != 0).all()


def test_group_of_a_layer():
    first, second, third = (nn.Parameter(torch.ones(2, 2)) for _ in range(3))
    optimizer = torch.optim.SGD([{"params": [first]}, {"params": [second], "lr": 0.5}], lr=0.1)
    assert group_of(optimizer, dense_layer("b", second))["lr"] == 0.5
    with pytest.raises(BadInput, match="the optimiser does not train 'c'"):
        group_of(optimizer, dense_layer("c", third))
