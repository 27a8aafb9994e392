"""Sweeps: read, expanded, planned, compared and summarised; nothing is trained here."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from itertools import product
from statistics import mean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esl_neuro.errors import BadInput
from esl_neuro.recipes import load_recipe, save_recipe
from esl_neuro.resources import parse_toml, resource_names
from esl_neuro.training.sweep import (
    DIFFERS,
    DONE,
    STARTED,
    TO_DO,
    describe,
    differences,
    expand,
    load_plan,
    parse_sweep,
    slugs,
    summarise,
    to_toml,
)

DOCUMENT = {
    "title": "a small sweep",
    "recipe": "mlp-digits",
    "seeds": [0, 1],
    "noise": ["salt_and_pepper=0.1"],
    "fixed": {"training.epochs": 2},
    "axes": {"sparsity.density": [0.1, 1.0], "sparsity.growth": [{"gradient": 1.0}, {"momentum": 1.0}]},
}

words = st.text("abAB-_ .1é", min_size=1, max_size=4)
fields = st.sampled_from(["data.name", "network.name", "sparsity.density", "data.steps", "title"])
values = st.one_of(
    st.integers(-3, 3), st.floats(allow_nan=False, allow_infinity=False), words, st.lists(words, max_size=2)
)
axes = st.dictionaries(fields, st.lists(values, min_size=1, max_size=3, unique_by=to_toml), max_size=3)
labels = st.lists(words, max_size=3, unique=True)


def sweep_of(**changes):
    return parse_sweep(copy.deepcopy({**DOCUMENT, **changes}), "here")


def write(folder, **changes):
    import tomli_w

    path = folder / "mine.toml"
    path.write_text(tomli_w.dumps({**DOCUMENT, **changes}))
    return path


def finding(**changes):
    with pytest.raises(BadInput) as caught:
        sweep_of(**changes)
    return str(caught.value)


# Expanding.


@given(axes, labels)
def test_cases_are_the_product_of_all_choices(axes, labels):
    sweep = sweep_of(axes=axes, cases=[{"label": label} for label in labels])
    expected = [
        (label, dict(zip(axes, combination, strict=True)))
        for label in (labels or [None])
        for combination in product(*axes.values())
    ]
    assert [(case.parts.get("case"), case.varied) for case in expand(sweep)] == expected


@given(axes, labels)
def test_slugs_are_unique_folder_names_whatever_the_file_system_does_with_capitals(axes, labels):
    names = slugs(expand(sweep_of(axes=axes, cases=[{"label": label} for label in labels])))
    assert len({name.lower() for name in names}) == len(names)
    for name in names:
        assert name
        assert len(name) < 100
        assert not set(name) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-")
        assert not name.startswith(".")


def test_a_case_reads_well_and_so_does_its_folder():
    cases = expand(sweep_of(cases=[{"label": "esl"}]))
    assert cases[0].parts == {"case": "esl", "density": "0.1", "growth": "gradient"}
    assert cases[0].label == "esl density 0.1 growth gradient"
    assert slugs(cases)[0] == "esl-density-0.1-growth-gradient"


def test_axes_that_end_in_the_same_word_are_told_apart():
    (case,) = expand(sweep_of(axes={"data.name": ["digits"], "network.name": ["x"], "data.steps": [4]}))
    assert list(case.parts) == ["data.name", "network.name", "steps"]


def test_without_cases_and_axes_there_is_one_row_for_the_recipe():
    (case,) = expand(sweep_of(axes={}))
    assert case.label == "mlp-digits"


def test_a_long_label_is_cut_and_still_unique():
    first, second = slugs(expand(sweep_of(axes={}, cases=[{"label": "x" * 300 + end} for end in "ab"])))
    assert first != second
    assert len(first) < 100


@given(st.recursive(values | st.booleans(), lambda inner: st.lists(inner) | st.dictionaries(words, inner)))
def test_values_are_written_so_that_toml_reads_them_back(value):
    text = to_toml(value)
    assert "\n" not in text
    assert parse_toml(f"value = {text}", "here")["value"] == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"gradient": 1.0}, "gradient"),
        ({"gradient": 0.5, "momentum": 0.5}, "gradient 0.5 momentum 0.5"),
        (["fc1", "fc2"], "fc1+fc2"),
        (1.0, "1"),
        (1e-5, "1e-05"),
        (True, "yes"),
    ],
)
def test_values_in_words(value, text):
    assert describe(value) == text


# Planning.


def test_every_run_has_the_recipe_with_its_changes(tmp_path):
    path = write(tmp_path, cases=[{"label": "esl"}, {"label": "all", "set": {"data.steps": 4}}])
    plan = load_plan(str(path), tmp_path / "runs", ("data.encoding=latency",))
    assert len(plan.runs) == 2 * 2 * 2 * 2
    asked = {
        (run.case.parts["case"], run.recipe.sparsity.density, *run.recipe.sparsity.growth, run.recipe.training.seed)
        for run in plan.runs
    }
    assert asked == set(product(("esl", "all"), (0.1, 1.0), ("gradient", "momentum"), (0, 1)))
    for run in plan.runs:
        assert run.recipe.training.epochs == 2
        assert run.recipe.data.encoding == "latency"
        assert run.recipe.data.steps == (4 if run.case.parts["case"] == "all" else 16)
        assert run.folder.path.parent == tmp_path / "runs" / "mine"
    assert len({run.folder.path for run in plan.runs}) == len(plan.runs)


def test_a_case_may_have_another_recipe_and_whole_sections(tmp_path):
    other = tmp_path / "other.toml"
    save_recipe(load_recipe("mlp-digits", ("name=other",)), other)
    section = load_recipe("mlp-digits", ("sparsity.density=0.3",)).to_document()["sparsity"]
    cases = [{"label": "other", "recipe": str(other)}, {"label": "whole", "set": {"sparsity": section}}]
    fixed = {"sparsity.density": 0.7, "training.epochs": 3}
    plan = load_plan(str(write(tmp_path, cases=cases, axes={}, fixed=fixed)), tmp_path)
    assert [run.recipe.name for run in plan.runs] == ["other", "other", "mlp-digits", "mlp-digits"]
    assert [run.recipe.sparsity.density for run in plan.runs] == [0.7, 0.7, 0.3, 0.3]
    assert {run.recipe.training.epochs for run in plan.runs} == {3}


@pytest.mark.parametrize("name", resource_names("sweeps"))
def test_every_shipped_sweep_can_be_planned(name, tmp_path):
    assert load_plan(name, tmp_path).runs


def test_planning_loads_no_torch():
    script = (
        "import sys; from pathlib import Path; from esl_neuro.training.sweep import load_plan; "
        "load_plan('digits-density', Path('runs')); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# Wrong input.


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seds": [1]}, ["here: seds: unknown field; did you mean 'seeds'?"]),
        ({"seeds": []}, ["seeds: [] is not allowed", "at least 1"]),
        ({"seeds": [0, -1]}, ["seeds.1: -1 is not allowed", "greater than or equal to 0"]),
        ({"seeds": [1, 1]}, ["seeds: 1 is listed 2 times"]),
        ({"title": 5, "recipe": 6}, ["title: 5 is not allowed", "recipe: 6 is not allowed"]),
        ({"axes": {"sparsity": {"density": [1.0]}}}, ["axes.sparsity", 'quote a field with a dot: "sparsity.density"']),
        ({"axes": {"data.steps": []}}, ["axes.data.steps: [] is not allowed"]),
        ({"axes": {"data.steps": [4, 4]}}, ["axes.data.steps: 4 is listed 2 times"]),
        ({"axes": {"data.steps": [4], "plot_x": "data.steps"}}, ["axes.plot_x", "above the first [heading]"]),
        ({"fixed": {"training epochs": 1}}, ["fixed: 'training epochs' is not a field"]),
        ({"fixed": {"training.seed": 1}}, ["fixed: training.seed is set from seeds"]),
        ({"cases": [{"label": "a"}, {"label": "a"}]}, ["cases: label: a is listed 2 times"]),
        ({"cases": [{"set": {}, "lable": "a"}]}, ["cases.0.label: is missing", "did you mean 'label'?"]),
        ({"cases": [{"label": "a", "sets": {}}]}, ["cases.0.sets: unknown field; did you mean 'set'?"]),
        (
            {"cases": [{"label": "a", "set": {"sparsity.density": 0.5}}]},
            ["cases.0.set: 'sparsity.density' is also an axis"],
        ),
        ({"plot_x": "sparsity.densty"}, ["plot_x: 'sparsity.densty' is not an axis; did you mean 'sparsity.density'?"]),
        ({"noise": ["jiter=1"]}, ["'jiter' is unknown; did you mean 'jitter'?"]),
        ({"noise": ["jitter"]}, ["noise: 'jitter' cannot be read; write name=level"]),
        ({"noise": ["spike_drop=2"]}, ["spike_drop", "2.0", "probability from 0 to 1"]),
    ],
)
def test_wrong_sweeps_are_refused_in_one_line_that_names_everything(changes, words):
    line = finding(**changes)
    assert "\n" not in line
    for word in words:
        assert word in line


def test_all_findings_come_at_once():
    line = finding(seeds=[1, 1], noise=["jitter"], plot_x="x", fixed={"training.seed": 1})
    for word in ("seeds: 1", "'jitter'", "plot_x", "training.seed"):
        assert word in line


def test_wrong_recipes_are_found_before_anything_runs_each_finding_once(tmp_path):
    path = write(tmp_path, axes={"sparsity.density": [0.1, 2.0, 3.0]}, fixed={"training.epoch": 1})
    with pytest.raises(BadInput) as caught:
        load_plan(str(path), tmp_path)
    line = str(caught.value)
    assert line.startswith(f"{path}: density 0.1 seed 0 (and 1 more run): ")
    assert "density 2 seed 0 (and 1 more run): " in line
    assert "did you mean 'epochs'?" in line
    assert line.count("sparsity.density: 3.0") == 1


@pytest.mark.parametrize("override", ["sparsity.density=0.5", "sparsity={}", "training.seed=3"])
def test_what_the_sweep_varies_cannot_be_set_from_outside(tmp_path, override):
    with pytest.raises(BadInput, match="this field is varied by the sweep"):
        load_plan(str(write(tmp_path)), tmp_path, (override,))


def test_a_section_that_wipes_out_a_varied_field_is_refused(tmp_path):
    path = write(tmp_path, axes={"sparsity.density": [0.5], "sparsity": [{}]})
    with pytest.raises(BadInput, match="'sparsity' replaces the whole section"):
        load_plan(str(path), tmp_path)


# Folders.


def test_the_state_of_a_run_and_what_its_folder_holds(tmp_path):
    (run, *_) = load_plan(str(write(tmp_path)), tmp_path).runs
    assert run.state() == TO_DO
    run.make_folder()
    run.folder.append_metrics({"epoch": 1})
    run.folder.append_connections({"iteration": 0})
    assert run.state() == TO_DO, "killed before its first checkpoint: begins anew"
    run.make_folder()
    assert not any(history.exists() for history in run.folder.histories)
    (run.folder.path / "last.safetensors").touch()
    assert run.state() == STARTED
    run.folder.result.write_text("{}")
    assert run.state() == STARTED, "not tested with the noise yet"
    run.add_noise_accuracies({"salt_and_pepper=0.1": 0.5})
    assert run.state() == DONE


def test_folders_of_other_recipes_are_refused_with_field_and_fix(tmp_path):
    path = write(tmp_path)
    for run in load_plan(str(path), tmp_path).runs:
        run.make_folder()
        run.folder.result.write_text("{}")
    plan = load_plan(str(path), tmp_path, ("training.epochs=7",))
    assert {run.state() for run in plan.runs} == {DIFFERS}
    with pytest.raises(BadInput) as caught:
        plan.refuse_other_recipes()
    line = str(caught.value)
    first = plan.runs[0].folder.path
    assert line.startswith(f"{first}: training.epochs is 2 there, 7 is requested; ")
    assert "(and 5 more folders); use another folder with --runs, or delete" in line
    load_plan(str(path), tmp_path).refuse_other_recipes()


def test_what_trains_nothing_makes_no_difference():
    first, second = load_recipe("mlp-digits"), load_recipe("mlp-digits", ("title=other", "expected.test_accuracy=0.1"))
    assert first != second
    assert differences(first, second) == []


def test_a_field_that_one_recipe_lacks_is_absent_there():
    first, second = (
        load_recipe("mlp-digits", (f"sparsity.growth={{{rule}=1.0}}",)) for rule in ("gradient", "momentum")
    )
    assert differences(first, second) == [
        "sparsity.growth.momentum is absent there, 1.0 is requested",
        "sparsity.growth.gradient is 1.0 there, absent is requested",
    ]


# Summarising.


def finish(run, accuracy):
    run.make_folder()
    figures = {
        "recipe": run.recipe.name,
        "seed": run.seed,
        "test_accuracy": accuracy,
        "test_samples": 10,
        "validation_accuracy": 0.75,
        "best_epoch": 1,
        "epochs": 2,
        "connections": 10,
        "density": 0.5,
        "spikes_per_neuron": 0.25,
        "seconds": 2.0 + run.seed,
    }
    run.folder.result.write_text(json.dumps(figures))
    run.add_noise_accuracies({"salt_and_pepper=0.1": accuracy / 2})


def test_the_summary_has_mean_and_sample_deviation_of_every_case(tmp_path):
    plan = load_plan(str(write(tmp_path, seeds=[0, 1, 5])), tmp_path)
    accuracies = [index**2 / 200 for index in range(len(plan.runs))]
    for run, accuracy in zip(plan.runs, accuracies, strict=True):
        finish(run, accuracy)
    summary = summarise(plan)
    assert [case["case"] for case in summary["cases"]] == [case.parts for case in plan.cases]
    for index, case in enumerate(summary["cases"]):
        three = accuracies[3 * index : 3 * index + 3]
        assert case["test_accuracy"] == {"mean": pytest.approx(mean(three)), "stdev": pytest.approx(stdev(three))}
        assert case["noise"]["salt_and_pepper=0.1"]["mean"] == pytest.approx(mean(three) / 2)
        assert [run["test_accuracy"] for run in case["runs"]] == three
        assert case["seconds"] == pytest.approx(mean([2, 3, 7]))


def test_one_seed_has_no_spread(tmp_path):
    plan = load_plan(str(write(tmp_path, seeds=[3])), tmp_path)
    for run in plan.runs:
        finish(run, 0.5)
    assert summarise(plan)["cases"][0]["test_accuracy"] == {"mean": 0.5, "stdev": None}


@pytest.mark.parametrize("text", ["", "[]", "5", '{"seed": 0}'])
def test_a_damaged_result_is_named(tmp_path, text):
    plan = load_plan(str(write(tmp_path)), tmp_path)
    for run in plan.runs:
        finish(run, 0.5)
    plan.runs[1].folder.result.write_text(text)
    with pytest.raises(BadInput) as caught:
        summarise(plan)
    assert str(plan.runs[1].folder.result) in str(caught.value)
    assert "delete its folder" in str(caught.value)
    assert os.linesep not in str(caught.value)
