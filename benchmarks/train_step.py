"""How long does one training step take? Ours, its bare matrix products with Adam, and the same network elsewhere.

    python benchmarks/train_step.py                # 784-800-10, T = 4, batch 128, float32, 2 threads
    python benchmarks/train_step.py --repeat 2     # a quick look

Prints JSON; ``train_step.json`` beside this file is what it printed last. A step is forward, cross-entropy of every
step averaged, backward, Adam and, of ours, the connection mask. Everything is timed in turn. Input either changes at
every step (``spikes``) or is the same at every step (``direct``), in which case the first layer's products are needed
once. The share of the limit is the multiply-adds of the products in the shortest time of a step, of those that a large
product reached in the same run (``limits.py``).

Other simulators are timed where they are installed, each in its own fast way: in this environment, or, in pinned
versions, below the folder ``ESL_NEURO_READERS``, where ``esl-neuro verify --install-readers`` puts them.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from esl_neuro.interchange.readers import default_folder
from esl_neuro.recipes import load_recipe
from esl_neuro.sparsity import Rewirer
from esl_neuro.training.optimisers import OPTIMISERS
from limits import Limits, limits
from measurement import MS, Action, Headline, Times, in_turns, markdown_table, percent, print_record, run
from training_step import TAU, lif_network, make_step

UPDATE_EVERY = 100  # iterations between updates of the structure
RATE = 0.2  # share of input lines that spike at a step


class OursWithMask:
    """Our step with the mask, or with all of the rewiring; notes how long the updates of the structure take."""

    def __init__(self, sizes: list[int], inputs: Tensor, labels: Tensor, end: int) -> None:
        network, optimizer = ours(sizes)
        self.step = partial(make_step, network, optimizer, inputs, labels)
        self.rewirer = Rewirer(
            network,
            optimizer,
            density=0.15,
            layers=["fc1"],
            end=end,
            update_every=UPDATE_EVERY,
            growth={"momentum": 0.5, "random_unfired": 0.5},
        )
        self.updates: list[float] = []

    def __call__(self) -> None:
        """Make the step and rewire."""
        self.step()
        started = time.perf_counter()
        if self.rewirer.step():
            self.updates.append(time.perf_counter() - started)


def ours(sizes: list[int]) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return our network and its optimiser."""
    network = lif_network(sizes)
    return network, OPTIMISERS["adam"](network.parameters(), load_recipe("mlp-fashion").training)


def multiply_adds(sizes: list[int], first_rows: int, rows: int) -> int:
    """Return those of the products of one step; ``first_rows`` are the rows of the first layer's input."""
    features, hidden, classes = sizes
    return 2 * first_rows * features * hidden + 3 * rows * hidden * classes


def matrix_products(sizes: list[int], inputs: Tensor, rows: int) -> Action:
    """Return the products of one step: forward, of the weights' gradients, and of the hidden layer's."""
    first, (features, hidden, classes) = inputs.flatten(0, 1), sizes
    spikes = (torch.rand(rows, hidden) < RATE).float()
    w1, w2 = torch.randn(hidden, features), torch.randn(classes, hidden)
    error1, error2 = torch.randn(len(first), hidden), torch.randn(rows, classes)

    def multiply() -> None:
        first @ w1.t(), spikes @ w2.t()
        error2.t() @ spikes, error2 @ w2, error1.t() @ first

    return multiply


def adam_steps(sizes: list[int]) -> dict[str, Action]:
    """Return a step of every form of Adam that this torch has for the processor."""
    forms: dict[str, dict[str, Any]] = {
        "loop": {"foreach": False},
        "foreach": {"foreach": True},
        "fused": {"fused": True},
    }
    steps: dict[str, Action] = {}
    for name, form in forms.items():
        shapes = [(sizes[1], sizes[0]), (sizes[1],), (sizes[2], sizes[1])]
        parameters = [nn.Parameter(torch.randn(shape)) for shape in shapes]
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        try:
            optimizer = torch.optim.Adam(parameters, **form)
            optimizer.step()
        except RuntimeError:  # no fused form on the processor before torch 2.4
            continue
        steps[f"adam, {name}"] = optimizer.step
    return steps


def linear(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False)


