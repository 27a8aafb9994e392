"""Searches: read, checked and planned; nothing is trained here."""

from __future__ import annotations

import subprocess
import sys

import pytest
import tomli_w

from esl_neuro.errors import BadInput
from esl_neuro.resources import resource_names
from esl_neuro.training.search import load_search, parse_search, texts

DOCUMENT = {
    "title": "a small search",
    "recipe": "mlp-digits",
    "trials": 5,
    "fixed": {"training.epochs": 2, "sparsity.layers": ["all"]},
    "space": {
        "sparsity.density": {"low": 0.05, "high": 0.1, "log": True},
        "budget.energy": {"low": 700, "high": 900, "unit": "nJ"},
        "budget.fan_in": {"low": 32, "high": 64},
        "network.surrogate": {"choices": ["arctan", "triangle"]},
    },
}


def load(folder, overrides=(), **changes):
    path = folder / "mine.toml"
    path.write_text(tomli_w.dumps({**DOCUMENT, **changes}), encoding="utf-8")
    return load_search(str(path), folder / "runs", overrides)


def finding(**changes):
    with pytest.raises(BadInput) as caught:
        parse_search({**DOCUMENT, **changes}, "here")
    return str(caught.value)


@pytest.mark.parametrize("name", resource_names("searches"))
def test_every_shipped_search_can_be_planned(name, tmp_path):
    assert load_search(name, tmp_path).search.trials


def test_a_trial_is_the_recipe_with_its_values_once_for_each_seed(tmp_path):
    plan = load(tmp_path, ("data.steps=8",), seeds=[3, 4])
    values = {
        "sparsity.density": 0.0712345,
        "budget.energy": "800.5 nJ",
        "budget.fan_in": 40,
        "network.surrogate": "triangle",
    }
    trial = plan.trial(7, values)
    assert [run.recipe.training.seed for run in trial.runs] == [3, 4]
    assert [run.folder.path for run in trial.runs] == [
        tmp_path / "runs" / "mine" / f"trial-007-seed{seed}" for seed in (3, 4)
    ]
    for run in trial.runs:
        assert (run.recipe.sparsity.density, run.recipe.network.surrogate) == (0.0712345, "triangle")
        assert (run.recipe.budget.fan_in, run.recipe.budget.energy) == (40, "800.5 nJ")
        assert (run.recipe.data.steps, trial.epochs) == (8, 2)
    assert texts(plan, values) == {
        "density": "0.07123",
        "budget.energy": "800.5 nJ",
        "fan in": "40",
        "surrogate": "triangle",
    }
    assert trial.runs[0].label == "trial 7 density 0.07123 budget.energy 800.5 nJ fan in 40 surrogate triangle seed 3"


def test_only_what_decides_the_trials_is_compared_when_a_search_goes_on(tmp_path):
    first = load(tmp_path).identity()
    assert load(tmp_path, title="another", trials=9).identity() == first
    for changes in (
        {"objectives": ["accuracy"]},
        {"seeds": [1]},
        {"random": 3},
        {"stop_after": [1]},
        {"sampler_seed": 1},
        {"target": "loihi"},
        {"fixed": {**DOCUMENT["fixed"], "training.batch": 32}},
        {"space": {**DOCUMENT["space"], "budget.fan_in": {"low": 32, "high": 65}}},
    ):
        assert load(tmp_path, **changes).identity() != first


def test_planning_loads_neither_torch_nor_optuna():
    script = (
        "import sys; from pathlib import Path; from esl_neuro.training.search import load_search; "
        "load_search('digits-budget', Path('runs')); print({'torch', 'optuna'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# Wrong input.


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trails": 3}, ["here: trails: unknown field; did you mean 'trials'?"]),
        ({"trials": 0}, ["trials: 0 is not allowed"]),
        ({"space": {}}, ["space: {} is not allowed", "at least 1"]),
        ({"seeds": [1, 1], "stop_after": [2, 2]}, ["seeds: 1 is listed 2 times", "stop_after: 2 is listed 2 times"]),
        ({"objectives": ["energy"]}, ["objectives: 'accuracy' is missing"]),
        ({"objectives": ["accuracy", "energie"]}, ["objectives.1: 'energie' is not allowed"]),
        ({"fixed": {"seeds": [1], "training.epochs": 2}}, ["fixed.seeds: 'seeds' is a top-level key"]),
        ({"fixed": {"budget.fan_in": 3}}, ["space: 'budget.fan_in' is also fixed"]),
    ],
)
def test_a_wrong_file_is_refused_with_what_is_right(changes, words):
    message = finding(**changes)
    for each in words:
        assert each in message


