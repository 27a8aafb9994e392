"""Samples per second of the simulators, and how the time of the integer simulator scales.

    python benchmarks/simulate.py                               # 784-800-10, T = 20, input rate 0.1
    python benchmarks/simulate.py --samples 64 --largest 10000  # briefly

The same random network runs in each simulator, and the output spikes are compared. ``float products`` is no simulator
but a limit for those that multiply matrices: the float32 products of all steps at once, nothing else. Every figure is
the best of several runs, without the start that any number of samples shares, except where it says "with start"; the
scaling is in processor time of one thread.
Prints JSON; ``simulate.json`` beside this file is what it printed last.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from esl_neuro.backends.integer import count_integer, run_integer
from esl_neuro.backends.lava_session import lava_installed, lava_session
from esl_neuro.backends.trace import first_difference
from esl_neuro.compiled import most_threads
from esl_neuro.compiler.program import INPUT, Connection, Group, Program
from esl_neuro.energy.counts import count
from esl_neuro.errors import EslNeuroError

SIZES = (784, 800, 10)
STEPS = 20
RATE = 0.1
DENSITIES = (0.16, 0.02)
REPEATS = 15
FAN_OUT = 32


def chain(sizes: tuple[int, ...], density: float, steps: int, rng: np.random.Generator) -> Program:
    """Plain LIF layers with random even weights, decay 0.5 and per-neuron thresholds."""
    matrices = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        weights = 2 * rng.integers(1, 128, (fan_out, fan_in)) * rng.choice([-1, 1], (fan_out, fan_in))
        matrices.append(sp.csr_matrix((weights * (rng.random((fan_out, fan_in)) < density)).astype(np.int32)))
    return of_matrices(matrices, steps, rng)


def of_matrices(matrices: list[sp.csr_matrix], steps: int, rng: np.random.Generator) -> Program:
    connections, groups, source = [], [], INPUT
    for index, matrix in enumerate(matrices, start=1):
        name, neurons = f"lif{index}", matrix.shape[0]
        zeros = np.zeros(neurons, np.int64)
        connections.append(Connection(source, name, matrix, 0, matrix.nnz))
        groups.append(
            Group(name, zeros + 4095, zeros + 2048, rng.integers(200, 1000, neurons), zeros, zeros, np.ones(neurons))
        )
        source = name
    return Program("loihi2", matrices[0].shape[1], steps, 1e-4, tuple(connections), tuple(groups))


def fixed_fan_out(neurons: int, rng: np.random.Generator) -> sp.csr_matrix:
    """As many inputs as neurons, each with 32 synapses to anywhere."""
    stride = neurons // FAN_OUT
    targets = np.arange(FAN_OUT) * stride + rng.integers(0, stride, (neurons, FAN_OUT))
    weights = (
        2 * rng.integers(1, 128, targets.size, dtype=np.int32) * rng.choice(np.array([-1, 1], np.int32), targets.size)
    )
    starts = np.arange(0, targets.size + 1, FAN_OUT)
    return sp.csr_matrix(sp.csc_matrix((weights, targets.ravel(), starts), shape=(neurons, neurons)))


def spikes_for(program: Program, samples: int, rate: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    return (rng.random((samples, program.steps, program.input_size), dtype=np.float32) < rate).astype(np.uint8)


@dataclass(frozen=True)
class Time:
    """Best of several runs, in seconds: of the clock on the wall, and of the processors."""

    wall: float
    processors: float


def seconds(run: Callable[[], Any]) -> Time:
    walls, processors = [], []
    for _ in range(REPEATS):
        wall, processor = time.perf_counter(), time.process_time()
        run()
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    return Time(min(walls), min(processors))


def seconds_per_sample(run: Callable[[NDArray[np.uint8]], Any], inputs: NDArray[np.uint8]) -> Time:
    """Time of all samples minus the time of one of them, so that what comes before the first does not count."""
    every, one, rest = seconds(lambda: run(inputs)), seconds(lambda: run(inputs[:1])), len(inputs) - 1
    return Time((every.wall - one.wall) / rest, (every.processors - one.processors) / rest)


def float_products(program: Program, inputs: NDArray[np.uint8], hidden: NDArray[np.uint8]) -> Time:
    """Time per sample of the products that any simulator with dense float matrices has to do."""
    pairs = [
        (
            spikes.reshape(-1, spikes.shape[2]).astype(np.float32),
            connection.matrix.toarray().astype(np.float32).T.copy(),
        )
        for spikes, connection in zip((inputs, hidden), program.connections, strict=True)
    ]
    every = seconds(lambda: [spikes @ weights for spikes, weights in pairs])
    return Time(every.wall / len(inputs), every.processors / len(inputs))


def stock_lava(program: Program, inputs: NDArray[np.uint8]) -> tuple[float, NDArray[np.int64]]:
    """Seconds per sample of Lava's own Dense and LIFReset, one sample after the other, and the output spikes."""
    samples, steps, lines = inputs.shape
    with lava_session():
        from lava.magma.core.run_conditions import RunSteps
        from lava.magma.core.run_configs import Loihi2SimCfg
        from lava.proc.dense.process import Dense
        from lava.proc.io.sink import RingBuffer as Sink
        from lava.proc.io.source import RingBuffer as Source
        from lava.proc.lif.process import LIFReset

        depth = len(program.groups)
        source = Source(data=inputs.reshape(-1, lines).T.astype(np.int32))
        upstream = source.s_out
        for place, (connection, group) in enumerate(program.layers(), start=1):
            dense = Dense(weights=connection.matrix.toarray())
            parameters = {key: getattr(group, key).astype(np.int32) for key in ("du", "dv", "vth")}
            neurons = LIFReset(shape=(group.neurons,), reset_interval=steps, reset_offset=place + 1, **parameters)
            upstream.connect(dense.s_in)
            dense.a_out.connect(neurons.a_in)
            upstream = neurons.s_out
        sink = Sink(shape=(program.output.neurons,), buffer=samples * steps + depth)
        upstream.connect(sink.a_in)
        configuration = Loihi2SimCfg(select_tag="fixed_pt")
        source.run(condition=RunSteps(num_steps=depth), run_cfg=configuration)  # builds and starts the processes
        started = time.perf_counter()
        source.run(condition=RunSteps(num_steps=samples * steps), run_cfg=configuration)
        taken = time.perf_counter() - started
        record = sink.data.get()[:, depth:].astype(np.int64)
        source.stop()
    return taken / samples, record.T.reshape(samples, steps, -1)


