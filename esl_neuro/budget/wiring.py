"""How many synapses reach and leave each neuron of a torch network, counted by its own forward and backward pass.

Between two layers of neurons a network is linear. With every weight replaced by 1 where there is a connection and 0
elsewhere, batch normalisation left out and averages replaced by sums, that map counts synapses: its row sums are the
fan-ins and its column sums the fan-outs of the neurons as the compiler stores them, with pooling folded into the
weights that follow.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from esl_neuro.errors import BadInput
from esl_neuro.snn.layers import Conv3d, Delay, DelaySlots, GlobalAvgPool2d, Members, Vote
from esl_neuro.snn.network import neuron_layers, probe
from esl_neuro.snn.neurons import RecurrentLIF
from esl_neuro.sparsity.selection import MASKABLE
from esl_neuro.sparsity.sparse_conv import SparseConv2d
from esl_neuro.sparsity.sparse_linear import SparseLinear
from esl_neuro.sparsity.spending import Operations, ProductOperations, StoredOperations

INPUT, OUTPUT = "input", "output"
LARGEST = 2**24
"""Sums of float32 are exact integers below it."""

Weighted = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | SparseLinear


@dataclass
class Pass:
    """One pass of ones through a network.

    Attributes
    ----------
    sources : dict of str to Tensor, shape (steps, 1, ...)
        Spikes of the input and of each layer of neurons: one in the first step, none later.
    sinks : dict of str to Tensor, shape (steps, 1, ...)
        Synapses that reach each layer of neurons in each step, and an output layer that does not fire.
    """

    sources: dict[str, Tensor] = field(default_factory=dict)
    sinks: dict[str, Tensor] = field(default_factory=dict)

    def arriving(self) -> dict[str, Tensor]:
        """Return the synapses of each neuron, summed over the steps."""
        return {name: _whole(counts.detach().sum(0)[0], name) for name, counts in self.sinks.items()}


def weighted_modules(network: nn.Module) -> dict[str, Weighted]:
    """Return the layers with weights, in any storage, by name.

    Raises
    ------
    BadInput
        If convolutions store their connections only, whose synapses follow from masks.
    """
    sparse = [f"'{name}'" for name, module in network.named_modules() if isinstance(module, SparseConv2d)]
    if sparse:
        raise BadInput(
            f"budget: {', '.join(sparse)} store their connections only (SparseConv2d), and the synapses of a "
            "convolution are counted by its mask; use masked convolutions (sparsity.storage = 'masked')"
        )
    kinds = (*MASKABLE, SparseLinear)
    return {name: module for name, module in network.named_modules() if isinstance(module, kinds)}


def weight_of(module: Weighted) -> Tensor:
    """Return the weights of a layer; of one in sparse storage, those of its connections."""
    return module.values if isinstance(module, SparseLinear) else module.weight


def count_pass(network: nn.Module, shape: tuple[int, ...], masks: Mapping[str, Tensor]) -> Pass:
    """Send one spike of every source through a network.

    Parameters
    ----------
    network : nn.Module
        Its neurons are :class:`~esl_neuro.snn.neurons.LIF` layers.
    shape : tuple of int
        Shape of an input sample.
    masks : mapping of str to Tensor
        What replaces the weights of each layer.

    Returns
    -------
    Pass
        With a graph for :func:`torch.autograd.grad`.
    """
    device = next(network.parameters()).device
    shapes = {INPUT: shape} | {name: tuple(each.shape[2:]) for name, each in probe(network, shape).spikes.items()}
    return _send(network, {name: torch.ones(1, *each, device=device) for name, each in shapes.items()}, masks)


def _send(network: nn.Module, sent: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Pass:
    """Send spikes of all sources in the first step, shape (batch, ...)."""
    steps = 1 + sum(_latency(module) for module in network.modules())
    found = Pass({INPUT: _in_first_step(sent[INPUT], steps)})
    names = {id(module): name for name, module in neuron_layers(network).items()}

    def keep(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        found.sinks[names[id(module)]] = given[0]

    def fire(module: nn.Module, _given: Any, _output: Any) -> Tensor:
        name = names[id(module)]
        found.sources[name] = _in_first_step(sent[name], steps)
        return found.sources[name]

    parameters = {}
    for name, module in weighted_modules(network).items():
        weight = weight_of(module)
        parameters[f"{name}.{'values' if isinstance(module, SparseLinear) else 'weight'}"] = masks[name].to(weight)
        if module.bias is not None:
            parameters[f"{name}.bias"] = torch.zeros_like(module.bias)
    with _counting(network) as hooks, torch.enable_grad():
        for neurons in neuron_layers(network).values():
            hooks(neurons.register_forward_pre_hook(keep))
            hooks(neurons.register_forward_hook(fire))
        result = torch.func.functional_call(network, parameters, (found.sources[INPUT],))
    if all(result is not spikes for spikes in found.sources.values()):
        found.sinks[OUTPUT] = result
    return found


def fan_outs(network: nn.Module, shape: tuple[int, ...], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Count the synapses that leave each input line and each neuron, by the steps that a spike takes to arrive.

    Parameters
    ----------
    masks : mapping of str to Tensor
        1 where a layer has a connection, 0 elsewhere, shape of its weights.

    Returns
    -------
    dict of str to float32 Tensor, shape (delays, ...)
        Synapses of each delay, for each input line or neuron.

    Raises
    ------
    BadInput
        If the network has an operation whose synapses cannot be counted so.
    """
    found = count_pass(network, shape, masks)
    sources, steps = list(found.sources), len(found.sources[INPUT])
    delays = max(steps, 1 + any(isinstance(module, RecurrentLIF) for module in network.modules()))
    fans = {
        name: torch.zeros(delays, *spikes.shape[2:], device=spikes.device) for name, spikes in found.sources.items()
    }
    for delay in range(steps):
        total = torch.stack([reached[delay].double().sum() for reached in found.sinks.values()]).sum()
        leaves = torch.autograd.grad(total, list(found.sources.values()), allow_unused=True, retain_graph=True)
        for name, leaf in zip(sources, leaves, strict=True):
            if leaf is not None:
                fans[name][delay] = _whole(leaf[0, 0], name)
        # As many synapses leave the neurons as reach them, if the map is linear.
        if sum(float(fan[delay].double().sum()) for fan in fans.values()) != float(total.detach()):
            raise _unknown("the network")
    for name, module in neuron_layers(network).items():
        if isinstance(module, RecurrentLIF):
            fans[name][1] += masks[f"{name}.recurrent"].to(fans[name]).sum(0)
    return fans


