"""Commands in processes of their own, which tests interrupt and kill."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from system.command_workspace import arguments, environment

PATIENCE_S = 240  # a machine with other work to do takes a minute to start two processes


def start(command: str, folder: Path) -> subprocess.Popen[str]:
    """Start a command as the leader of its own process group, as a shell would."""
    return subprocess.Popen(
        arguments(command),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(condition) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def opened(pid: int) -> list[str]:
    """Files and folders that a process has open; the one that trains a run has its folder open."""
    found = []
    with suppress(FileNotFoundError):  # one that has ended meanwhile
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # one that was closed meanwhile
                found.append(os.readlink(path))
    return found


def children(pid: int) -> list[int]:
    """Processes that any thread of a process has started."""
    return [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]


def group(leader: int) -> list[int]:
    """Processes of a process group that are not zombies."""
    found = subprocess.run(["ps", "-eo", "pid,pgid,stat"], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in found.splitlines()[1:]]
    return [int(pid) for pid, number, state in rows if int(number) == leader and not state.startswith("Z")]
