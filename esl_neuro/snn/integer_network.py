"""Networks whose forward pass is the integer program of a chip, trained in float units.

Weights, thresholds and batch norm remain the float parameters of the optimiser and structure learner, under the same
names. Every forward pass rounds them with :mod:`esl_neuro.hardware.rounding`. Connections that do not exist stay
exactly zero; a connection whose weight rounds to zero can still grow.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from esl_neuro.errors import BadInput
from esl_neuro.hardware import Arithmetic
from esl_neuro.hardware.arithmetic import DECAY_ONE, POTENTIAL_BITS, POTENTIAL_SHIFT
from esl_neuro.hardware.rounding import (
    SPIKES,
    InputFormat,
    Rows,
    bias_format,
    largest_used,
    lattice_thresholds,
    one_threshold,
    potential_lattice,
    round_current_decay,
    round_potential_decay,
    round_weights,
    rounding_bias,
    rounding_loss,
    row_formats,
    steps_kept,
    wrapping_sum,
)
from esl_neuro.resets import ZERO
from esl_neuro.snn.integer import LayerConstants, integer_lif, integer_readout, straight_through
from esl_neuro.snn.layers import AvgPool2d, BatchNorm2d, Delay, Flatten, Vote
from esl_neuro.snn.neurons import LIAF, LIF, CubaLIF

EXACT_SUM = 2**24  # integer sums up to this magnitude are exact in single precision, in any order


class IntegerLIF(LIF):
    """The neurons of a :class:`~esl_neuro.snn.neurons.LIF` or ``CubaLIF``, with the chip's arithmetic.

    Parameters
    ----------
    neurons : LIF
        Float neurons; their thresholds are shared, not copied.
    """

    def __init__(self, neurons: LIF) -> None:
        nn.Module.__init__(self)
        self.tau = neurons.tau
        self.tau_syn = neurons.synapses.tau_syn if isinstance(neurons, CubaLIF) else 0.0
        self.surrogate, self.surrogate_width = neurons.surrogate, neurons.surrogate_width
        self.raw_threshold = neurons.raw_threshold
        self.reset = neurons.reset

    def forward(self, sums: Tensor, bias: Tensor | None = None, constants: LayerConstants | None = None) -> Tensor:
        """Return the spikes, shape (steps, batch, ...), for integer weighted sums."""
        if constants is None:
            raise TypeError(
                "neurons of a quantised network need the constants of their layer; call the network, not the layer"
            )
        return integer_lif(sums, self.threshold, bias, constants, self.surrogate, self.surrogate_width)


@dataclass(frozen=True)
class Integers:
    """A layer in the integers of the chip.

    Attributes
    ----------
    weights : Tensor
        Even integers, in the shape of the layer's weight.
    weight_exp : int
        Shift of the weighted sums; a negative one shifts right, rounding down.
    factor : Tensor
        Integer weight per unit of the float weight; it broadcasts with the weights.
    rounding_bias : Tensor
        Part of the bias of ``constants`` that makes up for sums that are rounded down.
    constants : LayerConstants
        Constants of the neurons.
    exact_in_single : bool
        Whether every sum of weights times payloads is exact in single precision.
    """

    weights: Tensor
    weight_exp: int
    factor: Tensor
    rounding_bias: Tensor
    constants: LayerConstants
    exact_in_single: bool


@dataclass(frozen=True)
class Stage:
    """One connection of the program and its neurons, as names of layers.

    Attributes
    ----------
    before : tuple of str
        Delays, pools and flattens between the source and the connection, in order.
    connection : str
        Linear layer or convolution.
    norm, neurons : str or None
        Batch norm, which is folded, and neurons; None for a readout that does not fire.
    payload : InputFormat
        Format of the signal from the source.
    pooled : int
        Number of values that one input of the connection sums.
    """

    before: tuple[str, ...]
    connection: str
    norm: str | None
    neurons: str | None
    payload: InputFormat
    pooled: int


class QuantisedNetwork(nn.Sequential):
    """A chain of layers with exactly the spikes of its integer program.

    Average pools sum, and their divisor is folded into the following weights, as in the compiler. Batch norm is folded
    with its running statistics, which are not updated. Dropout is omitted, because the chip has none.

    Parameters
    ----------
    network : nn.Sequential
        The float network; its parameters are shared.
    arithmetic : Arithmetic
        Integer formats of the chip.
    inputs : InputFormat
        Format of the input.
    steps : int, optional
        Time steps of a sample. Default: many.
    weight_bits : mapping of str to int, optional
        Bits of the weights of some layers, by the name of the linear layer or convolution. Default: the chip's.

    Raises
    ------
    BadInput
        If layers have no integer form; the message lists them all.
    """

    def __init__(
        self,
        network: nn.Module,
        arithmetic: Arithmetic,
        inputs: InputFormat = SPIKES,
        steps: int | None = None,
        weight_bits: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        if type(network) is not nn.Sequential:
            raise BadInput(
                f"training.quantize: a network of type {type(network).__name__} has no integer form in training; "
                "allowed: chains of layers in the papers' notation, such as 64-256-10"
            )
        if arithmetic.potential_bits != POTENTIAL_BITS:
            raise BadInput(
                f"training.quantize: the chip has {arithmetic.potential_bits}-bit currents and potentials, "
                f"training uses {POTENTIAL_BITS} bits and would wrap at other values; use a chip with {POTENTIAL_BITS}"
            )
        for name, layer in network.named_children():
            fires = isinstance(layer, LIF) and not isinstance(layer, LIAF)
            self.add_module(name, IntegerLIF(layer) if fires else layer)  # type: ignore[arg-type]
        self.arithmetic, self.inputs, self.steps = arithmetic, inputs, steps
        self.weight_bits = dict(weight_bits or {})
        self.stages, self.after = _stages(self, inputs)

    def forward(self, signal: Tensor) -> Tensor:
        """Return spikes or changes of potential, shape (steps, batch, classes)."""
        if self.inputs.bits > 1:
            signal = _once(signal, self.inputs.payloads)
        for stage in self.stages:
            signal = self._run(stage, signal)
        for name in self.after:
            signal = self.get_submodule(name)(signal)
        return signal

    def _run(self, stage: Stage, signal: Tensor) -> Tensor:
        weight, bias = self._folded(stage)
        integers = self._integers(stage, weight, bias)
        for name in stage.before:
            layer = self.get_submodule(name)
            signal = layer(signal)
            if isinstance(layer, AvgPool2d):
                signal = (signal * _window(layer)).round()
        weights = straight_through(weight, integers.weights, integers.factor)
        if not integers.exact_in_single:
            weights, signal = weights.double(), signal.double()
        connection = self.get_submodule(stage.connection)
        sums = _once(signal, lambda steps: _weighted_sums(connection, weights, steps))
        if integers.weight_exp < 0:
            shift = 2.0**integers.weight_exp
            sums = _once(sums, lambda steps: straight_through(steps, torch.floor(steps * shift), shift))
        if stage.neurons is None:
            return integer_readout(sums, bias, integers.constants)
        spikes: Tensor = self.get_submodule(stage.neurons)(sums, bias, integers.constants)
        return spikes

    def _folded(self, stage: Stage) -> tuple[Tensor, Tensor | None]:
        """Return weight and bias with folded batch norm; the bias broadcasts with a step of one sample."""
        connection: Any = self.get_submodule(stage.connection)
        weight: Tensor = connection.weight
        bias: Tensor | None = connection.bias
        if stage.norm is not None:
            norm: Any = self.get_submodule(stage.norm)
            gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            weight = weight * gain[:, None, None, None]
            bias = norm.bias + gain * ((0 if bias is None else bias) - norm.running_mean)
        if bias is not None and weight.dim() == 4:
            bias = bias[:, None, None]
        return weight, bias

    def integers(self, stage: Stage) -> Integers:
        """Return the current integers of a stage."""
        return self._integers(stage, *self._folded(stage))

    @torch.no_grad()
    def _integers(self, stage: Stage, weight: Tensor, bias: Tensor | None) -> Integers:
        arithmetic, payload = self._arithmetic(stage), stage.payload
        neurons = None if stage.neurons is None else self.get_submodule(stage.neurons)
        keep_u, keep_v = _kept(neurons, arithmetic) if isinstance(neurons, IntegerLIF) else (0.0, float(DECAY_ONE))
        per_row, exponent = self._formats(stage, weight, bias, (DECAY_ONE - keep_u) / DECAY_ONE)
        scale = torch.from_numpy(per_row).to(weight.device).reshape(-1, *[1] * (weight.dim() - 2))
        factor = _of_rows(scale, weight) / (2.0**exponent * payload.scale * stage.pooled)
        weights = round_weights(weight * factor.to(weight.dtype), 1.0, arithmetic)

        # A readout has no leak and the highest threshold of the chip.
        threshold = (2**arithmetic.threshold_bits - 1) / scale
        if isinstance(neurons, IntegerLIF):
            threshold = neurons.threshold.double()
        du, dv = torch.full_like(scale, DECAY_ONE - 1 - keep_u), torch.full_like(scale, DECAY_ONE - keep_v)
        loss = (weights.flatten(1) != 0).any(1).reshape(scale.shape) * rounding_loss(exponent, arithmetic)
        more = rounding_bias(loss, du, dv, threshold * scale, self.steps)
        drive = more if bias is None else bias.double() * scale * 2**POTENTIAL_SHIFT + more
        mantissa, shift = bias_format(drive, arithmetic)
        drive = mantissa * 2**shift
        reset = neurons.reset if isinstance(neurons, IntegerLIF) else None
        lattice = potential_lattice(du, dv, drive, exponent, arithmetic) * (reset == ZERO)
        vth = lattice_thresholds(threshold, scale, lattice, drive, arithmetic)
        constants = LayerConstants(keep_u, keep_v, vth, drive, scale, reset or ZERO)
        exact = _exact_in_single(weights, payload.largest * stage.pooled, arithmetic)
        return Integers(weights, exponent, factor, more, constants, exact)

    def _arithmetic(self, stage: Stage) -> Arithmetic:
        """Return the formats of a stage, whose weights may have fewer bits than the chip's."""
        return self.arithmetic.with_weight_bits(self.weight_bits.get(stage.connection))

    def _formats(
        self, stage: Stage, weight: Tensor, bias: Tensor | None, lost_u: float
    ) -> tuple[NDArray[np.float64], int]:
        """Return the scale of each row and the weight exponent of a stage."""
        neurons = None if stage.neurons is None else self.get_submodule(stage.neurons)
        arithmetic, rows, unit = self._arithmetic(stage), len(weight), stage.payload.scale * stage.pooled
        fires, thresholds = False, np.zeros((rows, 1))
        if isinstance(neurons, IntegerLIF):
            fires, thresholds = True, _by_row(neurons.threshold, rows)
        kept = float(steps_kept(np.asarray(lost_u), self.steps))
        arriving = stage.payload.largest * stage.pooled
        room = (wrapping_sum(arithmetic) / kept - 1) / arriving

        def sums(scale: NDArray[np.float64], exponents: Sequence[int]) -> NDArray[np.float64]:
            factor = scale / 2.0 ** exponents[0] / unit
            return arriving * 2.0 ** exponents[0] * _largest_sums(weight, factor, room, arithmetic)

        largest = _largest(weight, self.weight_bits.get(stage.connection)) / unit
        formats = Rows(
            largest=(largest if fires else np.full(rows, largest.max()))[None],
            thresholds=np.stack([thresholds.min(1), thresholds.max(1)]),
            bias=np.zeros(rows) if bias is None else np.abs(_by_row(bias, rows)).max(1),
            steps_kept=np.full(rows, kept),
            sums=sums,
            graded=stage.payload.bits > 1,
        )
        scale, (exponent,) = row_formats(formats, arithmetic)
        if not fires:
            return np.full(rows, scale.min()), exponent
        if arithmetic.thresholds_per == "group":
            return one_threshold(thresholds.max(1), scale), exponent
        return scale, exponent

    @torch.no_grad()
    def on_grid(self) -> nn.Sequential:
        """Return the float network with the rounded numbers and folded batch norm, which compiles to these integers.

        Rounding is idempotent, so any reader of the network gets the trained numbers.
        """
        network = nn.Sequential()
        for name, layer in self.named_children():
            if not isinstance(layer, BatchNorm2d | IntegerLIF):
                network.add_module(name, copy.deepcopy(layer))
            elif isinstance(layer, IntegerLIF):
                network.add_module(name, _float_neurons(layer, self.arithmetic))
        for stage in self.stages:
            _, bias = self._folded(stage)
            integers = self.integers(stage)
            constants = integers.constants
            connection: Any = network.get_submodule(stage.connection)
            connection.weight.copy_(integers.weights / integers.factor)
            if bias is not None:
                rounded = (constants.bias - integers.rounding_bias) / 2**POTENTIAL_SHIFT / constants.scale
                connection.bias = nn.Parameter(rounded.flatten().to(connection.weight.dtype))
            if stage.neurons is not None:
                neurons: Any = network.get_submodule(stage.neurons)
                # A threshold that rounds to zero is kept, because a threshold of zero is invalid elsewhere.
                levels = torch.where(constants.vth > 0, constants.vth / constants.scale, neurons.threshold.double())
                neurons.raw_threshold.copy_(levels + torch.log(-torch.expm1(-levels)))
        return network


