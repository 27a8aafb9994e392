"""Folders of runs: numbered, complete, never overwritten."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata

import pytest

from esl_neuro.errors import BadInput
from esl_neuro.recipes import load_recipe
from esl_neuro.training.run_folder import RunFolder, create_run_folder


@pytest.fixture(scope="module")
def recipe():
    return load_recipe("mlp-digits", ("training.epochs=3", "sparsity.growth={random_unfired=0.3, momentum=0.7}"))


def test_runs_are_numbered_and_keep_what_is_there(tmp_path, recipe):
    root = tmp_path / "deep" / "runs"
    names = [create_run_folder(root, recipe).path.name for _ in range(3)]
    assert names == ["mlp-digits-001", "mlp-digits-002", "mlp-digits-003"]


def test_number_follows_the_highest_of_the_same_recipe(tmp_path, recipe):
    for name in ("mlp-digits-007", "mlp-digits-xyz", "mlp-digits-large-050", "mlp-012", "notes"):
        (tmp_path / name).mkdir()
    assert create_run_folder(tmp_path, recipe).path.name == "mlp-digits-008"


def test_more_than_999_runs_have_room(tmp_path, recipe):
    (tmp_path / "mlp-digits-999").mkdir()
    assert [create_run_folder(tmp_path, recipe).path.name for _ in range(2)] == ["mlp-digits-1000", "mlp-digits-1001"]


def test_runs_that_start_together_get_their_own_folders(tmp_path, recipe):
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: create_run_folder(tmp_path, recipe).path, range(24)))
    assert len(set(folders)) == 24
    assert all((path / "config.toml").is_file() for path in folders)


def test_what_a_killed_run_left_unfinished_goes_when_the_next_one_begins(tmp_path, recipe):
    first = create_run_folder(tmp_path, recipe).path
    (first / ".esl-neuro-12345678.partial").write_bytes(b"half")
    (first / "last.json").write_text("{}")
    create_run_folder(tmp_path, recipe)
    assert sorted(path.name for path in first.iterdir()) == ["config.toml", "environment.json", "last.json"]


def test_config_is_the_recipe_as_resolved(tmp_path, recipe):
    folder = create_run_folder(tmp_path, recipe)
    assert folder.recipe() == recipe
    assert load_recipe(str(folder.config)) == recipe
    assert list(folder.recipe().sparsity.growth) == ["random_unfired", "momentum"]


def test_environment_has_the_versions(tmp_path, recipe):
    document = json.loads((create_run_folder(tmp_path, recipe).path / "environment.json").read_text())
    for package in ("torch", "numpy", "nir"):
        assert document["packages"][package] == metadata.version(package)
    assert document["python"].startswith("3.")
    assert document["command"][0] == "esl-neuro"


def test_folder_without_config_is_no_run(tmp_path):
    with pytest.raises(BadInput, match="not a run") as caught:
        RunFolder(tmp_path).recipe()
    assert str(tmp_path) in str(caught.value)


def test_metrics_are_one_json_object_a_line(tmp_path):
    folder = RunFolder(tmp_path)
    entries = [{"epoch": epoch, "loss": 0.1 * epoch} for epoch in range(1, 4)]
    for entry in entries:
        folder.append_metrics(entry)
    assert [json.loads(line) for line in folder.metrics.read_text().splitlines()] == entries


@pytest.mark.parametrize("epochs", [0, 2, 3, 9])
def test_only_metrics_of_finished_epochs_are_kept(tmp_path, epochs):
    folder = RunFolder(tmp_path)
    for epoch in range(1, 4):
        folder.append_metrics({"epoch": epoch})
    folder.keep_metrics(epochs)
    kept = [json.loads(line)["epoch"] for line in folder.metrics.read_text().splitlines()]
    assert kept == [1, 2, 3][:epochs]


def test_structure_is_one_json_object_a_line(tmp_path):
    folder = RunFolder(tmp_path)
    entries = [{"layer": layer, "iteration": done} for done in (5, 10) for layer in ("fc1", "fc2")]
    for entry in entries:
        folder.append_structure(entry)
    assert [json.loads(line) for line in folder.structure.read_text().splitlines()] == entries
    assert not folder.metrics.exists()


@pytest.mark.parametrize(("iterations", "kept"), [(0, 0), (4, 0), (5, 2), (9, 2), (10, 4), (99, 4)])
def test_only_the_structure_of_saved_iterations_is_kept(tmp_path, iterations, kept):
    folder = RunFolder(tmp_path)
    for done in (5, 10):
        for layer in ("fc1", "fc2"):
            folder.append_structure({"layer": layer, "iteration": done})
    before = folder.structure.read_text().splitlines()
    folder.keep_structure(iterations)
    assert folder.structure.read_text().splitlines() == before[:kept]


def test_only_the_pictures_of_saved_iterations_are_kept_and_always_the_first(tmp_path):
    folder = RunFolder(tmp_path)
    for done in (0, 10, 20):
        folder.append_connections({"layer": "fc1", "iteration": done})
    folder.keep_connections(10)
    assert [json.loads(line)["iteration"] for line in folder.connections.read_text().splitlines()] == [0, 10]
    folder.keep_connections(0)
    assert [json.loads(line)["iteration"] for line in folder.connections.read_text().splitlines()] == [0]


def test_half_written_line_of_the_structure_is_dropped(tmp_path):
    folder = RunFolder(tmp_path)
    folder.append_structure({"iteration": 4})
    with folder.structure.open("a") as file:
        file.write('{"iteration": 8, "lay')
    folder.keep_structure(4)
    folder.append_structure({"iteration": 8})
    assert [json.loads(line)["iteration"] for line in folder.structure.read_text().splitlines()] == [4, 8]


def test_half_written_line_is_dropped(tmp_path):
    folder = RunFolder(tmp_path)
    folder.append_metrics({"epoch": 1})
    with folder.metrics.open("a") as file:
        file.write('{"epoch": 2, "lo')
    folder.keep_metrics(1)
    folder.append_metrics({"epoch": 2})
    assert [json.loads(line)["epoch"] for line in folder.metrics.read_text().splitlines()] == [1, 2]


def test_a_damaged_last_line_that_was_written_whole_is_refused(tmp_path):
    folder = RunFolder(tmp_path)
    folder.metrics.write_text('{"epoch": 1}\n{"epoch": {}}\n')
    with pytest.raises(BadInput, match="line 2 is damaged"):
        folder.keep_metrics(3)


@pytest.mark.parametrize(
    "damage", ['{"epoch": Infinity}', '{"epoch": "2"}', '{"epoch": true}', "{", "[]", '{"epoch": 0}']
)
def test_a_damaged_line_before_the_last_is_refused(tmp_path, damage):
    """A kill can leave only the last line unfinished, so this is another kind of damage."""
    folder = RunFolder(tmp_path)
    folder.metrics.write_text('{"epoch": 1}\n' + damage + '\n{"epoch": 3}\n')
    with pytest.raises(BadInput, match=r"metrics\.jsonl: line 2 is damaged \(epoch must be a whole number") as caught:
        folder.keep_metrics(3)
    assert "delete the file" in str(caught.value)
    assert len(folder.metrics.read_text().splitlines()) == 3


def test_nothing_logged_yet_is_fine(tmp_path):
    RunFolder(tmp_path).keep_metrics(0)
    RunFolder(tmp_path).keep_structure(0)
    assert list(tmp_path.iterdir()) == []
