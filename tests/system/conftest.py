"""Fixtures of the tests of whole commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_workspace import Workspace


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A folder in which the quickstart has been run."""
    space = Workspace(tmp_path_factory.mktemp("workspace"))
    done = space.once("esl-neuro quickstart --json")
    assert done.returncode == 0, done.stderr
    return space


@pytest.fixture
def small_run(tmp_path: Path) -> Path:
    """A run of a tiny network for two epochs, in ``runs/mlp-digits-001`` of the test's own folder."""
    done = Workspace(tmp_path).run(
        "esl-neuro train --set training.epochs=2 --set network.notation=64-16-10 --set data.steps=4"
    )
    assert done.returncode == 0, done.stderr
    return tmp_path / "runs" / "mlp-digits-001"
