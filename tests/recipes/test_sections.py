"""Sections of recipes: their fields, their defaults, and what each kind refuses."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import get_args, get_type_hints

import pytest

from esl_neuro.recipes import parse_recipe
from esl_neuro.recipes.sections import (
    KINDS,
    CubaLifSection,
    DataSection,
    DenseSection,
    EslSection,
    ExpectedSection,
    IfSection,
    LiafSection,
    LifSection,
    PublishedSection,
    SingleSpikeSection,
    TrainingSection,
)
from esl_neuro.sparsity import LEARNERS
from recipes.documents import changed, refusal

LEARNER_SECTIONS = KINDS["sparsity"][1]
GIVEN_BY_THE_RUN = ("model", "optimizer", "layers", "iterations", "seed", "fan_in", "cores")
REQUIRED = inspect.Parameter.empty

NETWORK = {
    "notation": REQUIRED,
    "threshold": REQUIRED,
    "timing": "aligned",
    "delay_slots": 1,
    "delay_stride": 1,
    "surrogate": REQUIRED,
    "surrogate_width": REQUIRED,
    "mode": REQUIRED,
    "thresholds": "channel",
    "reset": "zero",
    "bias": False,
    "readout": "spikes",
}


def fields(section):
    return {
        name: REQUIRED if field.is_required() else field.get_default() for name, field in section.model_fields.items()
    }


def learner_options(name):
    """Options of a learner's factory, with their defaults."""
    parameters = inspect.signature(LEARNERS[name]).parameters
    return {option: parameters[option].default for option in parameters if option not in GIVEN_BY_THE_RUN}


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (
            DataSection,
            {
                "name": REQUIRED,
                "encoding": REQUIRED,
                "steps": REQUIRED,
                "shape": None,
                "samples": None,
                "augment": None,
                "cut": "count",
                "frame_us": None,
                "start_us": None,
                "sensor": None,
                "sha256": None,
            },
        ),
        (LifSection, NETWORK | {"neuron": "lif", "tau": REQUIRED}),
        (CubaLifSection, NETWORK | {"neuron": REQUIRED, "tau": REQUIRED, "tau_syn": REQUIRED}),
        (IfSection, NETWORK | {"neuron": REQUIRED}),
        (LiafSection, NETWORK | {"neuron": REQUIRED, "tau": REQUIRED, "activation": "selu"}),
        (
            SingleSpikeSection,
            {
                "neuron": REQUIRED,
                "notation": REQUIRED,
                "threshold": 1.0,
                "initial_sum": 4.0,
                "sum_cost": 1.0,
                "gradient_limit": 10.0,
            },
        ),
        (
            TrainingSection,
            {
                "epochs": REQUIRED,
                "batch": REQUIRED,
                "accumulation": 1,
                "loss": "tet",
                "tet_lambda": 0.0,
                "optimiser": "adam",
                "learning_rate": REQUIRED,
                "rate_schedule": "cosine",
                "final_rate": 0.0,
                "weight_decay": 0.0,
                "momentum": 0.9,
                "seed": REQUIRED,
                "threads": REQUIRED,
                "device": "cpu",
                "precision": "float32",
                "start_from": None,
                "quantize": None,
                "input_bits": 8,
                "weight_bits": None,
            },
        ),
        (ExpectedSection, {"test_accuracy": REQUIRED, "source": REQUIRED}),
        (PublishedSection, {"test_accuracy": REQUIRED, "source": REQUIRED}),
    ],
)
def test_section_has_these_fields_and_defaults(section, expected):
    assert fields(section) == expected


def test_every_learner_has_a_section():
    assert sorted(LEARNER_SECTIONS) == LEARNERS.names()


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_are_told_by_one_field(kind):
    teller, sections = KINDS[kind]
    for name, section in sections.items():
        assert get_args(section.model_fields[teller].annotation) == (name,)


@pytest.mark.parametrize("name", LEARNER_SECTIONS)
def test_options_of_a_section_are_those_of_its_learner(name):
    own = fields(LEARNER_SECTIONS[name])
    assert own.pop("layers") is REQUIRED
    assert own.pop("learner") == ("esl" if name == "esl" else REQUIRED)
    assert own.pop("storage", "masked") == "masked"
    expected = learner_options(name)
    assert own == expected
    assert list(own) == list(expected)


@pytest.mark.parametrize("name", LEARNER_SECTIONS)
def test_limits_of_a_section_are_those_of_its_learner(name):
    own = get_type_hints(LEARNER_SECTIONS[name], include_extras=True)
    theirs = get_type_hints(LEARNERS[name], include_extras=True)
    for option in learner_options(name):
        if option == "growth":  # a table of TOML in the recipe, any mapping in a program
            (mapping, _), (table, _) = get_args(theirs[option]), get_args(own[option])
            assert (mapping.__origin__, table.__origin__) == (Mapping, dict)
            assert get_args(mapping) == get_args(table)
        else:
            assert own[option] == theirs[option], option


