"""Up to which density is a sparse step faster than a masked one?

    python benchmarks/sparse_break_even.py               # 784-4096-4096-10 at densities 0.005 to 0.8
    python benchmarks/sparse_break_even.py --repeat 2    # a quick look

Prints JSON; ``sparse_break_even.json`` beside this file is what it printed last. Steps are those of ``sparse_step.py``,
timed in turn, with one thread. The break-even is where the ratio of the processor times crosses 1, interpolated
between the two densities around it.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch

from esl_neuro.training.freed_memory import keep_freed_memory
from measurement import Headline, markdown_table, print_record, run
from sparse_step import BATCH, KINDS, RATE, SIZES, STEPS, time_steps

DENSITIES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)


def break_even(ratios: Mapping[float, float]) -> float | None:
    """Return the density at which a ratio that rises with the density is 1; None if it is not among these.

    Examples
    --------
    >>> break_even({0.2: 0.5, 0.4: 0.75, 0.6: 1.25})
    0.5
    """
    for (low, below), (high, above) in pairwise(sorted(ratios.items())):
        if below <= 1 < above:
            return low + (high - low) * (1 - below) / (above - below)
    return None


def measure(sizes: Sequence[int], densities: Sequence[float], repeat: int) -> dict[str, Any]:
    """Time steps at every density."""
    found = {density: time_steps(KINDS[:2], sizes, density, repeat) for density in densities}
    ratios = {density: taken["sparse"].processor_ms / taken["masked"].processor_ms for density, taken in found.items()}
    return {
        "break-even density": break_even(ratios),
        "density": {
            str(density): {
                **{kind: each.milliseconds for kind, each in taken.items()},
                "sparse / masked": ratios[density],
            }
            for density, taken in found.items()
        },
    }


def tables(record: Mapping[str, Any]) -> str:
    """Return the table of the documents."""
    rows = [
        (density, *(f"{found[kind]['processor_ms']:g}" for kind in KINDS[:2]), f"{found['sparse / masked']:.3f}")
        for density, found in record["density"].items()
    ]
    headings = ("density", "sparse, processor ms", "masked, processor ms", "ratio")
    return f"{markdown_table(headings, rows)}\n\nBreak-even: {_words(record)}."


def headlines(record: Mapping[str, Any]) -> list[Headline]:
    """Return the row of the summary."""
    return [("break-even with masked layers", _words(record), "")]


def _words(record: Mapping[str, Any]) -> str:
    found = record["break-even density"]
    if found is None:
        return f"not between the densities {' and '.join([*record['density']][:: len(record['density']) - 1])}"
    return f"density {found:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--sizes", type=int, nargs=4, default=SIZES)
    parser.add_argument("--density", type=float, nargs="+", default=DENSITIES)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as training does
    settings = {"sizes": options.sizes, "steps": STEPS, "batch": BATCH, "rate": RATE, "threads": options.threads}
    found = measure(options.sizes, options.density, options.repeat)
    print_record({"network": {**settings, "densities": options.density, "repeat": options.repeat}, **found})


if __name__ == "__main__":
    run(main)
