"""How many connections there are, and where they start."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from esl_neuro.errors import BadInput
from esl_neuro.sparsity.masks import SparseLayer, erdos_renyi_mask, erdos_renyi_probability, sparse_layer

# Sweep of ESL-SNNs: expected connections of the 784 -> 800 layer.
EXPECTED_CONNECTIONS = {10: 15_840, 20: 31_680, 30: 47_520, 60: 95_040, 80: 126_720, 90: 142_560}


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("epsilon", "connections"), EXPECTED_CONNECTIONS.items())
def test_equation_1_gives_the_connections_of_the_paper(epsilon, connections):
    assert erdos_renyi_probability(784, 800, epsilon) * 784 * 800 == pytest.approx(connections, rel=1e-12)


def test_epsilon_60_draws_exactly_95_040_connections():
    mask = erdos_renyi_mask((800, 784), erdos_renyi_probability(784, 800, 60), rng())
    assert int(mask.sum()) == 95_040


def test_probability_is_at_most_1():
    assert erdos_renyi_probability(2, 3, 60) == 1.0


shapes = st.tuples(st.integers(1, 30), st.integers(1, 30))


@given(shape=shapes, share=st.floats(0, 1), seed=st.integers(0, 99))
def test_count_is_exact(shape, share, seed):
    size = shape[0] * shape[1]
    count = max(1, round(share * size))
    mask = erdos_renyi_mask(shape, count / size, rng(seed))
    assert mask.shape == shape
    assert mask.dtype == torch.bool
    assert int(mask.sum()) == count


def test_every_place_is_equally_likely():
    draws = 4000
    frequency = sum(erdos_renyi_mask((4, 5), 0.3, rng(seed)).double() for seed in range(draws)) / draws
    deviation = (0.3 * 0.7 / draws) ** 0.5
    assert (frequency - 0.3).abs().max() < 5 * deviation


def test_pairs_of_places_are_equally_likely():
    draws, pairs = 3000, torch.zeros(6, 6)
    for seed in range(draws):
        places = erdos_renyi_mask((2, 3), 0.5, rng(seed)).flatten().double()
        pairs += torch.outer(places, places)
    together = pairs[~torch.eye(6, dtype=torch.bool)] / draws
    assert (together - 3 / 6 * 2 / 5).abs().max() < 5 * (0.2 * 0.8 / draws) ** 0.5


def test_seed_decides():
    assert torch.equal(erdos_renyi_mask((9, 9), 0.4, rng(1)), erdos_renyi_mask((9, 9), 0.4, rng(1)))
    assert not torch.equal(erdos_renyi_mask((9, 9), 0.4, rng(1)), erdos_renyi_mask((9, 9), 0.4, rng(2)))


@pytest.mark.parametrize("density", [0, -0.5, 1.5, 0.004, float("nan")])
def test_density_without_connections_is_refused_with_the_range(density):
    with pytest.raises(BadInput) as caught:
        erdos_renyi_mask((10, 10), density, rng())
    assert str(caught.value) == (
        f"sparsity.density: {density} leaves no connection of 100; allowed: above 0.005 up to 1"
    )


def test_density_1_keeps_every_connection():
    assert erdos_renyi_mask((3, 4), 1, rng()).all()


@given(shape=shapes, share=st.floats(0.05, 1), seed=st.integers(0, 99))
def test_layer_keeps_scaled_weights_where_there_is_a_connection_and_zero_elsewhere(shape, share, seed):
    size = shape[0] * shape[1]
    density = max(1, round(share * size)) / size
    before = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    layer = sparse_layer("fc", nn.Parameter(before.clone()), density, rng(seed))
    for row in range(shape[0]):
        for column in range(shape[1]):
            expected = before[row, column].item() / density**0.5 if layer.mask[row, column] else 0.0
            assert layer.weight[row, column].item() == pytest.approx(expected, rel=1e-12)


def test_scaling_keeps_the_variance_of_the_sums():
    weight = torch.randn(400, 300, generator=torch.Generator().manual_seed(0))
    before = weight.square().sum(1).mean()
    layer = sparse_layer("fc", nn.Parameter(weight), 0.1, rng())
    assert layer.weight.square().sum(1).mean().item() == pytest.approx(before.item(), rel=0.05)


def test_what_is_active_was_ever_active_but_is_kept_apart():
    layer = sparse_layer("fc", nn.Parameter(torch.ones(4, 5)), 0.5, rng())
    assert torch.equal(layer.mask, layer.ever_active)
    layer.mask.zero_()
    assert layer.explored == 0.5
    assert layer.density == 0


def test_figures_of_a_layer_by_hand():
    mask = torch.tensor([[True, False], [False, False]])
    ever = torch.tensor([[True, True], [False, True]])
    layer = SparseLayer("fc", nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, -4.0]])), mask, ever)
    assert (layer.connections, layer.density, layer.explored) == (1, 0.25, 0.75)
    layer.apply_mask()
    assert layer.weight.tolist() == [[1, 0], [0, 0]]
    assert layer.weight.requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_what_is_masked_is_zero_whatever_it_was(dtype):
    mask = torch.tensor([[False, False, False, True, True]])
    weight = nn.Parameter(torch.tensor([[torch.inf, torch.nan, -1.0, -0.5, -0.0]], dtype=dtype))
    layer = SparseLayer("fc", weight, mask, mask.clone())
    layer.apply_mask()
    assert weight.tolist() == [[0, 0, 0, -0.5, 0]]
    assert torch.signbit(weight).tolist() == [[False, False, False, True, True]]


def test_a_changed_or_another_mask_counts_at_once():
    layer = SparseLayer("fc", nn.Parameter(torch.ones(1, 3)), torch.ones(1, 3).bool(), torch.ones(1, 3).bool())
    layer.apply_mask()
    layer.mask.view(-1)[0] = False
    layer.apply_mask()
    assert layer.weight.tolist() == [[0, 1, 1]]
    layer.mask = torch.tensor([[True, True, False]])
    layer.apply_mask()
    assert layer.weight.tolist() == [[0, 1, 0]]
