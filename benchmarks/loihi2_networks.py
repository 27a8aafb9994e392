"""Trained networks on Loihi 2: the price of earlier versions beside the fitted one, and the reason of each change.

``python benchmarks/loihi2_networks.py RUN ...`` prices the exports of runs (``runs/mlp-digits-001``) in the integer
simulator. "Before" is what earlier versions printed: Loihi's silicon prices with an assumed factor of 0.3 to 3, and
0.232 W over steps of 1 ms. Without arguments it prices a small network with random weights, which shows only that the
script works.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from esl_neuro.backends.integer import count_integer
from esl_neuro.compiler.program import Program
from esl_neuro.energy.chips import silicon
from esl_neuro.energy.core_use import core_uses
from esl_neuro.energy.counts import Counts, count
from esl_neuro.energy.modes import modes
from esl_neuro.energy.uncertainty import Draws
from esl_neuro.hardware import load_target
from esl_neuro.pipeline.activity import Activity, export_of, run_network
from esl_neuro.report.energy_layout import joules
from esl_neuro.report.energy_scopes import seconds
from esl_neuro.report.tables import table

OLD_STATIC_W, OLD_STEP_S, OLD_BAND = 0.232, 1e-3, (0.3, 3.0)
PJ = 1e12
Row = tuple[str, ...]
HEADERS = (
    "network",
    "pace",
    "latency",
    "chip, open prices",
    "5 - 95 %",
    "synapse",
    "neuron",
    "V100 batch 1",
    "V100 peak",
)


def before(counts: Counts) -> tuple[float, float, float, float]:
    """Return operations (nominal, low, high) and static energy of the earlier estimate, in pJ per sample."""
    energy = silicon(counts, load_target("loihi"), OLD_STEP_S).energy_pj
    assert energy is not None
    return (
        energy.nominal,
        energy.low * OLD_BAND[0],
        energy.high * OLD_BAND[1],
        OLD_STATIC_W * counts.steps * OLD_STEP_S * PJ,
    )


def rows(name: str, counts: Counts) -> Iterator[Row]:
    """Yield the earlier estimate, then the chip at both paces beside the boards."""
    nominal, low, high, static = before(counts)
    yield (
        name,
        "before, 1 ms",
        "",
        joules(nominal + static),
        f"{joules(low + static)} - {joules(high + static)}",
        *[""] * 4,
    )
    hardware = [load_target(each) for each in ("loihi2", "v100-pcie")]
    for mode in modes(counts, hardware, None, Draws()):
        if mode.target != "loihi2" or mode.latency_s is None:
            continue
        if not mode.energies:
            yield name, mode.asked, "", "refused", *[""] * 5
            continue
        first, synapse, neuron = (found for _, found in mode.energies)
        ratios = (f"{e.relation} {e.ratio:.3g} ({e.probability:.2f})".removeprefix("= ") for e in mode.against[0])
        yield (
            name,
            mode.asked,
            seconds(mode.latency_s.nominal),
            joules(first.median_pj),
            f"{joules(first.low_pj)} - {joules(first.high_pj)}",
            joules(synapse.median_pj),
            joules(neuron.median_pj),
            *ratios,
        )


def priced(program: Program, inputs: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Counts:
    """Run a program and return its counts with its use of the cores."""
    trace = count_integer(program, inputs)
    return replace(count(program, trace), core_use=core_uses(program, trace, [load_target("loihi2")]))


def of_run(path: Path, samples: int | None) -> Counts:
    """Return the counts of the export of a run on its test samples."""
    result = run_network(export_of(path, print), Activity(backend="integer", samples=samples))
    return replace(result.counts, core_use=core_uses(result.program, result.trace, [load_target("loihi2")]))


def example() -> Counts:
    """Return the counts of a small network with random weights."""
    import scipy.sparse as sp

    from esl_neuro.compiler.program import Connection, Group

    rng = np.random.default_rng(0)
    weights = sp.csr_matrix((rng.random((50, 64)) < 0.2) * rng.integers(1, 60, (50, 64)) * 2)
    zeros, ones = np.zeros(50, dtype=np.int64), np.ones(50)
    group = Group("lif", zeros + 4095, zeros + 400, zeros + 50, zeros, zeros, ones)
    program = Program("loihi2", 64, 8, 1e-3, (Connection("input", "lif", weights, 0, weights.nnz),), (group,))
    return priced(program, (rng.random((20, 8, 64)) < 0.2).astype(np.uint8))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Trained networks on Loihi 2, priced before and now.")
    parser.add_argument("runs", nargs="*", type=Path, help="runs or exports")
    parser.add_argument("--samples", type=int, help="test samples; default: all")
    given = parser.parse_args()
    found = [(path.name, of_run(path, given.samples)) for path in given.runs] or [("random", example())]
    print("Whole chip, J per sample; board of the GPU over the chip: median (probability that the chip needs less)")
    print(table(HEADERS, [row for name, counts in found for row in rows(name, counts)], 2))
    for name, counts in found:
        use = counts.core_use["loihi2"]
        busiest = use.busiest.mean()
        print(
            f"{name}: {counts.per_sample('sop_executed'):,.0f} SOPs and {counts.per_sample('macs_effective'):,.0f} "
            f"graded events a sample, {use.cores} cores, the busiest {busiest:,.0f} events a step"
        )


if __name__ == "__main__":
    main()
