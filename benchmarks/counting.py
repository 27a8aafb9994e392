"""How much time does counting add to a run?

    python benchmarks/counting.py                # the shares
    python benchmarks/counting.py --repeat 1     # a quick look

784-800-10 at two densities, 20 steps, input rate 0.1, two threads. ``while it runs`` is what ``esl-neuro energy report
--backend integer`` does: the simulator counts, and the counts of all layers are put together. ``afterwards`` counts the
same from nothing but the spikes, as for a run in Lava. Shares are of the shortest of many times. Prints JSON;
``counting.json`` beside this file is what it printed last.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esl_neuro.backends.integer import count_integer, run_integer
from esl_neuro.compiler.program import Program
from esl_neuro.energy.counts import count
from measurement import MS, Action, Headline, in_turns, markdown_table, percent, print_record, run
from random_chains import DENSITIES, RATE, SIZES, STEPS, chain, spikes_for

SAMPLES = 1000


def shares(program: Program, inputs: NDArray[Any], repeat: int) -> dict[str, float]:
    """Time the simulator alone, with counting, and counting from spikes."""
    trace = run_integer(program, inputs)
    runs: dict[str, Action] = {
        "run": partial(run_integer, program, inputs),
        "run and count": lambda: count(program, count_integer(program, inputs)),
    }
    taken = in_turns(runs, repeat)
    # By itself: its threads wait for more work for a while, which would slow down what comes next.
    taken |= in_turns({"count": lambda: count(program, trace)}, repeat)
    alone, counted, afterwards = (taken[name].shortest_ms for name in ("run", "run and count", "count"))
    return {
        "simulator_s": alone / MS,
        "share while it runs": counted / alone - 1,
        "share afterwards": afterwards / alone,
        "sop_per_sample": count(program, trace).per_sample("sop_effective"),
    }


def tables(record: Mapping[str, Any]) -> str:
    """Return the table of the documents."""
    names = ("share while it runs", "share afterwards")
    rows = [(density, *(percent(found[name]) for name in names)) for density, found in record["networks"].items()]
    return markdown_table(("784-800-10", *names), rows)


def headlines(record: Mapping[str, Any]) -> list[Headline]:
    """Return the rows of the summary."""
    return [
        (f"counting, {density}", percent(found["share while it runs"]), "of the run, while it runs")
        for density, found in record["networks"].items()
    ]


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
    print_record({"densities": DENSITIES, "samples": SAMPLES, "networks": result})


if __name__ == "__main__":
    run(main)