class InSnnTorch(nn.Module):
    """Leaky in a loop; the linear layers see all steps at once, which is faster than one by one."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        snntorch = import_module("snntorch")
        self.fc1, self.fc2 = linear(sizes[0], sizes[1]), linear(sizes[1], sizes[2])
        self.lif = snntorch.Leaky(beta=TAU, threshold=1.0, reset_mechanism="zero", learn_threshold=True)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs of every step."""
        potential, spikes = self.lif.reset_mem(), []
        for current in self.fc1(inputs):
            fired, potential = self.lif(current, potential)
            spikes.append(fired)
        outputs: Tensor = self.fc2(torch.stack(spikes))
        return outputs


class InSpikingJelly(nn.Module):
    """LIFNode in multi-step mode, torch backend."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        layer, neuron, surrogate, functional = (
            import_module(f"spikingjelly.activation_based.{part}")
            for part in ("layer", "neuron", "surrogate", "functional")
        )
        self.network = nn.Sequential(
            layer.Linear(*sizes[:2], bias=False, step_mode="m"),
            neuron.LIFNode(tau=1 / (1 - TAU), decay_input=False, surrogate_function=surrogate.ATan(), step_mode="m"),
            layer.Linear(*sizes[1:], bias=False, step_mode="m"),
        )
        self.reset = functional.reset_net

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs of every step."""
        self.reset(self.network)
        outputs: Tensor = self.network(inputs)
        return outputs


class InNorse(nn.Module):
    """LIFBoxCell, the neuron without synaptic current, in a loop."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        norse = import_module("norse.torch")
        self.fc1, self.fc2 = linear(sizes[0], sizes[1]), linear(sizes[1], sizes[2])
        self.lif = norse.LIFBoxCell(norse.LIFBoxParameters(tau_mem_inv=torch.tensor((1 - TAU) / 1e-3)))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs of every step."""
        state, spikes = None, []
        for current in self.fc1(inputs):
            fired, state = self.lif(current, state)
            spikes.append(fired)
        outputs: Tensor = self.fc2(torch.stack(spikes))
        return outputs


class InSinabs(nn.Module):
    """LIF layer, which takes the batch before the steps."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        layers, activation = import_module("sinabs.layers"), import_module("sinabs.activation")
        self.fc1, self.fc2 = linear(sizes[0], sizes[1]), linear(sizes[1], sizes[2])
        self.lif = layers.LIF(
            tau_mem=-1 / math.log(TAU),
            spike_fn=activation.SingleSpike,
            reset_fn=activation.MembraneReset(),
            norm_input=False,
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs of every step."""
        self.lif.reset_states()
        outputs: Tensor = self.fc2(self.lif(self.fc1(inputs.transpose(0, 1))))
        return outputs.transpose(0, 1)


PEERS: dict[str, Callable[[list[int]], nn.Module]] = {
    "snntorch": InSnnTorch,
    "spikingjelly": InSpikingJelly,
    "norse": InNorse,
    "sinabs": InSinabs,
}


def add_installed_readers() -> None:
    """Let the peers be imported that ``verify --install-readers`` has installed; they come after what is here."""
    sys.path += [str(default_folder() / name) for name in ("nirtorch", *PEERS)]


def peer_steps(sizes: list[int], inputs: Tensor, labels: Tensor) -> Iterator[tuple[str, Action]]:
    for name, make in PEERS.items():
        try:
            network = make(sizes)
        except ImportError:
            continue
        optimizer = torch.optim.Adam(network.parameters(), foreach=True)
        yield name, partial(make_step, network, optimizer, inputs, labels)


def compare(sizes: list[int], inputs: Tensor, labels: Tensor, repeat: int, limit: Limits) -> dict[str, Any]:
    """Return the times of everything for one kind of input."""
    steps, batch, _ = inputs.shape
    constant = inputs.stride(0) == 0
    actions: dict[str, Action] = {
        "ours": OursWithMask(sizes, inputs, labels, end=1),
        "matrix products": matrix_products(sizes, inputs[:1] if constant else inputs, steps * batch),
        **adam_steps(sizes),
        **dict(peer_steps(sizes, inputs, labels)),
    }
    times = in_turns(actions, repeat, warm_up=3)
    products = multiply_adds(sizes, batch if constant else steps * batch, steps * batch)
    return {
        "milliseconds": {name: taken.milliseconds for name, taken in times.items()}
        | {name: "not installed" for name in PEERS if name not in times},
        "ours / (matrix products + fastest adam)": {
            kind: ratio(times, kind) for kind in ("shortest_ms", "wall_ms", "processor_ms")
        },
        "share of the limit": {
            name: limit.shares(times[name].shortest_ms / MS, products)["of_multiply_adds"]
            for name in ("ours", "matrix products")
        },
    }


