"""Fixtures of the tests of whole commands."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from system.command_workspace import Workspace


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A folder in which the quickstart has been run."""
    space = Workspace(tmp_path_factory.mktemp("workspace"))
    done = space.once("esl-neuro quickstart --json")
    assert done.returncode == 0, done.stderr
    return space


@pytest.fixture(scope="session")
def small_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny network, trained for two epochs and exported; tests work on copies of it."""
    space = Workspace(tmp_path_factory.mktemp("small"))
    for command in (
        "esl-neuro train --set training.epochs=2 --set network.notation=64-16-10 --set data.steps=4",
        "esl-neuro export",
    ):
        done = space.run(command)
        assert done.returncode == 0, done.stderr
    return space.folder


@pytest.fixture
def small_run(small_workspace: Path, tmp_path: Path) -> Path:
    """The run ``runs/mlp-digits-001`` in the test's own folder, with its export in ``loihi2``."""
    shutil.copytree(small_workspace, tmp_path, dirs_exist_ok=True)
    return tmp_path / "runs" / "mlp-digits-001"
