"""A network of a million neurons on one machine, from training to its energy on a chip.

    python benchmarks/million_neurons.py                                            # four layers of 250,000, MNIST
    python benchmarks/million_neurons.py --neurons 500 --data digits --samples 100  # a quick look, without downloads

Prints JSON; ``million_neurons.json`` beside this file is what it printed last, one network at a time (``--network``).
With ``--folder``, runs that are complete in that folder are not trained again. Each neuron of the four layers reads
32 lines: 28 from a window of 4,096 around its own place in the layer before, 4 from anywhere else (``per_neuron``,
``window`` and ``long_range`` of a recipe). The readout is dense. The network is trained with the commands, exported,
checked, run on the integers of Loihi 2 and priced. A dense network whose weights, gradients and moments take the
memory of those connections is trained on the same images. Every step is a process of its own, whose peak of resident
memory is printed (Linux). The time of a training step is the median of several, of wall time and of processor time,
with two threads, for two sizes of the batch.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from measurement import print_record

LAYERS, STEPS, CLASSES = 4, 4, 10
BATCH, TIMED_BATCHES = 32, (16, 32)  # fewer samples at a time take less memory and more time
FAN_IN, WINDOW, LONG_RANGE = 32, 4096, 4
INPUTS = {"mnist": 784, "fashion_mnist": 784, "digits": 64}
# Of a connection: value, gradient, two moments, line, and both places in the order of the lines. Of a dense weight: the
# first four.
CONNECTION_BYTES, WEIGHT_BYTES = 28, 16
SPARSE, DENSE = "million-neurons", "same-memory"
WARM_UP = 3  # steps that allocate, and compile kernels

RECIPE = """
name = "{name}"
title = "{notation} LIF network"

[data]
name = "{data}"
encoding = "direct"
steps = {steps}
samples = {samples}

[network]
notation = "{notation}"
tau = 0.5
threshold = 0.3
surrogate = "arctan"
surrogate_width = 1.0
mode = "sl"
readout = "accumulate"

[sparsity]
{sparsity}

