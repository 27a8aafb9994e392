"""Fixtures of the tests of whole commands."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from filelock import FileLock

from system.command_workspace import Workspace


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A folder in which the quickstart has been run: once for all processes of the suite, which take a copy."""
    command, folder = "esl-neuro quickstart --json", tmp_path_factory.mktemp("workspace")
    own = tmp_path_factory.getbasetemp()
    made = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "quickstart"
    with FileLock(f"{made}.lock"):
        if not made.exists():
            first = Workspace(made)
            made.mkdir()
            done = first.once(command)
            assert done.returncode == 0, done.stderr
            (made / "stdout.json").write_text(done.stdout)
    shutil.copytree(made, folder, dirs_exist_ok=True)
    return Workspace(folder, {command: CompletedProcess(command, 0, (folder / "stdout.json").read_text(), "")})


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