def ratio(times: Mapping[str, Times], kind: str) -> float:
    """Return our time over that of the bare products and the fastest Adam."""
    of = {name: taken.milliseconds[kind] for name, taken in times.items()}
    return of["ours"] / (of["matrix products"] + min(of[name] for name in of if name.startswith("adam")))


def rewiring(sizes: list[int], inputs: Tensor, labels: Tensor, iterations: int) -> dict[str, Any]:
    """Compare masking at every iteration and rewiring at every 100th with a step that does neither.

    The optimiser masks in the pass in which it updates the weights, so that there is no time of the mask alone. What
    it costs is the median difference between pairs of neighbouring steps, with and without.
    """
    rewired = OursWithMask(sizes, inputs, labels, end=10 * iterations)
    plain = partial(make_step, *ours(sizes), inputs, labels)
    times = in_turns({"without": plain, "with": rewired}, iterations, warm_up=0)
    pairs = list(zip(times["with"].wall, times["without"].wall, strict=True))
    mask = median(masked - alone for number, (masked, alone) in enumerate(pairs, start=1) if number % UPDATE_EVERY)
    update, step = median(rewired.updates), median(times["without"].wall)
    shares = {"mask": mask / step, "updates": update / UPDATE_EVERY / step}
    return {
        "wall_ms": {name: taken.wall_ms for name, taken in times.items()} | {"update": MS * update},
        "share": {**shares, "both": sum(shares.values())},
    }


def tables(record: Mapping[str, Any]) -> str:
    """Return the tables of the documents."""
    kinds, versions = record["step"], record["machine"]
    names = {"ours": "esl-neuro, with mask", "matrix products": "its bare matrix products"}
    rows = [
        (names.get(name, f"{name} {versions.get(name, '')}".strip()), *(_cell(kinds[kind], name) for kind in kinds))
        for name in kinds["spikes"]["milliseconds"]
    ]
    rows += [
        (
            "esl-neuro / (products + fastest Adam)",
            *(
                "{shortest_ms:.2f} ({wall_ms:.2f})".format(**kinds[kind]["ours / (matrix products + fastest adam)"])
                for kind in kinds
            ),
        ),
        ("multiply-adds of esl-neuro, of the limit", *(percent(kinds[k]["share of the limit"]["ours"]) for k in kinds)),
    ]
    shares = [
        (name, *(percent(record["rewiring"][kind]["share"][name]) for kind in kinds))
        for name in ("mask", "updates", "both")
    ]
    return "\n\n".join(
        [
            markdown_table(("a step, ms: shortest (median)", "spikes", "constant input"), rows),
            markdown_table(("rewiring, share of a step", "spikes", "constant input"), shares),
        ]
    )


def _cell(kind: Mapping[str, Any], name: str) -> str:
    found = kind["milliseconds"][name]
    return found if isinstance(found, str) else f"{found['shortest_ms']:.1f} ({found['wall_ms']:.1f})"


def headlines(record: Mapping[str, Any]) -> list[Headline]:
    """Return the rows of the summary."""
    return [
        (
            f"step, {kind}",
            f"{found['milliseconds']['ours']['shortest_ms']:.1f} ms",
            f"{found['ours / (matrix products + fastest adam)']['shortest_ms']:.2f} x its products and Adam, "
            f"{percent(found['share of the limit']['ours'])} of the multiply-adds",
        )
        for kind, found in record["step"].items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Time of one training step.")
    parser.add_argument("--sizes", type=int, nargs=3, default=[784, 800, 10])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=300)
    parser.add_argument("--iterations", type=int, default=400, help="iterations with rewiring, 100 or more")
    options = parser.parse_args()

    add_installed_readers()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    limit = limits(options.threads)
    sizes, shape = options.sizes, (options.steps, options.batch, options.sizes[0])
    labels = torch.randint(sizes[-1], (options.batch,))
    inputs = {"spikes": (torch.rand(shape) < RATE).float(), "direct": torch.rand(shape[1:]).expand(shape)}
    print_record(
        {
            "network": vars(options),
            "step": {kind: compare(sizes, signal, labels, options.repeat, limit) for kind, signal in inputs.items()},
            "rewiring": {kind: rewiring(sizes, signal, labels, options.iterations) for kind, signal in inputs.items()},
            "limits": limit.record(),
        }
    )


if __name__ == "__main__":
    run(main)
