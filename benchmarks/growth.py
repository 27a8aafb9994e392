"""How do time and memory grow with connections, width, steps and rate, in training and in the integer simulator?

    python benchmarks/growth.py                                                # all curves: ten minutes
    python benchmarks/growth.py --curve "integers by rate" --points 2 --rounds 1   # a quick look

Prints JSON; ``growth.json`` beside this file is what it printed last, and the chart of the documents is drawn from it.

*Training* is a whole step, forward, loss, backward and Adam, of n-n-n-10 with two sparse layers of equal fan-in, one
thread. *Integers* is a sample in the integer simulator, of two layers of n neurons with equal fan-in, one thread, with
the times of one sample subtracted. Along a curve one size grows, and the others stay. Each point is a process of its
own (Linux): its memory is the peak above that of the process in which everything is imported and compiled. The
processes of all points take turns, and the figures are medians over these rounds. A curve has two fits: the exponent
over the whole range (a line through the logarithms), and ``constant + slope * size`` with the largest relative
distance of a point from it, which shows growth that is exactly linear above a constant.

One layer of 65,536 inputs and outputs with 16 connections of each neuron is measured besides: a step of 16 samples.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import scipy.sparse as sp

from esl_neuro.backends.integer import count_integer, run_integer
from esl_neuro.compiler.program import Program
from esl_neuro.energy.counts import count
from growth_chart import draw_growth
from measurement import MB, MS, Headline, figure, in_turns, markdown_table, peak_mb, print_record, run
from random_chains import of_matrices, spikes_for

CLASSES = 10
SPARSE = ["fc1", "fc2"]
SMALLEST = 1024  # neurons of a layer at the first point of a curve over width
GROWTH = 4  # from one point of a curve to the next
POINTS, ROUNDS, REPEAT = 4, 3, 5
RATES = (0.01, 0.05, 0.2, 0.8)
SAMPLES = 33  # in the integer simulator, of which one is subtracted
SQUARE, SQUARE_SAMPLES, SQUARE_LIMIT_MB = 65_536, 16, 150


@dataclass(frozen=True)
class Point:
    """What is measured.

    Attributes
    ----------
    subject : str
        A key of :data:`SUBJECTS`.
    width, fan_in : int
        Neurons of a layer, and connections of each.
    steps, samples : int
        Time steps, and samples of a batch.
    rate : float
        Share of the input lines that spike at a step.
    """

    subject: str
    width: int = 4 * SMALLEST
    fan_in: int = 16
    steps: int = 4
    samples: int = 32
    rate: float = 0.2


def curves(points: int, smallest: int) -> dict[str, list[Point]]:
    """Return the points of each curve by its name."""
    found: dict[str, list[Point]] = {}
    factors = [GROWTH**place for place in range(points)]
    for subject in ("training", "integers"):
        base = Point(subject, width=GROWTH * smallest)
        found |= {
            f"{subject} by connections": [replace(base, fan_in=base.fan_in * factor) for factor in factors],
            f"{subject} by width": [replace(base, width=smallest * factor) for factor in factors],
            f"{subject} by steps": [replace(base, steps=factor) for factor in factors],
            f"{subject} by rate": [replace(base, rate=rate) for rate in RATES[-points:]],
        }
    return found


# --- one point, in a process of its own -----------------------------------------------------------------------------


def measure_training(point: Point) -> dict[str, Any]:
    """Measure a whole step of training."""
    import torch

    from esl_neuro.sparsity import MaskedAdam, Rewirer
    from esl_neuro.sparsity.topology import Topology
    from esl_neuro.training.cost import Amount, Rule, training_work
    from esl_neuro.training.freed_memory import keep_freed_memory
    from esl_neuro.training.work_of_network import work_of
    from training_step import lif_network, make_step

    torch.set_num_threads(1)
    kept: list[Any] = []

    def train(point: Point) -> None:
        topology = Topology(point.fan_in)
        network = lif_network((point.width, point.width, point.width, CLASSES), SPARSE)
        optimizer = MaskedAdam(network.parameters())
        learner = Rewirer(network, optimizer, topology=topology, layers=SPARSE, end=1, growth={"random": 1.0})
        spikes = torch.empty(point.steps, point.samples, point.width).bernoulli_(point.rate)
        labels = torch.randint(CLASSES, (point.samples,))
        kept[:] = learner, network, optimizer, spikes, labels
        for _ in range(3):
            make_step(*kept[1:])

    train(replace(point, width=64, fan_in=4))
    memory = peak_mb(lambda: train(point))
    keep_freed_memory()  # as training does; not before, because it adds fragments that differ from run to run
    learner, network, _, spikes, _ = kept
    taken = in_turns({"step": lambda: make_step(*kept[1:])}, REPEAT)["step"]
    work = work_of(network, learner, spikes)
    assert work is not None
    amount = Amount(point.samples, passes=1, updates=1)
    total = training_work(work.layers.values(), work.updates, work.others, Rule("adam", 2), amount).run.total
    return {
        "connections": sum(layer.connections for layer in work.layers.values() if layer.indexed),
        "peak_mb": memory,
        "processor_ms": taken.processor_ms,
        "operations": total.operations,
        "moved_bytes": total.bytes,
    }


def measure_integers(point: Point) -> dict[str, Any]:
    """Measure one sample in the integer simulator."""
    rng = np.random.default_rng(0)
    small = replace(point, width=64, fan_in=4)
    run_integer(two_layers(small, rng), spikes_for(two_layers(small, rng), 1, point.rate, rng), threads=1)
    kept: list[Any] = []

    def simulate() -> None:
        program = two_layers(point, rng)
        kept[:] = [program, spikes_for(program, 1, point.rate, rng)]
        run_integer(kept[0], kept[1], threads=1)

    memory = peak_mb(simulate)
    program = kept[0]
    many = spikes_for(program, SAMPLES, point.rate, rng)
    one = many[:1]
    runs = {"many": many, "one": one}
    taken = in_turns({name: partial(run_integer, program, each, threads=1) for name, each in runs.items()}, REPEAT)
    counts = count(program, count_integer(program, many))
    return {
        "connections": program.synapses,
        "peak_mb": memory,
        "processor_ms": (taken["many"].processor_ms - taken["one"].processor_ms) / (SAMPLES - 1),
        "operations": counts.per_sample("sop_effective"),
        "updates": program.neurons * program.steps,
    }


def measure_square(point: Point) -> dict[str, Any]:
    """Measure the memory of a step of one square layer, with Adam and the gradient of its signal."""
    import torch

    from esl_neuro.sparsity import MaskedAdam, SparseLinear

    def train(width: int, fan_in: int) -> None:
        layer = SparseLinear(width, width, bias=False, fan_in=fan_in)
        optimizer = MaskedAdam(layer.parameters())
        signal = torch.rand(point.samples, width).round_().requires_grad_()
        layer(signal).square().mean().backward()
        optimizer.step()

    train(64, 4)
    return {
        "connections": point.width * point.fan_in,
        "peak_mb": peak_mb(lambda: train(point.width, point.fan_in)),
        "limit_mb": SQUARE_LIMIT_MB,
        "dense_weights_mb": 4 * point.width**2 / MB,
    }


def two_layers(point: Point, rng: np.random.Generator) -> Program:
    """Return a program of two layers in which each neuron has equally many connections."""
    return of_matrices([fixed_fan_in(point.width, point.fan_in, rng) for _ in range(2)], point.steps, rng)


def fixed_fan_in(neurons: int, fan_in: int, rng: np.random.Generator) -> sp.csr_matrix:
    """Return as many neurons as inputs, each with so many connections: one from each of equal ranges of the inputs."""
    stride = neurons // fan_in
    lines = np.arange(fan_in, dtype=np.int32) * stride + rng.integers(0, stride, (neurons, fan_in), dtype=np.int32)
    weights = 2 * rng.integers(1, 128, lines.size, dtype=np.int32)
    weights *= rng.choice(np.array([-1, 1], np.int32), lines.size)
    starts = np.arange(0, lines.size + 1, fan_in, dtype=np.int32)
    return sp.csr_matrix((weights, lines.ravel(), starts), shape=(neurons, neurons))


SUBJECTS = {"training": measure_training, "integers": measure_integers, "square": measure_square}


# --- all points -----------------------------------------------------------------------------------------------------


def measured(points: Sequence[Point], rounds: int) -> dict[Point, dict[str, float]]:
    """Measure every point in processes of its own, in turn; return the medians over the rounds."""
    found: dict[Point, list[dict[str, float]]] = {point: [] for point in points}
    for number in range(rounds):
        for done, point in enumerate(found, start=1):
            print(f"round {number + 1} of {rounds}, point {done} of {len(found)}: {point}", file=sys.stderr)
            found[point].append(in_own_process(point))
    return {
        point: {key: median(each[key] for each in figures) for key in figures[0]} for point, figures in found.items()
    }


def in_own_process(point: Point) -> dict[str, float]:
    """Measure a point in a new process."""
    command = [sys.executable, str(Path(__file__).resolve()), "--point", json.dumps(asdict(point))]
    figures: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return figures


def fits(sizes: Sequence[float], values: Sequence[float]) -> dict[str, float]:
    """Return how values grow with sizes.

    Returns
    -------
    dict
        ``exponent`` of a line through the logarithms; ``constant`` and ``slope`` of the line with the least squares of
        relative distances, and the largest of these, ``distance``.
    """
    x, y = np.asarray(sizes, float), np.maximum(np.asarray(values, float), 1e-9)
    slope, constant = np.polyfit(x, y, 1, w=1 / y)
    return {
        "exponent": float(np.polyfit(np.log(x), np.log(y), 1)[0]),
        "constant": float(constant),
        "slope": float(slope),
        "distance": float(np.max(np.abs((constant + slope * x) / y - 1))),
    }


def curve(name: str, points: Sequence[Point], found: Mapping[Point, Mapping[str, float]]) -> dict[str, Any]:
    """Return a curve: its points, and how time and memory grow along it."""
    rows = [{**asdict(point), **found[point]} for point in points]
    sizes = [float(row[name.split(" by ")[1]]) for row in rows]
    memory, time = (fits(sizes, [row[quantity] for row in rows]) for quantity in ("peak_mb", "processor_ms"))
    return {"points": rows, "processor_ms": time, "peak_mb": memory, "bytes of one more": MB * memory["slope"]}


# --- the record in words --------------------------------------------------------------------------------------------


def tables(record: Mapping[str, Any]) -> str:
    """Return the tables of the documents."""
    rows = [
        (
            name,
            f"{figure(first)} to {figure(last)}",
            " to ".join(map(figure, ends["processor_ms"])),
            f"{each['processor_ms']['exponent']:.2f}",
            " to ".join(map(figure, ends["peak_mb"])),
            f"{each['peak_mb']['exponent']:.2f}",
            f"{each['peak_mb']['constant']:.1f} + {figure(each['bytes of one more'])} bytes each" if last > 1 else "",
            f"{100 * each['peak_mb']['distance']:.1f} %",
        )
        for name, each, (first, last), ends in _ends(record)
    ]
    headings = (
        *("curve", "from, to", "processor ms", "exponent", "peak MB", "exponent", "peak MB as a line"),
        "largest distance from it",
    )
    square = record["square"]
    return markdown_table(headings, rows) + (
        f"\n\nA layer of {square['width']:,} inputs and outputs with {square['fan_in']} connections of each neuron: "
        f"{square['peak_mb']:g} MB above an empty network (limit: {square['limit_mb']}); its dense weights alone would "
        f"take {figure(square['dense_weights_mb'])} MB."
    )


def _ends(record: Mapping[str, Any]) -> Iterator[tuple[str, Any, tuple[float, float], dict[str, tuple[float, float]]]]:
    for name, each in record["curves"].items():
        ends = each["points"][0], each["points"][-1]
        size = name.split(" by ")[1]
        yield (
            name,
            each,
            (ends[0][size], ends[1][size]),
            {key: (ends[0][key], ends[1][key]) for key in ("processor_ms", "peak_mb")},
        )


def headlines(record: Mapping[str, Any]) -> list[Headline]:
    """Return the rows of the summary: what, figure, and what it is held against."""
    return [
        (
            name,
            f"time ^{each['processor_ms']['exponent']:.2f}, memory ^{each['peak_mb']['exponent']:.2f}",
            f"memory within {100 * each['peak_mb']['distance']:.1f} % of a line",
        )
        for name, each in record["curves"].items()
    ] + [("65,536-square layer, fan-in 16", f"{record['square']['peak_mb']:.0f} MB", f"limit {SQUARE_LIMIT_MB} MB")]


draw = draw_growth


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--curve", action="append", choices=list(curves(1, SMALLEST)), help="only this one; repeatable")
    parser.add_argument("--points", type=int, default=POINTS, help="of each curve")
    parser.add_argument("--smallest", type=int, default=SMALLEST, help="width at the first point")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--point", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        point = Point(**json.loads(options.point))
        print(json.dumps(SUBJECTS[point.subject](point)))
        return
    from limits import limits

    every = curves(options.points, options.smallest)
    chosen = {name: every[name] for name in options.curve or every}
    square = Point("square", SQUARE, 16, samples=SQUARE_SAMPLES)
    points = [*dict.fromkeys(point for each in chosen.values() for point in each), square]
    limit = limits(threads=1)
    found = measured(points, options.rounds)
    for figures in found.values():
        if "moved_bytes" in figures:
            seconds = figures["processor_ms"] / MS
            figures |= limit.shares(seconds, figures["operations"], figures["moved_bytes"])
        elif "operations" in figures:
            figures["of_additions"] = (
                figures["operations"] / 1e9 / (figures["processor_ms"] / MS) / limit.additions_g_per_s
            )
    print_record(
        {
            "rounds": options.rounds,
            "curves": {name: curve(name, each, found) for name, each in chosen.items()},
            "square": {**asdict(square), **found[square]},
            "limits": limit.record(),
        }
    )


if __name__ == "__main__":
    run(main)
