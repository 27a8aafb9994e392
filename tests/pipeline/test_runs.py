"""The list of runs, and the examination of the installation."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from data.own_files import samples
from esl_neuro.data import prepare
from esl_neuro.errors import BadInput
from esl_neuro.pipeline import doctor
from esl_neuro.pipeline.doctor import MISSING, OK, PROBLEM, examine
from esl_neuro.pipeline.runs import DAMAGED, FINISHED, INTERRUPTED, list_runs
from esl_neuro.pipeline.training import load_run
from esl_neuro.recipes import load_recipe
from esl_neuro.training.run_folder import create_run_folder

OLD = Path(__file__).parent / "written_by_0_1_0"


def test_runs_are_listed_with_state_and_exports_the_latest_last(tmp_path):
    shutil.copytree(OLD, tmp_path / "old-001")
    shutil.copytree(OLD, tmp_path / "sweep" / "case-seed0")
    (tmp_path / "old-001" / "other").mkdir()
    shutil.copy(OLD / "loihi2" / "export.json", tmp_path / "old-001" / "other")
    create_run_folder(tmp_path, load_recipe("mlp-digits"))
    shutil.copytree(OLD, tmp_path / "broken")
    (tmp_path / "broken" / "result.json").write_text("{")
    for number, name in enumerate(("broken", "sweep/case-seed0", "mlp-digits-001", "old-001")):
        for path in (tmp_path / name).iterdir():
            os.utime(path, (1000 + number, 1000 + number))
    found = list_runs(tmp_path)
    assert [Path(each.folder).name for each in found] == ["broken", "case-seed0", "mlp-digits-001", "old-001"]
    assert [each.state for each in found] == [DAMAGED, FINISHED, INTERRUPTED, FINISHED]
    assert found[-1].exports == ("loihi2", "other")
    assert found[-1].density == pytest.approx(0.15, abs=0.01)
    assert (found[2].test_accuracy, found[0].test_accuracy) == (None, None)
    assert "result.json" in found[0].problem
    with pytest.raises(BadInput, match="no such folder"):
        list_runs(tmp_path / "nowhere")


def test_the_code_of_a_strangers_run_is_not_imported(tmp_path):
    create_run_folder(tmp_path, load_recipe("mlp-digits", ("network.notation=strange_module:make",)))
    assert list_runs(tmp_path)[0].state == INTERRUPTED
    assert "strange_module" not in sys.modules


def by_name(runs):
    return {each.name: each for each in examine(runs)}


def test_the_examination_names_what_is_there_and_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("ESL_NEURO_DATA", str(tmp_path))
    found = by_name(tmp_path / "runs")
    assert found["torch"].state == OK
    assert "CPU only" in found["torch"].detail or "CUDA" in found["torch"].detail
    assert found["digits"].state == OK
    assert found["mnist"].state == MISSING
    assert "--download" in found["mnist"].fix
    assert found["runs"].detail == str(tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_every_missing_package_has_its_command(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "find_spec", lambda _: None)
    monkeypatch.setattr(doctor, "lava_installed", lambda: False)
    missing = [each for each in examine(tmp_path) if each.topic == "optional"]
    assert {each.state for each in missing} == {MISSING}
    assert all(each.fix.startswith("pip install") for each in missing)


@pytest.mark.skipif(os.name != "posix", reason="a device that takes no files")
def test_a_folder_that_cannot_be_written_is_a_problem():
    assert by_name(Path("/dev/null/runs"))["runs"].state == PROBLEM


@pytest.mark.skipif(os.name != "posix", reason="a device that takes no files")
def test_without_a_place_for_compiled_code_commands_are_slow_and_not_broken(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/dev/null/cache")
    found = by_name(tmp_path)["compiled code"]
    assert (found.state, "NUMBA_CACHE_DIR" in found.fix) == (MISSING, True)


def test_the_validation_part_of_a_run_is_that_of_its_training(tmp_path):
    (x, y), (x_test, y_test) = samples(60), samples(9, seed=1)
    np.savez(tmp_path / "own.npz", x=x, y=y, x_test=x_test, y_test=y_test)
    recipe = load_recipe("mlp-digits", (f"data.name={tmp_path}/own.npz", "training.seed=3"))
    part = load_run(create_run_folder(tmp_path, recipe).path, allow_code=True).dataset.validation
    assert np.array_equal(part.values, prepare(recipe.data, 3).validation.values)
    assert not np.array_equal(part.values, prepare(recipe.data, 0).validation.values)
