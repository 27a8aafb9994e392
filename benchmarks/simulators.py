"""How many samples per second do the simulators run? The same random network in each, the spikes compared.

    python benchmarks/simulators.py                  # 784-800-10, density 0.16, T = 20, input rate 0.1
    python benchmarks/simulators.py --sizes 64 256 10 --steps 16 --samples 360

Prints JSON; ``simulators.json`` beside this file is what it printed last.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import sys
import time
from typing import Any

import numpy as np
import scipy.sparse as sp

from esl_neuro.backends.integer import run_integer
from esl_neuro.backends.lava import run_lava
from esl_neuro.backends.trace import Trace, first_difference
from esl_neuro.compiler.program import INPUT, Connection, Group, Program
from esl_neuro.errors import EslNeuroError


def random_program(sizes: list[int], density: float, steps: int, rng: np.random.Generator) -> Program:
    """Plain LIF layers with random even weights, decay 0.5 and per-neuron thresholds."""
    connections, groups, source = [], [], INPUT
    for index, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes), start=1):
        name = f"lif{index}"
        weights = rng.integers(-127, 128, (fan_out, fan_in)) * 2 * (rng.random((fan_out, fan_in)) < density)
        matrix = sp.csr_matrix(weights.astype(np.int32))
        zeros = np.zeros(fan_out, np.int64)
        vth = rng.integers(200, 1000, fan_out)
        connections.append(Connection(source, name, matrix, 0, matrix.nnz))
        groups.append(Group(name, zeros + 4095, zeros + 2048, vth, zeros, zeros, 1.0))
        source = name
    return Program("loihi2", sizes[0], steps, 1e-4, tuple(connections), tuple(groups))


def timed(run: Any, samples: int) -> tuple[Trace, float]:
    started = time.perf_counter()
    trace = run()
    return trace, samples / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description="Samples per second of the simulators.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[784, 800, 10])
    parser.add_argument("--density", type=float, default=0.16)
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--single", type=int, default=20, help="samples for Lava with one copy of the network")
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    program = random_program(options.sizes, options.density, options.steps, rng)
    shape = (options.samples, options.steps, program.input_size)
    inputs = (rng.random(shape) < options.rate).astype(np.uint8)
    run_integer(program, inputs[:2])  # first use loads the numeric libraries
    integer, integer_rate = timed(lambda: run_integer(program, inputs), options.samples)
    lava, lava_rate = timed(lambda: run_lava(program, inputs), options.samples)
    _, single_rate = timed(lambda: run_lava(program, inputs[: options.single], copies=1), options.single)
    difference = first_difference(integer, lava)
    result = {
        "network": vars(options),
        "samples_per_second": {
            "integer": round(integer_rate, 1),
            "lava, copies side by side": round(lava_rate, 1),
            "lava, one sample at a time": round(single_rate, 1),
        },
        "spikes": {name: int(fired.sum()) for name, fired in integer.spikes.items()},
        "spikes_equal": difference is None,
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    try:
        main()
    except EslNeuroError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