[training]
epochs = {epochs}
batch = {batch}
loss = "tet"
optimiser = "adam"
learning_rate = 1e-4 # ours: a readout of 250,000 lines moves far with each step
rate_schedule = "cosine"
seed = 0
threads = 2
"""


def recipes(neurons: int, data: str, samples: int, epochs: int) -> dict[str, str]:
    """Return the recipes of the sparse network, and of the dense one of the same memory."""
    inputs, sparse = INPUTS[data], [f"fc{number}" for number in range(1, LAYERS + 1)]
    window, fan_in = min(WINDOW, neurons), min(FAN_IN, inputs, neurons)
    connections = LAYERS * neurons * fan_in + neurons * CLASSES
    wide = dense_width(connections * CONNECTION_BYTES // WEIGHT_BYTES, inputs)
    by_name = {
        SPARSE: (
            f"{inputs}-{neurons}x{LAYERS}-{CLASSES}",
            f'learner = "static"\nlayers = {json.dumps(sparse)}\nstorage = "sparse"\nper_neuron = {fan_in}\n'
            f"window = {window}\nlong_range = {LONG_RANGE}",
        ),
        DENSE: (f"{inputs}-{wide}-{wide}-{CLASSES}", 'learner = "dense"\nlayers = ["all"]'),
    }
    same = {"data": data, "samples": samples, "steps": STEPS, "epochs": epochs, "batch": BATCH}
    return {
        name: RECIPE.format(name=name, notation=notation, sparsity=sparsity, **same)
        for name, (notation, sparsity) in by_name.items()
    }


def dense_width(weights: int, inputs: int) -> int:
    """Return the width of two equal hidden layers with about so many weights: ``w^2 + (inputs + classes) w``."""
    both = inputs + CLASSES
    return max(1, round((math.sqrt(both**2 + 4 * weights) - both) / 2))


def measured(command: Sequence[str], folder: Path) -> dict[str, Any]:
    """Run a program in a folder; return what it printed, its times and the peak of its memory.

    Raises
    ------
    RuntimeError
        If it fails.
    """
    printed, started = folder / "printed.txt", time.perf_counter()
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        with printed.open("wb") as file:
            os.dup2(file.fileno(), 1)
        os.execv(sys.executable, [sys.executable, *command])
    _, status, used = os.wait4(child, 0)
    text = printed.read_text(encoding="utf-8")
    if status:
        raise RuntimeError(f"{' '.join(command)} failed:\n{text}")
    return {
        "printed": text,
        "wall_s": round(time.perf_counter() - started, 1),
        "processor_s": round(used.ru_utime + used.ru_stime, 1),
        "peak_mb": round(used.ru_maxrss * 1024 / 1e6),
    }


def esl(folder: Path, *arguments: str) -> dict[str, Any]:
    """Run a command of esl-neuro that prints JSON; return its times, memory and ``document``."""
    found = measured(["-m", "esl_neuro", *arguments, "--json"], folder)
    document = json.loads(found.pop("printed"))
    return {**found, "document": document}


def time_steps(recipe: str, batch: int, steps: int) -> None:
    """Print the median time of a sample in training, and the peak of memory, as JSON; in a process of its own."""
    from esl_neuro.pipeline.training import start_training
    from esl_neuro.training.freed_memory import keep_freed_memory
    from esl_neuro.training.trainer import _threads

    keep_freed_memory()
    trainer = start_training(recipe, changes=(f"training.batch={batch}",), runs="timed")
    wall, processor = [], []
    with _threads(trainer.recipe.training.threads):
        for number, indices in enumerate(trainer._remaining_batches()):
            began = time.perf_counter(), time.process_time()
            trainer._train_batch(indices)
            if number >= WARM_UP:
                wall.append((time.perf_counter() - began[0]) / len(indices))
                processor.append((time.process_time() - began[1]) / len(indices))
            if number == WARM_UP + steps:
                break
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    said = {"wall_ms": 1e3 * median(wall), "processor_ms": 1e3 * median(processor), "peak_mb": peak}
    said["per_second"] = 1 / median(wall)
    print(json.dumps({name: round(value, 1) for name, value in said.items()}))


def trained(folder: Path, name: str, recipe: str, steps: int) -> dict[str, Any]:
    """Train a network in a folder, and time single steps; return what that took and gave."""
    path = folder / f"{name}.toml"
    path.write_text(recipe, encoding="utf-8")
    timed = {}
    for batch in TIMED_BATCHES:
        print(f"{name}: training steps of {batch} samples", file=sys.stderr)
        command = [__file__, "--time", str(path), str(batch), str(steps)]
        timed[f"batch {batch}"] = json.loads(measured(command, folder)["printed"])
    result = folder / "runs" / f"{name}-001" / "result.json"
    taken: dict[str, Any] = {}
    if not result.exists():
        print(f"{name}: train", file=sys.stderr)
        taken["train"] = esl(folder, "train", str(path))
        del taken["train"]["document"]
    found = json.loads(result.read_text(encoding="utf-8"))
    return {
        "notation": recipe.split('notation = "')[1].split('"')[0],
        "sample": timed,
        "steps": taken,
        "trained": {key: found[key] for key in ("connections", "epochs", "seconds", "test_accuracy", "test_samples")},
    }


def deployed(folder: Path, name: str, priced: int) -> dict[str, Any]:
    """Follow a trained network to its energy; return what each step took and found."""
    taken: dict[str, dict[str, Any]] = {}
    documents: dict[str, Any] = {}
    run = f"runs/{name}-001"
    for step, arguments in {
        "export": ("export", run, "--accept-loss", "--any-size"),
        "check": ("check", f"{run}/loihi2/model.nir", "--accept-loss"),
        "run": ("run", f"{run}/loihi2", "--samples", str(priced)),
        "price": ("energy", "report", f"{run}/loihi2", "--samples", str(priced), "--backend", "integer"),
    }.items():
        print(f"{name}: {step}", file=sys.stderr)
        found = esl(folder, *arguments)
        documents[step] = found.pop("document")
        taken[step] = found
    size = (folder / run / "loihi2" / "model.nir").stat().st_size
    return {"steps": taken, "file_mb": round(size / 1e6, 1), **found_by(documents)}


def found_by(documents: dict[str, Any]) -> dict[str, Any]:
    """Return accuracies, the use of the chip and the energy from what the commands printed."""
    checked, ran, priced = (documents[step] for step in ("check", "run", "price"))
    layers, samples = priced["counts"]["layers"], priced["run"]["samples"]
    return {
        "accuracy": documents["export"]["accuracy"],
        "chip": {
            "fits": checked["fits"],
            "findings": [f"{each['place']}: {each['message']}" for each in checked["findings"]],
            "used": {each["resource"]: [each["used"], each["limit"]] for each in checked["utilisation"]},
        },
        "run": {key: ran[key] for key in ("samples", "steps", "seconds", "accuracy", "spikes")},
        "price": {
            "samples": samples,
            "synapses": priced["network"]["stored"],
            "sop_per_sample": sum(layer["sop_effective"] for layer in layers) // samples,
            "energy": [
                {key: each[key] for key in ("target", "model", "total", "latency_s", "samples_per_s", "refusal")}
                for each in priced["answer"]["rows"]
            ],
        },
    }


def main() -> None:
    """Print the figures of both networks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--neurons", type=int, default=250_000, help="of each of four layers")
    parser.add_argument("--data", choices=INPUTS, default="mnist")
    parser.add_argument("--samples", type=int, default=3000, help="at most so many of each part of the data")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--steps", type=int, default=8, help="training steps that are timed")
    parser.add_argument("--priced", type=int, default=16, help="samples that are run and priced")
    parser.add_argument("--network", choices=(SPARSE, DENSE), help="default: both")
    parser.add_argument("--folder", type=Path, help="for runs and exports; by default one that is removed")
    parser.add_argument("--time", nargs=3, metavar=("RECIPE", "BATCH", "STEPS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.time:
        time_steps(given.time[0], int(given.time[1]), int(given.time[2]))
        return
    made = recipes(given.neurons, given.data, given.samples, given.epochs)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) if given.folder is None else given.folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        networks = {
            name: trained(folder, name, recipe, given.steps)
            for name, recipe in made.items()
            if given.network in (None, name)
        }
        if SPARSE in networks:
            found = deployed(folder, SPARSE, given.priced)
            found["steps"] = networks[SPARSE]["steps"] | found["steps"]
            networks[SPARSE] |= found
    print_record({"networks": networks})


if __name__ == "__main__":
    main()
