"""Functions are found by their own name."""

from __future__ import annotations

import pytest

from esl_neuro.data.datasets import DATASETS
from esl_neuro.data.encodings import ENCODINGS
from esl_neuro.errors import BadInput
from esl_neuro.registry import Registry
from esl_neuro.snn.functional import SURROGATES
from esl_neuro.sparsity.growth import GROWTH_RULES
from esl_neuro.sparsity.prune import PRUNE_RULES


@pytest.fixture
def rules():
    registry = Registry("kitchen rule")

    @registry.register
    def wash():
        return "washed"

    @registry.register
    def peel():
        return "peeled"

    return registry


def test_entry_is_found_by_its_name(rules):
    assert rules["wash"]() == "washed"
    assert rules["peel"]() == "peeled"


def test_decorated_function_stays_as_it_was():
    def cook():
        return 1

    assert Registry("kitchen rule").register(cook) is cook


def test_names_are_sorted(rules):
    assert rules.names() == ["peel", "wash"]


def test_unknown_name_is_refused_with_the_nearest_spelling(rules):
    with pytest.raises(BadInput) as caught:
        rules["wsh"]
    assert str(caught.value) == "kitchen rule 'wsh' is unknown; did you mean 'wash'? allowed: peel, wash"


def test_registries_do_not_share_entries(rules):
    assert Registry("other").names() == []
    assert rules.names()


@pytest.mark.parametrize(
    ("registry", "name"),
    [
        (DATASETS, "digits"),
        (ENCODINGS, "even_rate"),
        (ENCODINGS, "bernoulli_rate"),
        (ENCODINGS, "latency"),
        (SURROGATES, "triangle"),
        (SURROGATES, "arctan"),
        (GROWTH_RULES, "momentum"),
        (GROWTH_RULES, "random"),
        (GROWTH_RULES, "random_unfired"),
        (PRUNE_RULES, "magnitude"),
    ],
)
def test_documented_rule_is_registered(registry, name):
    assert name in registry.names()
    assert callable(registry[name])
