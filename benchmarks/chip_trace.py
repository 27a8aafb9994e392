"""One neuron on our integers beside the same neuron on a real Loihi 2, step by step.

The repository of the NIR paper (github.com/neuromorphs/NIR, BSD-3) holds 1,000 steps of one LIF neuron, recorded on a
Loihi 2 and in other programs: a line a step, with input, voltage and spike. ``python benchmarks/chip_trace.py --files
NIR/paper`` reads them from a clone. Without a clone, the script compares the integer simulator with a loop in plain
Python over random input, in a file of the same format, which shows only that the script works.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from esl_neuro.backends.integer import run_integer
from esl_neuro.backends.trace import Trace
from esl_neuro.compiler.compile import compile_graph
from esl_neuro.compiler.program import Connection, Group, Program
from esl_neuro.hardware import load_target
from esl_neuro.nirgraph.files import read_nir
from esl_neuro.report.tables import table

RESULT = Path(__file__).with_suffix(".json")
# Integers of the recording: 10 << 6 for a spike, 25 << 6 as threshold, no synaptic filter.
DV, WEIGHT, THRESHOLD, NO_FILTER = 163, 10, 25, 4095
DECAY_ONE = 4096
DT_S = 1e-4
FOLDER, CHIP, NETWORK = "01_lif", "lif_lava_loihi_fixed.csv", "lif_norse.nir"
LATENCIES = range(-1, 3)  # steps by which a program may record later than we do


@dataclass(frozen=True)
class Recording:
    """Input, voltage and spike of every step, each of shape (steps,)."""

    input: NDArray[np.float64]
    voltage: NDArray[np.float64]
    spike: NDArray[np.bool_]

    @classmethod
    def read(cls, path: Path) -> Recording:
        """Read a file with a line for each step: input, voltage, spike."""
        columns = np.loadtxt(path, delimiter=",")
        return cls(columns[:, 0], columns[:, 1], columns[:, 2] != 0)


@dataclass(frozen=True)
class Comparison:
    """A recording beside our integers.

    Attributes
    ----------
    file : str
        Name of the recording.
    same_input : bool
        Whether its input is that of the chip.
    latency : int
        Steps by which it is later than ours, so that most spikes are equal.
    spikes, ours, equal_spikes : int
        Spikes of the recording, ours, and those in the same step.
    equal_voltages : int or None
        Steps with an equal voltage; None if the recording has other units.
    different : list of [step, recorded voltage, our voltage, whether we spike], where the units are ours
    """

    file: str
    same_input: bool
    latency: int
    spikes: int
    ours: int
    equal_spikes: int
    equal_voltages: int | None
    different: list[list[float]]


def recorded_program(steps: int) -> Program:
    """Return the neuron with the integers of the recording."""
    connection = Connection("input", "lif", sp.csr_matrix(np.array([[WEIGHT]])), 0, 1)
    du, dv, vth, nothing = (np.array([value]) for value in (NO_FILTER, DV, THRESHOLD, 0))
    return Program("loihi2", 1, steps, DT_S, (connection,), (Group("lif", du, dv, vth, nothing, nothing, np.ones(1)),))


def run(program: Program, given: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return voltage and spike of every step in the integer simulator."""
    trace: Trace = run_integer(program, (given != 0).astype(np.uint8)[None, :, None], record_potentials=True)
    name = program.output.name
    return trace.v[name][0, :, 0].astype(np.int64), trace.spikes[name][0, :, 0] != 0


def compare(name: str, other: Recording, given: NDArray[np.float64]) -> Comparison:
    """Hold a recording against our integers on the same input."""
    voltage, spike = run(recorded_program(len(given)), given)
    equal = {late: int((_later(spike, late) & other.spike).sum()) for late in LATENCIES}
    latency = max(LATENCIES, key=lambda late: (equal[late], -abs(late)))
    ours = _later(voltage, latency)
    integers = bool(np.all(other.voltage == np.rint(other.voltage))) and other.voltage.max() > 1
    wrong = np.flatnonzero(ours != other.voltage) if integers else np.empty(0, dtype=np.int64)
    fired = _later(spike, latency)
    return Comparison(
        name,
        bool(np.array_equal(other.input, given)),
        latency,
        int(other.spike.sum()),
        int(spike.sum()),
        equal[latency],
        len(given) - len(wrong) if integers else None,
        [[int(step), float(other.voltage[step]), int(ours[step]), bool(fired[step])] for step in wrong],
    )


