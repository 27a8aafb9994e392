"""Time and memory of a training step whose layers store their connections only, beside masked dense layers.

    python benchmarks/sparse_step.py                              # 784-4096-4096-10 at densities 0.01 and 0.05
    python benchmarks/sparse_step.py --density 0.05 --repeat 2    # a quick look
    python benchmarks/sparse_step.py --densities-only             # break-even: sparse steps at many densities

Prints JSON; ``sparse_step.json`` beside this file is what it printed last, ``sparse_break_even.json`` what it printed
with ``--densities-only``. A step is forward, cross-entropy of every step averaged, backward and Adam, of 4 steps and
128 samples, input lines that spike with probability 0.2. Masked is the same network with dense weights: with this
package's Adam, which masks in its own pass, and with torch's fused Adam and a separate mask. The two hidden layers
are sparse, the readout is dense. Steps are timed in turn, so that a busy moment of the machine hits all alike;
medians are printed, of wall time and of processor time. Each memory is that of a process of its own: the peak of what
is resident, minus what was resident before the network was made (Linux). Rewiring replaces 30 % of the connections
every 100 steps.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from esl_neuro.snn.network import LinearFactory, build_layers
from esl_neuro.snn.neurons import lif_per_channel
from esl_neuro.sparsity import FewOutputs, MaskedAdam, Rewirer, SparseLinear
from esl_neuro.training.freed_memory import keep_freed_memory
from esl_neuro.training.losses import LOSSES

STEPS, BATCH, RATE = 4, 128, 0.2
SIZES = [784, 4096, 4096, 10]
SPARSE_LAYERS = ["fc1", "fc2"]
UPDATE_EVERY = 100
DENSITIES = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6]

Kind = str
KINDS: tuple[Kind, ...] = ("sparse", "masked", "masked, fused Adam")


class Step:
    """A training step of one kind, and an update of the structure."""

    def __init__(self, kind: Kind, sizes: list[int], density: float, growth: str = "random") -> None:
        torch.manual_seed(0)
        linear: LinearFactory | None = _sparse if kind == "sparse" else None
        neurons = lif_per_channel(tau=0.5, learn_threshold=True)
        notation = "-".join(map(str, sizes))
        self.network = build_layers(notation, (sizes[0],), neurons, bias=False, linear=linear)
        parameters = list(self.network.parameters())
        self.optimizer: torch.optim.Optimizer = (
            torch.optim.Adam(parameters, fused=True) if "fused" in kind else MaskedAdam(parameters)
        )
        self.rewirer = Rewirer(
            self.network,
            self.optimizer,
            density=density,
            layers=SPARSE_LAYERS,
            end=10**9,
            alpha=0.3,
            schedule="constant",
            update_every=UPDATE_EVERY,
            growth={growth: 1.0},
        )

    def __call__(self, inputs: Tensor, labels: Tensor) -> None:
        """Make the step."""
        loss = LOSSES["tet"](self.network(inputs), labels)
        self.network.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.rewirer.step()


def _sparse(name: str, inputs: int, outputs: int, bias: bool) -> nn.Module | None:
    return SparseLinear(inputs, outputs, bias) if name in SPARSE_LAYERS else FewOutputs(inputs, outputs, bias)


def batch(sizes: list[int]) -> tuple[Tensor, Tensor]:
    return (torch.rand(STEPS, BATCH, sizes[0]) < RATE).float(), torch.randint(sizes[-1], (BATCH,))


def timed(action: Callable[[], object]) -> tuple[float, float]:
    """Return wall time and processor time in ms."""
    wall, processor = time.perf_counter(), time.process_time()
    action()
    return (time.perf_counter() - wall) * 1e3, (time.process_time() - processor) * 1e3


def step_times(kinds: tuple[Kind, ...], sizes: list[int], density: float, repeat: int) -> dict[Kind, dict[str, float]]:
    """Return the medians of each kind, timed in turn."""
    steps = {kind: Step(kind, sizes, density) for kind in kinds}
    inputs, labels = batch(sizes)
    times: dict[Kind, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    for turn in range(repeat + 2):
        for kind, step in steps.items():
            taken = timed(lambda step=step: step(inputs, labels))  # type: ignore[misc]
            if turn >= 2:
                times[kind].append(taken)
    return {
        kind: {
            "wall_ms": round(median(wall for wall, _ in taken), 1),
            "processor_ms": round(median(processor for _, processor in taken), 1),
        }
        for kind, taken in times.items()
    }


def update_times(sizes: list[int], density: float) -> dict[str, float]:
    """Return the processor time of an update of the structure, for each growth rule, per step."""
    inputs, labels = batch(sizes)
    found = {}
    for growth in ("random", "gradient", "gradient_on_candidates"):
        step = Step("sparse", sizes, density, growth)
        taken = []
        for _ in range(3):
            step.rewirer.iteration = UPDATE_EVERY - 2
            step(inputs, labels)  # the step before the update, after which errors are recorded
            without = timed(lambda step=step: step.rewirer._record_errors())[1]  # type: ignore[misc]
            loss = LOSSES["tet"](step.network(inputs), labels)
            step.network.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            step.optimizer.step()
            taken.append(timed(lambda step=step: step.rewirer.step())[1] - without)  # type: ignore[misc]
        found[growth] = round(median(taken) / UPDATE_EVERY, 3)
    return found


def peak_mib(kind: Kind, sizes: list[int], density: float, threads: int, processes: int) -> float:
    """Return the peak memory of three steps, above that of an empty process: median of processes of their own."""
    arguments = ["--memory-of", kind, "--density", str(density), "--threads", str(threads), "--sizes"]
    command = [sys.executable, __file__, *arguments, *map(str, sizes)]
    outputs = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(processes)]
    return median(map(float, outputs))


def print_peak(kind: Kind, sizes: list[int], density: float) -> None:
    Step(kind, [16, 16, 16, 4], 0.5)(*batch([16, 16, 16, 4]))  # what is imported and compiled counts for neither
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    step, (inputs, labels) = Step(kind, sizes, density), batch(sizes)
    for _ in range(3):
        step(inputs, labels)
    print(_status("VmHWM") - before)


def _status(name: str) -> float:
    """Return a memory of this process in MiB, as Linux tells it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def compare(sizes: list[int], density: float, repeat: int, threads: int) -> dict[str, Any]:
    times = step_times(KINDS, sizes, density, repeat)
    memory = {kind: round(peak_mib(kind, sizes, density, threads, min(3, repeat)), 1) for kind in KINDS}
    reference = KINDS[2]
    updates = update_times(sizes, density)
    return {
        "step": times,
        "peak_mib": memory,
        "sparse / masked with fused Adam": {
            **{key: round(times["sparse"][key] / times[reference][key], 4) for key in times["sparse"]},
            "peak_mib": round(memory["sparse"] / memory[reference], 4),
        },
        "update_processor_ms_per_step": updates,
        "update / sparse step": {
            name: round(share / times["sparse"]["processor_ms"], 4) for name, share in updates.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of a step whose layers store their connections only.")
    parser.add_argument("--sizes", type=int, nargs=4, default=SIZES)
    parser.add_argument("--density", type=float, nargs="+", default=[0.01, 0.05])
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--densities-only", action="store_true", help="time sparse and masked steps at many densities")
    parser.add_argument("--memory-of", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as training does
    if options.memory_of:
        print_peak(options.memory_of, options.sizes, options.density[0])
        return
    settings = {"sizes": options.sizes, "steps": STEPS, "batch": BATCH, "rate": RATE, "threads": options.threads}
    if options.densities_only:
        found = {str(density): step_times(KINDS[:2], options.sizes, density, options.repeat) for density in DENSITIES}
    else:
        found = {
            str(density): compare(options.sizes, density, options.repeat, options.threads)
            for density in options.density
        }
    machine = {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    result = {"network": {**settings, "repeat": options.repeat}, "density": found, "torch": torch.__version__}
    print(json.dumps({**result, "machine": machine}, indent=2))


if __name__ == "__main__":
    main()
