"""A cap of the fan-in holds exactly, in both storages, for every growth rule, and costs no connection."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from esl_neuro.errors import BadInput, CheckFailed
from esl_neuro.sparsity import Rewirer, SparseLinear
from esl_neuro.sparsity.capped_choice import RowRoom, best, draw_ranks
from esl_neuro.sparsity.growth import GROWTH_RULES
from sparsity.test_sparse_storage import Twins

SHARED = ("random", "random_unfired", "gradient")


@given(
    scores=st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=1, max_size=4),
    room=st.lists(st.integers(0, 3), min_size=4, max_size=4),
    data=st.data(),
)
def test_the_best_candidates_within_the_room_are_those_of_every_set(scores, room, data):
    table, room = np.array(scores, float), np.array(room[: len(scores)])
    there = np.array(data.draw(st.lists(st.booleans(), min_size=table.size, max_size=table.size)))
    positions = np.flatnonzero(there)
    fit = int(np.minimum(there.reshape(table.shape).sum(1), room).sum())
    count = data.draw(st.integers(0, fit))
    chosen = positions[best(table.ravel()[positions], positions, RowRoom(room, 3), count)]

    def allowed(places):
        return all(sum(place // 3 == row for place in places) <= most for row, most in enumerate(room))

    every = [each for each in itertools.combinations(positions.tolist(), count) if allowed(each)]
    # The first set in this order has the largest sum, and of equal scores the lowest positions.
    first = min(every, key=lambda each: sorted((-table.ravel()[place], place) for place in each))
    assert chosen.tolist() == list(first)
    assert table.ravel()[chosen].sum() == max(table.ravel()[list(each)].sum() for each in every)


def test_few_candidates_decide_only_if_they_are_enough():
    scores = np.concatenate([np.full(900, 9.0), np.arange(100.0)])  # the best 900 are of one output
    chosen = best(scores, np.arange(1000), RowRoom(np.array([1, 5]), 900), 6)
    assert chosen.tolist() == [0, 995, 996, 997, 998, 999]


def test_draws_are_uniform_where_there_is_room():
    free, room = np.array([3, 0, 2, 4]), np.array([1, 2, 2, 4])
    drawn = np.zeros(9)
    for seed in range(4000):
        drawn[draw_ranks(free, room, 2, np.random.default_rng(seed))] += 1
    # One after the other: of all 9 with 1/9, and then of those of outputs with room.
    expected = np.array([1 / 9 + (6 / 9) / 8] * 3 + [1 / 9 + (3 / 9) / 6 + (5 / 9) / 8] * 6)
    assert drawn / 4000 == pytest.approx(expected, abs=0.03)
    with pytest.raises(ValueError, match="8 draws from 7 positions"):
        draw_ranks(free, room, 8, np.random.default_rng(0))


@settings(max_examples=20)
@given(
    sizes=st.tuples(st.integers(2, 20), st.integers(2, 40), st.integers(1, 5)),
    share=st.floats(0.05, 1),
    caps=st.tuples(st.integers(1, 24), st.integers(1, 48)),
    growth=st.dictionaries(st.sampled_from(SHARED), st.floats(0.1, 10), min_size=1, max_size=3),
    prune=st.sampled_from(["magnitude", "per_sign", "threshold"]),
    alpha=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_masked_and_sparse_layers_keep_the_cap_and_every_connection(sizes, share, caps, growth, prune, alpha, seed):
    inputs, hidden, outputs = sizes
    most = {"0": min(caps[0] / inputs, 1), "2": min(caps[1] / hidden, 1)}
    possible = {"0": inputs * hidden, "2": hidden * outputs}
    densities = {name: max(share * most[name], 1 / possible[name]) for name in most}
    settings_ = {"densities": densities, "growth": growth, "prune": prune, "alpha": alpha, "update_every": 2}
    twins = Twins(sizes, "torch's Adam", seed, end=9, fan_in=dict(zip("02", caps, strict=True)), **settings_)
    for _ in range(10):
        new = [layer.mask & (layer.weight == 0) for layer in twins.rewirers[0].layers]
        masked, sparse = twins.step()
        if any((layer.weight.grad[born] == 0).any() for layer, born in zip(twins.rewirers[0].layers, new, strict=True)):
            break  # which of the connections without a gradient dies is a tie
        assert [(each.births, each.deaths) for each in masked] == [(each.births, each.deaths) for each in sparse]
        assert all(each.births == each.deaths for each in masked)
        for layer, indexed, cap in zip(twins.rewirers[0].layers, twins.rewirers[1].layers, caps, strict=True):
            assert np.array_equal(np.flatnonzero(layer.mask.numpy()), indexed.module.index.positions())
            assert layer.fan_in().max() <= cap
            assert layer.connections == round(densities[layer.name] * possible[layer.name])


@settings(max_examples=20)
@given(
    fill=st.floats(0.2, 1),
    cap=st.integers(1, 20),
    growth=st.sampled_from([*sorted(GROWTH_RULES.names()), "mixed"]),
    redistribution=st.sampled_from([None, "momentum"]),
    seed=st.integers(0, 1000),
)
def test_channels_of_convolutions_and_recurrent_neurons_keep_the_cap(fill, cap, growth, redistribution, seed):
    torch.manual_seed(seed)
    network = nn.ModuleDict({"conv": nn.Conv2d(2, 4, 3), "recurrent": nn.Linear(10, 10, bias=False)})
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    rules = {"momentum": 1.0, "random_unfired": 1.0, "gradient": 1.0} if growth == "mixed" else {growth: 1.0}
    densities = {"conv": fill * min(cap / 18, 1), "recurrent": fill * min(cap / 10, 1)}
    rewirer = Rewirer(
        network,
        optimizer,
        layers="all",
        densities=densities,
        fan_in=cap,
        growth=rules,
        redistribution=redistribution,
        alpha=0.6,
        update_every=1,
        end=20,
        seed=seed,
    )
    total = sum(layer.connections for layer in rewirer.layers)
    changed = 0
    for _ in range(8):
        optimizer.zero_grad()
        image, values = torch.randn(3, 2, 6, 6), torch.randn(3, 10)
        (network["conv"](image).square().mean() + network["recurrent"](values).square().mean()).backward()
        optimizer.step()
        changed += sum(update.births for update in rewirer.step())
        assert sum(layer.connections for layer in rewirer.layers) == total
        assert all(layer.fan_in().max() <= cap for layer in rewirer.layers)
        assert all((layer.weight[~layer.mask] == 0).all() for layer in rewirer.layers)
    assert changed or all(layer.density in (0, 1) or cap >= layer.shape()[1] for layer in rewirer.layers)


def test_candidates_of_sparse_storage_are_enough_under_a_cap():
    layer = SparseLinear(50, 30)
    network = nn.Sequential(layer)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    rewirer = Rewirer(
        network,
        optimizer,
        layers="all",
        density=0.1,
        fan_in=5,
        growth={"gradient_on_candidates": 1.0},
        alpha=0.9,
        update_every=1,
        end=30,
    )
    for _ in range(20):
        optimizer.zero_grad()
        network(torch.randn(8, 50)).square().mean().backward()
        optimizer.step()
        (update,) = rewirer.step()
        assert update.births == update.deaths > 0
        assert (rewirer.layers[0].fan_in() == 5).all()  # 150 connections of 30 neurons: every neuron is full


def test_births_are_the_best_of_all_that_the_cap_allows():
    network = nn.Sequential(nn.Linear(6, 3, bias=False))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    rewirer = Rewirer(
        network, optimizer, layers="all", density=0.5, fan_in=3, growth={"gradient": 1.0}, update_every=1, end=99
    )
    (layer,) = rewirer.layers
    with torch.no_grad():
        layer.mask.zero_()[:, :3] = True
        layer.weight.copy_(torch.arange(1.0, 19).reshape(3, 6) * layer.mask)
    layer.weight.grad = torch.tensor([[0, 0, 0, 1.0, 9, 8]] * 3)
    rewirer.step()  # three die, all of them of the first neuron, and only it has room
    assert layer.mask[0].tolist() == [False, False, False, True, True, True]
    assert layer.mask[1:, :3].all()


def test_a_density_that_does_not_fit_is_refused_with_the_numbers():
    network = nn.Sequential(nn.Linear(784, 800), nn.Linear(800, 10))
    optimizer = torch.optim.Adam(network.parameters())
    with pytest.raises(BadInput) as refusal:
        Rewirer(network, optimizer, density=0.16, layers=["0"], end=10, fan_in=32)
    assert str(refusal.value) == (
        "budget.fan_in: layer '0' has 100,352 connections at density 0.16, and 800 neurons or channels of at most 32 "
        "hold 25,600; lower the density to 0.04081, or raise the cap to 126"
    )
    assert Rewirer(network, optimizer, density=0.04081, layers=["0"], end=10, fan_in=32).layers[0].fan_in().max() == 32
    for fan_in, problem in (
        ({"1": 5}, "'1' is not a sparse layer"),
        ({}, "no cap for '0'"),
        (0, "0 for '0' is out of"),
    ):
        with pytest.raises(BadInput, match=problem):
            Rewirer(network, optimizer, density=0.01, layers=["0"], end=10, fan_in=fan_in)


def full(fan_in):
    network = nn.Sequential(nn.Linear(8, 4))
    settings_ = {"density": fan_in / 8, "fan_in": fan_in, "alpha": 1.0, "update_every": 1, "end": 9}
    return Rewirer(network, torch.optim.Adam(network.parameters()), layers="all", growth={"random": 1.0}, **settings_)


def test_connections_from_elsewhere_must_fit():
    with pytest.raises(BadInput, match="exceed it: '0' has 4, allowed 3; raise the cap"):
        full(3).load_state_dict(full(4).state_dict())


def test_a_rule_of_your_own_that_ignores_the_room_is_found(monkeypatch):
    rewirer = full(4)

    def first(_layer, candidates, count, *_):
        return torch.nonzero(candidates.flatten())[:count, 0]

    monkeypatch.setitem(GROWTH_RULES._entries, "random", first)
    rewirer.prune_rule = lambda layer, count, threshold: torch.nonzero(layer.mask.flatten())[-4:, 0]  # noqa: ARG005
    with pytest.raises(CheckFailed, match="growth rule 'random': an output of layer '0' got 4 more connections"):
        rewirer.step()
