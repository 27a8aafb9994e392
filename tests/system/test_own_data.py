"""Commands on a user's own data: trained, and found again from the run and the export alone."""

from __future__ import annotations

import json
import shutil

import pytest

from data.own_files import write_arrays, write_events, write_images
from system.command_workspace import Workspace

BRIEF = "--set training.epochs=6 --set training.batch=16 --set network.notation=36-20-3 --set sparsity.density=0.5"
EVENTS = "--set network.notation=72-20-3 --set data.encoding=events --set data.sensor=[6,6]"


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder with own data of every kind, and a run and an export of an ``.npz`` file."""
    space = Workspace(tmp_path_factory.mktemp("own"))
    write_arrays(space.folder / "own.npz")
    write_images(space.folder / "images")
    write_events(space.folder / "events")
    (space.folder / "mymod.py").write_text(
        "import numpy as np\n\n\ndef samples():\n    return np.load('own.npz')['x'], np.load('own.npz')['y']\n"
    )
    for command in (f"esl-neuro train --data own.npz {BRIEF}", "esl-neuro export"):
        done = space.once(command)
        assert done.returncode == 0, done.stderr
    return space


def line(done):
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_own_data_take_the_place_of_the_recipe_s_and_it_is_said(own):
    said = own.once(f"esl-neuro train --data own.npz {BRIEF}").stderr
    assert "--data own.npz: your own data, instead of the data set 'digits' of the recipe" in said
    assert "20 % of each class are for test and 10 % for validation" in said


@pytest.mark.parametrize(
    "command",
    ["esl-neuro evaluate runs/mlp-digits-001 --json", "esl-neuro run runs/mlp-digits-001/loihi2 --json",
     "esl-neuro energy report runs/mlp-digits-001/loihi2 --backend integer --json",
     "esl-neuro evaluate runs/mlp-digits-001/loihi2 --json"],
)  # fmt: skip
def test_other_commands_find_the_same_data_from_any_folder(own, tmp_path, command):
    elsewhere = command.replace("runs/", f"{own.folder}/runs/")
    done = own.run(elsewhere, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "12" in json.dumps(json.loads(done.stdout))
    trained = json.loads((own.folder / "runs/mlp-digits-001/result.json").read_text())
    if "evaluate" in command and not command.endswith("loihi2 --json"):
        assert json.loads(done.stdout)["accuracy"] == trained["test_accuracy"]


@pytest.mark.parametrize("data", ["images", "events"])
def test_folders_are_trained_on(own, data):
    options = EVENTS if data == "events" else ""
    done = own.run(f"esl-neuro train --data {data} {BRIEF} {options} --runs {data}-runs --json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["runs"][0]["test_samples"] == (6 if data == "events" else 12)
    sample = "events/middle/001.npz" if data == "events" else "images/middle/001.png"
    told = own.run(f"esl-neuro predict {data}-runs/mlp-digits-001 {sample} --json")
    assert told.returncode == 0, told.stderr
    document = json.loads(told.stdout)
    assert document["class_names"] == ["left", "middle", "right"]
    assert document["class_name"] == document["class_names"][document["class"]]


def test_a_repeated_run_is_the_same(own):
    done = own.run("esl-neuro train runs/mlp-digits-001/config.toml --runs again --json")
    first = json.loads((own.folder / "runs/mlp-digits-001/result.json").read_text())
    assert json.loads(done.stdout)["runs"][0]["test_accuracy"] == first["test_accuracy"]


def test_changed_data_are_refused_by_every_command(tmp_path):
    other = Workspace(tmp_path)
    write_arrays(tmp_path / "own.npz")
    for command in (f"esl-neuro train --data own.npz {BRIEF}", "esl-neuro export"):
        assert other.run(command).returncode == 0
    write_arrays(tmp_path / "own.npz", 90)
    again = "train runs/mlp-digits-001/config.toml"
    for command in ("evaluate", "export", "run", "energy report --backend integer", again):
        assert "the data have changed since the run was trained" in line(other.run(f"esl-neuro {command}"))


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("esl-neuro train --data own.npz --set data.name=digits", "is your own data, but --set selects"),
        ("esl-neuro train --data .", "would be ignored: the data set 'digits' is built in"),
        ("esl-neuro train --set data.name=mymod:samples --data images", "come from the function 'mymod:samples'"),
        ("esl-neuro train --set data.name=./own.npz --data images", "data.name is the path './own.npz'"),
        ("esl-neuro sweep digits-density --data images", "would be ignored: the data set 'digits' is built in"),
        (
            "esl-neuro reproduce table1 --scale smoke --data images",
            "would be ignored: the data set 'digits' is built in",
        ),
        ("esl-neuro reproduce fig2 --scale short --list --data images", "it is your own data, and the data set"),
        ("esl-neuro train --set data.name=./missing", "'./missing': no such file or folder"),
        ("esl-neuro train --set data.name=mymod:samples", "begins with 64 inputs"),
        ("esl-neuro evaluate runs/mlp-digits-001 --data images", "the data have changed"),
    ],
)
def test_data_are_used_or_refused(own, command, words):
    assert words in line(own.run(command))


def test_data_given_for_a_run_of_a_built_in_data_set_are_refused(small_run, own):
    folder = small_run.parents[1]
    for command in ("evaluate", "export", "run", "diff integer integer"):
        done = own.run(f"esl-neuro {command} --data {own.folder}/images", folder)
        assert "would be ignored: the data set 'digits' is built in" in line(done)


def test_a_sweep_on_own_data_notices_that_they_changed(tmp_path):
    other = Workspace(tmp_path)
    write_arrays(tmp_path / "own.npz")
    (tmp_path / "mine.toml").write_text(
        'title = "mine"\nrecipe = "mlp-digits"\nseeds = [0, 1]\n[fixed]\n"data.name" = "./own.npz"\n'
        '"training.epochs" = 1\n"network.notation" = "36-20-3"\n[axes]\n"sparsity.density" = [0.5]\n'
    )
    for options, said in (("--jobs 2", 1), ("", 0)):  # the second time, nothing is left to train
        done = other.run(f"esl-neuro sweep ./mine.toml {options}")
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("20 % of each class are for test and 10 % for validation") == said
    write_arrays(tmp_path / "own.npz", 90)
    assert "own.npz has changed since it was trained" in line(other.run("esl-neuro sweep ./mine.toml"))


def test_an_export_from_elsewhere_that_names_code_as_its_data_is_not_obeyed(own, tmp_path):
    shutil.copytree(own.folder / "runs/mlp-digits-001/loihi2", tmp_path / "theirs")
    (tmp_path / "mine").mkdir()
    document = json.loads((tmp_path / "theirs/export.json").read_text())
    document["data"]["name"] = "strange_module:samples"
    (tmp_path / "theirs/export.json").write_text(json.dumps(document))
    (tmp_path / "mine/strange_module.py").write_text("raise SystemExit('obeyed')\n")
    report, compare = "energy report ../theirs --backend integer", "diff integer integer --export ../theirs"
    for command in ("run ../theirs", "evaluate ../theirs", report, compare):
        refused = line(own.run(f"esl-neuro {command}", tmp_path / "mine"))
        assert "data.name = 'strange_module:samples' runs code" in refused
        assert "obeyed" in own.run(f"esl-neuro {command} --allow-code", tmp_path / "mine").stderr
