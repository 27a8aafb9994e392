"""Recipes: read, checked, overridden, written and read again."""

from __future__ import annotations

import copy
from types import NoneType, UnionType
from typing import Annotated, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from esl_neuro.errors import BadInput
from esl_neuro.recipes import load_recipe, parse_recipe, save_recipe
from esl_neuro.recipes.sections import KINDS, DataSection, ExpectedSection, PublishedSection, TrainingSection
from esl_neuro.resources import resource_names
from recipes.documents import DOCUMENT, changed, refusal


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "small.toml"
    save_recipe(parse_recipe(DOCUMENT, "here"), path)
    return str(path)


@pytest.mark.parametrize("name", resource_names("models"))
def test_every_shipped_recipe_loads_and_is_named_as_its_file(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    for figure in (recipe.expected, recipe.published):
        assert figure is None or figure.source  # no figure without one


def test_fields_arrive_unchanged():
    assert parse_recipe(DOCUMENT, "here").to_document() == DOCUMENT


def test_recipe_never_changes_after_reading():
    recipe = parse_recipe(DOCUMENT, "here")
    with pytest.raises(ValidationError):
        recipe.training.epochs = 3


@pytest.mark.parametrize(
    ("wrong", "whose", "right"),
    [
        ("training.epoch", "", "epochs"),
        ("data.step", "", "steps"),
        ("network.treshold", " of neuron 'lif'", "threshold"),
        ("sparsity.densty", " of learner 'esl'", "density"),
        ("expected.sorce", "", "source"),
        ("published.acuracy", "", "test_accuracy"),
        ("nam", "", "name"),
    ],
)
def test_unknown_field_gets_the_nearest_spelling(wrong, whose, right):
    assert f"{wrong}: unknown field{whose}; did you mean '{right}'?" in refusal(changed(wrong, 1))


@pytest.mark.parametrize("field", ["name", "data", "training.epochs", "sparsity.layers", "network.notation"])
def test_missing_field_is_named(field):
    document = copy.deepcopy(DOCUMENT)
    *sections, key = field.split(".")
    section = document
    for name in sections:
        section = section[name]
    del section[key]
    assert f"{field}: is missing" in refusal(document)


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


@pytest.mark.parametrize("value", [[1], [], {}, {"a": 1}, True, 3, 1.5, float("nan"), "", "x", "lif\nif", None])
@pytest.mark.parametrize(
    "field",
    [
        *("name", "data", "network", "sparsity", "training", "data.shape", "network.neuron", "network.thresholds"),
        *("sparsity.learner", "sparsity.layers", "sparsity.growth", "training.device"),
    ],
)
def test_no_value_whatever_breaks_the_reader(field, value):
    try:
        recipe = parse_recipe(changed(field, value), "my.toml")
    except BadInput:
        assert f"{field.partition('.')[0]}" in refusal(changed(field, value))
    else:
        assert parse_recipe(recipe.to_document(), "again") == recipe


@pytest.mark.parametrize(
    ("field", "names"), [("network.neuron", "cuba_lif, if, liaf, lif, single_spike"), ("sparsity.learner", "admm")]
)
@pytest.mark.parametrize("value", [[1], {}, True, 3, "xyz"])
def test_value_that_names_no_kind_is_refused_with_all_kinds(field, names, value):
    assert f"{field}: {value!r} is unknown; allowed: {names}" in refusal(changed(field, value))


@pytest.mark.parametrize("section", ["data", "network", "sparsity", "training"])
@pytest.mark.parametrize("value", [3, "x", [1]])
def test_value_in_place_of_a_section_is_refused(section, value):
    assert f"{section}: {value!r} is not allowed: it should be" in refusal(changed(section, value))


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
        ("training.accumulation", 0),
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
        ("sparsity.threshold", -1e-3),
        ("training.tet_lambda", 1.1),
        ("training.precision", "float64"),
        ("training.device", "gpu"),
        ("network.thresholds", "neuron"),
        ("data.cut", "events"),
        ("expected.test_accuracy", 1.1),
        ("published.test_accuracy", -0.1),
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


@pytest.mark.parametrize(
    ("field", "value"),
    [("sparsity.layers", []), ("sparsity.growth", {}), ("data.shape", [3, 32]), ("data.shape", [3, 32, 32, 1])],
)
def test_list_of_a_wrong_length_is_refused(field, value):
    assert f"{field}: {value!r} is not allowed" in refusal(changed(field, value))


def test_all_findings_come_at_once():
    document = changed("training.epochs", 0)
    document["network"]["tau"] = 2.0
    document["data"]["setps"] = 4
    document["sparsity"] |= {"learner": "rigl", "zeta": 0.3}
    del document["title"]
    message = refusal(document)
    for field in ("training.epochs", "network.tau", "data.setps", "title", "sparsity.zeta", "sparsity.prune"):
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


# What single spikes need, and what needs them.

SINGLE = {"neuron": "single_spike", "notation": "64-16-10"}


def single_spike_recipe(encoding="binary_single_spike", steps=2, loss="first_spike", network=SINGLE):
    document = copy.deepcopy(DOCUMENT) | {"network": network}
    document["data"] |= {"encoding": encoding, "steps": steps}
    document["training"] |= {"loss": loss}
    return document


def test_single_spikes_with_their_encoding_and_loss_are_allowed():
    network = parse_recipe(single_spike_recipe(), "here").network
    assert (network.neuron, network.threshold, network.initial_sum) == ("single_spike", 1.0, 4.0)


@pytest.mark.parametrize(("encoding", "steps"), [("even_rate", 2), ("binary_single_spike", 3), ("direct", 4)])
def test_single_spikes_with_other_inputs_are_refused(encoding, steps):
    message = refusal(single_spike_recipe(encoding, steps))
    assert "needs data.encoding = 'binary_single_spike' and data.steps = 2" in message
    assert f"not '{encoding}' and {steps}" in message


@pytest.mark.parametrize(
    "document",
    [single_spike_recipe(loss="tet"), single_spike_recipe(network=DOCUMENT["network"])],
    ids=["their neurons without their loss", "their loss without their neurons"],
)
def test_single_spikes_and_their_loss_need_each_other(document):
    assert "training.loss = 'first_spike' and network.neuron = 'single_spike' require each other" in refusal(document)


@pytest.mark.parametrize("learner", sorted(KINDS["sparsity"][1]))
def test_frozen_weights_keep_their_structure(learner):
    document = copy.deepcopy(DOCUMENT) | {"sparsity": {"learner": learner, "layers": ["fc1"]}}
    document["network"] |= {"mode": "tl"}
    if learner in ("dense", "static"):
        assert parse_recipe(document, "here").network.mode == "tl"
    else:
        message = refusal(document)
        assert f"network.mode = 'tl' freezes the weights, so '{learner}' cannot learn a structure" in message
        assert "allowed for sparsity.learner: dense, static" in message


def test_the_input_of_single_spikes_is_open_to_all_neurons():
    parse_recipe(single_spike_recipe(loss="tet", network=DOCUMENT["network"]), "here")


@pytest.mark.parametrize(("slots", "stride", "most"), [(5, 1, 4), (3, 2, 2), (2, 4, 1)])
def test_delays_of_a_whole_sample_are_refused(slots, stride, most):
    document = changed("network.delay_slots", slots)
    document["network"]["delay_stride"] = stride
    longest = (slots - 1) * stride
    assert refusal(document).endswith(
        f"network.delay_slots: the longest of {slots} slots delays by {longest} steps, and a sample has 4, so none of "
        f"its spikes would arrive; use at most {most}"
    )


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("training.quantize", "loihi2", "have no integer form in training; omit training.quantize"),
        (
            "sparsity",
            {"learner": "static", "layers": ["fc1"], "per_neuron": 3, "window": 5},
            "sparsity.window does not",
        ),
    ],
)
def test_what_cannot_hold_delay_slots_is_refused(field, value, words):
    document = changed("network.delay_slots", 3)
    section, _, key = field.rpartition(".")
    (document[section] if section else document)[key] = value
    assert words in refusal(document)


