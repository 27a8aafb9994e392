"""Prune rules against loops."""

from __future__ import annotations

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