def _later(values: NDArray[Any], steps: int) -> NDArray[Any]:
    """Return values moved by some steps; those before the start are at rest."""
    moved = np.zeros_like(values)
    if steps >= 0:
        moved[steps:] = values[: len(values) - steps]
    else:
        moved[:steps] = values[-steps:]
    return moved


def plain_loop(given: NDArray[np.float64]) -> Recording:
    """Compute the neuron in plain Python, with the rounding toward zero of the chip."""
    voltage, spike, v = [], [], 0
    for arrived in given:
        kept = abs(v) * (DECAY_ONE - DV) // DECAY_ONE
        v = (kept if v >= 0 else -kept) + (WEIGHT << 6 if arrived else 0)
        fires = v > THRESHOLD << 6
        v = 0 if fires else v
        voltage.append(float(v))
        spike.append(fires)
    return Recording(given, np.array(voltage), np.array(spike))


def write(path: Path, recording: Recording) -> None:
    """Write a file of the format of the recordings."""
    np.savetxt(path, np.stack([recording.input, recording.voltage, recording.spike], axis=1), delimiter=",")


def from_clone(paper: Path) -> dict[str, Any]:
    """Compare every recording in a clone, and the integers of our compiler."""
    folder = paper / FOLDER
    if not (folder / CHIP).is_file():
        raise SystemExit(
            f"{folder / CHIP} is missing; give the folder 'paper' of a clone of github.com/neuromorphs/NIR"
        )
    chip = Recording.read(folder / CHIP)
    found = [compare(path.name, Recording.read(path), chip.input) for path in sorted(folder.glob("lif_*.csv"))]
    program = compile_graph(read_nir(folder / NETWORK), load_target("loihi2"), len(chip.input), DT_S).program
    _, compiled = run(program, chip.input)
    (weights,) = (int(each.matrix[0, 0]) << (6 + each.weight_exp) for each in program.connections)
    group = program.output
    return {
        "steps": len(chip.input),
        "recordings": [asdict(each) for each in found],
        "compiled": {
            "integers": {"dv": int(group.dv[0]), "weight": weights, "threshold": int(group.vth[0]) << 6},
            "spikes": int(compiled.sum()),
            "equal_spikes": max(int((_later(compiled, late) & chip.spike).sum()) for late in LATENCIES),
        },
    }


def without_clone(steps: int = 1000) -> dict[str, Any]:
    """Compare the integer simulator with the plain loop, through a file."""
    given = (np.random.default_rng(0).random(steps) < 0.15).astype(float)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "plain_loop.csv"
        write(path, plain_loop(given))
        return {"steps": steps, "recordings": [asdict(compare(path.name, Recording.read(path), given))]}


def render(result: Mapping[str, Any]) -> str:
    """Write the comparisons as a table."""
    rows = [
        (
            each["file"],
            "yes" if each["same_input"] else "no",
            str(each["latency"]),
            str(each["spikes"]),
            f"{each['equal_spikes']} of {each['ours']}",
            "other units" if each["equal_voltages"] is None else f"{each['equal_voltages']:,} of {result['steps']:,}",
        )
        for each in result["recordings"]
    ]
    headers = ("recording", "our input", "steps later", "spikes", "equal spikes", "equal voltages")
    lines = [table(headers, rows, 2)]
    for each in result["recordings"]:
        lines += [
            f"{each['file']}, step {step}: voltage {recorded:g}, ours {ours:g}{' at a spike' if fired else ''}"
            for step, recorded, ours, fired in each["different"][:8]
        ]
    if "compiled" in result:
        own = result["compiled"]
        lines.append(
            f"our compiler: {own['integers']}, {own['equal_spikes']} of {own['spikes']} spikes equal the chip's"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the comparisons; with a clone, also write them beside this script."""
    parser = argparse.ArgumentParser(description="One neuron beside a recording of a Loihi 2.")
    parser.add_argument("--files", type=Path, help="the folder 'paper' of a clone of github.com/neuromorphs/NIR")
    given = parser.parse_args().files
    result = without_clone() if given is None else from_clone(given)
    if given is not None:
        RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(render(result))


if __name__ == "__main__":
    main()
