"""The benchmark of a training step runs and prints its figures."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from system.command_workspace import REPOSITORY


def test_the_benchmark_prints_its_figures():
    small = ["--sizes", "20", "12", "3", "--batch", "4", "--threads", "1", "--repeat", "2", "--iterations", "100"]
    script = str(REPOSITORY / "benchmarks" / "train_step.py")
    done = subprocess.run([sys.executable, script, *small], capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    for kind in ("spikes", "direct"):
        times = result["step"][kind]["milliseconds"]
        assert {"ours", "matrix products", "adam, foreach", "snntorch", "spikingjelly", "norse", "sinabs"} <= set(times)
        assert 0 < times["ours"]["shortest_ms"] <= times["ours"]["wall_ms"]
        assert result["step"][kind]["ours / (matrix products + fastest adam)"]["shortest_ms"] > 0
        share = result["rewiring"][kind]["share"]
        assert share["updates"] > 0
        assert share["both"] == pytest.approx(share["mask"] + share["updates"], rel=0.01)
