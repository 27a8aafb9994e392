"""Intercept the torch functions of a run, and keep the calls of weighted layers and of neurons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from esl_neuro.errors import BadInput
from esl_neuro.interchange.origins import (
    BIASED,
    COMPARISONS,
    NOWHERE,
    REACHED,
    Origin,
    follow,
    plain_name,
    tensors_in,
)
from esl_neuro.interchange.products import (
    ARITHMETIC,
    COUNTABLE,
    EACH,
    LAYERS,
    THRESHOLDS,
    Connections,
    Product,
    Uncountable,
    connections,
    read_product,
)
from esl_neuro.interchange.single_step import SingleStepCheck
from esl_neuro.snn.neurons import CubaLIF, RecurrentLIF

INPUT = "input"
NEURONS = "neurons of "  # prefix of a source that is a module of neurons


@dataclass
class LayerCalls:
    """The calls of one weighted layer.

    Attributes
    ----------
    name, module, operation : str
        The layer, the module that calls it, and its operation.
    weight : Tensor
        Its weights, the same in every call.
    parameters : frozenset of str
        Parameters from which the weights are computed.
    connections : Connections
        Connections of one sample.
    neurons : str or None
        Module of neurons inside which it is called.
    inputs, marks : list of Tensor
        Activations of each call, and the marks of its output, see :class:`Origin`; with samples in the first axis.
    sources : set of str
        Where the activations come from.
    """

    name: str
    module: str
    operation: str
    weight: Tensor
    parameters: frozenset[str]
    connections: Connections
    neurons: str | None
    inputs: list[Tensor] = field(default_factory=list)
    marks: list[Tensor] = field(default_factory=list)
    sources: set[str] = field(default_factory=set)


@dataclass
class NeuronCall:
    """One call of a module of neurons: its input with the origin, and which of its outputs spiked."""

    signal: Tensor
    origin: Origin
    spikes: Tensor


@dataclass
class NeuronCalls:
    """All calls of a module of neurons."""

    module: nn.Module
    calls: list[NeuronCall] = field(default_factory=list)

    @property
    def states(self) -> int:
        """State variables of a neuron that outlive a step."""
        recurrent = isinstance(self.module, RecurrentLIF) and bool(torch.as_tensor(self.module.tau_syn).any())
        return 2 if recurrent or isinstance(self.module, CubaLIF) else 1


class Recorder(TorchFunctionMode):  # type: ignore[misc,unused-ignore]
    """Intercepts every torch function, with the module that calls it.

    Attributes
    ----------
    layers : dict of str to LayerCalls
        Weighted layers in the order of their first call.
    neuron_calls : dict of str to NeuronCalls
        Modules of neurons, by path.
    meetings : list of frozenset of str
        Layers whose outputs met before the next layer, outside modules of neurons.
    thresholds : set of str
        Parameters that potentials were compared with.
    met : set of str
        Parameters that a torch function combined with activations.
    """

    def __init__(self, network: nn.Module, inputs: Tensor, neurons: tuple[type[nn.Module], ...]) -> None:
        super().__init__()  # type: ignore[no-untyped-call,unused-ignore]
        self.neurons = neurons
        self.layers: dict[str, LayerCalls] = {}
        self.neuron_calls: dict[str, NeuronCalls] = {}
        self.meetings: list[frozenset[str]] = []
        self.thresholds: set[str] = set()
        self.met: set[str] = set()
        self.modules = dict(network.named_modules())
        self.single_step = SingleStepCheck(int(inputs.shape[0]), int(inputs.shape[1]))
        self._paused = False
        self._stack: list[str] = []
        self._entered: list[tuple[Tensor, Origin]] = []
        self._origins: Any = WeakTensorKeyDictionary()
        self._origins[inputs] = Origin(frozenset((INPUT,)), spikes=True)
        for name, parameter in network.named_parameters():
            self._origins[parameter] = Origin(parameters=frozenset((name,)))

    # Modules.

    def watch(self) -> list[torch.utils.hooks.RemovableHandle]:
        """Track which module is running."""
        hooks = []
        for name, module in self.modules.items():
            if "parametrizations" in name.split("."):
                continue
            hooks.append(module.register_forward_pre_hook(self._enter(name), with_kwargs=True))
            hooks.append(module.register_forward_hook(self._leave(name), with_kwargs=True))
        return hooks

    def _enter(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
            if self._paused:
                return
            given = next(tensors_in((args, options)), None)
            if isinstance(module, self.neurons) and self._neurons() is None and given is not None:
                self._entered.append((given, self._origin(given)))
            self._stack.append(name)
            self.single_step.enter(module, given)

        return hook

    def _leave(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], options: dict[str, Any], output: object) -> None:
            if self._paused:
                return
            self._stack.pop()
            self._paused = True
            try:
                self.single_step.leave(name, module, args, options, output)
            finally:
                self._paused = False
            spikes = next(tensors_in(output), None)
            if isinstance(module, self.neurons) and self._neurons() is None and spikes is not None and self._entered:
                signal, origin = self._entered.pop()
                calls = self.neuron_calls.setdefault(name, NeuronCalls(module))
                calls.calls.append(NeuronCall(signal.detach().clone(), origin, spikes.detach() != 0))
                self._origins[spikes] = Origin(frozenset((NEURONS + name,)), spikes=True)
            if name == "":
                self._meet(frozenset().union(*(self._origin(each).currents for each in tensors_in(output))))

        return hook

    def _neurons(self) -> str | None:
        """Return the outermost module of neurons that is running."""
        return next((name for name in self._stack if isinstance(self.modules[name], self.neurons)), None)

    # Functions.

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the function, and record it if it multiplies an activation by weights."""
        options = kwargs or {}
        if self._paused:
            return function(*args, **options)
        called = getattr(function, "__name__", "")
        name = "matmul" if called == "__rmatmul__" else plain_name(called)
        given = (args[1], args[0], *args[2:]) if called == "__rmatmul__" else args
        product = self._product(name, given, options)
        if name in COMPARISONS and self._neurons() is None:
            self._meet(frozenset().union(*(self._origin(tensor).currents for tensor in tensors_in(given))))
        output = function(*args, **options)
        if product is not None:
            self._keep(product, output, [self._origin(tensor) for tensor in tensors_in((given, options))])
        elif name != "set_grad_enabled":
            self._follow(function, name, args, options, output)
        return output

    def _product(self, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Product | None:
        """Return the product that a function is about to compute, with a copy of the activations."""
        origins = [self._origin(tensor) for tensor in tensors_in((args, options))]
        if not any(origin.signal for origin in origins) and name not in LAYERS:
            return None
        parameters = frozenset().union(*(origin.parameters for origin in origins if not origin.signal))
        try:
            product = read_product(name, args, options, self._origin)
            if product is None and parameters and not self._allowed(name, args, options):
                raise Uncountable(f"'{name}' cannot be counted; countable: {COUNTABLE}")
        except Uncountable as reason:
            raise BadInput(f"{self._label()}{self._weights(name, parameters)}: {reason}") from None
        self.met |= parameters
        if name in THRESHOLDS and any(origin.signal and not origin.spikes for origin in origins):
            self.thresholds |= parameters
        return None if product is None else replace(product, signal=product.signal.detach().clone())

    def _allowed(self, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> bool:
        """Return whether a function may combine activations with these parameters; neurons may with any vector."""
        given = [tensor for tensor in tensors_in((args, options)) if self._origin(tensor).parameters]
        vectors = all(tensor.ndim < 2 for tensor in given if not self._origin(tensor).signal)
        return name in ARITHMETIC or "dropout" in name or (self._neurons() is not None and vectors)

    def _weights(self, name: str, parameters: frozenset[str]) -> str:
        if not parameters or name != EACH:
            return ""
        own = sorted(parameter.rpartition(".")[2] for parameter in parameters)
        return f" ({type(self.modules[self._where()]).__name__}) has the weights {own}"

    def _label(self) -> str:
        where = self._where()
        return f"layer '{where}'" if where else f"network ({type(self.modules['']).__name__})"

    def _where(self) -> str:
        return self._stack[-1] if self._stack else ""

    def _origin(self, tensor: Tensor) -> Origin:
        found: Origin = self._origins.get(tensor, NOWHERE)
        return found

    def _follow(
        self, function: Callable[..., Any], name: str, args: tuple[Any, ...], options: dict[str, Any], output: Any
    ) -> None:
        for tensor, origin in follow(function, name, args, options, output, self._origin):
            if name in COMPARISONS and origin.signal:
                origin = Origin(origin.sources | frozenset(origin.currents), spikes=True)
            elif name in ("add", "sub") and origin.currents:
                origin = self._with_bias(origin, args)
            self._origins[tensor] = origin

    def _with_bias(self, origin: Origin, args: tuple[Any, ...]) -> Origin:
        """Mark the outputs to which a parameter was added."""
        for value in tensors_in(args):
            own = self._origin(value)
            if self._neurons() is None and own.parameters and not own.signal:
                biased = (value.detach() != 0).to(torch.uint8) * BIASED
                currents = {key: marks if marks is None else marks | biased for key, marks in origin.currents.items()}
                return Origin(origin.sources, currents, origin.spikes, origin.parameters)
        return origin

    def _meet(self, layers: frozenset[str]) -> None:
        if len(layers) > 1 and layers not in self.meetings:
            self.meetings.append(layers)

    def _keep(self, product: Product, output: Tensor, given: list[Origin]) -> None:
        """Record a product, and let its output be a current of its layer."""
        parameters = frozenset().union(*(origin.parameters for origin in given if not origin.signal))
        layer = self._layer(product, output, parameters)
        signals = [origin for origin in given if origin.signal]
        origin = signals[-1] if signals else NOWHERE  # before it, a matrix that is added
        layer.sources |= origin.sources | set(origin.currents)
        if self._neurons() is None:
            self._meet(frozenset(origin.currents))
        marks = product.reached(output).to(torch.uint8) * REACHED | product.biased(output).to(torch.uint8) * BIASED
        rows = marks.transpose(-1, -2) if product.columns and marks.ndim > 1 else marks
        scalar_rows = product.operation == "linear" and len(product.weight) == 1 and rows.shape[-1:] != (1,)
        rows = rows[..., None] if scalar_rows else rows
        layer.inputs.append(product.signal if product.signal.ndim > 1 else product.signal[None])
        layer.marks.append(rows if rows.ndim == layer.inputs[-1].ndim else rows[None])
        added = {key: value for each in signals[:-1] for key, value in each.currents.items()}
        self._origins[output] = Origin(currents=added | {layer.name: marks})

    def _layer(self, product: Product, output: Tensor, parameters: frozenset[str]) -> LayerCalls:
        """Return the layer of a product: the same weights in the same module."""
        module, weight = self._where(), product.weight.detach()
        siblings = [layer for layer in self.layers.values() if layer.module == module]
        for layer in siblings:
            if (layer.operation, layer.parameters) == (product.operation, parameters) and torch.equal(
                layer.weight, weight
            ):
                return layer
        name = module if not siblings else f"{module}#{len(siblings) + 1}"
        fans = connections(product, output)
        self.layers[name] = LayerCalls(
            name, module, product.operation, weight.clone(), parameters, fans, self._neurons()
        )
        return self.layers[name]