@pytest.mark.parametrize("name", LEARNER_SECTIONS)
def test_options_are_everything_but_the_learner_and_its_layers(name):
    section = LEARNER_SECTIONS[name](learner=name, layers=["fc1"])
    assert section.options == learner_options(name)


def sparsity(**values):
    return changed("sparsity", {"layers": ["fc1"]} | values)


@pytest.mark.parametrize("name", LEARNER_SECTIONS)
def test_learner_is_told_by_its_name_alone(name):
    section = parse_recipe(sparsity(learner=name), "here").sparsity
    assert type(section) is LEARNER_SECTIONS[name]
    assert section == LEARNER_SECTIONS[name](learner=name, layers=["fc1"])


def test_a_section_without_a_kind_is_of_the_default_kind():
    recipe = parse_recipe(sparsity(), "here")
    assert type(recipe.sparsity) is EslSection
    assert type(recipe.network) is LifSection
    assert parse_recipe(sparsity(learner="dense"), "here").sparsity == DenseSection(learner="dense", layers=["fc1"])


@pytest.mark.parametrize("name", LEARNER_SECTIONS)
def test_learner_takes_its_own_options_and_no_others(name):
    every = {option for other in LEARNER_SECTIONS for option in learner_options(other)}
    for option in sorted(every - learner_options(name).keys()):
        message = refusal(sparsity(learner=name, **{option: 0.5}))
        assert f"sparsity.{option}: unknown field of learner '{name}'" in message
        assert all(own in message for own in learner_options(name))
    for option, default in learner_options(name).items():
        if default is not None:
            parse_recipe(sparsity(learner=name, **{option: default}), "here")


def test_neuron_takes_its_own_constants_and_no_others():
    network = changed("network.neuron", "if")["network"]
    assert "network.tau: unknown field of neuron 'if'" in refusal(changed("network", network))
    assert "network.tau_syn: unknown field of neuron 'lif'" in refusal(changed("network.tau_syn", 0.5))
    assert "network.tau_syn: is missing" in refusal(changed("network.neuron", "cuba_lif"))
    del network["tau"]
    parse_recipe(changed("network", network), "here")


def test_analog_neurons_reset_to_zero():
    network = changed("network.neuron", "liaf")["network"] | {"reset": "subtract"}
    assert "network.reset: 'subtract' is not allowed" in refusal(changed("network", network))


def test_analog_neurons_do_not_train_on_integers():
    document = changed("network.neuron", "liaf")
    document["training"]["quantize"] = "loihi2"
    assert "network.neuron = 'liaf' has analog outputs and so no integer form; allowed: lif" in refusal(document)


def test_bits_of_weights_need_a_chip():
    message = refusal(changed("training.weight_bits", 4))
    assert "training.weight_bits: the network is trained in floating point; set training.quantize" in message
    document = changed("training.weight_bits", {"fc1": 2, "fc2": 8})
    document["training"]["quantize"] = "loihi2"
    assert parse_recipe(document, "here").training.weight_bits == {"fc1": 2, "fc2": 8}
    for wrong in (1, 32, "4", {"fc1": 0}):
        document["training"]["weight_bits"] = wrong
        assert "training.weight_bits" in refusal(document)


def test_single_spikes_have_no_surrogate():
    message = refusal(changed("network.neuron", "single_spike"))
    for field in ("tau", "surrogate", "surrogate_width", "mode", "thresholds", "reset", "bias", "readout"):
        assert f"network.{field}: unknown field of neuron 'single_spike'" in message


@pytest.mark.parametrize(
    ("field", "wrong", "right"),
    [
        ("sparsity.learner", "rigle", "rigl"),
        ("sparsity.learner", "DEEP_R", None),
        ("sparsity.learner", "deepr", "deep_r"),
        ("sparsity.learner", "sparse_momentun", "sparse_momentum"),
        ("network.neuron", "lifs", "lif"),
        ("network.neuron", "cubalif", "cuba_lif"),
        ("network.neuron", "single_spikes", "single_spike"),
    ],
)
def test_unknown_kind_gets_the_nearest_spelling(field, wrong, right):
    hint = f"did you mean '{right}'? " if right else ""
    kinds = ", ".join(sorted(KINDS[field.partition(".")[0]][1]))
    assert f"{field}: '{wrong}' is unknown; {hint}allowed: {kinds}" in refusal(changed(field, wrong))


