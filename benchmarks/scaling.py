"""What saturates first, from one machine to a cluster?

    python benchmarks/scaling.py                # needs growth.json beside this file
    python benchmarks/scaling.py --tasks 20 --neurons 200 --steps 1   # a quick look

Prints JSON; ``scaling.json`` beside this file is what it printed last. Measured here: bytes that a connection takes in
checkpoints, exports and programs, and that an epoch writes (Linux); what a task costs Dask; how fast this disk takes
whole files; the limits of the machine with one thread and with all; and how much faster a training step is with all
threads. Read from ``growth.json``: bytes and time of a connection, of a signal and of a synaptic operation. Everything
else is computed from these (``plan``), for links, disks and machines that are named as assumptions.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from measurement import MB, MS, Headline, figure, in_turns, markdown_table, print_record, run

GROWTH = Path(__file__).with_name("growth.json")
FAN_INS = (16, 64)  # of the runs whose files are compared
NEURONS = 9000  # of a layer; from 8,192 on its matrix is not written to a NIR file
FILE_BYTES = 256 * 2**20
NS_PER_MS = 1e6
# A training whose limits are computed: fan-in 32, as a million neurons have it.
FAN_IN, STEPS, SAMPLES, IMAGES = 32, 4, 32, 60_000
GRADIENT_BYTES = 4
# Assumed, not measured.
LINKS_GBIT_PER_S = (10, 25, 100)
MEMORY_GB = {"this machine": None, "a node of 128 GB": 128.0, "a node of 1 TB": 1000.0}
CORES = (2, 32)  # of a rank of data-parallel training
SHARED_DISK_GB_PER_S = 1.0
TASK_S = 60.0
SHARE = 0.1  # of the time of a step that an exchange may take


# --- measured here --------------------------------------------------------------------------------------------------


def bytes_in_files(neurons: int) -> dict[str, float]:
    """Return the bytes that one more connection takes in each file, and what an epoch writes.

    Two networks with sparse storage that differ in their fan-in alone are trained for one and for two epochs, and
    compiled; so what does not grow with the connections falls out.
    """
    import esl_neuro as esl

    found = []
    with TemporaryDirectory() as scratch:
        for fan_in in FAN_INS:
            written = {}
            for epochs in (1, 2):
                before = written_bytes()
                trained = esl.train("mlp-digits", changes=changes(neurons, fan_in, epochs), runs=scratch)
                written[epochs] = written_bytes() - before
            compiled = esl.compile(trained, any_size=True)
            compiled.save(Path(scratch) / str(fan_in))
            sizes = {path.name: path.stat().st_size for path in (Path(scratch) / str(fan_in)).iterdir()}
            found.append(
                {
                    "connections": trained.figures.connections,
                    "checkpoint": (trained.folder / "last.safetensors").stat().st_size,
                    "model.nir": sizes["model.nir"],
                    "program": sizes["program.safetensors"],
                    "epoch": written[2] - written[1],
                }
            )
    few, many = found
    more = many["connections"] - few["connections"]
    return {name: (many[name] - few[name]) / more for name in few if name != "connections"}


def changes(neurons: int, fan_in: int, epochs: int) -> tuple[str, ...]:
    """Return the changes to a recipe that make a network with sparse storage of it."""
    return (
        f'sparsity={{learner="static", layers=["fc1", "fc2"], storage="sparse", per_neuron={fan_in}}}',
        f'network.notation="64-{neurons}-{neurons}-10"',
        "data.steps=2",
        "data.samples=64",
        "training.batch=32",
        f"training.epochs={epochs}",
    )


def written_bytes() -> int:
    """Return the bytes that this process has written to files so far (Linux)."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar"))


def nothing(number: int, _tell: Any, _wanted: Any) -> int:
    """Be a task that does nothing."""
    return number


def dask_tasks(tasks: int) -> dict[str, float]:
    """Return what starting two workers takes, and each of so many tasks that do nothing."""
    from esl_neuro.pipeline.workers import Workplace, workers

    started = time.perf_counter()
    with TemporaryDirectory() as shared, workers(Workplace(jobs=2), tasks, Path(shared)) as team:
        list(team.run(nothing, range(2)))  # both have begun
        ready, processor = time.perf_counter(), time.process_time()
        list(team.run(nothing, range(tasks)))
        wall, used = time.perf_counter() - ready, time.process_time() - processor
    return {"start_s": ready - started, "task_wall_ms": MS * wall / tasks, "task_processor_ms": MS * used / tasks}