class _Chain:
    """Builds the stages of a chain, layer by layer; ``findings`` lists layers in unsupported positions."""

    def __init__(self, network: nn.Sequential, inputs: InputFormat) -> None:
        self.network, self.inputs = network, inputs
        self.stages: list[Stage] = []
        self.after: list[str] = []  # layers after the last stage
        self.findings: list[str] = []
        self._begin()

    def _begin(self) -> None:
        self.before: list[str] = []
        self.pooled = 1
        self.connection: str | None = None  # connection that still has no neurons
        self.norm: str | None = None

    def add(self, name: str, layer: nn.Module) -> None:
        """Add the next layer."""
        waiting = self.connection is not None
        opens = not waiting and not self.after
        if isinstance(layer, IntegerLIF) and waiting:
            self._refuse_filtered_bias(layer)
            self.close(name)
        elif isinstance(layer, LIAF):
            self.findings.append(f"'{name}' (LIAF) has analog outputs and so no integer form; use LIF")
            self.close(name)
        elif isinstance(layer, Vote) and (waiting or self.stages):
            self.close(None)
            self.after.append(name)
        elif isinstance(layer, Flatten | Delay) and opens:
            self.before.append(name)
        elif isinstance(layer, AvgPool2d) and opens and _plain_pool(layer):
            self.before.append(name)
            self.pooled *= _window(layer)
        elif isinstance(layer, nn.Linear | nn.Conv2d) and opens:
            self.connection = name
        elif isinstance(layer, BatchNorm2d) and waiting and self.norm is None:
            self.norm = name
        else:
            self.findings.append(f"'{name}' ({type(layer).__name__}) has no integer form at this position")

    def close(self, neurons: str | None) -> None:
        """Finish the stage, with these neurons or as a readout."""
        if self.connection is not None:
            payload = SPIKES if self.stages else self.inputs
            stage = Stage(tuple(self.before), self.connection, self.norm, neurons, payload, self.pooled)
            self.stages.append(stage)
        else:
            self.findings += [f"'{name}' is not followed by a weighted layer" for name in self.before]
        self._begin()

    def _refuse_filtered_bias(self, neurons: IntegerLIF) -> None:
        assert self.connection is not None
        biased = self.norm is not None or self.network.get_submodule(self.connection).bias is not None
        if neurons.tau_syn and biased:
            self.findings.append(
                f"'{self.connection}': a bias into a synaptic filter has no integer form; use bias = false"
            )


