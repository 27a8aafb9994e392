"""``esl-neuro reproduce``."""

from __future__ import annotations

import json


def test_smoke_shows_published_beside_measured_and_resumes(workspace):
    done = workspace.once("esl-neuro reproduce fig3b --scale smoke --plot fig3b.svg --record fig3b.json")
    assert done.returncode == 0, done.stderr
    assert "layer density" in done.stdout
    assert "not known here" in done.stdout
    record = json.loads((workspace.folder / "fig3b.json").read_text())
    assert {cell["row"] for cell in record["cells"] if cell["measured"]} == {"conv1", "conv2", "conv3", "fc1"}
    assert all(cell["not_run"] for cell in record["cells"] if not cell["measured"])
    assert len(record["densities"]["redistribution by momentum"]) > 1
    again = workspace.once("esl-neuro reproduce fig3b --scale smoke --json")
    assert json.loads(again.stdout) == record
    assert "epoch" not in again.stderr


def test_list_trains_nothing_and_names_what_is_missing(workspace):
    done = workspace.once("esl-neuro reproduce table2 --scale full --list --data . --runs nowhere")
    assert done.returncode == 0, done.stderr
    assert "0 of 2 seeds are trained" in " ".join(done.stdout.split())
    assert "data set 'cifar100' is not in" in done.stderr
    assert not (workspace.folder / "nowhere").exists()


def test_missing_data_are_refused_before_anything_runs(workspace):
    done = workspace.once("esl-neuro reproduce table2 --scale short --data . --runs nowhere")
    assert done.returncode == 2
    assert "data set 'cifar10' is not in" in done.stderr
    assert "copy the files there" in done.stderr
    assert not (workspace.folder / "nowhere").exists()


def test_wrong_names_get_the_nearest_spelling(workspace):
    done = workspace.once("esl-neuro reproduce tabel1")
    assert done.returncode == 2
    assert "did you mean 'table1'?" in done.stderr
