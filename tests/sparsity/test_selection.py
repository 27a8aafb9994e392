"""Which layers a word names."""

from __future__ import annotations

import pytest
from torch import nn

from esl_neuro.errors import BadInput
from esl_neuro.sparsity.selection import named_weights


def model():
    return nn.ModuleDict(
        {
            "body": nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Conv1d(3, 4, 2)),
            "up": nn.ConvTranspose2d(3, 2, 3),
            "head": nn.Linear(4, 2),
        }
    )


def test_all_means_every_linear_layer_and_convolution():
    network = model()
    weights = named_weights(network, "all")
    assert list(weights) == ["body.0", "body.2", "head"]
    assert weights["body.0"] is network["body"][0].weight


def test_one_name_may_stand_alone():
    assert list(named_weights(model(), "head")) == ["head"]


@pytest.mark.parametrize("name", ["1", "up"])
def test_norms_and_transposed_convolutions_are_refused(name):
    with pytest.raises(BadInput, match=f"'{name}' is not a linear layer or convolution of the model"):
        named_weights(model(), [name])


@pytest.mark.parametrize(("network", "layers"), [(nn.ReLU(), "all"), (nn.Linear(2, 2), [])])
def test_nothing_to_mask_is_refused(network, layers):
    with pytest.raises(BadInput, match="no layer to mask"):
        named_weights(network, layers)


def test_one_weight_under_two_names_is_refused():
    network = model()
    with pytest.raises(BadInput, match=r"'0' and 'body.0' share one weight"):
        named_weights(network, ["body.0", "0"])
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    with pytest.raises(BadInput, match="share one weight"):
        named_weights(tied, "all")


def test_an_ambiguous_last_part_is_refused_with_all_that_it_matches():
    network = nn.ModuleDict({"left": nn.Sequential(nn.Linear(4, 4)), "right": nn.Sequential(nn.Linear(4, 4))})
    with pytest.raises(BadInput) as caught:
        named_weights(network, ["0"])
    assert str(caught.value) == ("sparsity.layers: '0' is ambiguous, it matches left.0 and right.0; give the full name")


def test_a_misspelt_layer_gets_the_nearest_last_part():
    network = nn.ModuleDict({"body": nn.ModuleDict({"hidden": nn.Linear(4, 4), "output": nn.Linear(4, 4)})})
    with pytest.raises(BadInput, match=r"'hiden' is not .*; did you mean 'hidden'\?"):
        named_weights(network, "hiden")


def test_a_weight_that_is_computed_cannot_be_masked():
    network = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), nn.Linear(3, 2))
    assert list(named_weights(network, "all")) == ["1"]