def simulators(samples: int, rng: np.random.Generator) -> dict[str, Any]:
    """Compare all simulators on one network at two densities."""
    result: dict[str, Any] = {}
    for density in DENSITIES:
        program = chain(SIZES, density, STEPS, rng)
        inputs = spikes_for(program, samples, RATE, rng)
        trace = count_integer(program, inputs)
        integer = seconds_per_sample(partial(run_integer, program), inputs)
        counting = seconds_per_sample(partial(count_integer, program), inputs)
        products = float_products(program, inputs, trace.spikes["lif1"])
        row: dict[str, Any] = {
            "synaptic operations per sample": count(program, trace).per_sample("sop_effective"),
            "integer, samples/s": 1 / integer.wall,
            "integer with start, samples/s": samples / seconds(partial(run_integer, program, inputs)).wall,
            "integer and counting, samples/s": 1 / counting.wall,
            "float products, samples/s": 1 / products.wall,
            "integer / float products": products.wall / integer.wall,
            # These hardly depend on what else the machine does.
            "integer, processor microseconds per sample": 1e6 * integer.processors,
            "integer and counting, processor microseconds per sample": 1e6 * counting.processors,
            "float products, processor microseconds per sample": 1e6 * products.processors,
            "integer / float products, by processor time": products.processors / integer.processors,
        }
        if density == DENSITIES[0]:
            row |= in_lava(program, inputs, trace.output_spikes, integer.wall)
        result[f"density {density}"] = row
    return result