def disk_mb_per_s() -> float:
    """Return the rate at which this disk takes whole files, written beside, flushed and swapped."""
    from esl_neuro.storage import write

    content = os.urandom(FILE_BYTES)
    with TemporaryDirectory(dir=".") as folder:
        taken = in_turns({"": lambda: write(Path(folder) / "file", content)}, 3)[""]
    return FILE_BYTES / MB / (taken.shortest_ms / MS)


def speed_of_threads(steps: int) -> float:
    """Return how many times as fast all threads make a sparse training step as one."""
    import torch

    from sparse_step import SIZES, Step, batch

    step = partial(Step("sparse", SIZES, 0.05), *batch(SIZES))

    def with_threads(threads: int) -> None:
        torch.set_num_threads(threads)
        step()

    every = os.cpu_count() or 1
    taken = in_turns({"one": lambda: with_threads(1), "all": lambda: with_threads(every)}, steps, warm_up=2)
    return taken["one"].wall_ms / taken["all"].wall_ms


def of_growth(growth: Mapping[str, Any]) -> dict[str, float]:
    """Return bytes and nanoseconds of a connection, of a signal and of an operation, from the curves of growth.json."""
    curves = growth["curves"]
    connections, steps = curves["training by connections"], curves["training by steps"]
    point = connections["points"][0]
    signals, columns = 3 * point["width"], point["steps"] * point["samples"]  # input lines are signals too
    of_connection = connections["processor_ms"]["slope"] / columns
    widest = curves["training by width"]["points"][-1]  # where most signals lie outside the caches
    of_signals = widest["processor_ms"] / (widest["steps"] * widest["samples"]) - of_connection * widest["connections"]
    ends = [curves["integers by connections"]["points"][place] for place in (0, -1)]
    operations = ends[1]["operations"] - ends[0]["operations"]
    return {
        "training, bytes of a connection": MB * connections["peak_mb"]["slope"],
        "training, bytes of a signal, step and sample": MB * steps["peak_mb"]["slope"] / signals / point["samples"],
        "training, ns of a connection, step and sample": NS_PER_MS * of_connection,
        "training, ns of a signal, step and sample": NS_PER_MS * max(0.0, of_signals) / (3 * widest["width"]),
        "integers, bytes of a synapse": MB * curves["integers by connections"]["peak_mb"]["slope"],
        "integers, ns of a synaptic operation": NS_PER_MS
        * (ends[1]["processor_ms"] - ends[0]["processor_ms"])
        / operations,
        "training, share of the bandwidth of one thread": widest["of_bandwidth"],
    }


# --- computed -------------------------------------------------------------------------------------------------------