def weight_operations(
    network: nn.Module, masks: Mapping[str, Tensor], arriving: Mapping[str, Tensor]
) -> tuple[int, dict[str, Operations]]:
    """Count the synaptic operations of spikes, and those that each weight takes part in.

    The operations ``C`` of spikes are linear in the masks ``m``, so a weight meets ``dC/dm`` spikes: those of its
    source, at all positions of a kernel and times all neurons that a pooling puts behind it. All is counted in double
    precision on a copy of the network, whose own layers see nothing of it.

    Parameters
    ----------
    masks : mapping of str to Tensor
        1 where a layer has a connection, 0 elsewhere, shape of its weights.
    arriving : mapping of str to Tensor, shape (delays, ...)
        Spikes of each input line and neuron that arrive within a sample, by the steps that a synapse takes.

    Returns
    -------
    int
        Operations of all synapses.
    dict of str to Operations
        By the names of the layers with weights.

    Raises
    ------
    BadInput
        If weights follow each other without neurons between them, so that their synapses are not their own.
    """
    counted = copy.deepcopy(network).cpu().double()
    modules = weighted_modules(counted)
    leaves = {name: masks[name].detach().cpu().double().requires_grad_() for name in modules}
    sent = {name: spikes.cpu().double() for name, spikes in arriving.items()}
    products: dict[str, tuple[Tensor, Tensor]] = {}
    recurrent = {
        f"{name}.recurrent": name for name, each in neuron_layers(counted).items() if isinstance(each, RecurrentLIF)
    }

    for name, module in modules.items():
        if isinstance(module, SparseLinear):
            module.register_forward_hook(partial(_keep_product, products, name))
    found = _send(counted, sent, leaves)
    steps = len(found.sources[INPUT])
    total = torch.stack(
        [sink[delay, delay].sum() for sink in found.sinks.values() for delay in range(steps)]
    ).sum()  # the spikes that arrive after a delay are the samples of its number
    wanted = [leaf for name, leaf in leaves.items() if name not in products]
    wanted += [output for _, output in products.values()]
    grads = iter(torch.autograd.grad(total, wanted, allow_unused=True, materialize_grads=True))
    operations = int(total.detach().round())
    layers: dict[str, Operations] = {}
    for name, leaf in leaves.items():
        if name in products:
            continue
        grad = next(grads)
        if name in recurrent:
            grad = sent[recurrent[name]][1].flatten().expand_as(leaf)
            operations += int((grad * leaf.detach()).sum().round())
        layers[name] = StoredOperations(_int64(grad).ravel())
    for name, (signal, _) in products.items():
        met, lines = next(grads).flatten(0, -2), signal.flatten(0, -2)
        used = met.any(1) & lines.any(1)
        layers[name] = ProductOperations(_int64(met[used].T), _int64(lines[used].T))
    own = sum(int(each.at(_live(modules[name], masks[name])).sum()) for name, each in layers.items())
    if own > operations:
        raise BadInput(
            "budget.energy: layers with weights follow each other without neurons between them, so their connections "
            "have no synapses of their own to price; put neurons between them, or omit budget.energy"
        )
    return operations, layers


