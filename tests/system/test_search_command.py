"""The command ``search``: whole searches on a tiny network, killed and continued."""

from __future__ import annotations

import csv
import json
import os
import shlex
import signal
import subprocess
import sys

import pytest
from filelock import FileLock

from esl_neuro.cli.main import main
from esl_neuro.interruption import TOO_SLOW
from system.command_workspace import Workspace
from system.processes import PATIENCE_S, children, group, opened, start, wait_for

TINY = """
title = "Tiny"
recipe = "mlp-digits"
trials = 5
random = 3
stop_after = [1]
[fixed]
"training.epochs" = 2
"network.notation" = "64-16-10"
"training.batch" = 100
"training.learning_rate" = 3e-2
"sparsity.layers" = ["all"]
[space]
"sparsity.density" = { low = 0.1, high = 0.5 }
"data.steps" = { choices = [2, 4] }
"budget.fan_in" = { low = 8, high = 64 }
"""
SEARCH = "esl-neuro search ./tiny.toml --plot tiny.svg --csv tiny.csv"


def make(folder, text=TINY):
    (folder / "tiny.toml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A folder in which the tiny search has been run without a break."""
    space = Workspace(make(tmp_path_factory.mktemp("searched")))
    done = space.once(SEARCH)
    assert done.returncode == 0, done.stderr
    return space


@pytest.fixture
def call(monkeypatch, capsys):
    """Run a command in this process, where torch is loaded already: exit code, output, errors."""

    def call(folder, command):
        monkeypatch.chdir(folder)
        code = main(shlex.split(command)[1:])
        return code, *capsys.readouterr()

    return call


def trials(folder):
    return json.loads((folder / "runs" / "tiny" / "summary.json").read_text())["trials"]


def test_help_starts_with_examples_and_loads_nothing_heavy():
    script = (
        "import sys; from esl_neuro.cli.main import main; main(['search', '--help']); "
        "print(sorted({'torch', 'numpy', 'optuna', 'matplotlib', 'rich', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Examples:\n  esl-neuro search")
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_table_has_the_pareto_set_first_with_its_test_accuracy_and_its_runs(searched):
    lines = searched.once(SEARCH).stdout.splitlines()
    assert lines[0] == "Tiny"
    columns = ("rank", "trial", "validation", "test", "energy", "connections", "density", "steps", "fan in", "run")
    assert " ".join(lines[2].split()) == " ".join(columns)
    entries = {each["trial"]: each for each in trials(searched.folder)}
    rows = [line.split() for line in lines[4 : lines.index("", 4)]]
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    for row in rows:
        entry = entries[int(row[1])]
        assert str(entry["rank"]) == row[0]
        assert row[-1] == entry["runs"][0]
        assert f"{100 * entry['validation_accuracy']:.2f}" == row[2]
        assert (entry["test_accuracy"] is not None) == (row[0] == "1")
        if row[0] == "1":
            export = json.loads((searched.folder / row[-1] / "loihi2" / "export.json").read_text())
            assert entry["test_accuracy"] == export["accuracy"]["integer"]
    counted = {state: sum(each["state"] == state for each in entries.values()) for state in ("done", "refused")}
    assert f"5 trials: {counted['done']} done" in " ".join(lines)


def test_what_was_measured_is_what_other_commands_say_of_the_run(searched, call):
    entry = next(each for each in trials(searched.folder) if each["rank"] == 1)
    (run,) = entry["runs"]
    result = json.loads((searched.folder / run / "result.json").read_text())
    assert entry["connections"] == result["connections"]
    assert entry["validation_accuracy"] == pytest.approx(result["validation_accuracy"], abs=0.1)  # of the integers
    _, out, _ = call(searched.folder, f"esl-neuro energy report {run} --backend integer --target loihi2 --json")
    (nominal,) = [
        each["energy_pj_per_sample"]["nominal"]
        for each in json.loads(out)["estimates"]
        if each["model"] == "fitted-chip"
    ]
    assert entry["energy_pj"] == pytest.approx(nominal, rel=0.02)  # that is on the test part


def test_a_trial_that_a_budget_makes_impossible_is_refused_counted_and_explained(searched):
    refused = [each for each in trials(searched.folder) if each["state"] == "refused"]
    assert refused
    assert "budget.fan_in: layer 'fc" in refused[0]["reason"]
    out = " ".join(searched.once(SEARCH).stdout.split())
    assert f"{len(refused)} refused" in out
    assert f"refused: trial {refused[0]['trial']}" in out


def test_chart_and_csv_are_written_and_csv_has_every_trial(searched):
    assert (searched.folder / "tiny.svg").read_bytes().startswith(b"<?xml")
    rows = list(csv.DictReader((searched.folder / "tiny.csv").open()))
    assert [int(row["trial"]) for row in rows] == list(range(5))
    for row, entry in zip(rows, trials(searched.folder), strict=True):
        assert row["state"] == entry["state"]
        if entry["energy_pj"] is not None:
            assert float(row["energy_j"]) == pytest.approx(entry["energy_pj"] * 1e-12)
            assert float(row["sparsity.density"]) == entry["values"]["sparsity.density"]


def test_a_search_that_is_done_is_printed_again_without_training(searched, call):
    before = (searched.folder / "runs" / "tiny" / "study.journal").read_bytes()
    code, out, err = call(searched.folder, "esl-neuro search tiny.toml")
    assert (code, err) == (0, "")
    assert out == searched.once(SEARCH).stdout
    _, latex, _ = call(searched.folder, "esl-neuro search tiny.toml --latex")
    assert r"\begin{tabular}" in latex
    assert r"\%" in latex
    _, markdown, _ = call(searched.folder, "esl-neuro search tiny.toml --markdown")
    assert markdown.startswith("| rank | trial |")
    _, listed, _ = call(searched.folder, "esl-neuro search tiny.toml --list")
    assert listed.splitlines()[-1] == "5 trials, 0 to come"
    assert (searched.folder / "runs" / "tiny" / "study.journal").read_bytes() == before


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("esl-neuro search", ["Missing argument 'SEARCH'"]),
        ("esl-neuro search digits-budgt", ["search 'digits-budgt' is unknown; did you mean 'digits-budget'?"]),
        ("esl-neuro search tiny.toml --plot x.jpg", ["x.jpg: '.jpg' is not a chart format"]),
        ("esl-neuro search tiny.toml --latex --csv", ["--latex and --csv each print another text"]),
        ("esl-neuro search tiny.toml --width single", ["no chart is drawn; add --plot FILE"]),
        ("esl-neuro search tiny.toml --set data.steps=3", ["this field is varied by the search"]),
        (
            "esl-neuro search tiny.toml --set training.epochs=3",
            ["runs/tiny: holds another search: recipe.training.epochs is 2 there, 3 is requested", "--runs"],
        ),
    ],
)
def test_wrong_input_is_one_line_exit_code_2_and_no_training(searched, call, command, words):
    code, out, err = call(searched.folder, command)
    assert code == 2, err
    (line,) = err.splitlines()
    for word in words:
        assert word in line
    assert out == ""


