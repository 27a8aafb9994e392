"""How much time does counting add to a run? ``python benchmarks/counting.py`` prints the shares.

784-800-10 at two densities, 20 steps, input rate 0.1. ``while it runs`` is what ``esl-neuro energy report --backend
integer`` does: the simulator counts, and the counts of all layers are put together. ``afterwards`` counts the same from
nothing but the spikes, as for a run in Lava. Prints JSON, as ``counting.json`` beside this file.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esl_neuro.backends.integer import count_integer, run_integer
from esl_neuro.compiler.program import Program
from esl_neuro.energy.counts import count
from simulate import DENSITIES, RATE, SIZES, STEPS, chain, spikes_for

RESULT = Path(__file__).with_suffix(".json")
SAMPLES, REPEATS = 1000, 40


def shortest(functions: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Return the shortest time of each, in seconds; they take turns, so that all meet the same machine."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(REPEATS + 1):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - started)
    return {name: min(taken[1:]) for name, taken in times.items()}


def shares(program: Program, inputs: NDArray[Any]) -> dict[str, float]:
    """Time the simulator alone, with counting, and counting from spikes."""
    trace = run_integer(program, inputs)
    taken = shortest(
        {
            "run": lambda: run_integer(program, inputs),
            "run and count": lambda: count(program, count_integer(program, inputs)),
        }
    )
    # By itself: its threads wait for more work for a while, which would slow down what comes next.
    taken |= shortest({"count": lambda: count(program, trace)})
    return {
        "simulator_s": taken["run"],
        "share while it runs": taken["run and count"] / taken["run"] - 1,
        "share afterwards": taken["count"] / taken["run"],
        "sop_per_sample": count(program, trace).per_sample("sop_effective"),
    }


def main() -> None:
    """Print the shares at each density."""
    argparse.ArgumentParser(description="What counting costs beside the run that it counts.").parse_args()
    rng = np.random.default_rng(0)
    result = {}
    for density in DENSITIES:
        program = chain(SIZES, density, STEPS, rng)
        result[f"density {density}"] = shares(program, spikes_for(program, SAMPLES, RATE, rng))
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