def _live(module: Weighted, mask: Tensor) -> NDArray[np.int64]:
    """Return the positions of all connections of a layer."""
    return module.index.positions() if isinstance(module, SparseLinear) else np.flatnonzero(mask.cpu().numpy())


def _int64(counts: Tensor) -> NDArray[np.int64]:
    integers: NDArray[np.int64] = np.ascontiguousarray(counts.round().long().numpy())
    return integers


def _keep_product(
    products: dict[str, tuple[Tensor, Tensor]], name: str, _module: nn.Module, given: tuple[Tensor, ...], output: Tensor
) -> None:
    products[name] = given[0].detach(), output


def updated_neurons(network: nn.Module, shape: tuple[int, ...]) -> dict[str, int]:
    """Return the neurons of each layer, and the outputs of a network whose output does not fire."""
    activity = probe(network, shape)
    counts = {name: spikes[0, 0].numel() for name, spikes in activity.spikes.items()}
    if all(activity.outputs is not spikes for spikes in activity.spikes.values()):
        counts[OUTPUT] = activity.outputs.shape[-1]
    return counts


@dataclass(frozen=True)
class LayerWiring:
    """How the weights of a layer become synapses.

    Attributes
    ----------
    synapses : int
        Synapses of a neuron of the dense layer.
    each : int
        Synapses for each connection; more than 1 behind an average pooling.
    neurons : frozenset of str
        Layers of neurons that it feeds; the output is one of them if it does not fire.
    fixed : int
        Synapses that reach one of these neurons without weights, as by the identity path of a residual block.
    """

    synapses: int
    each: int
    neurons: frozenset[str]
    fixed: int = 0


