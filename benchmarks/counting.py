"""What does counting cost beside the run that it counts? ``python benchmarks/counting.py`` prints the ratio."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from esl_neuro.backends.integer import run_integer
from esl_neuro.compiler.program import INPUT, Connection, Group, Program
from esl_neuro.energy.counts import count

RESULT = Path(__file__).with_suffix(".json")
SIZES = (784, 800, 10)
STEPS, SAMPLES, RATE, DENSITY, REPEAT = 20, 200, 0.1, 0.16, 5


def random_program(rng: np.random.Generator) -> Program:
    """784-800-10 at density 0.16, thresholds such that the hidden layer fires."""
    connections, groups, source = [], [], INPUT
    for depth, (inputs, neurons) in enumerate(itertools.pairwise(SIZES), 1):
        weights = 2 * rng.integers(-127, 128, (neurons, inputs)) * (rng.random((neurons, inputs)) < DENSITY)
        matrix = sp.csr_matrix(weights)
        zeros, name = np.zeros(neurons, dtype=np.int64), f"lif{depth}"
        connections.append(Connection(source, name, matrix, 0, matrix.nnz))
        groups.append(Group(name, zeros + 4095, zeros + 2048, zeros + 400, zeros, zeros, 1.0))
        source = name
    return Program("loihi2", SIZES[0], STEPS, 1e-3, tuple(connections), tuple(groups))


def fastest(function: Callable[[], object]) -> float:
    """Return the shortest of some runs, in seconds, after one that does not count."""
    function()
    times = []
    for _ in range(REPEAT):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> None:
    """Time the integer simulator and counting in turn."""
    rng = np.random.default_rng(0)
    program = random_program(rng)
    inputs = (rng.random((SAMPLES, STEPS, SIZES[0])) < RATE).astype(np.uint8)
    trace = run_integer(program, inputs)
    simulated, counted = fastest(lambda: run_integer(program, inputs)), fastest(lambda: count(program, trace))
    result = {
        "simulator_s": simulated,
        "counting_s": counted,
        "share": counted / simulated,
        "sop_per_sample": count(program, trace).per_sample("sop_effective"),
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
