"""Which recipes store connections only."""

from __future__ import annotations

import pytest

from esl_neuro.errors import BadInput
from esl_neuro.recipes import load_recipe
from esl_neuro.training.sparse_storage import has_sparse_storage

RANDOM = "sparsity.growth={random=1.0}"


def of(storage, *changes, recipe="mlp-digits"):
    return has_sparse_storage(load_recipe(recipe, (f"sparsity.storage={storage}", *changes)))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ((RANDOM,), True),
        ((RANDOM, "sparsity.density=0.5"), False),  # dense products are faster
        ((), False),  # grows by momentum
        ((RANDOM, "training.precision=bfloat16"), False),
    ],
)
def test_auto_is_sparse_where_that_is_possible_and_saves_time(changes, expected):
    assert of("auto", *changes) is expected
    assert not of("masked", *changes)


def test_convolutions_are_stored_sparsely_too():
    assert of("sparse", RANDOM, recipe="conv-digits")
    assert of("auto", RANDOM, "sparsity.density=0.1", recipe="conv-digits")
    assert not of("auto", RANDOM, "sparsity.density=0.5", recipe="conv-digits")


@pytest.mark.parametrize(
    ("notation", "message"),
    [
        ("8C3T2-BN-10", "has convolutions over time, which are dense"),
        ("8C3-BN-4D3x2-10", "has dense blocks, which are dense"),
    ],
)
def test_convolutions_that_stay_dense_are_refused(notation, message):
    changes = RANDOM, f"network.notation={notation}", "sparsity.density=0.1"
    with pytest.raises(BadInput, match=message):
        of("sparse", *changes, recipe="conv-digits")
    assert not of("auto", *changes, recipe="conv-digits")


def test_budgets_of_convolutions_need_masks():
    with pytest.raises(BadInput, match=r"\[budget\] counts the synapses of convolutions"):
        of("sparse", RANDOM, "budget={fan_in=64}", recipe="conv-digits")


def test_all_that_needs_every_possible_connection_is_refused_at_once():
    with pytest.raises(BadInput) as caught:
        of("sparse", "training.quantize=loihi2", "sparsity.redistribution=momentum")
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "quantize is 'loihi2'",
        "redistribution 'momentum'",
        "growth rule 'momentum'",
        "use 'masked'",
    ):
        assert part in message


def test_architectures_by_name_are_refused():
    with pytest.raises(BadInput, match="is no list of layers"):
        of("sparse", RANDOM, recipe="vggsnn-fashion")
