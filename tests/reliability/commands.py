"""Run commands of esl-neuro in forks of a process that has imported everything, and disturb them.

A command runs in a process of its own, in a folder of its own, with its output in files; only the imports are shared.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

IMPORTED = (
    "esl_neuro.cli.quickstart",
    "esl_neuro.pipeline.training",
    "esl_neuro.pipeline.compilation",
    "esl_neuro.pipeline.sweeping",
    "esl_neuro.pipeline.searching",
    "esl_neuro.pipeline.pricing",
    "esl_neuro.training.trainer",
    "esl_neuro.report.energy_csv",
    "esl_neuro.pipeline.report_page",
    "matplotlib.figure",
    "torch._dynamo",
)
UNFINISHED = ".esl-neuro-"
TINY = "--set training.epochs=2 --set network.notation=64-8-10 --set data.steps=2 --set training.batch=400"
SWEEP = f"""
title = "Two runs"
recipe = "mlp-digits"
seeds = [0, 1]
[fixed]
{
    chr(10).join(
        f'"{field}" = {value}'
        for field, value in (
            ("training.epochs", 1),
            ("network.notation", '"64-8-10"'),
            ("data.steps", 2),
            ("training.batch", 400),
        )
    )
}
"""


ONE_RUN = SWEEP.replace("Two runs", "One run").replace("seeds = [0, 1]", "seeds = [0]\nnoise = ['salt_and_pepper=0.1']")
SEARCH = (
    SWEEP.replace("Two runs", "Three trials").replace("seeds = [0, 1]", "trials = 3\nrandom = 1")
    + """
[space]
"sparsity.density" = { low = 0.2, high = 0.5 }
"""
)
REPRODUCTION = (
    """
title = "A table"
paper = "none"
unpublished = "nothing was published"
"""
    + "".join(
        f"""
[scales.{scale}]
network = "tiny"
comparable = false
sweeps = {{ "./one.toml" = 1 }}
"""
        for scale in ("smoke", "short", "full")
    )
    + "".join(
        f"""
[[cells]]
row = "tiny"
quantity = "{quantity}"
smoke = {{ sweep = "./one.toml", case = "mlp-digits" }}
"""
        for quantity in ("test_accuracy", "counted_operations")
    )
)
GIVEN = {
    "two.toml": SWEEP,
    "one.toml": ONE_RUN,
    "table.toml": REPRODUCTION,
    "three.toml": SEARCH,
    "power.csv": "time,power\n0,1.0\n1,1.5\n2,1.0\n",
    "digit.csv": ",".join(str(number / 64) for number in range(64)) + "\n",
}
"""Files of a user, which the commands read."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str
    seconds: float


def load() -> None:
    """Import what the commands need, once."""
    for name in IMPORTED:
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)


def start(command: str, folder: Path, before: Callable[[], None] = lambda: None) -> int:
    """Start a command in a fork, as the leader of a group of its own; return its process id."""
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        os.setsid()
        os.chdir(folder)
        for descriptor, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(_output(folder, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), descriptor)
        from esl_neuro.cli.main import main

        arguments = command.split()[1:]
        sys.argv = ["esl-neuro", *arguments]
        before()
        code = main(arguments)
        sys.stdout.flush()
    finally:
        os._exit(code)


def wait(child: int, folder: Path, started: float, most_s: float = 120.0) -> Ended:
    """Wait for the end of a command."""
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        if time.monotonic() - started > most_s:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise TimeoutError(f"a command in {folder} takes more than {most_s:.0f} s")
        time.sleep(0.002)
    out, err = (_output(folder, name).read_text(errors="replace") for name in ("out", "err"))
    return Ended(os.waitstatus_to_exitcode(status), out, err, time.monotonic() - started)


def run(command: str, folder: Path, before: Callable[[], None] = lambda: None) -> Ended:
    """Run a command to its end."""
    started = time.monotonic()
    return wait(start(command, folder, before), folder, started)


def succeed(command: str, folder: Path) -> Ended:
    """Run a command that must succeed."""
    ended = run(command, folder)
    assert ended.code == 0, f"{command}: exit code {ended.code}\n{ended.err}"
    return ended


def prepare(folder: Path, commands: Iterable[str]) -> Path:
    """Make a folder with the files of a user, and run commands in it that must succeed."""
    folder.mkdir()
    for name, text in GIVEN.items():
        (folder / name).write_text(text)
    for command in commands:
        succeed(command, folder)
    return folder


def _output(folder: Path, name: str) -> Path:
    return folder.parent / f"{folder.name}.{name}"


@contextmanager
def workplace() -> Iterator[Path]:
    """Yield a folder for the folders of the commands."""
    with TemporaryDirectory() as folder:
        yield Path(folder)


def copy(source: Path, target: Path) -> Path:
    """Return a fresh copy of a folder."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, symlinks=True)
    return target


def contents(folder: Path) -> dict[str, str]:
    """Return what every file below a folder holds; times that a run took are left out."""
    return {path.relative_to(folder).as_posix(): _content(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def leftovers(folder: Path) -> list[str]:
    """Return the unfinished files and folders below a folder."""
    return [str(path.relative_to(folder)) for path in folder.rglob(f"{UNFINISHED}*")]


def _content(path: Path) -> str:
    if path.suffix == ".json":
        return json.dumps(_timeless(json.loads(path.read_text())), sort_keys=True)
    if path.suffix == ".journal":  # Optuna's times and names of processes; its trials stand in summary.json
        return ""
    if path.suffix == ".safetensors" and path.stem in ("last", "best"):
        from safetensors import safe_open

        with safe_open(str(path), framework="numpy") as file:
            arrays = {name: file.get_tensor(name).tobytes().hex() for name in sorted(file.keys())}
            progress = _timeless(json.loads(file.metadata()["progress"]))
        return hashlib.sha256(json.dumps([arrays, progress], sort_keys=True).encode()).hexdigest()
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _timeless(document: object) -> object:
    """Return a document without times, memory and the command line, which tell how it was made."""
    if isinstance(document, dict):
        return {key: _timeless(value) for key, value in document.items() if key not in ("seconds", "memory", "command")}
    return [_timeless(each) for each in document] if isinstance(document, list) else document
