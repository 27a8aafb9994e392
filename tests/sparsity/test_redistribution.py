"""Layers exchange connections; nothing is lost on the way."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from esl_neuro.errors import BadInput, CheckFailed
from esl_neuro.sparsity import Rewirer
from esl_neuro.sparsity.masks import SparseLayer
from esl_neuro.sparsity.redistribution import REDISTRIBUTIONS, apportion, exchange_quotas
from sparsity.toy_problem import WITH_MOMENTUM, ToyProblem


def exact_shares(weights, total, caps):
    """Water filling in fractions: what each would get if connections could be cut."""
    shares, open_ = [Fraction(0)] * len(weights), {index for index, cap in enumerate(caps) if cap}
    left = Fraction(total)
    while open_:
        exact = {index: Fraction(weights[index]) for index in open_}
        if not sum(exact.values()):
            exact = dict.fromkeys(open_, Fraction(1))
        shares_now = {index: left * exact[index] / sum(exact.values()) for index in open_}
        full = {index for index in open_ if shares_now[index] > caps[index]}
        if not full:
            for index in open_:
                shares[index] = shares_now[index]
            break
        for index in full:
            shares[index] = Fraction(caps[index])
            left -= caps[index]
        open_ -= full
    return shares


@given(
    parts=st.lists(st.tuples(st.floats(0, 1e3), st.integers(0, 50)), min_size=1, max_size=6),
    share=st.floats(0, 1),
)
def test_apportion_is_exact_within_caps_and_to_within_one(parts, share):
    weights, caps = [weight for weight, _ in parts], [cap for _, cap in parts]
    total = round(share * sum(caps))
    found = apportion(weights, total, caps)
    assert sum(found) == total
    assert all(0 <= part <= cap for part, cap in zip(found, caps, strict=True))
    for part, exact in zip(found, exact_shares(weights, total, caps), strict=True):
        assert abs(part - exact) < 1 + 1e-6


def test_what_a_full_layer_cannot_take_goes_to_the_others_in_proportion():
    assert apportion([8, 1, 3], 24, [4, 100, 100]) == [4, 5, 15]


def layer_with(connections, size):
    mask = torch.arange(size).reshape(1, size) < connections
    return SparseLayer("fc", nn.Parameter(torch.ones(1, size)), mask, mask.clone())


@pytest.mark.parametrize(
    ("layers", "fraction", "deaths", "room"),
    [
        ([(10, 200), (50, 100)], 0.25, [3, 13], [188, 49]),  # rounded up; 99 % of the free positions
        ([(1, 10), (0, 10), (10, 110)], 1.0, [0, 0, 9], [8, 9, 99]),  # one connection always stays
        ([(100, 100), (95, 100)], 0.5, [2, 2], [0, 4]),  # no room for more
        ([(40, 60)], 0.0, [0], [19]),
    ],
)
def test_quotas_of_an_exchange(layers, fraction, deaths, room):
    assert exchange_quotas([layer_with(*layer) for layer in layers], fraction) == (deaths, room)


@pytest.mark.parametrize("optimiser", WITH_MOMENTUM)
def test_births_follow_the_mean_momentum_of_the_connections(optimiser):
    task = ToyProblem(optimiser)
    rewirer = Rewirer(task.model, task.optimizer, density=0.4, layers="all", end=100, redistribution="momentum")
    for _ in range(3):
        task.learn()
        rewirer.step()
    means = []
    for layer in rewirer.layers:
        state, scores = task.optimizer.state[layer.weight], []
        for place in torch.nonzero(layer.mask).tolist():
            at = tuple(place)
            if optimiser == "SGD":
                scores.append(abs(state["momentum_buffer"][at].item()))
            else:
                scores.append(abs(state["exp_avg"][at].item()) / (math.sqrt(state["exp_avg_sq"][at].item()) + 1e-8))
        means.append(sum(scores) / len(scores))
    births = REDISTRIBUTIONS["momentum"](rewirer.layers, [10, 200, 20], [1000] * 3, task.optimizer)
    assert sum(births) == 230
    for born, mean in zip(births, means, strict=True):
        assert born == pytest.approx(230 * mean / sum(means), abs=1.001)


@settings(max_examples=15)
@given(
    density=st.floats(0.1, 0.95),
    distribution=st.sampled_from(["erk", "uniform"]),
    alpha=st.floats(0, 1),
    prune=st.sampled_from(["magnitude", "per_sign", "threshold"]),
    optimiser=st.sampled_from(WITH_MOMENTUM),
    seed=st.integers(0, 99),
)
def test_total_is_exact_after_every_update(density, distribution, alpha, prune, optimiser, seed):
    task = ToyProblem(optimiser, seed)
    rewirer = Rewirer(
        task.model,
        task.optimizer,
        density=density,
        distribution=distribution,
        layers="all",
        end=6,
        alpha=alpha,
        update_every=1,
        prune=prune,
        threshold=0.05,
        redistribution="momentum",
        seed=seed,
    )
    total = sum(layer.connections for layer in rewirer.layers)
    for _ in range(6):
        before = [layer.connections for layer in rewirer.layers]
        room = exchange_quotas(rewirer.layers, 0.0)[1]
        task.learn()
        updates = rewirer.step()
        assert sum(update.births for update in updates) == sum(update.deaths for update in updates)
        for update, old, free in zip(updates, before, room, strict=False):
            assert update.connections == old + update.births - update.deaths >= 1
            assert update.births <= free
        assert sum(layer.connections for layer in rewirer.layers) == total
        for layer in rewirer.layers:
            assert (layer.weight[~layer.mask] == 0).all()


def test_momentum_that_is_not_finite_is_refused():
    task = ToyProblem("SGD")
    rewirer = Rewirer(task.model, task.optimizer, density=0.4, layers="all", end=100, redistribution="momentum")
    task.learn()
    task.optimizer.state[rewirer.layers[1].weight]["momentum_buffer"].fill_(torch.nan)
    with pytest.raises(CheckFailed, match="layer 'fc1': mean momentum is nan: diverged"):
        REDISTRIBUTIONS["momentum"](rewirer.layers, [1, 1, 1], [9, 9, 9], task.optimizer)


def test_densities_of_layers_move_apart():
    task = ToyProblem()
    rewirer = Rewirer(
        task.model, task.optimizer, density=0.3, layers="all", end=100, update_every=5, redistribution="momentum"
    )
    before = [layer.connections for layer in rewirer.layers]
    for _ in range(50):
        task.learn()
        rewirer.step()
    assert [layer.connections for layer in rewirer.layers] != before


def test_unknown_redistribution_is_refused():
    task = ToyProblem()
    with pytest.raises(BadInput, match=r"redistribution 'momentun' is unknown; did you mean 'momentum'\?"):
        Rewirer(task.model, task.optimizer, density=0.3, layers="all", end=1, redistribution="momentun")
