"""How long does one training step take? Ours, its bare matrix products with Adam, and the same network elsewhere.

    python benchmarks/train_step.py                # 784-800-10, T = 4, batch 128, float32, 2 threads
    python benchmarks/train_step.py --repeat 2     # a quick look

Prints JSON; ``train_step.json`` beside this file is what it printed last. A step is forward, cross-entropy of every
step averaged, backward, Adam and, of ours, the connection mask. Everything is timed in turn, again and again, so that a
busy moment of the machine hits all alike. Input either changes at every step (``spikes``) or is the same at every step
(``direct``), in which case the first layer's products are needed once.

Other simulators are timed where they are installed, each in its own fast way. Some pin versions that exclude each
other, so they are installed without what they ask for, and what they import is named::

    python3.11 -m venv peers
    peers/bin/pip install . torch==2.13.0 torchvision==0.28.0 nirtorch loguru pbr tqdm matplotlib packaging requests \
        tensorboard SciencePlots
    peers/bin/pip install --no-deps snntorch==1.0.0 spikingjelly==2.0.0 norse==1.1.0 sinabs==3.1.3
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator
from importlib import import_module, metadata
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from esl_neuro.recipes import load_recipe
from esl_neuro.snn.network import build_layers
from esl_neuro.snn.neurons import lif_per_channel
from esl_neuro.sparsity import Rewirer
from esl_neuro.training.losses import LOSSES
from esl_neuro.training.optimisers import OPTIMISERS

Action = Callable[[], object]
Times = dict[str, list[float]]

TAU = 0.5
UPDATE_EVERY = 100  # iterations between updates of the structure
RATE = 0.2  # share of input lines that spike at a step


class Step:
    """One training step of a network, (steps, batch, inputs) to (steps, batch, classes)."""

    def __init__(self, network: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor, labels: Tensor) -> None:
        self.network, self.optimizer, self.inputs, self.labels = network, optimizer, inputs, labels

    def __call__(self) -> None:
        """Make the step."""
        loss = LOSSES["tet"](self.network(self.inputs), self.labels)
        self.network.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()


class OursWithMask:
    """Our step with the mask, or with all of the rewiring; notes how long the updates of the structure take."""

    def __init__(self, sizes: list[int], inputs: Tensor, labels: Tensor, end: int) -> None:
        self.step = our_step(sizes, inputs, labels)
        self.rewirer = Rewirer(
            self.step.network,
            self.step.optimizer,
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


def our_step(sizes: list[int], inputs: Tensor, labels: Tensor) -> Step:
    neurons = lif_per_channel(tau=TAU, learn_threshold=True)
    network = build_layers("-".join(map(str, sizes)), (sizes[0],), neurons, bias=False)
    return Step(network, OPTIMISERS["adam"](network.parameters(), load_recipe("mlp-fashion").training), inputs, labels)


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


def peer_steps(sizes: list[int], inputs: Tensor, labels: Tensor) -> Iterator[tuple[str, Step]]:
    for name, make in PEERS.items():
        try:
            network = make(sizes)
        except ImportError:
            continue
        yield name, Step(network, torch.optim.Adam(network.parameters(), foreach=True), inputs, labels)


def timed(actions: dict[str, Action], repeat: int, warm_up: int = 3) -> Times:
    """Return the seconds of every action, timed in turn."""
    times: Times = {name: [] for name in actions}
    for turn in range(warm_up + repeat):
        for name, action in actions.items():
            started = time.perf_counter()
            action()
            if turn >= warm_up:
                times[name].append(time.perf_counter() - started)
    return times


def milliseconds(times: list[float]) -> dict[str, float]:
    return {"min": round(min(times) * 1e3, 3), "median": round(median(times) * 1e3, 3)}


def compare(sizes: list[int], inputs: Tensor, labels: Tensor, repeat: int) -> dict[str, Any]:
    """Return the times of everything for one kind of input."""
    steps, batch, _ = inputs.shape
    constant = inputs.stride(0) == 0
    actions: dict[str, Action] = {
        "ours": OursWithMask(sizes, inputs, labels, end=1),
        "matrix products": matrix_products(sizes, inputs[:1] if constant else inputs, steps * batch),
        **adam_steps(sizes),
        **dict(peer_steps(sizes, inputs, labels)),
    }
    shown: dict[str, Any] = {name: milliseconds(times) for name, times in timed(actions, repeat).items()}
    ratio = {
        kind: round(
            shown["ours"][kind]
            / (shown["matrix products"][kind] + min(shown[name][kind] for name in shown if name.startswith("adam"))),
            2,
        )
        for kind in ("min", "median")
    }
    missing = {name: "not installed" for name in PEERS if name not in shown}
    return {"milliseconds": shown | missing, "ours / (matrix products + fastest adam)": ratio}


def rewiring(sizes: list[int], inputs: Tensor, labels: Tensor, iterations: int) -> dict[str, Any]:
    """Compare masking at every iteration and rewiring at every 100th with a step that does neither.

    The optimiser masks in the pass in which it updates the weights, so that there is no time of the mask alone. What
    it costs is the median difference between pairs of neighbouring steps, with and without.
    """
    ours = OursWithMask(sizes, inputs, labels, end=10 * iterations)
    times = timed({"without": our_step(sizes, inputs, labels), "with": ours}, iterations, warm_up=0)
    pairs = list(zip(times["with"], times["without"], strict=True))
    mask = median(masked - plain for number, (masked, plain) in enumerate(pairs, start=1) if number % UPDATE_EVERY)
    update, step = median(ours.updates), median(times["without"])
    parts = {"step without": times["without"], "step with": times["with"], "update": ours.updates}
    shares = {"mask": mask / step, "updates": update / UPDATE_EVERY / step}
    return {
        "milliseconds": {name: milliseconds(values) for name, values in parts.items()},
        "share": {name: round(share, 4) for name, share in {**shares, "both": sum(shares.values())}.items()},
    }


def versions() -> dict[str, str]:
    return {name: _version(name) for name in ("torch", *PEERS)}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def main() -> None:
    parser = argparse.ArgumentParser(description="Time of one training step.")
    parser.add_argument("--sizes", type=int, nargs=3, default=[784, 800, 10])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=300)
    parser.add_argument("--iterations", type=int, default=400, help="iterations with rewiring, 100 or more")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    sizes, shape = options.sizes, (options.steps, options.batch, options.sizes[0])
    labels = torch.randint(sizes[-1], (options.batch,))
    inputs = {"spikes": (torch.rand(shape) < RATE).float(), "direct": torch.rand(shape[1:]).expand(shape)}
    result = {
        "network": vars(options),
        "step": {kind: compare(sizes, signal, labels, options.repeat) for kind, signal in inputs.items()},
        "rewiring": {kind: rewiring(sizes, signal, labels, options.iterations) for kind, signal in inputs.items()},
        "versions": versions(),
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