def in_lava(program: Program, inputs: NDArray[np.uint8], expected: NDArray[np.uint8], integer: float) -> dict[str, Any]:
    if not lava_installed():
        return {"Lava": "not available"}
    few = min(len(inputs), 40)
    stock, output = stock_lava(program, inputs[:few])
    row: dict[str, Any] = {
        "Lava Dense, one sample at a time, samples/s": 1 / stock,
        "output spikes equal to Lava": bool((output == expected[:few]).all()),
        "integer / Lava Dense": stock / integer,
    }
    try:
        from esl_neuro.backends.lava_batched import run_lava_batched
    except ImportError:
        return row | {"Lava batched": "not available"}
    taken = {}
    for number in (few, len(inputs)):
        started = time.perf_counter()
        batched = run_lava_batched(program, inputs[:number])
        taken[number] = time.perf_counter() - started
    difference = first_difference(batched, run_integer(program, inputs))
    row |= {
        "Lava batched with start, samples/s": len(inputs) / taken[len(inputs)],
        "spikes equal to Lava batched": difference is None,
    }
    if len(inputs) > few:
        rest = (taken[len(inputs)] - taken[few]) / (len(inputs) - few)
        row |= {"Lava batched, samples/s": 1 / rest, "Lava batched / Lava Dense": stock / rest}
    return row


def measured(program: Program, inputs: NDArray[np.uint8], **labels: float) -> dict[str, float]:
    """Processor time of one thread and what it did, per sample."""
    taken = seconds_per_sample(partial(run_integer, program, threads=1), inputs).processors
    operations = count(program, count_integer(program, inputs)).per_sample("sop_effective")
    updates = program.neurons * program.steps
    return {
        **labels,
        "synaptic operations": operations,
        "neuron updates": updates,
        "milliseconds": 1e3 * taken,
        "ns per operation or update": 1e9 * taken / (operations + updates),
    }


def scaling(largest: int, rng: np.random.Generator) -> dict[str, list[dict[str, float]]]:
    """Show what the time of one thread grows with: density, spikes, and neurons with a fixed fan-out."""
    by_density, by_size = [], []
    for density in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0):
        program = chain(SIZES, density, STEPS, rng)
        by_density.append(measured(program, spikes_for(program, 100, RATE, rng), density=density))
    for neurons in (1000, 10_000, 100_000, 1_000_000):
        if neurons <= largest:
            program = of_matrices([fixed_fan_out(neurons, rng)], 10, rng)
            inputs = spikes_for(program, max(8, 200_000 // neurons), RATE, rng)
            by_size.append(measured(program, inputs, neurons=neurons))
    program = of_matrices([fixed_fan_out(10_000, rng)], 10, rng)
    rates = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)
    by_rate = [measured(program, spikes_for(program, 20, rate, rng), rate=rate) for rate in rates]
    return {"784-800-10 by density": by_density, "10,000 neurons by input rate": by_rate, "by neurons": by_size}


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [rounded(entry) for entry in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of the simulators, and what it depends on.")
    parser.add_argument("--samples", type=int, default=2048)
    parser.add_argument("--largest", type=int, default=1_000_000, help="neurons of the largest network")
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    result = {
        "network": {"sizes": SIZES, "steps": STEPS, "input rate": RATE, "samples": options.samples},
        "simulators": simulators(options.samples, rng),
        "one thread, per sample": scaling(options.largest, rng),
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "threads": most_threads(),
            "load": os.getloadavg()[0],
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
    }
    print(json.dumps(rounded(result), indent=2))


if __name__ == "__main__":
    try:
        main()
    except EslNeuroError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