def _stages(network: nn.Sequential, inputs: InputFormat) -> tuple[tuple[Stage, ...], tuple[str, ...]]:
    """Split a chain into stages and the layers after the last one; reject unsupported layers."""
    chain = _Chain(network, inputs)
    for name, layer in network.named_children():
        if not isinstance(layer, nn.Dropout):
            chain.add(name, layer)
    chain.close(None)
    findings = chain.findings + ([] if chain.stages else ["there is no weighted layer"])
    if findings:
        raise BadInput(
            f"training.quantize: {'; '.join(findings)}; allowed: linear layers and convolutions, with batch norm "
            "optional and followed by neurons; delays, average pools and flattens before them; a vote at the end"
        )
    return tuple(chain.stages), tuple(chain.after)


def _once(signal: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a function to the steps of a signal, only once if all steps are equal."""
    if len(signal) < 2 or signal.stride(0) != 0:
        return function(signal)
    once = function(signal[:1])
    return once.expand(len(signal), *once.shape[1:])


def _weighted_sums(connection: nn.Module, weights: Tensor, signal: Tensor) -> Tensor:
    if isinstance(connection, nn.Linear):
        return nn.functional.linear(signal, weights)
    assert isinstance(connection, nn.Conv2d)
    merged = nn.functional.conv2d(
        signal.flatten(0, 1),
        weights,
        None,
        connection.stride,
        connection.padding,
        connection.dilation,
        connection.groups,
    )
    # Some devices convolve by transforms, with errors far below one half.
    whole = straight_through(merged, merged.detach().round(), 1.0)
    return whole.reshape(*signal.shape[:2], *whole.shape[1:])


def _array(values: Tensor) -> NDArray[np.float64]:
    return values.detach().double().cpu().numpy()


def _by_row(values: Tensor, rows: int) -> NDArray[np.float64]:
    """Arrange values of neurons by the rows of the weights that feed them, shape (rows, values of a row)."""
    array = _array(values).ravel()
    return np.full((rows, 1), array[0]) if array.size == 1 else array.reshape(rows, -1)


def _of_rows(scale: Tensor, weight: Tensor) -> Tensor:
    """Let a value for each row broadcast with the weights."""
    return scale.reshape(-1, *[1] * (weight.dim() - 1))


def _largest(weight: Tensor, bits: int | None) -> NDArray[np.float64]:
    """Return the largest weight of each row that few bits do not clip."""
    rows = weight.detach().flatten(1)
    largest = _array(rows.abs().amax(1))
    if bits is None:
        return largest
    squares, there = (rows.double() ** 2).sum(1), (rows != 0).sum(1).clamp(min=1)
    return largest_used(largest, _array((squares / there).sqrt()), bits)


def _largest_sums(
    weight: Tensor, factor: NDArray[np.float64], room: float, arithmetic: Arithmetic
) -> NDArray[np.float64]:
    """Return the largest sum of integer weights of one sign in each row, or bounds if all are within the room."""
    rows = weight.detach().flatten(1)
    bounds = _array(rows.abs().sum(1) + rows.sum(1).abs()) / 2 * factor
    bounds = bounds + rows.shape[1]  # rounding errors of up to 1 each
    if (bounds < room).all():
        return bounds
    rows = round_weights(rows * _of_rows(torch.from_numpy(factor), rows).to(rows), 1.0, arithmetic)
    return _array(torch.maximum(rows.clamp(min=0).sum(1), -rows.clamp(max=0).sum(1)))


def _exact_in_single(weights: Tensor, arriving: int, arithmetic: Arithmetic) -> bool:
    fan_in = math.prod(weights.shape[1:])
    if fan_in * arithmetic.weight_max * arriving <= EXACT_SUM:
        return True
    return float(weights.double().abs().flatten(1).sum(1).max()) * arriving <= EXACT_SUM


def _kept(neurons: IntegerLIF, arithmetic: Arithmetic) -> tuple[float, float]:
    """Return what remains of ``u`` and ``v`` after a step, in 1/4096."""
    du = float(round_current_decay(np.asarray(1 - neurons.tau_syn), arithmetic))
    dv = float(round_potential_decay(np.asarray(1 - neurons.tau), arithmetic))
    return DECAY_ONE - (du + 1), DECAY_ONE - dv


def _float_neurons(layer: IntegerLIF, arithmetic: Arithmetic) -> LIF:
    """Return float neurons with the rounded decays and the same thresholds."""
    keep_u, keep_v = (kept / DECAY_ONE for kept in _kept(layer, arithmetic))
    shape, name = tuple(layer.raw_threshold.shape), layer.surrogate.__name__
    learned = layer.raw_threshold.requires_grad
    if layer.tau_syn:
        neurons: LIF = CubaLIF(shape, keep_v, keep_u, 1.0, name, layer.surrogate_width, learned, layer.reset)
    else:
        neurons = LIF(shape, keep_v, 1.0, name, layer.surrogate_width, learned, layer.reset)
    neurons.raw_threshold.copy_(layer.raw_threshold)
    return neurons


def _window(layer: AvgPool2d) -> int:
    size = layer.kernel_size
    return size * size if isinstance(size, int) else math.prod(size)


def _plain_pool(layer: AvgPool2d) -> bool:
    return layer.stride == layer.kernel_size and layer.padding == 0 and not layer.ceil_mode
