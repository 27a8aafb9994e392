"""Layers that store their connections only change like masked layers, step by step."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from esl_neuro.errors import BadInput
from esl_neuro.sparsity import MaskedAdam, Rewirer, SparseLinear, indexed_growth, make_learner
from esl_neuro.sparsity.indexed_growth import nth_free
from sparsity.learner_options import section_of

OPTIMISERS = {
    "masking Adam": lambda parameters: MaskedAdam(parameters, lr=0.02),
    "torch's Adam": lambda parameters: torch.optim.Adam(parameters, lr=0.02),
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.02, momentum=0.9),
    "plain SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.02),
}
SAME = ("random", "random_unfired", "gradient")


class Twins:
    """The same network twice, masked and in sparse storage, with the same connections, weights and data."""

    def __init__(self, sizes, optimiser, seed, **settings):
        inputs, hidden, outputs = sizes
        torch.manual_seed(seed)
        self.masked = nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, outputs)).double()
        self.sparse = nn.Sequential(
            SparseLinear(inputs, hidden, dtype=torch.float64),
            nn.Tanh(),
            SparseLinear(hidden, outputs, dtype=torch.float64),
        )
        self.optimizers, self.rewirers = [], []
        for model in (self.masked, self.sparse):
            self.optimizers.append(OPTIMISERS[optimiser](model.parameters()))
            self.rewirers.append(Rewirer(model, self.optimizers[-1], layers="all", seed=seed, **settings))
        for layer, indexed in zip(self.rewirers[0].layers, self.rewirers[1].layers, strict=True):
            source = self.masked.get_submodule(layer.name)
            positions = np.flatnonzero(layer.mask.numpy())
            indexed.module.connect(positions, source.weight.detach().numpy().ravel()[positions])
            indexed.module.bias.data.copy_(source.bias.detach())
            if indexed.explored_positions is not None:
                indexed.explored_positions = positions
        self.generator = torch.Generator().manual_seed(seed)
        self.teacher = torch.randn(inputs, outputs, generator=self.generator, dtype=torch.float64)

    def step(self):
        values = torch.randn(20, len(self.teacher), generator=self.generator, dtype=torch.float64)
        updates = []
        for model, optimizer, rewirer in zip((self.masked, self.sparse), self.optimizers, self.rewirers, strict=True):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(values), values @ self.teacher).backward()
            optimizer.step()
            updates.append(rewirer.step())
        return updates


@settings(max_examples=25)
@given(
    sizes=st.tuples(st.integers(2, 30), st.integers(2, 80), st.integers(1, 5)),
    density=st.floats(0.05, 1),
    growth=st.dictionaries(st.sampled_from(SAME), st.floats(0.1, 10), min_size=1, max_size=3),
    prune=st.sampled_from(["magnitude", "per_sign", "threshold"]),
    optimiser=st.sampled_from(sorted(OPTIMISERS)),
    alpha=st.floats(0, 1),
    update_every=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_masked_and_sparse_have_the_same_connections_weights_and_moments_at_every_step(
    sizes, density, growth, prune, optimiser, alpha, update_every, seed
):
    density = max(density, 1 / min(sizes[0] * sizes[1], sizes[1] * sizes[2]))
    twins = Twins(
        sizes, optimiser, seed, density=density, growth=growth, prune=prune, threshold=0.05, alpha=alpha,
        update_every=update_every, end=8,
    )  # fmt: skip
    for _ in range(10):
        new = [layer.mask & (layer.weight == 0) for layer in twins.rewirers[0].layers]
        masked, sparse = twins.step()
        layers = twins.rewirers[0].layers
        # A new connection to a neuron that no other one reads stays zero, as others do: which of them dies is a tie.
        if any((layer.weight.grad[born] == 0).any() for layer, born in zip(layers, new, strict=True)):
            break
        # Likewise, which of its connections are born: all have a gradient of zero.
        if "gradient" in growth and any((layer.weight.grad == 0).any() for layer in layers):
            break
        for one, other in zip(masked, sparse, strict=True):
            assert (one.births, one.deaths, one.fan_in, one.fan_out) == (
                other.births,
                other.deaths,
                other.fan_in,
                other.fan_out,
            )
            assert other.explored == (one.explored if "random_unfired" in growth else None)
        for layer, indexed in zip(twins.rewirers[0].layers, twins.rewirers[1].layers, strict=True):
            positions = indexed.module.index.positions()
            assert (np.diff(positions) > 0).all()
            assert positions.tolist() == np.flatnonzero(layer.mask.numpy()).tolist()
            torch.testing.assert_close(indexed.weight, layer.weight[layer.mask])
            states = [
                optimizer.state[weight]
                for optimizer, weight in zip(twins.optimizers, (layer.weight, indexed.weight), strict=True)
            ]
            for key, moment in states[1].items():
                if isinstance(moment, torch.Tensor) and moment.dim():
                    torch.testing.assert_close(moment, states[0][key][layer.mask])
            cells = (np.arange(0, size, 7) for size in layer.shape())
            rows, columns = cells
            assert (indexed.count_blocks(rows, columns) == layer.count_blocks(rows, columns)).all()


@settings(max_examples=20)
@given(
    density=st.floats(0.02, 1),
    growth=st.sampled_from([*SAME, "gradient_on_candidates"]),
    alpha=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_rewiring_keeps_the_number_of_connections_and_sorted_rows(density, growth, alpha, seed):
    torch.manual_seed(seed)
    model = nn.Sequential(SparseLinear(23, 70, bias=False))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    rewirer = Rewirer(
        model, optimizer, layers="all", density=density, alpha=alpha, growth={growth: 1.0}, update_every=2, end=20
    )
    (layer,) = rewirer.layers
    count = round(density * (23 * 70))
    for iteration in range(1, 9):
        before = layer.module.index.positions()
        optimizer.zero_grad()
        model(torch.rand(4, 23)).square().mean().backward()
        optimizer.step()
        updates = rewirer.step()
        after = layer.module.index.positions()
        assert len(after) == layer.connections == count
        assert (np.diff(after) > 0).all()
        assert (np.diff(layer.module.index.starts) >= 0).all()
        born = np.isin(after, before, invert=True)
        assert born.sum() == sum(update.births for update in updates)
        assert (layer.weight[torch.from_numpy(born)] == 0).all()
        for moment in (optimizer.state[layer.weight][name] for name in ("exp_avg", "exp_avg_sq")):
            assert moment.shape == layer.weight.shape
            assert (moment[torch.from_numpy(born)] == 0).all()
        if iteration % 2 == 0:
            share = alpha / 2 * (1 + math.cos(math.pi * iteration / 20))
            assert born.sum() == min(math.ceil(share * count), 23 * 70 - count)
        assert (layer.module.errors is not None) == (iteration % 2 == 1 and not growth.startswith("random"))


def test_the_best_of_all_candidates_are_those_with_the_largest_gradients(monkeypatch):
    def grown(rule):
        settings = {"density": 0.5, "growth": {"random": 1.0}, "alpha": 0.05, "update_every": 1, "end": 100}
        twins = Twins((9, 20, 3), "SGD", 1, **settings)
        rewirer = twins.rewirers[1]
        rewirer.growth = {rule: 1.0}
        rewirer._record_errors()
        twins.step()
        return [layer.module.index.positions().tolist() for layer in rewirer.layers]

    assert grown("gradient_on_candidates") != grown("gradient")  # only 4 candidates for each birth
    monkeypatch.setattr(indexed_growth, "CANDIDATES_PER_BIRTH", 1000)
    assert grown("gradient_on_candidates") == grown("gradient") != grown("random")


@given(taken=st.sets(st.integers(0, 50)), seed=st.integers(0, 10))
def test_free_positions_are_found_by_rank(taken, seed):
    free = [position for position in range(51) if position not in taken]
    ranks = np.random.default_rng(seed).permutation(len(free))
    assert nth_free(np.array(sorted(taken), np.int64), ranks).tolist() == [free[rank] for rank in ranks]


def test_a_resumed_run_ends_bit_for_bit_like_the_uninterrupted_one():
    def run(stop=None):
        settings = {"density": 0.3, "growth": {"random_unfired": 0.5, "gradient": 0.5}, "update_every": 3, "end": 100}
        twins = Twins((12, 16, 4), "masking Adam", 3, **settings)
        for step in range(12):
            if step == stop:
                saved = copy.deepcopy(
                    (twins.sparse.state_dict(), twins.optimizers[1].state_dict(), twins.rewirers[1].state_dict())
                )
                later = Twins((12, 16, 4), "masking Adam", 4, **settings)
                later.generator, later.teacher = twins.generator, twins.teacher
                twins = later
                twins.rewirers[1].seed = 3
                twins.sparse.load_state_dict(saved[0])
                twins.optimizers[1].load_state_dict(saved[1])
                twins.rewirers[1].load_state_dict(saved[2])
            twins.step()
        return twins.sparse.state_dict() | twins.rewirers[1].state_dict()

    whole = run()
    for stop in (2, 5, 6):
        resumed = run(stop)
        assert whole.keys() == resumed.keys()
        assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize(
    ("learner", "options", "message"),
    [
        ("esl", {"density": 0.2, "growth": {"momentum": 1.0}}, "'momentum' needs moments of connections"),
        ("esl", {"density": 0.2}, "'momentum' needs moments of connections"),
        ("esl", {"density": 0.2, "growth": {"random": 1.0}, "redistribution": "momentum"}, "redistribution"),
        ("esl", {"density": 0.2, "growth": {"randon": 1.0}}, "did you mean 'random'"),
        ("deep_r", {"density": 0.2}, "this learner needs masks"),
        ("admm", {"density": 0.2}, "this learner needs masks"),
    ],
)
def test_what_needs_all_possible_connections_is_refused(learner, options, message):
    model = nn.Sequential(SparseLinear(8, 8))
    optimizer = torch.optim.Adam(model.parameters())
    with pytest.raises(BadInput, match=message):
        make_learner(section_of(learner, **options), model, optimizer, iterations=100, seed=0)


def test_masked_and_sparse_layers_of_one_learner_are_refused():
    model = nn.Sequential(SparseLinear(8, 8), nn.Linear(8, 8))
    with pytest.raises(BadInput, match="'0' store their connections only"):
        Rewirer(model, torch.optim.Adam(model.parameters()), layers="all", density=0.2, end=10)