@pytest.mark.parametrize(
    ("learner", "wrong", "right"),
    [
        ("rigl", "desnity", "density"),
        ("set", "zeeta", "zeta"),
        ("deep_r", "nois", "noise"),
        ("admm", "dual_evry", "dual_every"),
        ("stds", "widht", "width"),
        ("esl", "redistibution", "redistribution"),
    ],
)
def test_unknown_option_of_a_learner_gets_the_nearest_spelling(learner, wrong, right):
    message = refusal(sparsity(learner=learner, **{wrong: 1}))
    assert f"sparsity.{wrong}: unknown field of learner '{learner}'; did you mean '{right}'?" in message


@pytest.mark.parametrize("option", ["model", "optimizer", "iterations", "seed"])
def test_what_the_run_gives_is_no_option(option):
    assert f"sparsity.{option}: unknown field of learner 'rigl'" in refusal(sparsity(learner="rigl", **{option: 1}))


@pytest.mark.parametrize(
    ("learner", "option", "value", "limit"),
    [
        ("esl", "density", 1.5, "less than or equal to 1"),
        ("esl", "epsilon", 0, "greater than 0"),
        ("esl", "alpha", -0.1, "greater than or equal to 0"),
        ("esl", "update_every", 2.5, "a valid integer"),
        ("esl", "prune", 1, "a valid string"),
        ("esl", "distribution", None, "a valid string"),
        ("static", "density", 0, "greater than 0"),
        ("static", "epsilon", "60", "a valid number"),
        ("set", "zeta", 1.5, "less than or equal to 1"),
        ("set", "update_every", 0, "greater than or equal to 1"),
        ("rigl", "density", "0.1", "a valid number"),
        ("rigl", "density", None, "a valid number"),
        ("rigl", "end", 2, "less than or equal to 1"),
        ("sparse_momentum", "alpha", True, "a valid number"),
        ("deep_r", "l1", -1e-5, "greater than or equal to 0"),
        ("deep_r", "noise", float("inf"), "a finite number"),
        ("soft_deep_r", "l1", 0, "greater than 0"),
        ("soft_deep_r", "noise", 0, "greater than 0"),
        ("grad_r", "penalty", 0, "greater than 0"),
        ("grad_r", "density", 1.1, "less than or equal to 1"),
        ("stds", "width", -1, "greater than or equal to 0"),
        ("stds", "rise", 1, "a valid string"),
        ("admm", "rho", 0, "greater than 0"),
        ("admm", "dual_every", 0, "greater than or equal to 1"),
        ("admm", "end", 1.1, "less than or equal to 1"),
    ],
)
def test_wrong_option_is_refused_with_field_value_and_limit(learner, option, value, limit):
    message = refusal(sparsity(learner=learner, **{option: value}))
    assert f"sparsity.{option}: {value!r} is not allowed: it should be {limit}" in message


@pytest.mark.parametrize(
    ("field", "value", "limit"),
    [
        ("tau_syn", 1.0, "less than 1"),
        ("tau_syn", -0.1, "greater than or equal to 0"),
        ("tau", 1.1, "less than or equal to 1"),
        ("threshold", 0, "greater than 0"),
    ],
)
def test_wrong_constant_of_a_neuron_is_refused_with_field_value_and_limit(field, value, limit):
    network = changed("network.neuron", "cuba_lif")["network"] | {"tau_syn": 0.5, field: value}
    assert f"network.{field}: {value!r} is not allowed: it should be {limit}" in refusal(changed("network", network))


@pytest.mark.parametrize(
    ("field", "value", "limit"),
    [
        ("threshold", 0.0, "greater than 0"),
        ("initial_sum", 1.0, "greater than 1"),
        ("sum_cost", -1.0, "greater than or equal to 0"),
        ("gradient_limit", 0.0, "greater than 0"),
    ],
)
def test_wrong_constant_of_single_spikes_is_refused(field, value, limit):
    network = {"neuron": "single_spike", "notation": "64-16-10", field: value}
    assert f"network.{field}: {value!r} is not allowed: it should be {limit}" in refusal(changed("network", network))


def test_all_findings_of_all_kinds_come_at_once():
    document = sparsity(learner="rigl", density=2, zeta=0.3)
    document["network"] |= {"neuron": "cuba_lif", "tau_syn": 1.5}
    document["data"]["samples"] = 0
    message = refusal(document)
    for field in ("sparsity.density", "sparsity.zeta", "network.tau_syn", "data.samples"):
        assert f"{field}: " in message
    document["sparsity"] = {"learner": "rigle"}
    document["network"] = {"neuron": "lifs"}
    message = refusal(document)
    for finding in ("did you mean 'rigl'?", "did you mean 'lif'?", "data.samples: 0 is not allowed"):
        assert finding in message
