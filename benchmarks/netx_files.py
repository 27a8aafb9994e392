"""Our integers beside the recordings that lava-dl keeps of its own ``.net`` files.

    git clone https://github.com/lava-nc/lava-dl.git
    python benchmarks/netx_files.py --files lava-dl

The tests of lava-dl hold networks with the spikes and currents that its loader, and for PilotNet a Loihi 2, must
reproduce. ``from_netx`` reads the networks, the integer simulator runs them on the recorded inputs, and every value is
compared with ``==`` after the latency of the recording: a step per layer, and those of its source and its recorder.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import esl_neuro as esl
from esl_neuro.backends.integer import run_integer

RECORDINGS = "tests/lava/lib/dl/netx/gts"
PILOTNET = ("conv-0", "conv-1", "conv-2", "conv-3", "conv-4", "fc-0", "fc-1", "fc-2")
PILOTNET_STEPS = 16  # its state is reset after them
Row = tuple[str, str, int, int, int]


def by_step(recorded: NDArray[Any]) -> NDArray[Any]:
    """Return a recording (columns, rows, channels, steps) or (neurons, steps) as (steps, lines)."""
    return np.moveaxis(recorded, -1, 0).swapaxes(1, -1).reshape(recorded.shape[-1], -1)


def compare(name: str, quantity: str, found: NDArray[Any], recorded: NDArray[Any], late: int) -> Row:
    """Compare a layer with a recording that begins ``late`` steps later."""
    steps = min(len(found), len(recorded) - late)
    differing = int((found[:steps] != recorded[late : late + steps]).sum())
    return name, quantity, steps * found.shape[1], int(np.count_nonzero(recorded[late : late + steps])), differing


def ntidigits(folder: Path) -> Iterator[Row]:
    """Spoken digits: three layers with a delay per neuron, 3,000 steps."""
    inputs, recorded = (by_step(np.load(folder / f"{name}.npy")) for name in ("input", "output"))
    program = esl.from_netx(folder / "ntidigits.net", len(inputs), layers=5)
    trace = run_integer(program, inputs[None].astype(np.uint8))
    yield compare("ntidigits output", "spikes", trace.output_spikes[0], recorded, 4)


def pilotnet(folder: Path) -> Iterator[Row]:
    """Steering angles of a car from images of 200 x 66: five convolutions and three dense layers."""
    program = esl.from_netx(folder / "network.net", PILOTNET_STEPS)
    inputs = by_step(np.load(folder / "input.npy"))[:PILOTNET_STEPS]
    trace = run_integer(program, inputs[None].astype(np.uint8), record_potentials=True)
    for late, (name, group) in enumerate(zip(PILOTNET, program.groups, strict=False), start=1):
        for quantity, suffix, values in (("spikes", "", trace.spikes), ("current", "-u", trace.u)):
            recorded = by_step(np.load(folder / f"{name}{suffix}.npy"))
            yield compare(f"pilotnet {name}", quantity, values[group.name][0], recorded, late)


def main() -> None:
    """Print one line per layer and quantity."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=Path, required=True, metavar="FOLDER", help="a clone of lava-dl")
    recordings = parser.parse_args().files / RECORDINGS
    rows = [*ntidigits(recordings / "ntidigits"), *pilotnet(recordings / "pilotnet_lif")]
    print(f"{'layer':18} {'quantity':9} {'values':>10} {'not zero':>9} {'differing':>9}")
    for name, quantity, values, active, differing in rows:
        print(f"{name:18} {quantity:9} {values:>10,} {active:>9,} {differing:>9,}")
    print(f"{sum(row[2] for row in rows):,} values, {sum(row[4] for row in rows):,} differ")


if __name__ == "__main__":
    main()
