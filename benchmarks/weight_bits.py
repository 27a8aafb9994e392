"""Fewer connections or fewer bits? ``python benchmarks/weight_bits.py runs/fashion-surface runs/fashion-bits``.

Compiles every run of these sweeps with weights of 8, 6, 4, 3 and 2 bits, or with the bits that it was trained on: test
accuracy of the integers, memory of the synapses with its headers and indices, and operations per image. The weights are
rounded, and not trained further, unless the sweep did so. Prints JSON; ``weight_bits.json`` beside this file is what it
printed last, and ``--plot`` draws accuracy against memory.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from esl_neuro.backends.integer import count_integer
from esl_neuro.compiler.placement import place
from esl_neuro.energy.counts import count
from esl_neuro.pipeline.compilation import compile
from esl_neuro.pipeline.decisions import predict
from esl_neuro.pipeline.training import TrainingRun, load_run
from esl_neuro.report.plots import Point, draw_lines
from measurement import Headline, markdown_table, print_record, run

BITS = (8, 6, 4, 3, 2)
DRAWN = 4  # bits from which rounding alone keeps the accuracy
COUNTED = 1000  # test images whose operations are counted


@dataclass(frozen=True)
class Cell:
    """One network with one number of bits."""

    density: float
    bits: int
    trained_on_bits: bool
    seed: int
    float_accuracy: float
    accuracy: float
    connections: int
    weight_bits_stored: int
    memory_bits: int
    sop_per_sample: float


def cell(trained: TrainingRun, bits: int | None) -> Cell:
    """Compile a run and measure it; None stands for the bits that it was trained on."""
    chip = compile(trained, weight_bits=bits, accept_loss=True)
    assert chip.hardware is not None  # it was just compiled for one
    test = chip.test_set(dataset=trained.dataset)
    classes, _ = predict(chip, test)
    trace = count_integer(chip.program, chip.payloads(test.part(COUNTED))[1])
    widths = [each.weight_bits or 8 for each in chip.program.connections]
    stored = [each.stored for each in chip.program.connections]
    return Cell(
        density=getattr(trained.recipe.sparsity, "density", None) or 1.0,
        bits=bits or max(widths),
        trained_on_bits=bits is None,
        seed=trained.recipe.training.seed,
        float_accuracy=trained.accuracy,
        accuracy=float((classes == test.labels).mean()),
        connections=sum(stored),
        weight_bits_stored=sum(width * count for width, count in zip(widths, stored, strict=True)),
        memory_bits=int(place(chip.program, chip.hardware).used["synaptic_memory"].sum()),
        sop_per_sample=float(count(chip.program, trace).per_sample("sop_effective")),
    )


def summaries(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Return mean and spread over the seeds of each density and bits."""
    groups: dict[tuple[float, bool, int], list[Cell]] = defaultdict(list)
    for each in cells:
        groups[each.density, each.trained_on_bits, -each.bits].append(each)
    return [
        {
            "density": density,
            "bits": -bits,
            "trained_on_bits": trained,
            "seeds": len(group),
            "accuracy": mean(each.accuracy for each in group),
            "accuracy_spread": stdev(each.accuracy for each in group) if len(group) > 1 else 0.0,
            **{
                name: mean(getattr(each, name) for each in group)
                for name in ("float_accuracy", "connections", "weight_bits_stored", "memory_bits", "sop_per_sample")
            },
        }
        for (density, trained, bits), group in sorted(groups.items())
    ]


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw accuracy against memory, one line for each number of bits; the table has also few bits without training."""
    lines: dict[str, list[Point]] = defaultdict(list)
    for row in rows:
        if row["bits"] < DRAWN and not row["trained_on_bits"]:
            continue
        label = f"{row['bits']} bits" + (", trained on them" if row["trained_on_bits"] else "")
        point = Point(row["memory_bits"] / 1e3, 100 * row["accuracy"], 100 * row["accuracy_spread"], int(row["seeds"]))
        lines[label].append(point)
    draw_lines(lines, "memory of the synapses (kbit)", "test accuracy (%)", path)


def tables(record: Mapping[str, Any]) -> str:
    """Return the table of the documents."""
    rows = [
        (
            f"{row['density']:g}",
            f"{row['bits']}{', trained on them' if row['trained_on_bits'] else ''}",
            f"{100 * row['accuracy']:.2f} %",
            f"{row['seeds']}",
            f"{row['connections']:,.0f}",
            f"{row['weight_bits_stored']:,.0f}",
            f"{row['memory_bits']:,.0f}",
            f"{row['sop_per_sample']:,.0f}",
        )
        for row in record["rows"]
    ]
    headings = (
        "density",
        "bits",
        "test accuracy of the integers",
        "seeds",
        "connections",
        "weights (bits)",
        "memory (bits)",
        "operations per image",
    )
    return markdown_table(headings, rows)


def headlines(record: Mapping[str, Any]) -> list[Headline]:
    """Return the rows of the summary."""
    return [
        (f"density {row['density']:g}, {row['bits']} bits", f"{100 * row['accuracy']:.2f} %", "test accuracy")
        for row in record["rows"]
        if row["trained_on_bits"]
    ]


def main() -> None:
    """Print the cells of all runs of the given sweeps."""
    parser = argparse.ArgumentParser(description="Accuracy, memory and operations by density and bits of the weights.")
    parser.add_argument("sweeps", nargs="+", type=Path, help="folders of finished sweeps")
    parser.add_argument("--plot", type=Path, help="also draw accuracy against memory into this file")
    options = parser.parse_args()
    cells = []
    for folder in options.sweeps:
        for run_folder in sorted(folder.glob("*-seed*")):
            trained = load_run(run_folder)
            on_bits = trained.recipe.training.weight_bits is not None
            cells += [cell(trained, bits) for bits in ([None] if on_bits else BITS)]
    rows = summaries(cells)
    print_record({"rows": rows, "cells": [asdict(each) for each in cells]})
    if options.plot is not None:
        draw(rows, options.plot)


if __name__ == "__main__":
    run(main)