# Written and read again: recipes of any values that their sections allow.

texts = st.text(st.just(" ") | st.characters(exclude_categories=("C", "Z")), max_size=12)  # others are refused


def values(annotation, metadata=()):
    """Any value of a type within the limits of its annotation."""
    kind, inner = get_origin(annotation), get_args(annotation)
    if kind is Annotated:
        fields = [mark for mark in annotation.__metadata__ if isinstance(mark, FieldInfo)]
        return values(inner[0], [limit for field in fields for limit in field.metadata] + list(metadata))
    if kind in (Union, UnionType):
        options = [values(option, metadata) for option in inner if option is not NoneType]
        return st.one_of(st.none(), *options)
    if kind is Literal:
        return st.sampled_from(inner)
    bounds = {
        name: getattr(limit, name) for limit in metadata for name in ("ge", "gt", "le", "lt") if hasattr(limit, name)
    }
    sizes = {"min_size": 0, "max_size": 3} | {
        name.replace("_length", "_size"): getattr(limit, name)
        for limit in metadata
        for name in ("min_length", "max_length")
        if hasattr(limit, name)
    }
    if kind is list:
        return st.lists(values(inner[0]), **sizes)
    if kind is dict:
        return st.dictionaries(texts, values(inner[1]), **sizes)
    low, high = bounds.get("ge", bounds.get("gt")), bounds.get("le", bounds.get("lt", 10**6))
    if annotation is int:
        return st.integers(low + ("gt" in bounds), high - ("lt" in bounds)) if low is not None else st.integers()
    if annotation is float:
        return st.floats(low, high, exclude_min="gt" in bounds, exclude_max="lt" in bounds, allow_infinity=False)
    for pattern in (limit.pattern for limit in metadata if getattr(limit, "pattern", None)):
        return st.from_regex(pattern, fullmatch=True)
    return {str: texts, bool: st.booleans()}[annotation]


