"""Build networks from the papers' notation, and observe their spikes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from esl_neuro.errors import BadInput
from esl_neuro.reading.limits import refuse_large
from esl_neuro.snn import notation as tokens
from esl_neuro.snn.layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Conv3d,
    Delay,
    DelaySlots,
    DenseLayer,
    Flatten,
    Linear,
    MaxPool2d,
    Members,
    Vote,
)
from esl_neuro.snn.neurons import LIAF, LIF, NeuronFactory
from esl_neuro.snn.temporal import NO_SPIKE, TemporalNetwork

# Makes a linear layer from its name, inputs, outputs and whether it has a bias; None means a dense one.
LinearFactory = Callable[[str, int, int, bool], nn.Module | None]
# Makes a convolution from its name, channels of input and output, kernel, stride, padding and whether it has a bias.
ConvFactory = Callable[[str, int, int, int, int, int, bool], nn.Module | None]


@dataclass(frozen=True)
class NetworkActivity:
    """Outputs and spikes of one forward pass.

    Attributes
    ----------
    outputs : Tensor, shape (steps, batch, classes)
        Outputs of each step: spikes, or the plain sums of an output layer that does not fire.
    spikes : dict of str to Tensor, shape (steps, batch, ...)
        What was kept of each :class:`~esl_neuro.snn.neurons.LIF` layer, by name, in order of execution; by default its
        spikes; for a network of exact spike times, the neurons that fire, as one step; for neurons with analog outputs,
        1 where the output is not zero, since that is what a chip would send.
    """

    outputs: Tensor
    spikes: dict[str, Tensor]

    def predictions(self) -> Tensor:
        """Class of each sample: the largest output, summed over the steps without decay (ESL-SNNs eq. 10).

        With spiking outputs this is the neuron with the most spikes. Ties go to the lowest index.
        """
        return torch.argmax(self.outputs.sum(0), dim=1)


def observe(
    network: nn.Module, inputs: Tensor, keep: Callable[[Tensor], Tensor] = lambda spikes: spikes
) -> NetworkActivity:
    """Run any network that maps (steps, batch, ...) to (steps, batch, classes) and record the spikes of its LIFs.

    Custom modules are supported if their neurons are :class:`~esl_neuro.snn.neurons.LIF` layers. A network of exact
    spike times uses the spikes of the first step as its early inputs, all others are late; its output is ``-z`` as one
    step, so that the first neuron to fire has the largest output. ``keep`` returns what is kept of the spikes of a
    layer, such as their number, which saves their memory.
    """
    if isinstance(network, TemporalNetwork):
        activity = network(inputs[0].flatten(1))
        fired = {name: keep((z < NO_SPIKE)[None]) for name, z in activity.z.items()}
        return NetworkActivity(-activity.output_z[None], fired)
    spikes: dict[str, Tensor] = {}

    def record(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            spikes[name] = keep((output != 0).to(output.dtype) if isinstance(module, LIAF) else output)

        return hook

    hooks = [layer.register_forward_hook(record(name)) for name, layer in neuron_layers(network).items()]
    try:
        return NetworkActivity(network(inputs), spikes)
    finally:
        for hook in hooks:
            hook.remove()


def probe(network: nn.Module, shape: tuple[int, ...]) -> NetworkActivity:
    """Run one silent step of one sample to get the shapes of a network without changing it."""
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            device = next(network.parameters()).device
            return observe(network, torch.zeros(1, 1, *shape, device=device))
    finally:
        network.train(training)


def neuron_layers(network: nn.Module) -> dict[str, LIF]:
    """Return all LIF layers of a network, by name."""
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, LIF)}


def weighted_layers(network: nn.Module) -> dict[str, nn.Linear | nn.Conv2d | nn.Conv3d]:
    """Return all linear layers and convolutions of a network, by name."""
    kinds = nn.Linear | nn.Conv2d | nn.Conv3d
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, kinds)}


def build_layers(
    notation: str,
    shape: tuple[int, ...],
    neurons: NeuronFactory,
    *,
    bias: bool = True,
    spiking_output: bool = False,
    streaming: bool = False,
    delay_slots: int = 1,
    delay_stride: int = 1,
    linear: LinearFactory | None = None,
    conv: ConvFactory | None = None,
) -> nn.Sequential:
    """Build a network from the papers' notation.

    Parameters
    ----------
    notation : str
        See :mod:`esl_neuro.snn.notation`.
    shape : tuple of int
        Shape of an input sample: (features,) or (channels, height, width).
    neurons : callable
        Factory of the neurons after each weighted layer.
    bias : bool
        Whether convolutions and linear layers have a bias.
    spiking_output : bool
        Whether the last layer fires. If not, its outputs are the weighted sums of each step, to be accumulated without
        decay (ESL-SNNs eq. 10).
    streaming : bool
        Whether the spikes of every layer take one step to arrive, see
        :func:`~esl_neuro.snn.neurons.streaming_neurons`.
    delay_slots, delay_stride : int
        Delay slots of each linear layer and the steps between two of them, see
        :class:`~esl_neuro.snn.layers.DelaySlots`. The layer then has ``delay_slots`` times as many inputs.
    linear : callable, optional
        Factory of linear layers that are not dense: ``(name, inputs, outputs, bias)``; None means a dense one.
    conv : callable, optional
        Factory of convolutions of a step that are not dense: ``(name, channels of the input, channels, kernel, stride,
        padding, bias)``; None means a dense one.

    Returns
    -------
    nn.Sequential
        Maps (steps, batch, *shape) to (steps, batch, classes); weighted layers are named ``conv1``, ..., ``fc1``, ...,
        their neurons ``lif1``, ..., and delays
        ``delay1``, ..., and delay slots ``slots1``, ...; those of members that vote ``members.member1.fc1``, ...

    Raises
    ------
    BadInput
        If the notation is inconsistent or does not fit the input.
    """
    parsed = list(tokens.parse_layers(notation))
    slots = DelaySlots(delay_slots, delay_stride)
    builder = _Builder(notation, shape, neurons, bias, streaming, slots, linear, conv)
    if isinstance(parsed[0], tokens.Dense):
        inputs = math.prod(shape)
        if parsed[0].neurons != inputs:
            raise BadInput(
                f"network.notation: '{notation}' begins with {parsed[0].neurons} inputs, the data have {inputs}; "
                f"begin with {inputs}"
            )
        builder.flatten()
        parsed = parsed[1:]
    builder.add_layers(parsed, spiking_output)
    return builder.network


WEIGHTED = tokens.Dense | tokens.Conv | tokens.ConvOverTime


class _Builder:
    """Adds layers one by one, and tracks the shape of the signal."""

    def __init__(
        self,
        notation: str,
        shape: tuple[int, ...],
        neurons: NeuronFactory,
        bias: bool,
        streaming: bool,
        slots: DelaySlots,
        linear: LinearFactory | None,
        conv: ConvFactory | None,
        prefix: str = "",
    ) -> None:
        self.notation, self.shape, self.neurons, self.bias = notation, shape, neurons, bias
        self.streaming, self.slots, self.linear, self.conv, self.prefix = streaming, slots, linear, conv, prefix
        self.network = nn.Sequential()
        self.counts = {"conv": 0, "dense": 0, "fc": 0, "slots": 0, "lif": 0, "delay": 0, "bn": 0, "pool": 0, "drop": 0}

    def add_layers(self, layers: Sequence[tokens.Token], spiking_output: bool) -> None:
        """Add layers and their neurons; a layer that others follow fires, the last one only if the output does."""
        weighted = [
            index
            for index, token in enumerate(layers)
            if isinstance(token, WEIGHTED | tokens.DenseConv | tokens.Members)
        ]
        for index, token in enumerate(layers):
            if isinstance(token, tokens.Members):
                self._members(token, spiking_output)
                continue
            followed_by_norm = isinstance(layers[index + 1] if index + 1 < len(layers) else None, tokens.BatchNorm)
            if isinstance(token, tokens.DenseConv) and index == weighted[-1]:
                raise self._misfit(token, "a dense block has no outputs of its own; end with a layer such as 10")
            self.add(token)
            last = bool(weighted) and index >= weighted[-1]
            makes_current = isinstance(token, WEIGHTED | tokens.BatchNorm)
            if makes_current and not followed_by_norm and (spiking_output or not last):
                self.add_neurons()
                if self.streaming and not last:
                    self._append("delay", Delay(1))

    def add(self, token: tokens.Token) -> None:
        if self.slots.slots > 1 and isinstance(token, tokens.Conv | tokens.ConvOverTime | tokens.DenseConv):
            raise BadInput(
                f"network.delay_slots: '{self.notation}' has convolutions, and only linear layers have delay slots, "
                f"here {self.slots.slots}; set delay_slots = 1, or use linear layers only, such as 784-800-10"
            )
        if isinstance(token, tokens.Dense):
            self._dense(token)
        elif isinstance(token, tokens.Conv | tokens.ConvOverTime):
            self._conv(token)
        elif isinstance(token, tokens.DenseConv):
            self._dense_conv(token)
        elif isinstance(token, tokens.BatchNorm):
            self._append("bn", BatchNorm2d(self._image(token)[0]))
        elif isinstance(token, tokens.AvgPool | tokens.MaxPool):
            self._pool(token)
        elif isinstance(token, tokens.Dropout):
            self._append("drop", nn.Dropout(token.share))
        elif isinstance(token, tokens.Voting):
            if self.shape[-1] % token.group:
                raise self._misfit(
                    token, f"the previous layer has {self.shape[-1]} neurons, which is not a multiple of {token.group}"
                )
            self.network.append(Vote(token.group))
            self.shape = (self.shape[0] // token.group,)

    def _members(self, token: tokens.Members, spiking_output: bool) -> None:
        """Add sub-networks, each built on the signal so far."""
        common = self.notation, self.shape, self.neurons, self.bias, self.streaming, self.slots, self.linear, self.conv
        builders = [_Builder(*common, f"members.member{number}.") for number in range(1, len(token.layers) + 1)]
        for builder, layers in zip(builders, token.layers, strict=True):
            builder.add_layers(layers, spiking_output)
        shapes = [builder.shape for builder in builders]
        if len(set(shapes)) > 1 or len(shapes[0]) != 1:
            raise self._misfit(
                token, f"members need one output per class, and equally many; their outputs have the shapes {shapes}"
            )
        self.network.add_module("members", Members([builder.network for builder in builders]))
        self.shape = shapes[0]

    def flatten(self) -> None:
        if len(self.shape) > 1:
            self.network.add_module("flatten", Flatten())
            self.shape = (math.prod(self.shape),)

    def add_neurons(self) -> None:
        self._append("lif", self.neurons(self.shape))

    def _append(self, kind: str, layer: nn.Module) -> None:
        self.counts[kind] += 1
        self.network.add_module(f"{kind}{self.counts[kind]}", layer)

    def _dense(self, token: tokens.Dense) -> None:
        self.flatten()
        slots = self.slots.slots
        if slots > 1:
            self._append("slots", DelaySlots(slots, self.slots.stride))
        sizes, name = (slots * self.shape[0], token.neurons), f"{self.prefix}fc{self.counts['fc'] + 1}"
        layer = None if self.linear is None else self.linear(name, *sizes, self.bias)
        if layer is None:
            self._refuse_large(token, math.prod(sizes))
            layer = Linear(*sizes, bias=self.bias)
        self._append("fc", layer)
        self.shape = (token.neurons,)

    def _conv(self, token: tokens.Conv | tokens.ConvOverTime) -> None:
        channels, height, width = self._image(token)
        kernel, stride, padding = token.kernel, token.stride, token.kernel // 2
        span = token.span if isinstance(token, tokens.ConvOverTime) else 1
        self._refuse_large(token, token.channels * max(channels * span * kernel**2, height * width))
        if isinstance(token, tokens.ConvOverTime):
            layer: nn.Module = Conv3d(channels, token.channels, span, kernel, stride, padding, bias=self.bias)
        else:
            sizes, name = (
                (channels, token.channels, kernel, stride, padding),
                f"{self.prefix}conv{self.counts['conv'] + 1}",
            )
            made = None if self.conv is None else self.conv(name, *sizes, self.bias)
            layer = Conv2d(*sizes, bias=self.bias) if made is None else made
        self._append("conv", layer)
        size = [(side + 2 * padding - kernel) // stride + 1 for side in (height, width)]
        self.shape = (token.channels, *size)

    def _dense_conv(self, token: tokens.DenseConv) -> None:
        channels, height, width = self._image(token)
        if token.kernel % 2 == 0:
            raise self._misfit(token, f"a kernel of {token.kernel} changes the size of the image; use an odd one")
        self._refuse_large(token, token.growth * max(channels * token.kernel**2, height * width))
        neurons = self.neurons((token.growth, height, width))
        layer = DenseLayer(channels, token.growth, token.kernel, neurons, streaming=self.streaming)
        self._append("dense", layer)
        self.shape = (channels + token.growth, height, width)

    def _refuse_large(self, token: tokens.Token, values: int) -> None:
        refuse_large(f"network.notation: {token} of '{self.notation}'", "takes", 4 * values)

    def _pool(self, token: tokens.AvgPool | tokens.MaxPool) -> None:
        channels, height, width = self._image(token)
        if min(height, width) < token.size:
            raise self._misfit(token, f"the signal is only {height}x{width} at this layer")
        pool = AvgPool2d if isinstance(token, tokens.AvgPool) else MaxPool2d
        self._append("pool", pool(token.size))
        self.shape = (channels, height // token.size, width // token.size)

    def _image(self, token: tokens.Token) -> tuple[int, int, int]:
        if len(self.shape) != 3:
            raise self._misfit(token, f"the signal has no height and width at this layer, its shape is {self.shape}")
        channels, height, width = self.shape
        return channels, height, width

    def _misfit(self, token: tokens.Token, reason: str) -> BadInput:
        return BadInput(f"network.notation: {type(token).__name__} of '{self.notation}' does not fit: {reason}")
