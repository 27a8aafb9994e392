"""The weighted layers of a network as :mod:`~esl_neuro.training.cost` counts them, seen while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from esl_neuro.snn import neuron_layers, weighted_layers
from esl_neuro.sparsity import Learner
from esl_neuro.sparsity.sparse_weights import SparseWeights
from esl_neuro.training.cost import Product, Rule


@dataclass
class _Seen:
    """Sums over all calls of a layer."""

    inputs: int = 0
    used: int = 0
    outputs: int = 0
    nonzero: int = 0
    binary: bool = True
    reads_data: bool = False


@dataclass(frozen=True)
class NetworkWork:
    """What a network does for a sample.

    Attributes
    ----------
    layers : dict of str to Product
        Weighted layers by name, in order of execution.
    updates : int
        Updates of neurons.
    others : int
        Trained parameters that are no weights of these layers.
    """

    layers: dict[str, Product]
    updates: int
    others: int


def work_of(network: nn.Module, learner: Learner, inputs: Tensor) -> NetworkWork | None:
    """Run a network on some samples and return what it does for one; None if it has no layers that can be counted.

    Parameters
    ----------
    network : nn.Module
        The network.
    learner : Learner
        Its learner, which knows the connections.
    inputs : Tensor, shape (steps, samples, ...)
        Encoded samples.
    """
    modules: dict[str, nn.Module] = {**weighted_layers(network)}
    modules |= {name: layer for name, layer in network.named_modules() if isinstance(layer, SparseWeights)}
    seen: dict[str, _Seen] = {}
    updates = [0]

    def look(name: str) -> Any:
        def hook(_module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
            _look(seen.setdefault(name, _Seen()), arguments[0], output, inputs)

        return hook

    def count(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        updates[0] += output.numel()

    handles = [module.register_forward_hook(look(name)) for name, module in modules.items()]
    handles += [layer.register_forward_hook(count) for layer in neuron_layers(network).values()]
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            network(inputs)
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    if not seen:
        return None
    samples, live = inputs.shape[1], {layer.name: layer.connections for layer in learner.layers}
    layers = {name: _product(modules[name], each, live.get(name), samples) for name, each in seen.items()}
    weights = {id(_weight(modules[name])) for name in layers}
    trained = [each for each in network.parameters() if each.requires_grad and id(each) not in weights]
    return NetworkWork(layers, updates[0] // samples, sum(each.numel() for each in trained))


def rule_of(name: str, optimizer: Optimizer, parameter: Tensor) -> Rule:
    """Return an optimiser as it is counted, which has made a step."""
    state: Mapping[str, Any] = optimizer.state.get(parameter, {})
    kept = [each for each in state.values() if isinstance(each, Tensor) and each.shape == parameter.shape]
    return Rule(name, len(kept))


def _look(seen: _Seen, signal: Tensor, output: Tensor, data: Tensor) -> None:
    constant = signal.dim() > 2 and len(signal) > 1 and signal.stride(0) == 0
    once, made = (signal[:1], output[:1]) if constant else (signal, output)
    seen.inputs = once[0, 0].numel() if once.dim() > 2 else once.shape[-1]
    seen.used += once.numel()
    seen.outputs += made.numel()
    seen.nonzero += int(torch.count_nonzero(once))
    seen.binary &= bool(((once == 0) | (once == 1)).all())
    seen.reads_data |= signal.data_ptr() == data.data_ptr()


def _product(module: nn.Module, seen: _Seen, live: int | None, samples: int) -> Product:
    weight = _weight(module)
    possible = module.possible if isinstance(module, SparseWeights) else weight.numel()
    columns = seen.used // seen.inputs // samples
    outputs = seen.outputs // columns // samples
    channels = module.out_features if isinstance(module, SparseWeights) else weight.shape[0]
    return Product(
        possible=possible,
        connections=possible if live is None else live,
        indexed=isinstance(module, SparseWeights),
        inputs=seen.inputs,
        outputs=outputs,
        positions=outputs // channels,
        columns=columns,
        reads_data=seen.reads_data,
        binary=seen.binary,
        rate=seen.nonzero / seen.used,
        trained=weight.requires_grad,
    )


def _weight(module: nn.Module) -> Tensor:
    weight: Tensor = module.values if isinstance(module, SparseWeights) else module.weight  # type: ignore[assignment]
    return weight
