"""What do time and memory of a training step become when layers store their connections only?

    python benchmarks/sparse_step.py                              # 784-4096-4096-10 at densities 0.01 and 0.05
    python benchmarks/sparse_step.py --density 0.05 --repeat 2    # a quick look

Prints JSON; ``sparse_step.json`` beside this file is what it printed last. A step is forward, cross-entropy of every
step averaged, backward and Adam, of 4 steps and 128 samples, input lines that spike with probability 0.2. Masked is
the same network with dense weights: with this package's Adam, which masks in its own pass, and with torch's fused Adam
and a separate mask. The two hidden layers are sparse, the readout is dense. Steps are timed in turn; medians are
printed. Each memory is that of a process of its own: the peak of what is resident, minus what was resident before the
network was made (Linux). Rewiring replaces 30 % of the connections every 100 steps. The shares of the limits are the
operations and bytes that training counts (``esl_neuro.training.cost``) in the processor time of a step, of those that
this machine reached in the same run (``limits.py``).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from esl_neuro.sparsity import MaskedAdam, Rewirer
from esl_neuro.training.cost import Amount, Rule, Work, training_work
from esl_neuro.training.freed_memory import keep_freed_memory
from esl_neuro.training.work_of_network import work_of
from limits import Limits, limits
from measurement import MS, Headline, Times, in_turns, markdown_table, peak_mb, percent, print_record, run
from training_step import lif_network, make_step

STEPS, BATCH, RATE = 4, 128, 0.2
SIZES = [784, 4096, 4096, 10]
SPARSE_LAYERS = ["fc1", "fc2"]
UPDATE_EVERY = 100

Kind = str
KINDS: tuple[Kind, ...] = ("sparse", "masked", "masked, fused Adam")
REFERENCE = KINDS[2]


class Step:
    """A training step of one kind, and an update of the structure."""

    def __init__(self, kind: Kind, sizes: Sequence[int], density: float, growth: str = "random") -> None:
        torch.manual_seed(0)
        self.network = lif_network(sizes, SPARSE_LAYERS if kind == "sparse" else ())
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
        make_step(self.network, self.optimizer, inputs, labels)
        self.rewirer.step()

    def work(self, inputs: Tensor) -> Work:
        """Return the operations and bytes of a step, as training counts them."""
        found = work_of(self.network, self.rewirer, inputs)
        assert found is not None
        amount = Amount(inputs.shape[1], passes=1, updates=1)
        return training_work(found.layers.values(), found.updates, found.others, Rule("adam", 2), amount).run.total


def batch(sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    return (torch.rand(STEPS, BATCH, sizes[0]) < RATE).float(), torch.randint(sizes[-1], (BATCH,))


def time_steps(kinds: Sequence[Kind], sizes: Sequence[int], density: float, repeat: int) -> dict[Kind, Times]:
    """Time a step of each kind, in turn."""
    inputs, labels = batch(sizes)
    steps = {kind: partial(Step(kind, sizes, density), inputs, labels) for kind in kinds}
    return in_turns(steps, repeat, warm_up=2)


def update_times(sizes: Sequence[int], density: float, repeat: int) -> dict[str, float]:
    """Return the processor time of an update of the structure, for each growth rule, in ms per step."""
    inputs, labels = batch(sizes)
    found = {}
    for growth in ("random", "gradient", "gradient_on_candidates"):
        step = Step("sparse", sizes, density, growth)
        taken = []
        for _ in range(min(3, repeat)):
            step.rewirer.iteration = UPDATE_EVERY - 2
            step(inputs, labels)  # the step before the update, after which errors are recorded
            without = in_turns({"": step.rewirer._record_errors}, 1, warm_up=0)[""].processor_ms
            make_step(step.network, step.optimizer, inputs, labels)
            taken.append(in_turns({"": step.rewirer.step}, 1, warm_up=0)[""].processor_ms - without)
        found[growth] = median(taken) / UPDATE_EVERY
    return found


def peak_of(kind: Kind, sizes: Sequence[int], density: float, threads: int, processes: int) -> float:
    """Return the peak memory of three steps in MB, above that of an empty process: median of processes."""
    arguments = ["--memory-of", kind, "--density", str(density), "--threads", str(threads), "--sizes"]
    command = [sys.executable, __file__, *arguments, *map(str, sizes)]
    outputs = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(processes)]
    return median(map(float, outputs))


def print_peak(kind: Kind, sizes: Sequence[int], density: float) -> None:
    Step(kind, [16, 16, 16, 4], 0.5)(*batch([16, 16, 16, 4]))  # what is imported and compiled counts for neither

    def train() -> None:
        step, (inputs, labels) = Step(kind, sizes, density), batch(sizes)
        for _ in range(3):
            step(inputs, labels)

    print(peak_mb(train))


def compare(sizes: Sequence[int], density: float, repeat: int, limit: Limits) -> dict[str, Any]:
    """Return everything at one density."""
    times = time_steps(KINDS, sizes, density, repeat)
    memory = {kind: peak_of(kind, sizes, density, limit.threads, min(3, repeat)) for kind in KINDS}
    sparse, reference = times["sparse"], times[REFERENCE]
    updates = update_times(sizes, density, repeat)
    inputs, _ = batch(sizes)
    shares = {}
    for kind in KINDS:
        work = Step(kind, sizes, density).work(inputs)
        shares[kind] = limit.shares(times[kind].processor_ms / MS / limit.threads, work.operations, work.bytes)
    return {
        "step": {kind: taken.milliseconds for kind, taken in times.items()},
        "share of the limits": shares,
        "peak_mb": memory,
        "sparse / masked with fused Adam": {
            "wall": sparse.wall_ms / reference.wall_ms,
            "processor": sparse.processor_ms / reference.processor_ms,
            "peak": memory["sparse"] / memory[REFERENCE],
        },
        "update_processor_ms_per_step": updates,
        "update / sparse step": {name: share / sparse.processor_ms for name, share in updates.items()},
    }


def tables(record: Mapping[str, Any]) -> str:
    """Return the tables of the documents."""
    rows = [
        (
            density,
            kind,
            f"{found['step'][kind]['processor_ms']:g}",
            f"{found['step'][kind]['wall_ms']:g}",
            f"{found['peak_mb'][kind]:g}",
            percent(found["share of the limits"][kind]["of_multiply_adds"]),
            percent(found["share of the limits"][kind]["of_bandwidth"]),
        )
        for density, found in record["density"].items()
        for kind in KINDS
    ]
    headings = ("density", "step", "processor ms", "wall ms", "peak MB", "of the multiply-adds", "of the bandwidth")
    ratios = [
        (
            density,
            *(f"{found['sparse / masked with fused Adam'][each]:.3f}" for each in ("processor", "wall", "peak")),
            *(percent(share) for share in found["update / sparse step"].values()),
        )
        for density, found in record["density"].items()
    ]
    rules = ("random", "gradient", "gradient_on_candidates")
    return "\n\n".join(
        [
            markdown_table(headings, rows),
            markdown_table(
                (
                    "density",
                    "sparse / fused masked: processor",
                    "wall",
                    "peak",
                    *(f"update, `{rule}`" for rule in rules),
                ),
                ratios,
            ),
        ]
    )


def headlines(record: Mapping[str, Any]) -> list[Headline]:
    """Return the rows of the summary."""
    return [
        (
            f"step at density {density}",
            f"{found['step']['sparse']['processor_ms']:g} ms, {found['peak_mb']['sparse']:g} MB",
            f"{found['sparse / masked with fused Adam']['processor']:.3f} x the time of masked, "
            f"{found['sparse / masked with fused Adam']['peak']:.3f} x its memory",
        )
        for density, found in record["density"].items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--sizes", type=int, nargs=4, default=SIZES)
    parser.add_argument("--density", type=float, nargs="+", default=[0.01, 0.05])
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory-of", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as training does
    if options.memory_of:
        print_peak(options.memory_of, options.sizes, options.density[0])
        return
    limit = limits(options.threads)
    settings = {"sizes": options.sizes, "steps": STEPS, "batch": BATCH, "rate": RATE, "threads": options.threads}
    print_record(
        {
            "network": {**settings, "densities": options.density, "repeat": options.repeat},
            "density": {
                str(density): compare(options.sizes, density, options.repeat, limit) for density in options.density
            },
            "limits": limit.record(),
        }
    )


if __name__ == "__main__":
    run(main)
