"""Every field of a recipe is described, and a wrong name gets the right one."""

from __future__ import annotations

import pytest

from esl_neuro.errors import BadInput
from esl_neuro.recipes import load_recipe
from esl_neuro.recipes.fields import nearest_field, recipe_fields
from esl_neuro.recipes.recipe import field_names
from esl_neuro.recipes.sections import KINDS
from esl_neuro.resources import resource_names


def flat(document, prefix=""):
    for key, value in document.items():
        if isinstance(value, dict) and prefix + key in (
            "data",
            "network",
            "sparsity",
            "training",
            "budget",
            "expected",
            "published",
        ):
            yield from flat(value, f"{key}.")
        else:
            yield prefix + key


def test_every_field_of_every_recipe_is_listed():
    known = {field.name for field in recipe_fields()}
    for name in resource_names("models"):
        assert set(flat(load_recipe(name).to_document())) <= known
    assert known == set(field_names())


def test_every_field_has_a_meaning_and_a_type():
    for field in recipe_fields():
        assert field.description, field.name
        assert field.type, field.name


def test_a_field_names_the_kinds_that_have_it():
    for section, (teller, kinds) in KINDS.items():
        for field in recipe_fields(section):
            for kind in kinds:
                has = field.name.partition(".")[2] in kinds[kind].model_fields
                assert has or kind not in (field.kinds or kinds) or field.name.endswith(teller)
    densities = recipe_fields("sparsity.density")
    assert {kind for field in densities for kind in field.kinds} == {
        kind for kind, model in KINDS["sparsity"][1].items() if "density" in model.model_fields
    }
    assert {field.default for field in densities} == {"", "0.1", "0.05"}


def test_types_are_in_words():
    by_name = {field.name: field for field in recipe_fields()}
    assert by_name["training.epochs"].type == "whole number from 1"
    assert by_name["network.tau"].type == "number from 0 to 1"
    assert by_name["data.shape"].type == "list of 3 (whole number from 1)"
    assert by_name["network.mode"].type == '"stl" | "sl" | "tl"'
    assert (by_name["data.cut"].default, by_name["data.name"].default) == ('"count"', "required")


@pytest.mark.parametrize(
    ("given", "meant"),
    [("epochs", "'training.epochs'"), ("epoch", "'training.epochs'"), ("trainig.epochs", "'training.epochs'"),
     ("densty", "'sparsity.density'"), ("threshold", "'network.threshold' or 'sparsity.threshold'")],
)  # fmt: skip
def test_a_wrong_name_gets_the_right_one(given, meant):
    assert f"did you mean {meant}" in nearest_field(given)
    with pytest.raises(BadInput, match="is unknown; did you mean"):
        recipe_fields(given)


@pytest.mark.parametrize("given", ["epochs=1", "data.epochs=1"])
def test_a_field_without_its_section_is_suggested_with_it(given):
    with pytest.raises(BadInput, match=r"unknown field; did you mean 'training\.epochs'"):
        load_recipe("mlp-digits", (given,))
