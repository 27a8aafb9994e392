"""Computations of shards for tests, which workers in other processes import too."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from esl_neuro.pipeline.shards import Arrays
from esl_neuro.pipeline.simulation import Progress


@dataclass(frozen=True)
class Squares:
    """Square numbers; note each computed shard, and kill the worker that computes the shard with a number first."""

    notes: Path
    fatal: int = -1

    def __call__(self, folder: Path, given: Arrays, threads: int, progress: Progress) -> Arrays:  # noqa: ARG002
        (number, *_) = numbers = given["numbers"]
        progress(0, len(numbers))
        if number == self.fatal and not (self.notes / "killed").exists():
            (self.notes / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        with (self.notes / "computed").open("a") as file:
            file.write(f"{number}\n")
        return {"squares": numbers**2}
