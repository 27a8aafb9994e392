"""Layers of equal fan-in, with windows and long-range connections."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from esl_neuro.errors import BadInput
from esl_neuro.recipes.sections import StaticSection
from esl_neuro.snn.network import build_layers
from esl_neuro.snn.neurons import lif_per_channel
from esl_neuro.sparsity import MaskedAdam, SparseLinear, make_learner
from esl_neuro.sparsity.topology import Topology, distinct_in_rows


@st.composite
def layers(draw):
    """Sizes and a valid fan-in."""
    inputs, outputs = draw(st.integers(1, 40)), draw(st.integers(1, 20))
    long_range = draw(st.integers(0, 5))
    near = draw(st.integers(0 if long_range else 1, 10))
    window = draw(st.one_of(st.none() if not long_range else st.nothing(), st.integers(max(1, near), 50)))
    return inputs, outputs, Topology(near + long_range, window, long_range), draw(st.integers(0, 2**32))


def lines_of(positions, inputs, outputs):
    """The input lines of each neuron, one list each."""
    return [[int(p) % inputs for p in positions if p // inputs == neuron] for neuron in range(outputs)]


@given(layers())
def test_every_neuron_has_its_lines_inside_and_outside_its_window(layer):
    inputs, outputs, fan_in, seed = layer
    positions = fan_in.draw(inputs, outputs, np.random.default_rng(seed))
    assert positions.dtype == np.int64
    assert (np.diff(positions) > 0).all()
    assert positions.size == 0 or (positions[0] >= 0 and positions[-1] < inputs * outputs)
    width = inputs if fan_in.window is None else min(fan_in.window, inputs)
    distant = min(fan_in.long_range, inputs - width)
    for neuron, lines in enumerate(lines_of(positions, inputs, outputs)):
        centre = (neuron + 0.5) * inputs / outputs
        first = min(max(round(centre - width / 2), 0), inputs - width)
        inside = [line for line in lines if first <= line < first + width]
        assert len(lines) - len(inside) == distant
        assert len(inside) == min(fan_in.connections - distant, width)


def test_every_set_of_lines_is_as_probable():
    found, counts = distinct_in_rows(5, 20_000, 2, np.random.default_rng(0)), {}
    for pair in map(frozenset, found.tolist()):
        counts[pair] = counts.get(pair, 0) + 1
    assert len(counts) == comb(5, 2)
    assert max(abs(count / 2000 - 1) for count in counts.values()) < 0.1


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ((4, None, 1), "long_range is 1, but there is no window"),
        ((4, 8, 5), "long_range is 5, more than per_neuron (4)"),
        ((4, 2, 1), "window is 2, which has fewer lines than per_neuron - long_range (3)"),
    ],
)
def test_what_contradicts_itself_is_refused(given_, said):
    with pytest.raises(BadInput, match=r"^sparsity: ") as caught:
        Topology(*given_)
    assert said in str(caught.value)


def learner_of(sparse=True, **options):
    """The learner of a recipe for two layers, of 30 and 20 inputs."""
    linear = (lambda _, inputs, outputs, bias: SparseLinear(inputs, outputs, bias)) if sparse else None
    network = build_layers("30-20-10", (30,), lif_per_channel(), linear=linear)
    section = StaticSection(learner="static", layers=["all"], storage="sparse", **options)
    return make_learner(section, network, MaskedAdam(network.parameters()), iterations=10, seed=3)


def test_a_recipe_states_windows_and_long_range_connections():
    learner = learner_of(per_neuron=6, window=8, long_range=2)
    for layer, inputs in zip(learner.layers, (30, 20), strict=True):
        assert (layer.fan_in() == 6).all()
        neuron, line = np.divmod(layer.module.index.positions(), inputs)
        near = np.abs(line - (neuron + 0.5) * inputs / layer.shape()[0]) <= 8
        assert near.sum() >= 4 * layer.shape()[0]
        assert layer.weight.abs().max() <= 1 / 6**0.5
    assert torch.equal(learner.layers[0].weight, learner_of(per_neuron=6, window=8, long_range=2).layers[0].weight)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"per_neuron": 6, "density": 0.1}, "sparsity.per_neuron: mutually exclusive with density"),
        ({"per_neuron": 6, "epsilon": 2.0}, "sparsity.per_neuron: mutually exclusive with epsilon"),
        ({"per_neuron": 6, "distribution": "erk"}, "sparsity.per_neuron: mutually exclusive with distribution"),
        ({"density": 0.1, "window": 8}, "sparsity: window and long_range need per_neuron"),
        ({"density": 0.1, "long_range": 2}, "sparsity: window and long_range need per_neuron"),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(options, said):
    with pytest.raises(BadInput, match=said):
        learner_of(**options)


def test_masked_layers_have_no_fan_in():
    with pytest.raises(BadInput, match=r"sparsity.per_neuron: needs sparsity.storage = 'sparse'"):
        learner_of(sparse=False, per_neuron=6)
