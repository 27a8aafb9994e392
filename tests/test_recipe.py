"""Recipes: read, checked, overridden, written and read again."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from esl_neuro.errors import BadInput
from esl_neuro.recipe import Recipe, load_recipe, parse_recipe, save_recipe
from esl_neuro.resources import resource_names

DOCUMENT = {
    "name": "small",
    "title": "a small network",
    "data": {"name": "digits", "encoding": "even_rate", "steps": 4},
    "network": {
        "notation": "64-16-10",
        "tau": 0.5,
        "threshold": 1.0,
        "surrogate": "arctan",
        "surrogate_width": 1.0,
        "mode": "stl",
        "bias": False,
        "readout": "spikes",
    },
    "sparsity": {
        "layers": ["fc1"],
        "density": 0.2,
        "alpha": 0.3,
        "update_every": 10,
        "end": 0.75,
        "prune": "magnitude",
        "growth": {"momentum": 0.5, "random": 0.5},
    },
    "training": {
        "epochs": 2,
        "batch": 64,
        "loss": "tet",
        "optimiser": "adam",
        "learning_rate": 0.01,
        "rate_schedule": "cosine",
        "final_rate": 0.0,
        "weight_decay": 0.0,
        "momentum": 0.9,
        "seed": 0,
        "threads": 1,
    },
    "expected": {"test_accuracy": 0.9, "source": "nobody"},
}


def changed(field, value):
    document = copy.deepcopy(DOCUMENT)
    *sections, key = field.split(".")
    section = document
    for name in sections:
        section = section[name]
    section[key] = value
    return document


def refusal(document):
    with pytest.raises(BadInput) as caught:
        parse_recipe(document, "my.toml")
    message = str(caught.value)
    assert message.startswith("my.toml: ")
    assert "\n" not in message
    return message


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "small.toml"
    save_recipe(parse_recipe(DOCUMENT, "here"), path)
    return str(path)


@pytest.mark.parametrize("name", resource_names("models"))
def test_every_shipped_recipe_loads_and_is_named_as_its_file(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.expected is None or recipe.expected.source  # no figure without one


def test_fields_arrive_unchanged():
    assert parse_recipe(DOCUMENT, "here").to_document() == DOCUMENT


def test_recipe_never_changes_after_reading():
    recipe = parse_recipe(DOCUMENT, "here")
    with pytest.raises(ValidationError):
        recipe.training.epochs = 3


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("training.epoch", "epochs"),
        ("data.step", "steps"),
        ("network.treshold", "threshold"),
        ("sparsity.densty", "density"),
        ("expected.sorce", "source"),
        ("nam", "name"),
    ],
)
def test_unknown_field_gets_the_nearest_spelling(wrong, right):
    assert f"{wrong}: unknown field; did you mean '{right}'?" in refusal(changed(wrong, 1))


@pytest.mark.parametrize("field", ["name", "data", "training.epochs", "sparsity.growth", "network.notation"])
def test_missing_field_is_named(field):
    document = copy.deepcopy(DOCUMENT)
    *sections, key = field.split(".")
    section = document
    for name in sections:
        section = section[name]
    del section[key]
    assert f"{field}: missing" in refusal(document)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("training.epochs", 2.5),
        ("training.epochs", "many"),
        ("training", 5),
        ("network.tau", "half"),
        ("network.mode", 3),
        ("network.notation", 64),
        ("sparsity.layers", "fc1"),
        ("sparsity.growth", "momentum"),
        ("sparsity.growth.momentum", "half"),
        ("data.steps", None),
    ],
)
def test_wrong_type_is_refused_with_field_and_value(field, value):
    message = refusal(changed(field, value))
    assert f"{field}: {value!r} is not allowed: it should be" in message


@pytest.mark.parametrize(
    ("field", "value"),
    [("training.epochs", True), ("training.epochs", "5"), ("network.mode", "STL"), ("network.tau", True)],
)
def test_value_of_another_type_is_never_converted(field, value):
    refusal(changed(field, value))


def test_whole_number_is_a_float():
    assert parse_recipe(changed("network.threshold", 1), "here") == parse_recipe(DOCUMENT, "here")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("training.epochs", 0),
        ("training.batch", 0),
        ("training.threads", 0),
        ("training.seed", -1),
        ("training.learning_rate", 0.0),
        ("training.learning_rate", float("nan")),
        ("data.steps", 0),
        ("network.tau", 1.01),
        ("network.tau", -0.01),
        ("network.threshold", 0.0),
        ("network.surrogate_width", -1.0),
        ("sparsity.density", 0.0),
        ("sparsity.density", 1.5),
        ("sparsity.alpha", 1.1),
        ("sparsity.update_every", 0),
        ("sparsity.end", -0.1),
        ("sparsity.growth.momentum", 0.0),
        ("expected.test_accuracy", 1.1),
    ],
)
def test_value_out_of_range_is_refused_with_field_and_value(field, value):
    assert f"{field}: {value!r} is not allowed: it should be" in refusal(changed(field, value))


@pytest.mark.parametrize("field", ["training.learning_rate", "network.threshold", "network.surrogate_width"])
def test_infinity_is_refused(field):
    refusal(changed(field, float("inf")))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("network.tau", 0),
        ("network.tau", 1),
        ("sparsity.density", 1),
        ("sparsity.alpha", 0),
        ("sparsity.end", 0),
        ("sparsity.end", 1),
        ("training.seed", 0),
    ],
)
def test_ends_of_a_range_are_allowed(field, value):
    parse_recipe(changed(field, value), "here")


@pytest.mark.parametrize(("field", "value"), [("sparsity.layers", []), ("sparsity.growth", {})])
def test_empty_list_is_refused(field, value):
    assert f"{field}: " in refusal(changed(field, value))


def test_all_findings_come_at_once():
    document = changed("training.epochs", 0)
    document["network"]["tau"] = 2.0
    document["data"]["setps"] = 4
    del document["title"]
    message = refusal(document)
    for field in ("training.epochs", "network.tau", "data.setps", "title"):
        assert f"{field}: " in message


@pytest.mark.parametrize(
    ("override", "field", "value"),
    [
        ("training.epochs=5", "training.epochs", 5),
        ("training.learning_rate=1e-3", "training.learning_rate", 1e-3),
        (" training.seed = 7 ", "training.seed", 7),
        ("network.mode=sl", "network.mode", "sl"),
        ("network.notation=64-8-10", "network.notation", "64-8-10"),
        ('network.notation="64-8-10"', "network.notation", "64-8-10"),
        ("data.encoding=latency", "data.encoding", "latency"),
        ('sparsity.layers=["fc1", "fc2"]', "sparsity.layers", ["fc1", "fc2"]),
        ("sparsity.growth={random=1.0}", "sparsity.growth", {"random": 1.0}),
        ("sparsity.growth.random=0.25", "sparsity.growth.random", 0.25),
        ("title=a = b", "title", "a = b"),
    ],
)
def test_override_changes_one_field(file, override, field, value):
    assert load_recipe(file, (override,)).to_document() == changed(field, value)


def test_later_override_wins(file):
    assert load_recipe(file, ("training.epochs=5", "training.epochs=6")).training.epochs == 6


@pytest.mark.parametrize("override", ["training.epochs", "=5", "training.=5", ".epochs=5", ""])
def test_unreadable_override_shows_how_to_write_one(file, override):
    with pytest.raises(BadInput, match=r"write section\.field=value"):
        load_recipe(file, (override,))


def test_override_into_a_value_is_refused(file):
    with pytest.raises(BadInput, match="'name' is a value, not a section"):
        load_recipe(file, ("name.part=1",))


@pytest.mark.parametrize("override", ["training.epoch=5", "trainin.epochs=5", "training.epochs=0", "training=3"])
def test_wrong_override_is_refused_like_a_wrong_file(file, override):
    with pytest.raises(BadInput) as caught:
        load_recipe(file, (override,))
    assert override.partition(".")[0].partition("=")[0] in str(caught.value)
    assert file in str(caught.value)


shares = st.floats(0, 1)
positives = st.floats(0, 1e6, exclude_min=True)
counts = st.integers(1, 10**6)
texts = st.text(max_size=12)


@st.composite
def documents(draw):
    return {
        "name": draw(st.from_regex(r"[A-Za-z0-9._-]{1,12}", fullmatch=True)),
        "title": draw(texts),
        "data": {"name": draw(texts), "encoding": draw(texts), "steps": draw(counts)},
        "network": {
            "notation": draw(texts),
            "tau": draw(shares),
            "threshold": draw(positives),
            "surrogate": draw(texts),
            "surrogate_width": draw(positives),
            "mode": draw(st.sampled_from(["stl", "sl", "tl"])),
        },
        "sparsity": {
            "layers": draw(st.lists(texts, min_size=1, max_size=3)),
            "density": draw(st.floats(0, 1, exclude_min=True)),
            "alpha": draw(shares),
            "update_every": draw(counts),
            "end": draw(shares),
            "prune": draw(texts),
            "growth": draw(st.dictionaries(texts, positives, min_size=1, max_size=3)),
        },
        "training": {
            "epochs": draw(counts),
            "batch": draw(counts),
            "learning_rate": draw(positives),
            "seed": draw(st.integers(0, 2**32)),
            "threads": draw(counts),
        },
        "expected": {"test_accuracy": draw(shares), "source": draw(texts)},
    }


@settings(max_examples=50)
@given(document=documents())
def test_written_recipe_reads_back_equal(document, tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "config.toml"
    recipe = Recipe.model_validate(document)
    save_recipe(recipe, path)
    again = load_recipe(str(path))
    assert again == recipe
    assert list(again.sparsity.growth) == list(document["sparsity"]["growth"])