@pytest.mark.parametrize(
    ("field", "dimension", "words"),
    [
        ("sparsity.densty", {"low": 0.1, "high": 0.2}, "field 'sparsity.densty' is unknown; did you mean"),
        ("density", {"low": 0.1, "high": 0.2}, "did you mean 'sparsity.density'?"),
        ("training.seed", {"low": 1, "high": 2}, "training.seed is set from seeds"),
        ("sparsity", {"density": {"low": 0.1, "high": 0.2}}, 'quote a field with a dot: "sparsity.density"'),
        ("data.steps", {"low": 2, "hihg": 4}, "space.data.steps.hihg: unknown field; did you mean 'high'?"),
        ("data.steps", [2, 4], "space.data.steps: [2, 4] is not allowed"),
        ("data.steps", {"low": 2}, "space.data.steps: needs low and high, or choices"),
        ("data.steps", {"low": 4, "high": 2}, "low is 4 and high 2; low must be less"),
        ("data.steps", {"low": 2, "high": 4.5}, "takes whole numbers, not low 2, high 4.5"),
        ("data.steps", {"low": 0, "high": 4, "log": True}, "log needs numbers above 0"),
        ("data.steps", {"low": 2, "high": 4, "step": 3}, "step is 3; it must be above 0 and at most high - low"),
        ("data.steps", {"low": 2, "high": 4, "step": 1, "log": True}, "step does not go with log"),
        ("data.steps", {"low": 2, "high": 4, "unit": "nJ"}, "the field takes whole numbers; remove unit"),
        ("data.steps", {"choices": [2, 4], "low": 2}, "has choices and low; remove one of them"),
        ("data.steps", {"choices": [2, 2]}, "choices: 2 is listed 2 times"),
        ("data.steps", {"choices": [2]}, "at least 2 items"),
        ("budget.energy", {"low": 1, "high": 2}, "the field takes a text; list the texts as choices, or give a unit"),
        ("sparsity.learner", {"low": 1, "high": 2}, "the field takes one of some values; list them as choices"),
        ("training", {"choices": [{"epochs": 1}, {"epochs": 2}]}, ""),
    ],
)
def test_a_wrong_dimension_is_refused_with_what_is_right(field, dimension, words):
    if words:
        assert words in finding(space={field: dimension})
    else:
        parse_search({**DOCUMENT, "space": {field: dimension}}, "here")


def test_two_dimensions_of_one_section_are_refused():
    words = finding(space={"training": {"choices": [{}, {"epochs": 2}]}, "training.batch": {"low": 1, "high": 2}})
    assert "space: 'training.batch' is part of 'training'; remove one of them" in words


def test_every_end_of_the_space_is_tried_and_all_findings_are_said(tmp_path):
    with pytest.raises(BadInput) as caught:
        load(
            tmp_path,
            space={
                "sparsity.density": {"low": 0.5, "high": 1.5},
                "sparsity.learner": {"choices": ["esl", "els"]},
            },
        )
    assert "sparsity.density: 1.5 is not allowed" in str(caught.value)
    assert "sparsity.learner: 'els' is unknown; did you mean 'esl'?" in str(caught.value)


def test_a_field_that_is_searched_cannot_be_set(tmp_path):
    with pytest.raises(BadInput, match=r"--set budget.fan_in=3: this field is varied by the search"):
        load(tmp_path, ("budget.fan_in=3",))
