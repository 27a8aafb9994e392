"""Growth rules against loops, with the moments of real optimisers."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from esl_neuro.errors import BadInput
from esl_neuro.sparsity.growth import GROWTH_RULES, grow
from esl_neuro.sparsity.masks import SparseLayer

OPTIMISERS = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=0.1),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=0.1),
}


def rng(seed=0):
    return np.random.default_rng(seed)


def random_layer(seed=0, shape=(6, 7), density=0.3, explored=0.5):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(shape, generator=generator) < density
    ever = mask | (torch.rand(shape, generator=generator) < explored)
    return SparseLayer("fc", nn.Parameter(torch.randn(shape, generator=generator) * mask), mask, ever)


def trained(optimiser, layer, steps=3, seed=0):
    """An optimiser that has seen a few gradients, and these gradients."""
    optimizer = OPTIMISERS[optimiser]([layer.weight])
    generator = torch.Generator().manual_seed(seed)
    gradients = [torch.randn(layer.weight.shape, generator=generator) for _ in range(steps)]
    for gradient in gradients:
        layer.weight.grad = gradient.clone()
        optimizer.step()
    return optimizer, gradients


def momentum_score(optimiser, gradients):
    """Size of the momentum of one weight, from its gradients alone."""
    if optimiser == "SGD":
        buffer = 0.0
        for gradient in gradients:
            buffer = 0.9 * buffer + gradient
        return abs(buffer)
    first = second = 0.0
    for gradient in gradients:
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
    return abs(first) / (math.sqrt(second) + 1e-8)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("seed", range(5))
def test_momentum_activates_the_candidates_with_the_largest_momentum(optimiser, seed):
    layer = random_layer(seed)
    optimizer, gradients = trained(optimiser, layer, seed=seed)
    scores = {}
    for place, active in enumerate(layer.mask.flatten().tolist()):
        if not active:
            scores[place] = momentum_score(optimiser, [gradient.flatten()[place].item() for gradient in gradients])
    expected = sorted(scores, key=scores.get, reverse=True)[:9]
    chosen = GROWTH_RULES["momentum"](layer, ~layer.mask, 9, optimizer, rng())
    assert sorted(chosen.tolist()) == sorted(expected)


@pytest.mark.parametrize(
    "optimizer",
    [lambda p: torch.optim.SGD(p, lr=0.1), lambda p: torch.optim.RMSprop(p), lambda p: torch.optim.Adam(p)],
    ids=["SGD without momentum", "RMSprop", "Adam before its first step"],
)
def test_momentum_without_momentum_is_refused_by_name(optimizer):
    layer = random_layer()
    optimizer = optimizer([layer.weight])
    if not isinstance(optimizer, torch.optim.Adam):
        layer.weight.grad = torch.ones_like(layer.weight)
        optimizer.step()
    with pytest.raises(BadInput, match=f"{type(optimizer).__name__} keeps no momentum for layer 'fc'"):
        GROWTH_RULES["momentum"](layer, ~layer.mask, 1, optimizer, rng())


def test_random_is_uniform_over_the_candidates():
    layer = random_layer(shape=(3, 4), density=0.4)
    candidates = torch.nonzero(~layer.mask.flatten()).flatten().tolist()
    draws = Counter()
    for seed in range(3000):
        chosen = GROWTH_RULES["random"](layer, ~layer.mask, 2, None, rng(seed)).tolist()
        assert len(set(chosen)) == 2
        draws.update(chosen)
    share = 2 / len(candidates)
    assert sorted(draws) == candidates
    for times in draws.values():
        assert abs(times / 3000 - share) < 5 * math.sqrt(share * (1 - share) / 3000)


@given(seed=st.integers(0, 10**6), share=st.floats(0, 1))
def test_random_unfired_prefers_what_was_never_active(seed, share):
    layer = random_layer(seed)
    candidates = ~layer.mask
    count = round(share * int(candidates.sum()))
    chosen = GROWTH_RULES["random_unfired"](layer, candidates, count, None, rng(seed)).tolist()
    fresh = {
        place
        for place, (free, ever) in enumerate(
            zip(candidates.flatten().tolist(), layer.ever_active.flatten().tolist(), strict=True)
        )
        if free and not ever
    }
    assert len(set(chosen)) == len(chosen) == count
    assert len(fresh & set(chosen)) == min(count, len(fresh))
    assert all(candidates.flatten()[place] for place in chosen)


def test_random_unfired_takes_others_once_everything_was_active():
    layer = random_layer(explored=1.1)
    assert layer.ever_active.all()
    assert len(set(GROWTH_RULES["random_unfired"](layer, ~layer.mask, 5, None, rng()).tolist())) == 5


mixes = st.dictionaries(
    st.sampled_from(["momentum", "random", "random_unfired"]), st.floats(0.01, 10), min_size=1, max_size=3
)


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), shares=mixes, share=st.floats(0, 1), optimiser=st.sampled_from(sorted(OPTIMISERS)))
def test_rules_share_one_quota_of_different_candidates(seed, shares, share, optimiser):
    layer = random_layer(seed)
    optimizer, _ = trained(optimiser, layer)
    candidates = ~layer.mask
    before = candidates.clone()
    count = round(share * int(candidates.sum()))
    born = grow(shares, layer, candidates, count, optimizer, rng(seed)).tolist()
    assert len(set(born)) == len(born) == count
    assert all(before.flatten()[place] for place in born)
    assert torch.equal(candidates, before)


@pytest.mark.parametrize("count", [0, 1, 7, 10, 11])
def test_each_rule_gets_its_share_to_within_one(count):
    layer = random_layer(shape=(10, 10), density=0.5)
    optimizer, _ = trained("Adam", layer)
    scores = [
        value if free else -1
        for value, free in zip(
            (
                optimizer.state[layer.weight]["exp_avg"].abs()
                / (optimizer.state[layer.weight]["exp_avg_sq"].sqrt() + 1e-8)
            )
            .flatten()
            .tolist(),
            (~layer.mask).flatten().tolist(),
            strict=True,
        )
    ]
    ranking = sorted(range(100), key=lambda place: scores[place], reverse=True)
    born = grow({"momentum": 3, "random": 1}, layer, ~layer.mask, count, optimizer, rng()).tolist()
    by_momentum = born[: len(born) - round(count / 4)]
    assert abs(len(by_momentum) - 0.75 * count) <= 1
    assert set(by_momentum) <= set(ranking[: len(by_momentum)])


def test_same_stream_grows_the_same():
    layer = random_layer()
    grown = [grow({"random": 1.0}, layer, ~layer.mask, 8, None, rng(seed)).tolist() for seed in (1, 1, 2)]
    assert grown[0] == grown[1] != grown[2]


@given(seed=st.integers(0, 10**6), share=st.floats(0, 1))
def test_gradient_activates_the_candidates_with_the_largest_gradient(seed, share):
    layer = random_layer(seed, shape=(4, 3, 2))
    layer.weight.grad = torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(seed + 1))
    free = [place for place, active in enumerate(layer.mask.flatten().tolist()) if not active]
    sizes = {place: abs(layer.weight.grad.flatten()[place].item()) for place in free}
    count = int(share * len(free))
    chosen = GROWTH_RULES["gradient"](layer, ~layer.mask, count, None, rng()).tolist()
    assert sorted(chosen) == sorted(sorted(free, key=sizes.get, reverse=True)[:count])


def test_gradient_without_gradient_is_refused_by_name():
    layer = random_layer()
    with pytest.raises(BadInput, match="layer 'fc' has no gradient; clear gradients after"):
        GROWTH_RULES["gradient"](layer, ~layer.mask, 1, None, rng())