def test_a_second_search_in_the_same_folder_is_refused(searched, call):
    with FileLock(searched.folder / "runs" / "tiny" / "lock"):
        code, _, errors = call(searched.folder, "esl-neuro search ./tiny.toml")
    assert code == 2
    assert errors.startswith("esl-neuro: runs/tiny: another search is running in this folder; wait for it")


def test_data_that_are_missing_are_said_before_anything_is_written(tmp_path, call, monkeypatch):
    monkeypatch.setenv("ESL_NEURO_DATA", str(tmp_path))
    make(tmp_path, TINY.replace('"training.batch" = 100', '"data.name" = "mnist"'))
    code, _, err = call(tmp_path, "esl-neuro search tiny.toml")
    assert code == 2
    assert "mnist" in err
    assert not (tmp_path / "runs").exists()


# Processes that are killed.


@pytest.mark.disturbed
def test_a_search_that_is_interrupted_and_killed_ends_as_one_without_a_break(searched, tmp_path, call):
    make(tmp_path)
    first, second, *_ = [each["runs"][0] for each in trials(searched.folder) if each["state"] == "done"]
    process = start("esl-neuro search tiny.toml", tmp_path)
    wait_for(lambda: (tmp_path / first / "metrics.jsonl").exists())
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (130, ""), err
    assert "Traceback" not in err
    if TOO_SLOW.decode() not in err:  # a machine so busy that the process cannot end in time ends the command first
        assert "of 5 trials have ended, the others are saved in runs/tiny; continue with the same command" in err
    assert '"started"' in call(tmp_path, "esl-neuro search tiny.toml --list --json")[1]

    process = start("esl-neuro search tiny.toml", tmp_path)
    wait_for(lambda: (tmp_path / second / "metrics.jsonl").exists())
    process.kill()
    process.communicate(timeout=PATIENCE_S)
    assert not (tmp_path / "runs" / "tiny" / "summary.json").exists()

    code, _, err = call(tmp_path, "esl-neuro search tiny.toml")
    assert code == 0, err
    assert trials(tmp_path) == trials(searched.folder)


@pytest.mark.disturbed
def test_a_killed_worker_loses_nothing(tmp_path):
    process = start("esl-neuro search tiny.toml --jobs 2 --trials 3", make(tmp_path))
    training: list[int] = []

    def trains() -> bool:
        folders = {str(path) for path in tmp_path.glob("runs/tiny/trial-*")}
        training.extend(pid for pid in children(process.pid) if folders & {*opened(pid)})
        return bool(training)

    wait_for(trains)
    os.kill(training[0], signal.SIGKILL)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    entries = trials(tmp_path)
    assert len(entries) == 3
    for each in entries:
        assert each["state"] in ("done", "stopped") or "budget.fan_in" in each["reason"]
    wait_for(lambda: group(process.pid) == [])
