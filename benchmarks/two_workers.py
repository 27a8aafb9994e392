"""Two processes beside one: a sweep, and the samples of one network in each simulator.

    python benchmarks/two_workers.py                                       # some ten minutes
    python benchmarks/two_workers.py --samples 0                           # the sweep alone
    python benchmarks/two_workers.py --epochs 2 --samples 600 --repeat 1   # a quick look

Prints JSON; ``two_workers.json`` beside this file is what it printed last. Each command is a process of its own, timed
from its start to its end, with ``--jobs 1`` and ``--jobs 2`` in turn, so that a busy moment of the machine hits both
alike; medians are printed. The sweep trains four runs of one thread each on the 8x8 digits. The network that runs is
trained on them too, with wider layers and 16 steps, and gets random spikes at rate 0.1. The times of two processes
contain their start, which ``"start, s"`` tells alone: a sweep of two runs of one epoch, minus the same in one process.
What both print is compared.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

JOBS = (1, 2)
RUNS = 4
RATE = "0.1"
SWEEP = """
title = "Runs of one thread"
recipe = "mlp-digits"
seeds = {seeds}
[fixed]
"training.epochs" = {epochs}
"training.threads" = 1
"""
WIDE = ("network.notation=64-512-512-10", "data.steps=16", "training.epochs=1", "sparsity.layers=['fc1','fc2']")
TIMELESS = ("seconds", "memory")


def timed(folder: Path, *arguments: str) -> tuple[float, Any]:
    """Return the seconds that a command takes, and what it prints as JSON without its times."""
    command = [sys.executable, "-m", "esl_neuro", *arguments, "--json"]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    taken = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}: exit code {done.returncode}\n{done.stderr}")
    return taken, timeless(json.loads(done.stdout))


def timeless(document: Any) -> Any:
    """Return a document without what tells how long it took."""
    if isinstance(document, dict):
        return {key: timeless(value) for key, value in document.items() if key not in TIMELESS}
    return [timeless(each) for each in document] if isinstance(document, list) else document


def compared(folder: Path, repeat: int, *arguments: str) -> dict[str, Any]:
    """Time a command with one process and with two, in turn, from the same beginning."""
    seconds: dict[int, list[float]] = {jobs: [] for jobs in JOBS}
    printed = []
    for _ in range(repeat):
        for jobs in JOBS:
            shutil.rmtree(folder / "swept", ignore_errors=True)
            taken, document = timed(folder, *arguments, "--jobs", str(jobs))
            seconds[jobs].append(taken)
            printed.append(document)
    one, two = (median(seconds[jobs]) for jobs in JOBS)
    return {
        "command": "esl-neuro " + " ".join(arguments),
        "one process, s": one,
        "two processes, s": two,
        "one / two": one / two,
        "all repeats, s": {str(jobs): each for jobs, each in seconds.items()},
        "results equal": all(document == printed[0] for document in printed),
    }


def sweep(folder: Path, name: str, runs: int, epochs: int, repeat: int) -> dict[str, Any]:
    """Compare a sweep."""
    (folder / f"{name}.toml").write_text(SWEEP.format(seeds=list(range(runs)), epochs=epochs))
    return compared(folder, repeat, "sweep", f"./{name}.toml", "--runs", "swept")


def figures(folder: Path, epochs: int, samples: int, repeat: int, backends: Sequence[str]) -> dict[str, Any]:
    """Compare a sweep, the simulators and the equations."""
    brief = sweep(folder, "brief", 2, 1, repeat)
    found: dict[str, Any] = {
        "start, s": brief["two processes, s"] - brief["one process, s"] / 2,
        "sweep": sweep(folder, "four", RUNS, epochs, repeat),
    }
    if not samples:
        return found
    changes = [word for change in WIDE for word in ("--set", change)]
    timed(folder, "train", "mlp-digits", *changes)
    timed(folder, "export", "runs/mlp-digits-001")
    export = "runs/mlp-digits-001/loihi2"
    for backend in backends:
        how = ("--backend", backend, "--rate", RATE, "--samples", str(samples))
        found[f"run, {backend}"] = compared(folder, repeat, "run", export, *how)
    np.savez(folder / "spikes.npz", **labelled(samples))
    found["evaluate, integers and equations"] = compared(folder, repeat, "evaluate", export, "--input", "spikes.npz")
    return found


def labelled(samples: int) -> dict[str, Any]:
    """Return random spikes with random classes."""
    rng = np.random.default_rng(0)
    spikes = rng.random((samples, 16, 64)) < float(RATE)
    return {"input": spikes.astype(np.uint8), "labels": rng.integers(0, 10, samples)}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--epochs", type=int, default=160, help="of each of the four runs of the sweep")
    parser.add_argument("--samples", type=int, default=4096, help="that run in each simulator; 0 for none")
    parser.add_argument("--repeat", type=int, default=2)
    given = parser.parse_args()
    from esl_neuro.backends.lava_session import lava_installed

    backends = ("integer", *(("lava", "lava-batched") if lava_installed() else ()))
    with tempfile.TemporaryDirectory() as work:
        found = figures(Path(work), given.epochs, given.samples, given.repeat, backends)
    machine = {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
    }
    print(json.dumps({**found, "repeat": given.repeat, "machine": machine}, indent=2))


if __name__ == "__main__":
    main()
