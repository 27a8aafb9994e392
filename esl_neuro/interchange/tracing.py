"""Trace a torch network as the calls of its layers, with the shape of every signal."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from esl_neuro.errors import BadInput

INPUT = "input"


@dataclass(frozen=True)
class Call:
    """One call of a layer, or a sum or product of signals.

    Attributes
    ----------
    name : str
        Path of the layer with ``_`` for ``.``; two calls of a layer have different names.
    layer : nn.Module or None
        None for arithmetic between layers: the sum of the inputs, times ``factor``.
    inputs : tuple of str
        Calls whose outputs are its inputs, or :data:`INPUT`.
    shape : tuple of int
        Shape of its output, without steps and batch.
    factor : float
        Constant that a sum is multiplied by.
    """

    name: str
    layer: nn.Module | None
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    factor: float = 1.0


@dataclass(frozen=True)
class TracedNetwork:
    """Input shape, all calls in order of execution, and the call whose output is the network's output."""

    shape: tuple[int, ...]
    calls: tuple[Call, ...]
    output: str

    def users(self, name: str) -> int:
        """Count the uses of an output, including the network's output."""
        return sum(call.inputs.count(name) for call in self.calls) + (self.output == name)


def trace(network: nn.Module, shape: tuple[int, ...], known: tuple[type[nn.Module], ...]) -> TracedNetwork:
    """Follow a signal through a network.

    Modules that are not known layers are entered, so a custom network only needs a ``forward`` that calls known layers
    and adds their signals.

    Parameters
    ----------
    network : nn.Module
        Maps (steps, batch, *shape) to (steps, batch, classes).
    shape : tuple of int
        Shape of an input sample at one step.
    known : tuple of type
        Layers that are not entered; their subclasses are not known layers.

    Raises
    ------
    BadInput
        If the network has unknown layers or operations (the message lists all), or does not accept inputs of that
        shape.
    """
    network = nn.Sequential(network) if type(network) in known else network
    tracer = _Tracer(known)
    graph = _trace(network, tracer)
    modules = dict(network.named_modules())
    findings = [*tracer.findings, *(found for node in graph.nodes if (found := _refuse(node, modules, known)))]
    if findings:
        allowed = ", ".join(sorted({kind.__name__ for kind in known}))
        raise BadInput(
            f"the network has no NIR form: {'; '.join(findings)}; allowed: {allowed}, and sums of signals; a neuron of "
            "your own becomes a NIR node by hand (docs/extending.md, 'A neuron of your own')"
        )
    shapes, names = _shapes(network, graph, shape), _names(graph)
    calls, output = [], ""
    for node in graph.nodes:
        arguments = (*node.args, *node.kwargs.values())
        operands = [argument for argument in arguments if isinstance(argument, fx.Node)]  # x + x has two operands
        inputs = tuple(names[operand] for operand in operands)
        if node.op == "output":
            output = inputs[0]
        elif node.op != "placeholder":
            layer = modules[str(node.target)] if node.op == "call_module" else None
            calls.append(Call(names[node], layer, inputs, shapes[node.name], _factor(node)))
    return TracedNetwork(shape, tuple(calls), output)


def _names(graph: fx.Graph) -> dict[fx.Node, str]:
    """Name the calls after the paths of their layers; the second call of a layer is ``<path>_2``."""
    names: dict[fx.Node, str] = {}
    for node in graph.nodes:
        path = str(node.target).replace(".", "_") if node.op == "call_module" else node.name
        numbered = (path if count == 1 else f"{path}_{count}" for count in itertools.count(1))
        taken = {INPUT, "output", *names.values()}
        names[node] = INPUT if node.op == "placeholder" else next(name for name in numbered if name not in taken)
    return names


def _factor(node: fx.Node) -> float:
    constants = [float(argument) for argument in node.args if isinstance(argument, int | float)]
    factor = 1.0
    for constant in constants:
        factor = factor / constant if node.target is operator.truediv else factor * constant
    return factor


class _Tracer(fx.Tracer):
    """Enters every module except known layers and torch's own; records modules that cannot be traced."""

    def __init__(self, known: tuple[type[nn.Module], ...]) -> None:
        super().__init__()
        self.known = known
        self.findings: list[str] = []

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) in self.known or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception as error:  # a custom forward may raise anything when it is traced
            path = self.path_of_module(m)
            self.findings.append(f"'{path}' ({type(m).__name__}) cannot be traced ({_first_line(error)})")
            return self.create_proxy("call_module", path, args, kwargs)


def _trace(network: nn.Module, tracer: _Tracer) -> fx.Graph:
    try:
        graph: fx.Graph = tracer.trace(network)
    except Exception as error:
        raise BadInput(
            f"the network ({type(network).__name__}) cannot be traced: {_first_line(error)}; "
            "its forward must call layers and add their signals, independently of the values"
        ) from error
    for node in reversed(graph.nodes):
        if not node.users and node.op not in ("placeholder", "output"):  # it has no effect
            graph.erase_node(node)
    return graph


def _refuse(node: fx.Node, modules: dict[str, nn.Module], known: tuple[type[nn.Module], ...]) -> str | None:
    if node.op == "call_module":
        layer = modules[str(node.target)]
        if type(layer) in known or not type(layer).__module__.startswith("torch"):  # the tracer has reported the others
            return None
        return f"'{node.target}' ({type(layer).__name__}) is not supported"
    if node.op in ("placeholder", "output"):
        return None
    constants = [argument for argument in node.args if isinstance(argument, int | float)]
    operands = [argument for argument in node.args if isinstance(argument, fx.Node)]
    is_sum = node.target in (operator.add, operator.iadd, torch.add, "add") and len(operands) == 2
    is_product = node.target in (operator.mul, torch.mul, "mul") and len(operands) == len(constants) == 1
    is_quotient = node.target is operator.truediv and isinstance(node.args[0], fx.Node) and len(constants) == 1
    if (is_sum or is_product or is_quotient) and len(node.args) == 2 and not node.kwargs:
        return None
    called = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    return f"operation '{called}' between layers is not supported"


def _shapes(network: nn.Module, graph: fx.Graph, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Run one silent step of one sample to get the shapes, without changing the network."""
    like = next(network.parameters(), torch.zeros(()))
    training = {module: module.training for module in network.modules()}
    network.eval()
    recorder = _Recorder(fx.GraphModule(network, graph))
    try:
        with torch.no_grad():
            recorder.run(torch.zeros(1, 1, *shape, device=like.device, dtype=like.dtype))
    except Exception as error:
        raise BadInput(f"the network does not accept inputs of shape {shape}: {_first_line(error)}") from error
    finally:
        for module, was in training.items():
            module.training = was
    return recorder.shapes


class _Recorder(fx.Interpreter):
    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.shapes: dict[str, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.shapes[n.name] = tuple(result.shape[2:])
        return result


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