def layer_wirings(network: nn.Module, shape: tuple[int, ...]) -> dict[str, LayerWiring]:
    """Find out, layer by layer, which neurons its weights feed and with how many synapses.

    Raises
    ------
    BadInput
        If no neurons follow a layer, or its synapses cannot be counted.
    """
    modules, wirings = weighted_modules(network), {}
    nothing = {name: torch.zeros_like(weight_of(module)) for name, module in modules.items()}
    fixed = count_pass(network, shape, nothing).arriving()
    for name, module in modules.items():
        owner, last = name.rpartition(".")[0], name.rpartition(".")[2]
        if last == "recurrent" and isinstance(network.get_submodule(owner), RecurrentLIF):
            wirings[name] = LayerWiring(_inputs(module), 1, frozenset({owner}), int(fixed[owner].max()))
            continue
        with _one_connection_each(module) if isinstance(module, SparseLinear) else nullcontext():
            arriving = count_pass(network, shape, nothing | {name: torch.ones_like(weight_of(module))}).arriving()
        reached = {sink: counts - fixed[sink] for sink, counts in arriving.items() if (counts != fixed[sink]).any()}
        if not reached:
            raise BadInput(f"budget: no neurons follow layer '{name}' directly, so its synapses cannot be counted")
        most = max(int(counts.max()) for counts in reached.values())
        each = most if isinstance(module, SparseLinear) else -(-most // _inputs(module))
        synapses = most * module.in_features if isinstance(module, SparseLinear) else most
        unweighted = max(int(fixed[sink].max()) for sink in reached)
        wirings[name] = LayerWiring(synapses, each, frozenset(reached), unweighted)
    return wirings


@contextmanager
def _one_connection_each(module: SparseLinear) -> Iterator[None]:
    """Give each neuron of a layer in sparse storage one connection, so that no dense weights are needed to count."""
    positions, values = module.index.positions(), module.values.detach().numpy()
    module.connect(np.arange(module.out_features) * module.in_features, np.ones(module.out_features))
    try:
        yield
    finally:
        module.connect(positions, values)


def _inputs(module: Weighted) -> int:
    return module.in_features if isinstance(module, SparseLinear) else module.weight[0].numel()


def _whole(counts: Tensor, name: str) -> Tensor:
    rounded = counts.round()
    if not torch.isfinite(counts).all() or (counts - rounded).abs().max() > 1e-3 or rounded.abs().max() >= LARGEST:
        raise _unknown(f"'{name}'")
    return rounded


def _unknown(where: str) -> BadInput:
    return BadInput(
        f"budget: the synapses of {where} cannot be counted: there is an operation that is neither a linear layer, a "
        "convolution, batch normalisation, pooling by averages nor a module of esl_neuro.snn"
    )


def _in_first_step(sent: Tensor, steps: int) -> Tensor:
    spikes = sent.new_zeros(steps, *sent.shape)
    spikes[0] = sent
    return spikes.requires_grad_()


def _latency(module: nn.Module) -> int:
    if isinstance(module, Delay):
        return module.steps
    if isinstance(module, DelaySlots):
        return module.delays[-1]
    return module.kernel_size[0] - 1 if isinstance(module, Conv3d) else 0


@contextmanager
def _counting(network: nn.Module) -> Iterator[Callable[[Any], None]]:
    """Let a network count: no normalisation, no dropout, sums instead of averages."""
    training = network.training
    network.eval()
    with ExitStack() as stack:

        def until_the_end(hook: Any) -> None:
            stack.callback(hook.remove)

        for module in network.modules():
            if isinstance(module, SparseLinear):
                stack.callback(setattr, module, "errors", module.errors)
                module.errors = None  # growth rules do not see this pass
            undo = _undo(module)
            if undo is not None:
                until_the_end(module.register_forward_hook(undo))
        try:
            yield until_the_end
        finally:
            network.train(training)


def _undo(module: nn.Module) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor] | None:
    """Return what turns the output of a module into a count; None if it is one."""
    if isinstance(module, _BatchNorm):
        return lambda _module, given, _output: given[0]
    if isinstance(module, nn.AvgPool1d | nn.AvgPool2d | nn.AvgPool3d):
        return lambda _module, _given, output: output * _size(module)
    if isinstance(module, GlobalAvgPool2d):
        return lambda _module, given, output: output * given[0][0, 0, 0].numel()
    if isinstance(module, Vote):
        return lambda _module, _given, output: output * module.group
    if isinstance(module, Members):
        return lambda _module, _given, output: output * len(list(module.children()))
    return None


def _size(pool: nn.AvgPool1d | nn.AvgPool2d | nn.AvgPool3d) -> int:
    axes = next(n for n, kind in enumerate((nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d), 1) if isinstance(pool, kind))
    kernel = pool.kernel_size
    return kernel**axes if isinstance(kernel, int) else math.prod(kernel)