def sections(model):
    """Any document of a section; what may be absent sometimes is."""
    types = get_type_hints(model, include_extras=True)
    fields = {name: values(types[name], field.metadata) for name, field in model.model_fields.items()}
    teller = {"neuron", "learner"} & fields.keys()  # never absent, or the section would be of another kind
    required = {name: fields[name] for name, field in model.model_fields.items() if field.is_required()}
    required |= {name: fields[name] for name in teller}
    return st.fixed_dictionaries(required, optional={name: fields[name] for name in fields.keys() - required.keys()})


@st.composite
def documents(draw, neuron, learner):
    document = {
        "name": draw(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,11}", fullmatch=True)),
        "title": draw(texts),
        "data": draw(sections(DataSection)),
        "network": draw(sections(KINDS["network"][1][neuron])),
        "sparsity": draw(sections(KINDS["sparsity"][1][learner])),
        "training": draw(sections(TrainingSection)),
    }
    if neuron == "single_spike":
        document["data"] |= {"encoding": "binary_single_spike", "steps": 2}
        document["training"]["loss"] = "first_spike"
    elif document["training"].get("loss") == "first_spike":
        del document["training"]["loss"]
    if learner not in ("dense", "static") and document["network"].get("mode") == "tl":
        document["network"]["mode"] = "sl"
    if neuron in ("single_spike", "liaf") or document["training"].get("precision", "float32") != "float32":
        document["training"].pop("quantize", None)
    if document["network"].get("delay_slots", 1) > 1:
        document["network"] |= {"delay_slots": min(3, 1 + document["data"]["steps"] // 2), "delay_stride": 1}
        document["training"].pop("quantize", None)
        document["sparsity"].pop("window", None)
    if document["training"].get("quantize") is None:
        document["training"].pop("weight_bits", None)
    for name, model in (("expected", ExpectedSection), ("published", PublishedSection)):
        if draw(st.booleans()):
            document[name] = draw(sections(model))
    return document


@pytest.mark.parametrize(
    ("neuron", "learner"),
    [(neuron, "esl") for neuron in KINDS["network"][1]] + [("lif", learner) for learner in KINDS["sparsity"][1]],
)
@settings(max_examples=10)
@given(data=st.data())
def test_written_recipe_reads_back_equal(neuron, learner, data, tmp_path_factory):
    document = data.draw(documents(neuron, learner))
    recipe = parse_recipe(document, "here")
    assert (recipe.network.neuron, recipe.sparsity.learner) == (neuron, learner)
    path = tmp_path_factory.mktemp("recipe") / "config.toml"
    save_recipe(recipe, path)
    again = load_recipe(str(path), allow_code=True)
    assert again == recipe
    for name, given_section in document.items():
        section = getattr(again, name)
        if isinstance(given_section, dict):
            assert {field: getattr(section, field) for field in given_section} == given_section
    if document["sparsity"].get("growth"):
        assert list(again.sparsity.growth) == list(document["sparsity"]["growth"])
