"""How much time does counting add to a run? ``python benchmarks/counting.py`` prints the shares.

784-800-10 at two densities, 20 steps, input rate 0.1. ``while it runs`` is what ``esl-neuro energy report --backend
integer`` does: the simulator counts, and the counts of all layers are put together. ``afterwards`` counts the same from
nothing but the spikes, as for a run in Lava. Prints JSON; ``counting.json`` beside this file is what it printed last.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esl_neuro.backends.integer import count_integer, run_integer
from esl_neuro.compiler.program import Program
from esl_neuro.energy.counts import count
from simulate import DENSITIES, RATE, SIZES, STEPS, chain, spikes_for

SAMPLES = 1000


def shortest(functions: Mapping[str, Callable[[], object]], repeat: int) -> dict[str, float]:
    """Return the shortest time of each, in seconds; they take turns, so that all meet the same machine."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeat + 1):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - started)
    return {name: min(taken[1:]) for name, taken in times.items()}


def shares(program: Program, inputs: NDArray[Any], repeat: int) -> dict[str, float]:
    """Time the simulator alone, with counting, and counting from spikes."""
    trace = run_integer(program, inputs)
    taken = shortest(
        {
            "run": lambda: run_integer(program, inputs),
            "run and count": lambda: count(program, count_integer(program, inputs)),
        },
        repeat,
    )
    # By itself: its threads wait for more work for a while, which would slow down what comes next.
    taken |= shortest({"count": lambda: count(program, trace)}, repeat)
    return {
        "simulator_s": taken["run"],
        "share while it runs": taken["run and count"] / taken["run"] - 1,
        "share afterwards": taken["count"] / taken["run"],
        "sop_per_sample": count(program, trace).per_sample("sop_effective"),
    }


def main() -> None:
    """Print the shares at each density."""
    parser = argparse.ArgumentParser(description="What counting costs beside the run that it counts.")
    parser.add_argument("--repeat", type=int, default=40, help="runs of each kind, of which the fastest counts")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    result = {}
    for density in DENSITIES:
        program = chain(SIZES, density, STEPS, rng)
        result[f"density {density}"] = shares(program, spikes_for(program, SAMPLES, RATE, rng), options.repeat)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
