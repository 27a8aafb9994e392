"""Prune rules against loops."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from esl_neuro.sparsity.masks import SparseLayer
from esl_neuro.sparsity.prune import PRUNE_RULES


def random_layer(seed, shape, density):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(shape, generator=generator) < density
    weight = torch.randn(shape, generator=generator) * mask
    return SparseLayer("fc", nn.Parameter(weight), mask, mask.clone())


@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    density=st.floats(0.1, 1),
    share=st.floats(0, 1),
)
def test_magnitude_removes_the_smallest_connections(seed, shape, density, share):
    layer = random_layer(seed, shape, density)
    count = int(share * layer.connections)
    sizes = {}
    for row in range(shape[0]):
        for column in range(shape[1]):
            if layer.mask[row, column]:
                sizes[row * shape[1] + column] = abs(layer.weight[row, column].item())
    expected = sorted(sizes, key=sizes.get)[:count]
    assert sorted(PRUNE_RULES["magnitude"](layer, count).tolist()) == sorted(expected)


def test_magnitude_looks_at_the_size_not_the_sign():
    weight = nn.Parameter(torch.tensor([[-5.0, 1.0, -0.5, 3.0]]))
    layer = SparseLayer("fc", weight, torch.ones(1, 4, dtype=torch.bool), torch.ones(1, 4, dtype=torch.bool))
    assert sorted(PRUNE_RULES["magnitude"](layer, 2).tolist()) == [1, 2]


def test_newborn_zero_weights_go_first_and_absent_ones_never():
    mask = torch.tensor([[True, True, False, False]])
    layer = SparseLayer("fc", nn.Parameter(torch.tensor([[0.0, 1.0, 0.0, 0.0]])), mask, mask.clone())
    assert PRUNE_RULES["magnitude"](layer, 1).tolist() == [0]
    assert sorted(PRUNE_RULES["magnitude"](layer, 2).tolist()) == [0, 1]


def test_equal_weights_still_give_different_connections():
    layer = SparseLayer("fc", nn.Parameter(torch.ones(3, 4)), torch.ones(3, 4).bool(), torch.ones(3, 4).bool())
    chosen = PRUNE_RULES["magnitude"](layer, 7).tolist()
    assert len(set(chosen)) == 7


def values_of(layer):
    """Weight of every connection, by flat index."""
    pairs = zip(layer.mask.flatten().tolist(), layer.weight.detach().flatten().tolist(), strict=True)
    return {place: value for place, (active, value) in enumerate(pairs) if active}


@given(
    seed=st.integers(0, 10**6),
    shape=st.lists(st.integers(1, 6), min_size=2, max_size=4).map(tuple),
    density=st.floats(0.1, 1),
    newborn=st.floats(0, 0.5),
    share=st.floats(0, 1),
)
def test_per_sign_removes_the_smallest_of_either_sign_in_proportion(seed, shape, density, newborn, share):
    layer = random_layer(seed, shape, density)
    with torch.no_grad():
        layer.weight[torch.rand(shape, generator=torch.Generator().manual_seed(seed + 1)) < newborn] = 0
    values = values_of(layer)
    zeros = [place for place, value in values.items() if value == 0]
    positive = sorted((place for place, value in values.items() if value > 0), key=values.get)
    negative = sorted((place for place, value in values.items() if value < 0), key=values.get, reverse=True)
    count = int(share * len(values))
    removed = set(PRUNE_RULES["per_sign"](layer, count).tolist())
    assert len(removed) == count
    taken = [len(removed & set(places)) for places in (zeros, positive, negative)]
    assert taken[0] == min(count, len(zeros))
    assert removed == set(positive[: taken[1]]) | set(negative[: taken[2]]) | (removed & set(zeros))
    if positive or negative:
        rest = count - taken[0]
        assert abs(taken[1] - rest * len(positive) / (len(positive) + len(negative))) <= 0.5


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.5, 0.9])
def test_per_sign_removes_as_much_as_asked_and_no_large_negatives(rate):
    """One program in use keeps the k most negative weights instead of removing the k closest to zero."""
    layer = random_layer(0, (100, 100), 1.0)
    values = values_of(layer)
    removed = PRUNE_RULES["per_sign"](layer, int(rate * 10_000)).tolist()
    assert len(removed) == int(rate * 10_000)
    negatives = [place for place, value in values.items() if value < 0]
    gone = [place for place in removed if values[place] < 0]
    assert len(gone) / len(negatives) == pytest.approx(rate, abs=1e-3)
    assert min(values[place] for place in gone) > min(values.values())
    assert max(-values[place] for place in gone) <= min(-values[place] for place in set(negatives) - set(gone))


@given(seed=st.integers(0, 10**6), density=st.floats(0.1, 1), share=st.floats(0, 1), limit=st.floats(0, 3))
def test_threshold_removes_what_is_smaller_but_not_more_than_the_count(seed, density, share, limit):
    layer = random_layer(seed, (5, 6), density)
    values = values_of(layer)
    count = int(share * len(values))
    limit = float(torch.tensor(limit))  # weights are single precision, and so is the comparison
    small = sorted((place for place, value in values.items() if abs(value) < limit), key=lambda p: abs(values[p]))
    assert sorted(PRUNE_RULES["threshold"](layer, count, limit).tolist()) == sorted(small[:count])
