"""How a budget is spread over the layers."""

from __future__ import annotations

import copy
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from esl_neuro.errors import BadInput
from esl_neuro.sparsity.initialisers import DISTRIBUTIONS, layer_densities, sparse_layers

VGGSNN = [
    (64, 2, 3, 3),
    (128, 64, 3, 3),
    (256, 128, 3, 3),
    (256, 256, 3, 3),
    (512, 256, 3, 3),
    (512, 512, 3, 3),
    (512, 512, 3, 3),
    (512, 512, 3, 3),
    (10, 512 * 9),
]


@pytest.mark.parametrize(
    ("density", "expected", "digits"),
    [
        (0.1, [1, 0.475, 0.234, 0.155, 0.116, 0.0772, 0.0772, 0.0772, 1], 3),
        (0.05, [1, 0.225, 0.111, 0.0735, 0.0549, 0.0365, 0.0365, 0.0365, 1], 3),
        (0.01, [0.599, 0.0258, 0.0127, 0.0084, 0.0063, 0.0042, 0.0042, 0.0042, 0.961], 2),
    ],
)
def test_erk_of_the_vggsnn(density, expected, digits):
    densities = DISTRIBUTIONS["erk"](VGGSNN, density)
    assert densities == pytest.approx(expected, rel=10 ** (1 - digits) / 2)
    total = sum(share * math.prod(shape) for share, shape in zip(densities, VGGSNN, strict=True))
    assert sum(math.prod(shape) for shape in VGGSNN) == 9_263_232
    assert total == pytest.approx(926_323.2 * density / 0.1, rel=1e-12)


shapes = st.lists(
    st.lists(st.integers(1, 40), min_size=2, max_size=4).map(tuple),
    min_size=1,
    max_size=6,
)


@given(shapes=shapes, density=st.floats(0.001, 1))
def test_erk_equals_a_search_for_epsilon(shapes, density):
    budget = density * sum(math.prod(shape) for shape in shapes)
    low, high = 0.0, 1e9
    for _ in range(80):
        epsilon = (low + high) / 2
        found = [min(1.0, epsilon * sum(shape) / math.prod(shape)) for shape in shapes]
        if sum(share * math.prod(shape) for share, shape in zip(found, shapes, strict=True)) < budget:
            low = epsilon
        else:
            high = epsilon
    assert DISTRIBUTIONS["erk"](shapes, density) == pytest.approx(found, rel=1e-6)


@pytest.mark.parametrize("name", ["erdos_renyi", "uniform"])
def test_same_density_everywhere(name):
    assert DISTRIBUTIONS[name](VGGSNN, 0.3) == [0.3] * 9


def test_epsilon_gives_each_layer_equation_1():
    densities = layer_densities([(800, 784), (10, 800)], density=None, epsilon=60, distribution="erdos_renyi")
    assert densities == pytest.approx([60 * 1584 / 627_200, 1.0])


def test_layers_of_a_model_have_exactly_the_connections_of_their_density():
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Linear(30, 20))
    layers = sparse_layers(model, "all", density=0.2, epsilon=None, distribution="erk", seed=0)
    densities = DISTRIBUTIONS["erk"]([(8, 4, 3, 3), (20, 30)], 0.2)
    assert [layer.connections for layer in layers] == [round(densities[0] * 288), round(densities[1] * 600)]
    assert sum(layer.connections for layer in layers) == pytest.approx(0.2 * 888, abs=1)
    for layer in layers:
        assert int((layer.weight != 0).sum()) == layer.connections


SMALL = nn.Sequential(nn.Linear(30, 20), nn.Linear(20, 10))


def test_each_layer_may_have_a_density_of_its_own():
    layers = sparse_layers(
        copy.deepcopy(SMALL),
        ["1", "0"],
        density=None,
        epsilon=None,
        distribution="erdos_renyi",
        densities={"0": 0.01, "1": 0.3},
        seed=0,
    )
    assert {layer.name: layer.connections for layer in layers} == {"0": 6, "1": 60}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"densities": {"0": 0.1}}, "no density for '1'; give one for every masked layer"),
        ({"densities": {"0": 0.1, "1": 0.1, "fc1": 0.1}}, "'fc1' is not a masked layer"),
        ({"densities": {"0": 0.1, "1": 1.5}}, r"1\.5 for '1' is out of range; allowed: above 0 up to 1"),
        ({"density": 0.1}, "mutually exclusive with density, epsilon and distribution"),
        ({"epsilon": 2.0}, "mutually exclusive with density, epsilon and distribution"),
        ({"distribution": "erk"}, "mutually exclusive with density, epsilon and distribution"),
    ],
)
def test_densities_that_do_not_fit_the_layers_are_refused(change, message):
    given = {"density": None, "epsilon": None, "distribution": "erdos_renyi", "densities": {"0": 0.1, "1": 0.1}}
    with pytest.raises(BadInput, match=message):
        sparse_layers(copy.deepcopy(SMALL), "all", **given | change, seed=0)


@pytest.mark.parametrize(
    ("density", "epsilon", "distribution", "message"),
    [
        (None, None, "uniform", "neither density nor epsilon"),
        (0.1, 20, "erdos_renyi", "are mutually exclusive"),
        (None, 20, "erk", "not used by 'erk'"),
        (None, 0, "erdos_renyi", "epsilon: 0 leaves no connection"),
        (1.01, None, "erk", r"density: 1\.01 is out of range"),
        (float("nan"), None, "erk", "nan is out of range"),
        (0.1, None, "ekr", r"distribution 'ekr' is unknown; did you mean 'erk'\?"),
    ],
)
def test_impossible_budget_is_refused(density, epsilon, distribution, message):
    with pytest.raises(BadInput, match=message):
        layer_densities([(4, 4)], density=density, epsilon=epsilon, distribution=distribution)


def test_all_findings_about_densities_are_in_one_message():
    with pytest.raises(BadInput) as caught:
        sparse_layers(
            copy.deepcopy(SMALL),
            "all",
            density=None,
            epsilon=None,
            distribution="erdos_renyi",
            densities={"0": 0.0, "2": 0.1},
            seed=0,
        )
    message = str(caught.value)
    assert message.startswith("sparsity.densities: '2' is not a masked layer; ")
    assert message.endswith("; no density for '1'; give one for every masked layer; 0.0 for '0' is out of range; "
                            "allowed: above 0 up to 1")  # fmt: skip


@pytest.mark.parametrize(("density", "epsilon"), [(1, None), (1e-9, None), (None, 1e-9), (None, 1e9)])
def test_the_ends_of_a_budget_are_allowed(density, epsilon):
    (found,) = layer_densities([(4, 6)], density=density, epsilon=epsilon, distribution="erdos_renyi")
    assert found == pytest.approx(density or min(1, epsilon * 10 / 24))


@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
def test_no_budget_leaves_no_connection(value):
    with pytest.raises(BadInput, match=r"epsilon: .* leaves no connection; allowed: above 0"):
        layer_densities([(4, 6)], density=None, epsilon=value, distribution="erdos_renyi")
    with pytest.raises(BadInput, match=r"density: .* is out of range; allowed: above 0 up to 1"):
        layer_densities([(4, 6)], density=value, epsilon=None, distribution="erdos_renyi")


def test_layers_with_densities_of_their_own_may_be_full():
    (layer,) = sparse_layers(
        nn.Sequential(nn.Linear(4, 3)), "all", density=None, epsilon=None, distribution="erdos_renyi",
        densities={"0": 1}, seed=0,
    )  # fmt: skip
    assert layer.connections == 12
