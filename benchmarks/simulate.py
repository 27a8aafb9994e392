"""How many samples per second do the simulators run, and how does the time of the integer simulator scale?

    python benchmarks/simulate.py                                          # 784-800-10, T = 20, input rate 0.1
    python benchmarks/simulate.py --samples 64 --largest 10000 --repeat 3  # briefly

The same random network runs in each simulator, and the output spikes are compared. ``float products`` is no simulator
but a limit for those that multiply matrices: the float32 products of all steps at once, nothing else. The integer
simulator, with and without counting, and the products are timed in turn; medians are printed, without the start that
any number of samples shares, except where it says "with start". The scaling is in processor time of one thread.
``of additions`` is the share of synaptic operations in the additions of 16-bit integers that this machine reached in
the same run (``limits.py``). Prints JSON; ``simulate.json`` beside this file is what it printed last.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esl_neuro.backends.integer import count_integer, run_integer
from esl_neuro.backends.lava_session import lava_installed, lava_session
from esl_neuro.backends.trace import first_difference
from esl_neuro.compiled import most_threads
from esl_neuro.compiler.program import Program
from esl_neuro.energy.counts import count
from limits import GIGA, Limits, limits
from measurement import MS, Action, Headline, Times, figure, in_turns, markdown_table, percent, print_record, run
from random_chains import DENSITIES, RATE, SIZES, STEPS, chain, fixed_fan_out, of_matrices, spikes_for

REPEATS = 15
REST_S = 0.2  # in which the threads of one simulator stop waiting for more work


def started_and_running(run: Callable[[NDArray[np.uint8]], Any], inputs: NDArray[np.uint8]) -> dict[str, Action]:
    """Return a run of all samples, and of one of them."""
    return {"all": partial(run, inputs), "one": partial(run, inputs[:1])}


def per_sample(every: Times, one: Times, samples: int) -> dict[str, float]:
    """Return the microseconds of a sample without what comes before the first."""
    return {
        "wall_us": MS * (every.wall_ms - one.wall_ms) / (samples - 1),
        "processor_us": MS * (every.processor_ms - one.processor_ms) / (samples - 1),
    }


def float_products(program: Program, inputs: NDArray[np.uint8], hidden: NDArray[np.uint8]) -> Action:
    """Return the products that any simulator with dense float matrices has to do."""
    pairs = [
        (
            spikes.reshape(-1, spikes.shape[2]).astype(np.float32),
            connection.matrix.toarray().astype(np.float32).T.copy(),
        )
        for spikes, connection in zip((inputs, hidden), program.connections, strict=True)
    ]
    return lambda: [spikes @ weights for spikes, weights in pairs]


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


def simulators(samples: int, repeat: int, rng: np.random.Generator, limit: Limits) -> dict[str, Any]:
    """Compare all simulators on one network at two densities."""
    result: dict[str, Any] = {}
    for density in DENSITIES:
        program = chain(SIZES, density, STEPS, rng)
        inputs = spikes_for(program, samples, RATE, rng)
        trace = count_integer(program, inputs)
        actions = {
            f"{name}, {amount}": action
            for name, simulate in (("integer", run_integer), ("integer and counting", count_integer))
            for amount, action in started_and_running(partial(simulate, program), inputs).items()
        }
        actions["float products"] = float_products(program, inputs, trace.spikes["lif1"])
        taken = in_turns(actions, repeat, rest_s=REST_S)
        found = {
            name: per_sample(taken[f"{name}, all"], taken[f"{name}, one"], samples)
            for name in ("integer", "integer and counting")
        }
        products = taken["float products"]
        found["float products"] = {
            "wall_us": MS * products.wall_ms / samples,
            "processor_us": MS * products.processor_ms / samples,
        }
        integer, dense = found["integer"], found["float products"]
        operations = count(program, trace).per_sample("sop_effective")
        row: dict[str, Any] = {
            "synaptic operations per sample": operations,
            "microseconds per sample": found,
            "samples/s": {name: 1e6 / each["wall_us"] for name, each in found.items()},
            "integer with start, samples/s": samples / (taken["integer, all"].wall_ms / MS),
            "integer / float products": dense["wall_us"] / integer["wall_us"],
            "integer / float products, by processor time": dense["processor_us"] / integer["processor_us"],
            "of additions": operations / GIGA / (integer["wall_us"] / 1e6) / limit.additions_g_per_s,
        }
        if density == DENSITIES[0]:
            row |= in_lava(program, inputs, trace.output_spikes, integer["wall_us"] / 1e6)
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


def measured(program: Program, inputs: NDArray[np.uint8], repeat: int, **labels: float) -> dict[str, float]:
    """Processor time of one thread and what it did, per sample."""
    runs = in_turns(started_and_running(partial(run_integer, program, threads=1), inputs), repeat)
    taken = per_sample(runs["all"], runs["one"], len(inputs))["processor_us"] / 1e6
    operations = count(program, count_integer(program, inputs)).per_sample("sop_effective")
    updates = program.neurons * program.steps
    return {
        **labels,
        "synaptic operations": operations,
        "neuron updates": updates,
        "milliseconds": 1e3 * taken,
        "ns per operation or update": 1e9 * taken / (operations + updates),
    }


def scaling(largest: int, repeat: int, rng: np.random.Generator) -> dict[str, list[dict[str, float]]]:
    """Show what the time of one thread grows with: density, spikes, and neurons with a fixed fan-out."""
    by_density, by_size = [], []
    for density in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0):
        program = chain(SIZES, density, STEPS, rng)
        by_density.append(measured(program, spikes_for(program, 100, RATE, rng), repeat, density=density))
    for neurons in (1000, 10_000, 100_000, 1_000_000):
        if neurons <= largest:
            program = of_matrices([fixed_fan_out(neurons, rng)], 10, rng)
            inputs = spikes_for(program, max(8, 200_000 // neurons), RATE, rng)
            by_size.append(measured(program, inputs, repeat, neurons=neurons))
    program = of_matrices([fixed_fan_out(10_000, rng)], 10, rng)
    rates = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)
    by_rate = [measured(program, spikes_for(program, 20, rate, rng), repeat, rate=rate) for rate in rates]
    return {"784-800-10 by density": by_density, "10,000 neurons by input rate": by_rate, "by neurons": by_size}


def tables(record: Mapping[str, Any]) -> str:
    """Return the tables of the documents."""
    found = record["simulators"]
    names = ("integer", "integer and counting", "float products")
    rows = [(name, *(figure(each["samples/s"][name]) for each in found.values())) for name in names]
    rows += [
        (name, *(figure(each[key]) if key in each else "" for each in found.values()))
        for name, key in (
            ("Lava in batched processes", "Lava batched, samples/s"),
            ("Lava, `Dense`, one sample at a time", "Lava Dense, one sample at a time, samples/s"),
            ("integer / float products", "integer / float products"),
            ("the same by processor time", "integer / float products, by processor time"),
            ("integer / Lava `Dense`", "integer / Lava Dense"),
        )
    ]
    rows.append(
        ("operations, of the additions of the machine", *(percent(each["of additions"]) for each in found.values()))
    )
    scaled = [
        (name, figure(row[size]), figure(row["synaptic operations"]), figure(row["milliseconds"]),
         figure(row["ns per operation or update"]))
        for name, size, every in _scaled(record)
        for row in every
    ]  # fmt: skip
    return "\n\n".join(
        [
            markdown_table(("samples/s", *found), rows),
            markdown_table(
                ("one thread", "", "operations", "processor ms of a sample", "ns of an operation or neuron update"),
                scaled,
            ),
        ]
    )


def _scaled(record: Mapping[str, Any]) -> list[tuple[str, str, list[dict[str, float]]]]:
    found = record["one thread, per sample"]
    sizes = {"784-800-10 by density": "density", "10,000 neurons by input rate": "rate", "by neurons": "neurons"}
    return [(name, size, found[name]) for name, size in sizes.items()]


def headlines(record: Mapping[str, Any]) -> list[Headline]:
    """Return the rows of the summary."""
    return [
        (
            f"784-800-10, {density}",
            f"{found['samples/s']['integer']:,.0f} samples/s",
            f"{found['integer / float products']:.1f} x float products, "
            f"{percent(found['of additions'])} of the additions",
        )
        for density, found in record["simulators"].items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of the simulators, and what it depends on.")
    parser.add_argument("--samples", type=int, default=2048)
    parser.add_argument("--largest", type=int, default=1_000_000, help="neurons of the largest network")
    parser.add_argument("--repeat", type=int, default=REPEATS)
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    limit = limits(most_threads())
    print_record(
        {
            "network": {
                "sizes": SIZES,
                "steps": STEPS,
                "input rate": RATE,
                "densities": DENSITIES,
                "samples": options.samples,
            },
            "simulators": simulators(options.samples, options.repeat, rng, limit),
            "one thread, per sample": scaling(options.largest, options.repeat, rng),
            "limits": limit.record(),
        }
    )


if __name__ == "__main__":
    run(main)
