"""A workspace that runs whole commands as a user would, each only once."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


class Workspace:
    """A folder and the commands that ran in it; a repeated command returns the earlier result."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._done: dict[str, subprocess.CompletedProcess[str]] = {}

    def once(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command line, or return its earlier result."""
        if command not in self._done:
            self._done[command] = self.run(command)
        return self._done[command]

    def run(self, command: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command line."""
        return subprocess.run(
            arguments(command),
            cwd=folder or self.folder,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def json(self, command: str) -> dict:
        """Run a command once and return the JSON that it prints."""
        done = self.once(command)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def arguments(command: str) -> list[str]:
    """Argument list of a command line, with this interpreter's esl-neuro and python."""
    program, *rest = shlex.split(command)
    python = [sys.executable]
    return {"esl-neuro": [*python, "-m", "esl_neuro.cli.main"], "python": python}[program] + rest


def environment() -> dict[str, str]:
    """Environment of the commands: plain, and without this terminal's settings."""
    return {key: value for key, value in os.environ.items() if not key.startswith("ESL_NEURO")} | {"NO_COLOR": "1"}
