"""A workspace that runs whole commands as a user would, each only once."""

from __future__ import annotations

import functools
import json
import os
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

REPOSITORY = Path(__file__).parents[2]
ESL_NEURO = ["-m", "esl_neuro.cli.main"]
LONGEST_S = 300


class Workspace:
    """A folder and the commands that ran in it; a repeated command returns the earlier result."""

    def __init__(self, folder: Path, done: dict[str, subprocess.CompletedProcess[str]] | None = None) -> None:
        self.folder = folder
        self._done = done or {}

    def once(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command line, or return its earlier result."""
        if command not in self._done:
            self._done[command] = self.run(command)
        return self._done[command]

    def run(self, command: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command line of esl-neuro or python, in a process that starts with its imports made."""
        return served(shlex.split(command), folder or self.folder)

    def json(self, command: str) -> dict:
        """Run a command once and return the JSON that it prints."""
        done = self.once(command)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def arguments(command: str) -> list[str]:
    """Argument list of a command line, with this interpreter's esl-neuro and python."""
    program, *rest = shlex.split(command)
    python = [sys.executable]
    return {"esl-neuro": [*python, *ESL_NEURO], "python": python}[program] + rest


def environment() -> dict[str, str]:
    """Environment of the commands: plain, and without this terminal's settings."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ESL_NEURO", "COLUMNS"))}
    return kept | {"NO_COLOR": "1"}


def served(words: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run ``esl-neuro ...``, ``python FILE ...`` or ``python -c CODE`` in a fork of the command server."""
    with TemporaryDirectory() as outputs:
        out, err = Path(outputs, "stdout"), Path(outputs, "stderr")
        request = {"arguments": list(words), "folder": str(folder), "environment": environment()}
        code = _ask(request | {"stdout": str(out), "stderr": str(err)})
        return subprocess.CompletedProcess(list(words), code, out.read_text(), err.read_text())


def _ask(request: dict) -> int:
    """Send a request to the server, and wait for the exit code."""
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    if not select.select([server.stdout], [], [], LONGEST_S)[0]:
        os.killpg(server.pid, signal.SIGKILL)
        _server.cache_clear()
        raise TimeoutError(f"{' '.join(request['arguments'])} takes more than {LONGEST_S} s")
    return int(server.stdout.readline())


@functools.cache
def _server() -> subprocess.Popen[str]:
    """Start the server; it ends with this process, which holds its standard input."""
    return subprocess.Popen(
        [sys.executable, Path(__file__).with_name("command_server.py")],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
