"""How fast is the integer simulator on large convolutional networks? Beside it, the float network.

    python benchmarks/simulate_images.py                                    # VGGSNN and ResNet-19, density 0.1, 2 steps
    python benchmarks/simulate_images.py --network 8C3-BN-AP2-10 --repeat 1 # a quick look

The networks are not trained: their weights are as drawn, masked, and batch norm is set by the images, so that neurons
fire about as often as in a trained network, and no data is needed. Images of 8 bits are the input of every step. The
float network is the network in PyTorch, without gradients; its convolutions alone, on the same inputs, are a limit for
everything that computes densely in float32. All run on one thread, in turns, and the processor time per sample is the
median, without the start that any number of samples shares. Samples/s of two cores are twice those of one. The share
of the limit is the synaptic operations in the additions of 16-bit integers that this machine reached in the same run.
Prints JSON; ``simulate_images.json`` beside this file is what it printed last.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from esl_neuro.backends.event_tables import Tables, lay_out
from esl_neuro.backends.integer import count_integer, run_integer
from esl_neuro.compiler.compile import compile_any_size
from esl_neuro.compiler.program import Program
from esl_neuro.interchange import to_nir
from esl_neuro.snn.architectures import ResNet19, vggsnn
from esl_neuro.snn.network import build_layers
from esl_neuro.snn.neurons import lif_per_channel
from esl_neuro.sparsity import Rewirer
from limits import Limits, limits
from measurement import MS, Headline, in_turns, markdown_table, percent, print_record, run

DENSITY = 0.1
STEPS = 2
CORES = 2
NETWORKS: dict[str, tuple[Callable[..., nn.Module], tuple[int, int, int]]] = {
    "VGGSNN": (vggsnn, (2, 48, 48)),
    "ResNet-19": (ResNet19, (3, 32, 32)),
}


@dataclass(frozen=True)
class Case:
    """A network in float and in integers.

    Attributes
    ----------
    images : float32 tensor, shape (samples, channels, rows, columns)
        Multiples of 1/255 up to 1.
    inputs : integer array, shape (samples, steps, input lines)
        The same as payloads.
    """

    network: nn.Module
    program: Program
    images: Tensor
    inputs: NDArray[Any]


def build(name: str, samples: int, density: float) -> Case:
    """Draw a network, mask it, set batch norm by the images, and compile it."""
    torch.manual_seed(0)
    make, shape = NETWORKS.get(name, (partial(build_layers, name), (2, 16, 16)))
    neurons = lif_per_channel(tau=0.5)
    network = make(neurons=neurons) if name in NETWORKS else make(shape, neurons)
    optimizer = torch.optim.Adam(network.parameters())
    Rewirer(network, optimizer, density=density, distribution="erk", layers="all", end=1)
    images = smooth(samples, shape)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean of all batches
    with torch.no_grad():
        network.train()(over_steps(images[:16]))
    network.eval()
    graph = to_nir(network, STEPS, shape=shape)
    program = compile_any_size(graph, "loihi2", STEPS, input_bits=8).program
    payloads = torch.round(over_steps(images).transpose(0, 1).flatten(2) * 255)
    return Case(network, program, images, payloads.numpy().astype(np.uint8))


def smooth(samples: int, shape: tuple[int, int, int]) -> Tensor:
    """Draw images whose neighbours are alike."""
    coarse = torch.rand(samples, shape[0], shape[1] // 4, shape[2] // 4)
    fine = nn.functional.interpolate(coarse, shape[1:], mode="bilinear", align_corners=False)
    return torch.round(fine * 255) / 255


def over_steps(images: Tensor) -> Tensor:
    return images.expand(STEPS, *images.shape)


def run_float(network: nn.Module, images: Tensor) -> None:
    with torch.inference_mode():
        network(over_steps(images))


def convolutions(network: nn.Module, images: Tensor) -> Callable[[], None]:
    """Return what repeats the convolutions of a run, and nothing else."""
    calls: list[tuple[nn.Module, Tensor]] = []
    hooks = [
        module.register_forward_pre_hook(lambda module, inputs: calls.append((module, inputs[0])))
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
    ]
    run_float(network, images)
    for hook in hooks:
        hook.remove()

    def repeat() -> None:
        with torch.inference_mode():
            for module, inputs in calls:
                module(inputs)

    return repeat


def measure(case: Case, repeat: int, limit: Limits) -> dict[str, Any]:
    """Time everything on one network."""
    torch.set_num_threads(1)
    few, inputs, images = case.inputs[:1], case.inputs, case.images
    batch = images[: min(len(images), 8)]  # larger ones are not faster per image
    integer, counting = (partial(each, case.program, threads=1) for each in (run_integer, count_integer))
    times = in_turns(
        {
            "integer": partial(integer, inputs),
            "integer, one": partial(integer, few),
            "counting": partial(counting, inputs),
            "counting, one": partial(counting, few),
            "float": partial(run_float, case.network, batch),
            "convolutions": convolutions(case.network, batch),
        },
        repeat,
    )
    taken = {name: each.processor_ms / MS for name, each in times.items()}
    rest = len(inputs) - 1
    per_sample = {
        "integer": (taken["integer"] - taken["integer, one"]) / rest,
        "integer and counting": (taken["counting"] - taken["counting, one"]) / rest,
        "float network": taken["float"] / len(batch),
        "float convolutions alone": taken["convolutions"] / len(batch),
    }
    counts = count_integer(case.program, inputs).counts
    assert counts is not None
    operations = sum(int(each.sop_effective.sum()) for each in counts.connections) / len(inputs)
    spikes = sum(int(each.sum()) for each in counts.spikes_out.values()) / len(inputs)
    return {
        "neurons": case.program.neurons,
        "synapses, millions": case.program.synapses / 1e6,
        "neurons that spike in a step": spikes / case.program.neurons / STEPS,
        "synaptic operations per sample, millions": operations / 1e6,
        "tables, megabytes": megabytes(lay_out(case.program)),
        "processor milliseconds per sample": {name: 1e3 * seconds for name, seconds in per_sample.items()},
        "samples/s of two cores": {name: CORES / seconds for name, seconds in per_sample.items()},
        "billion synaptic operations/s of one core": operations / 1e9 / per_sample["integer"],
        "of additions": operations / 1e9 / per_sample["integer"] / limit.additions_g_per_s,
        "integer / float network": per_sample["float network"] / per_sample["integer"],
        "integer / float convolutions alone": per_sample["float convolutions alone"] / per_sample["integer"],
    }


def megabytes(tables: Tables) -> dict[str, float]:
    """Memory of the synapses, which does not grow with the image, and of the rest: numbers of neurons and sources."""
    of_matrices = ("rows", "marks", "targets", "halves", "starts")
    of_kernels = ("kernel_halves", "kernel_marks", "tap_offsets", "tap_sizes", "tap_parts", "tap_signs", "first_parts")
    synapses = sum(getattr(tables, name).nbytes for name in (*of_matrices, *of_kernels))
    return {"synapses": synapses / 1e6, "rest": (sum(table.nbytes for table in tables) - synapses) / 1e6}


FACTS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "integer / float network": lambda found: f"{found['integer / float network']:g}",
    "integer / float convolutions": lambda found: f"{found['integer / float convolutions alone']:g}",
    "neurons that spike in a step": lambda found: percent(found["neurons that spike in a step"]),
    "million operations of a sample": lambda found: f"{found['synaptic operations per sample, millions']:g}",
    "billion operations/s of one core": lambda found: f"{found['billion synaptic operations/s of one core']:g}",
    "of the additions of the machine": lambda found: percent(found["of additions"]),
    "million synapses": lambda found: f"{found['synapses, millions']:g}",
    "MB of synapses, of the rest": lambda found: ", ".join(f"{size:g}" for size in found["tables, megabytes"].values()),
}


def tables(record: Mapping[str, Any]) -> str:
    """Return the tables of the documents."""
    networks = record["networks"]
    rows = [
        (
            name,
            *(f"{each['samples/s of two cores'][name]:g}" for each in networks.values()),
            *(f"{each['processor milliseconds per sample'][name]:g}" for each in networks.values()),
        )
        for name in next(iter(networks.values()))["samples/s of two cores"]
    ]
    headings = (
        "",
        *(f"{name}, samples/s of two cores" for name in networks),
        *(f"{n}, processor ms" for n in networks),
    )
    facts = [(name, *(write(each) for each in networks.values())) for name, write in FACTS.items()]
    return "\n\n".join([markdown_table(headings, rows), markdown_table(("", *networks), facts)])


def headlines(record: Mapping[str, Any]) -> list[Headline]:
    """Return the rows of the summary."""
    return [
        (
            name,
            f"{each['samples/s of two cores']['integer']:.0f} samples/s of two cores",
            f"{each['integer / float network']:.2f} x the float network, "
            f"{percent(each['of additions'])} of the additions",
        )
        for name, each in record["networks"].items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of the integer simulator on convolutional networks.")
    parser.add_argument("--network", action="append", help="a name, or the papers' notation for 2 x 16 x 16")
    parser.add_argument("--density", type=float, default=DENSITY)
    parser.add_argument("--samples", type=int, default=17)
    parser.add_argument("--repeat", type=int, default=7)
    options = parser.parse_args()
    limit = limits(threads=1)
    networks = {
        name: measure(build(name, options.samples, options.density), options.repeat, limit)
        for name in options.network or NETWORKS
    }
    settings = {"density": options.density, "steps": STEPS, "samples": options.samples}
    print_record({**settings, "networks": networks, "limits": limit.record()})


if __name__ == "__main__":
    run(main)