def plan(constants: Mapping[str, float], memory_gb: float, limits: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Return at which sizes memory, bandwidth, network, scheduler and disk saturate, computed from the constants.

    Parameters
    ----------
    constants : mapping of str to float
        Of :func:`of_growth` and of what is measured here.
    memory_gb : float
        Memory of this machine.
    limits : mapping
        Limits with one thread and with all.
    """
    a_connection = constants["training, ns of a connection, step and sample"]
    a_signal = constants["training, ns of a signal, step and sample"]
    columns = STEPS * SAMPLES
    neuron_bytes = (
        FAN_IN * constants["training, bytes of a connection"]
        + columns * constants["training, bytes of a signal, step and sample"]
    )
    step_ns_of_neuron = columns * (FAN_IN * a_connection + a_signal)  # of one core
    exchanged = 2 * GRADIENT_BYTES * FAN_IN  # bytes of a neuron that a rank sends and receives in a ring of many ranks
    largest = {name: 1e9 * (size or memory_gb) / neuron_bytes for name, size in MEMORY_GB.items()}
    neurons = largest["this machine"]
    epoch_s = IMAGES / SAMPLES * step_ns_of_neuron * neurons / 1e9
    epoch_bytes = constants["bytes of a connection written in an epoch"] * FAN_IN * neurons
    single, every = limits["one thread"], limits["all threads"]
    return {
        "neurons that fit": largest,
        "connections that fit": {name: FAN_IN * size for name, size in largest.items()},
        "bytes of a neuron with its connections": neuron_bytes,
        "samples/s of one core, a million neurons": 1e9 / (step_ns_of_neuron / SAMPLES * 1e6),
        "cores that saturate the bandwidth": every["copy_gb_per_s"]
        / single["copy_gb_per_s"]
        / constants["training, share of the bandwidth of one thread"],
        "synapses that the simulator holds": 1e9 * memory_gb / constants["integers, bytes of a synapse"],
        "million operations/s of one core": 1e3 / constants["integers, ns of a synaptic operation"],
        "all-reduce / step": {
            f"{link} Gbit/s": {f"{cores} cores": 8 * exchanged / link / (step_ns_of_neuron / cores) for cores in CORES}
            for link in LINKS_GBIT_PER_S
        },
        BATCHES: {
            f"{link} Gbit/s": {
                f"{cores} cores": 8 * exchanged / link * cores / SHARE / (step_ns_of_neuron / SAMPLES)
                for cores in CORES
            }
            for link in LINKS_GBIT_PER_S
        },
        "workers that saturate the scheduler": TASK_S / (constants["Dask, ms of a task"] / MS),
        "seconds of an epoch of the largest network": epoch_s,
        "bytes that it writes": epoch_bytes,
        "runs that saturate a shared disk": SHARED_DISK_GB_PER_S * 1e9 * epoch_s / epoch_bytes,
    }


# --- the record in words --------------------------------------------------------------------------------------------

BATCHES = "samples of a rank for which the exchange takes a tenth"


def tables(record: Mapping[str, Any]) -> str:
    """Return the tables of the documents."""
    found = record["plan"]
    constants = [
        (name, figure(value), f"`make bench ARGS={benchmark}`")
        for benchmark, values in record["constants"].items()
        for name, value in values.items()
    ]
    fits = [
        (name, figure(size), figure(found["connections that fit"][name]))
        for name, size in found["neurons that fit"].items()
    ]
    links = [
        (link, *map(figure, shares.values()), *map(figure, found[BATCHES][link].values()))
        for link, shares in found["all-reduce / step"].items()
    ]
    ranks = [f"{cores} cores a rank" for cores in CORES]
    headings = (
        "link (assumed)",
        *(f"exchange / step, {each}" for each in ranks),
        *(f"samples of a rank for a tenth, {each}" for each in ranks),
    )
    rest = [(name, figure(value)) for name, value in found.items() if not isinstance(value, dict)]
    return "\n\n".join(
        [
            markdown_table(("measured", "value", "command"), constants),
            markdown_table(("memory (computed)", f"neurons of fan-in {FAN_IN}", "connections"), fits),
            markdown_table(headings, links),
            markdown_table(("computed", "value"), rest),
        ]
    )


def headlines(record: Mapping[str, Any]) -> list[Headline]:
    """Return the rows of the summary."""
    found, constants = record["plan"], record["constants"]["scaling"]
    return [
        (
            "largest network in this memory",
            f"{found['neurons that fit']['this machine']:,.3g} neurons",
            f"{found['bytes of a neuron with its connections']:,.0f} bytes each with 32 connections",
        ),
        ("a task of Dask", f"{constants['Dask, ms of a task']:.1f} ms", f"start {constants['Dask, s to start']:.1f} s"),
        (
            "all-reduce, 10 Gbit/s, 2 cores a rank",
            f"{found['all-reduce / step']['10 Gbit/s']['2 cores']:.2f} x a step",
            "computed",
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--tasks", type=int, default=300, help="of Dask")
    parser.add_argument("--neurons", type=int, default=NEURONS, help="of a layer of the runs whose files are compared")
    parser.add_argument("--steps", type=int, default=9, help="of training, timed with one thread and with all")
    options = parser.parse_args()
    from limits import limits

    both = {"one thread": limits(1).record(), "all threads": limits(os.cpu_count() or 1).record()}
    tasks = dask_tasks(options.tasks)
    files = bytes_in_files(options.neurons)
    measured = {
        "bytes of a connection in a checkpoint": files["checkpoint"],
        "bytes of a connection in model.nir": files["model.nir"],
        "bytes of a connection in a program": files["program"],
        "bytes of a connection written in an epoch": files["epoch"],
        "disk, MB/s of whole files": disk_mb_per_s(),
        "Dask, ms of a task": tasks["task_wall_ms"],
        "Dask, processor ms of a task": tasks["task_processor_ms"],
        "Dask, s to start": tasks["start_s"],
        "training, speed of all threads over one": speed_of_threads(options.steps),
    }
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    assumed = {"fan-in": FAN_IN, "steps": STEPS, "samples": SAMPLES, "images": IMAGES, "task_s": TASK_S}
    of_curves = of_growth(json.loads(GROWTH.read_text(encoding="utf-8")))
    print_record(
        {
            "assumed": assumed,
            "constants": {"growth": of_curves, "scaling": measured},
            "plan": plan({**of_curves, **measured}, memory_gb, both),
            "limits": both,
        }
    )


if __name__ == "__main__":
    run(main)
