"""Write each kind of layer as NIR nodes, with the remaining factors on the edges."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import nir
import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from esl_neuro.interchange.nodes import STEPS_WITHOUT_LEAK, cuba_lif_node
from esl_neuro.interchange.plan import WEIGHTED, Floats, Plan, convolution, per_channel
from esl_neuro.interchange.tracing import INPUT, Call, TracedNetwork
from esl_neuro.nirgraph.reset_notes import KEY
from esl_neuro.nirgraph.sparse_nodes import MOST_IN_MATRIX, SparseAffine, note_of
from esl_neuro.resets import ZERO
from esl_neuro.snn import layers
from esl_neuro.snn.neurons import LIF, CubaLIF, RecurrentLIF
from esl_neuro.sparsity.sparse_conv import SparseConv2d
from esl_neuro.sparsity.sparse_linear import FewOutputs, SparseLinear

OUTPUT, READOUT = "output", "readout"
NEURONS = (nir.LIF, nir.CubaLIF, nir.IF)

Thresholds = Literal["native", "folded"]


@dataclass(frozen=True)
class WeightedSum:
    """A sum of node outputs, each multiplied by a factor."""

    terms: tuple[tuple[str, float], ...]

    def times(self, factor: float) -> WeightedSum:
        """Multiply by a factor."""
        return WeightedSum(tuple((name, factor * own) for name, own in self.terms))


@dataclass
class Writer:
    """Converts calls to nodes; factors between nodes are stored in the signals and on the edges.

    Attributes
    ----------
    dt_s : float
        Time step in seconds.
    thresholds : {"native", "folded"}
        Whether thresholds stay in the neurons or are folded into the weights.
    plan : Plan
        The nodes so far.
    signals : dict of str to WeightedSum
        Output of each call.
    slots : dict of str to (dict of int to (str, slice))
        For each call of delay slots, by delay in steps, the delayed signal and its columns of the following weights.
    original_thresholds : dict of str to array
        Folded thresholds.
    """

    dt_s: float
    thresholds: Thresholds
    plan: Plan = field(default_factory=Plan)
    signals: dict[str, WeightedSum] = field(default_factory=dict)
    slots: dict[str, dict[int, tuple[str, slice]]] = field(default_factory=dict)
    original_thresholds: dict[str, Floats] = field(default_factory=dict)

    def write(self, traced: TracedNetwork) -> None:
        """Write all calls, and the end of the graph."""
        self.traced = traced
        self.shapes = {call.name: call.shape for call in traced.calls}
        self.plan.add(INPUT, nir.Input({INPUT: np.array(traced.shape)}), traced.shape)
        self.signals[INPUT] = WeightedSum(((INPUT, 1.0),))
        for call in traced.calls:
            if call.layer is None:
                terms = tuple(term for name in call.inputs for term in self.signals[name].terms)
                self.signals[call.name] = WeightedSum(terms).times(call.factor)
            else:
                self.signals[call.name] = WRITERS[type(call.layer)](self, call, call.layer)
        self._finish(self.signals[traced.output], self.shapes.get(traced.output, traced.shape))

    def node(
        self, call: Call, node: nir.NIRNode, shape: tuple[int, ...], factor: Any = 1.0, suffix: str = ""
    ) -> WeightedSum:
        """Add a node with the inputs of a call, multiplied by a factor."""
        name = call.name + suffix
        self.plan.add(name, node, shape)
        for source, own in self.signals[call.inputs[0]].terms:
            self.plan.connect(source, name, own * np.asarray(factor, np.float64))
        return WeightedSum(((name, 1.0),))

    def summed(self, call: Call, node: nir.NIRNode, shape: tuple[int, ...], suffix: str = "") -> WeightedSum:
        """Add a node without weights, which passes a factor on."""
        signal = self.signals[call.inputs[0]]
        common = signal.terms[0][1]
        return self.node(call, node, shape, 1 / common, suffix).times(common)

    def input_shape(self, call: Call) -> tuple[int, ...]:
        """Return the input shape of a call, without steps and batch."""
        return self.shapes.get(call.inputs[0], self.traced.shape)

    def refuse(self, call: Call, reason: str) -> WeightedSum:
        """Record that a call has no NIR form, and continue to find others."""
        self.plan.findings.append(f"'{call.name}' ({type(call.layer).__name__}): {reason}")
        return self.signals[call.inputs[0]]

    def _finish(self, signal: WeightedSum, shape: tuple[int, ...]) -> None:
        source = signal.terms[0][0]
        ends = (*NEURONS, nir.LI, nir.I)
        if not (signal.terms == ((source, 1.0),) and isinstance(self.plan.nodes[source], ends)):
            self.plan.add(READOUT, nir.I(r=np.full(shape, 1 / self.dt_s)), shape)
            for name, factor in signal.terms:
                self.plan.connect(name, READOUT, factor)
            source = READOUT
        self.plan.add(OUTPUT, nir.Output({OUTPUT: np.array(shape)}), shape)
        self.plan.connect(source, OUTPUT)


def _linear(writer: Writer, call: Call, layer: Any) -> WeightedSum:
    if len(writer.input_shape(call)) != 1:
        return writer.refuse(call, "its input has height and width; add a Flatten before it")
    weight = _array(layer.weight)

    def node(columns: slice, bias: NDArray[np.float32]) -> nir.NIRNode:
        return nir.Affine(weight=weight[:, columns], bias=bias)

    return _by_slot(writer, call, node, _bias(layer, layer.out_features))


def _sparse_linear(writer: Writer, call: Call, layer: Any) -> WeightedSum:
    if len(writer.input_shape(call)) != 1:
        return writer.refuse(call, "its input has height and width; add a Flatten before it")
    lines, starts, values = layer.index.lines, layer.index.starts, _array(layer.values)

    def node(columns: slice, bias: NDArray[np.float32]) -> nir.NIRNode:
        first, end, _ = columns.indices(layer.in_features)
        inside = (lines >= first) & (lines < end)
        own = np.append(0, np.cumsum(inside))[starts]
        sizes = np.array([layer.out_features, end - first])
        stored = SparseAffine(values[inside], lines[inside] - np.int32(first), own, sizes, bias)
        if layer.possible > MOST_IN_MATRIX:
            return stored
        return nir.Affine(
            weight=stored.matrix().toarray().astype(values.dtype), bias=bias, metadata=note_of(stored.columns, own)
        )

    return _by_slot(writer, call, node, _bias(layer, layer.out_features))


def _by_slot(
    writer: Writer,
    call: Call,
    node: Callable[[slice, NDArray[np.float32]], nir.NIRNode],
    bias: NDArray[np.float32],
) -> WeightedSum:
    """Write a linear layer, or the sum of its parts for each delay slot; the bias is in the first part."""
    slots = writer.slots.get(call.inputs[0])
    if slots is None:
        return writer.node(call, node(slice(None), bias), call.shape)
    terms: list[tuple[str, float]] = []
    for delay, (signal, columns) in slots.items():
        own = replace(call, inputs=(signal,))
        part = node(columns, np.zeros_like(bias) if terms else bias)
        terms += writer.node(own, part, call.shape, suffix=f"_delay{delay}").terms
    return WeightedSum(tuple(terms))


def _conv(writer: Writer, call: Call, layer: Any) -> WeightedSum:
    if layer.padding_mode != "zeros":
        return writer.refuse(call, f"padding_mode '{layer.padding_mode}' has no NIR form; use 'zeros'")
    kernel, dilation = layer.kernel_size, layer.dilation
    if kernel[0] != kernel[1]:
        return writer.refuse(call, _no_square(kernel))
    padding = layer.padding
    if isinstance(padding, str):
        reach = dilation[0] * (kernel[0] - 1)
        if padding == "same" and reach % 2:
            return writer.refuse(
                call, f"padding 'same' of an even kernel ({kernel[0]}) is asymmetric; use an odd kernel"
            )
        padding = (reach // 2,) * 2 if padding == "same" else (0, 0)
    weight = _without_groups(_array(layer.weight), layer.groups)
    bias = _bias(layer, layer.out_channels)
    node = convolution(weight, bias, writer.input_shape(call)[1:], layer.stride, padding, dilation)
    if layer.groups > 1:
        node.metadata = {"groups": layer.groups}  # so that from_nir can restore the groups
    return writer.node(call, node, call.shape)


def _sparse_conv(writer: Writer, call: Call, layer: Any) -> WeightedSum:
    """Write a convolution in sparse storage; the kernel of a NIR node is dense."""
    kernel = layer.kernel_size
    if kernel[0] != kernel[1]:
        return writer.refuse(call, _no_square(kernel))
    weight, bias = _array(layer.to_dense()), _bias(layer, layer.out_channels)
    node = convolution(weight, bias, writer.input_shape(call)[1:], layer.stride, layer.padding)
    return writer.node(call, node, call.shape)


def _no_square(kernel: tuple[int, int]) -> str:
    side = max(kernel)
    return (
        f"NIR derives shapes from one side of the kernel, so {kernel[0]}x{kernel[1]} cannot be read back; "
        f"use {side}x{side}, with zeros at the border"
    )


def _conv1d(writer: Writer, call: Call, layer: Any) -> WeightedSum:
    if layer.padding_mode != "zeros":
        return writer.refuse(call, f"padding_mode '{layer.padding_mode}' has no NIR form; use 'zeros'")
    padding, (dilation,), (taps,) = layer.padding, layer.dilation, layer.kernel_size
    reach = dilation * (taps - 1)
    if padding == "same" and reach % 2:
        return writer.refuse(call, f"padding 'same' of an even kernel ({taps}) is asymmetric; use an odd kernel")
    if isinstance(padding, str):
        padding = (reach // 2 if padding == "same" else 0,)
    weight = _without_groups(_array(layer.weight), layer.groups)
    bias = _bias(layer, layer.out_channels)
    length = writer.input_shape(call)[1]
    node = nir.Conv1d(length, weight, int(layer.stride[0]), int(padding[0]), int(dilation), 1, bias)
    if layer.groups > 1:
        node.metadata = {"groups": layer.groups}  # so that from_nir can restore the groups
    return writer.node(call, node, call.shape)


def _conv3d(writer: Writer, call: Call, _layer: nn.Module) -> WeightedSum:
    return writer.refuse(
        call, "NIR has no convolution over time and space; train with a convolution of each step (64C3 for 64C3T5)"
    )


def _without_groups(weight: NDArray[np.float32], groups: int) -> NDArray[np.float32]:
    if groups == 1:
        return weight
    fan_out, fan_in, *kernel = weight.shape
    whole = np.zeros((groups, fan_out // groups, groups, fan_in, *kernel), weight.dtype)
    for group, part in enumerate(weight.reshape(groups, fan_out // groups, fan_in, *kernel)):
        whole[group, :, group] = part
    return whole.reshape(fan_out, groups * fan_in, *kernel)


def _batch_norm(writer: Writer, call: Call, layer: Any) -> WeightedSum:
    """Fold ``gamma (x - mean) / sqrt(var + eps) + beta`` into the connection before it."""
    signal = writer.signals[call.inputs[0]]
    name, factor = signal.terms[0]
    node: Any = writer.plan.nodes[name]
    alone = len(signal.terms) == 1 and writer.traced.users(call.inputs[0]) == 1 and writer.traced.users(name) == 1
    if not (alone and factor == 1 and isinstance(node, WEIGHTED)):
        return writer.refuse(call, "can only be folded into a preceding convolution that feeds nothing else")
    if layer.running_mean is None:
        return writer.refuse(call, "has no running statistics; train with track_running_stats=True")
    gamma, beta = (1.0, 0.0) if layer.weight is None else (_double(layer.weight), _double(layer.bias))
    scale = gamma / np.sqrt(_double(layer.running_var) + layer.eps)
    node.weight = (node.weight * scale[:, None, None, None]).astype(np.float32)
    node.bias = ((node.bias - _double(layer.running_mean)) * scale + beta).astype(np.float32)
    return signal


def _pool(writer: Writer, call: Call, layer: Any) -> WeightedSum:
    kernel, padding = _pair(layer.kernel_size), _pair(layer.padding)
    stride = _pair(layer.stride if layer.stride is not None else layer.kernel_size)
    channels, *sides = writer.input_shape(call)
    size = [(side + 2 * p - k) // s + 1 for side, p, k, s in zip(sides, padding, kernel, stride, strict=True)]
    if (channels, *size) != call.shape:
        return writer.refuse(call, "ceil_mode has no NIR form here; pad the signal instead")
    if any(padding) and not layer.count_include_pad:
        return writer.refuse(call, "count_include_pad=False has another divisor at the border; use True")
    divisor = layer.divisor_override or math.prod(kernel)
    node = nir.SumPool2d(np.array(kernel), np.array(stride), np.array(padding))
    return writer.summed(call, node, call.shape).times(1 / divisor)


def _global_pool(writer: Writer, call: Call, _layer: nn.Module) -> WeightedSum:
    channels, *sides = writer.input_shape(call)
    pooled = writer.summed(
        call, nir.SumPool2d(np.array(sides), np.array(sides), np.zeros(2, np.int64)), (channels, 1, 1)
    )
    flat = f"{call.name}_flatten"
    writer.plan.add(flat, _flatten_node((channels, 1, 1)), (channels,))
    writer.plan.connect(call.name, flat)
    return WeightedSum(((flat, pooled.terms[0][1] / math.prod(sides)),))


def _max_pool(writer: Writer, call: Call, _layer: nn.Module) -> WeightedSum:
    return writer.refuse(
        call, "NIR has no maximum pooling; train with average pooling (AP2) or a strided convolution (64C3S2)"
    )


def _flatten(writer: Writer, call: Call, layer: Any) -> WeightedSum:
    if isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) != (2, -1):
        return writer.refuse(call, "must keep steps and batch: use start_dim=2, end_dim=-1")
    shape = writer.input_shape(call)
    if len(shape) == 1:
        return writer.signals[call.inputs[0]]
    if call.inputs[0] == INPUT and writer.traced.users(INPUT) == 1:
        writer.plan.add(INPUT, nir.Input({INPUT: np.array(call.shape)}), call.shape)
        return writer.signals[INPUT]
    return writer.summed(call, _flatten_node(shape), call.shape)


def _flatten_node(shape: tuple[int, ...]) -> nir.Flatten:
    # Negative dimensions: some readers count the batch, some do not.
    return nir.Flatten({"input": np.array(shape)}, start_dim=-len(shape), end_dim=-1)


def _vote(writer: Writer, call: Call, layer: Any) -> WeightedSum:
    (classes,) = call.shape
    mean = np.kron(np.eye(classes), np.full((1, layer.group), 1 / layer.group)).astype(np.float32)
    return writer.node(call, nir.Affine(weight=mean, bias=np.zeros(classes, np.float32)), call.shape)


def _pass_on(writer: Writer, call: Call, _layer: nn.Module) -> WeightedSum:
    return writer.signals[call.inputs[0]]


def _delay(writer: Writer, call: Call, layer: Any) -> WeightedSum:
    return _delayed(writer, call, call.shape, layer.steps)


def _delayed(writer: Writer, call: Call, shape: tuple[int, ...], steps: int, suffix: str = "") -> WeightedSum:
    """Add a node that delays the input of a call."""
    biased = {name for source, _ in writer.signals[call.inputs[0]].terms for name in _biases(writer.plan, source)}
    if biased:
        return writer.refuse(
            call,
            f"delays the bias of {', '.join(map(repr, sorted(biased)))}, which in NIR is present from the first step; "
            "put the delay before that layer",
        )
    node = nir.Delay(delay=np.full(shape, steps * writer.dt_s))
    return writer.summed(call, node, shape, suffix)


def _delay_slots(writer: Writer, call: Call, layer: Any) -> WeightedSum:
    """Delay the signal once for each slot that has a connection; NIR has delays of signals, not of synapses."""
    users = [each for each in writer.traced.calls if call.name in each.inputs]
    if not all(isinstance(each.layer, nn.Linear | SparseLinear) for each in users) or call.name == writer.traced.output:
        return writer.refuse(call, "must be followed by linear layers")
    shape = writer.input_shape(call)
    if len(shape) != 1:
        return writer.refuse(call, "its input has height and width; add a Flatten before it")
    (size,) = shape
    used = np.zeros(layer.slots, dtype=bool)
    for each in users:
        used |= _used_lines(each.layer).reshape(layer.slots, size).any(1)
    used[0] |= not used.any()
    writer.slots[call.name] = slots = {}
    for slot in np.flatnonzero(used).tolist():
        delay = layer.delays[slot]
        name = f"{call.name}_delay{delay}" if delay else call.inputs[0]
        if delay:
            writer.signals[name] = _delayed(writer, call, shape, delay, f"_delay{delay}")
        slots[delay] = name, slice(slot * size, (slot + 1) * size)
    return writer.signals[call.inputs[0]]


def _used_lines(layer: Any) -> NDArray[np.bool_]:
    """Return which input lines have a connection, shape (inputs,)."""
    if isinstance(layer, SparseLinear):
        return np.bincount(layer.index.lines, minlength=layer.in_features) > 0
    return np.asarray(_array(layer.weight).any(axis=0))


def _biases(plan: Plan, name: str) -> set[str]:
    """Return the connections with a bias between the neurons and a signal, the signal's own node included."""
    node: Any = plan.nodes[name]
    if isinstance(node, NEURONS):
        return set()
    own = {name} if np.any(getattr(node, "bias", 0)) else set()
    return own.union(*(_biases(plan, source) for source, _ in plan.into(name)))


def _concatenate(writer: Writer, call: Call, _layer: nn.Module) -> WeightedSum:
    """Place the channels of each signal with a 1x1 convolution, because several edges into a NIR node are a sum.

    A convolution of the concatenation is then the sum of convolutions of its parts; the compiler joins both to one.
    """
    if len(call.shape) != 3:
        return writer.refuse(call, f"signals of shape {call.shape} have no channels, height and width to concatenate")
    terms: list[tuple[str, float]] = []
    first, places = 0, np.eye(call.shape[0], dtype=np.float32)
    for number, name in enumerate(call.inputs, start=1):
        channels, *sides = writer.shapes.get(name, writer.traced.shape)
        own = replace(call, inputs=(name,))
        columns = places[:, first : first + channels, None, None]
        node = convolution(columns, np.zeros(len(places), np.float32), tuple(sides))
        terms += writer.node(own, node, call.shape, suffix=f"_part{number}").terms
        first += channels
    return WeightedSum(tuple(terms))


def _lif(writer: Writer, call: Call, layer: Any) -> WeightedSum:
    leak = 1 - _decays(layer.tau, call.shape)
    threshold, scale = _thresholds(writer, call, layer)
    parameters = {"v_threshold": threshold, "v_reset": np.zeros(call.shape)}
    if not leak.any():
        node: nir.NIRNode = nir.IF(r=np.full(call.shape, 1 / writer.dt_s), **parameters)
        return writer.node(call, _with_reset(node, layer), call.shape, scale)
    leak = np.maximum(leak, 1 / STEPS_WITHOUT_LEAK)
    node = nir.LIF(tau=writer.dt_s / leak, r=np.ones(call.shape), v_leak=np.zeros(call.shape), **parameters)
    return writer.node(
        call, _with_reset(node, layer), call.shape, scale / leak
    )  # r = 1, because some readers ignore it


def _cuba_lif(writer: Writer, call: Call, layer: Any) -> WeightedSum:
    return _behind_synapses(writer, call, layer, layer.synapses.tau_syn)


def _behind_synapses(writer: Writer, call: Call, layer: Any, tau_syn: float | Tensor) -> WeightedSum:
    threshold, scale = _thresholds(writer, call, layer)
    node = cuba_lif_node(_decays(tau_syn, call.shape), _decays(layer.tau, call.shape), threshold, writer.dt_s)
    return writer.node(call, _with_reset(node, layer), call.shape, scale)


def _with_reset(node: nir.NIRNode, layer: LIF) -> nir.NIRNode:
    """Note a reset by subtraction in the metadata, since NIR has only ``v_reset``."""
    if layer.reset != ZERO:
        node.metadata = {KEY: layer.reset}
    return node


def _recurrent_lif(writer: Writer, call: Call, layer: Any) -> WeightedSum:
    behind_synapses = _decays(layer.tau_syn, call.shape).any()
    signal = _behind_synapses(writer, call, layer, layer.tau_syn) if behind_synapses else _lif(writer, call, layer)
    source, own = writer.signals[call.inputs[0]].terms[0]
    gain = writer.plan.edges[source, call.name] / own
    feedback, size = f"{call.name}_recurrent", call.shape[0]
    node = nir.Affine(weight=_array(layer.recurrent.weight), bias=np.zeros(size, np.float32))
    writer.plan.add(feedback, node, call.shape)
    writer.plan.connect(call.name, feedback)
    writer.plan.connect(feedback, call.name, gain)
    return signal


def _synaptic_filter(writer: Writer, call: Call, layer: Any) -> WeightedSum:
    leak = 1 - _decays(layer.tau_syn, call.shape)
    if not leak.any():
        return writer.node(call, nir.I(r=np.full(call.shape, 1 / writer.dt_s)), call.shape)
    leak = np.maximum(leak, 1 / STEPS_WITHOUT_LEAK)
    node = nir.LI(tau=writer.dt_s / leak, r=np.ones(call.shape), v_leak=np.zeros(call.shape))
    return writer.node(call, node, call.shape, 1 / leak)


def _thresholds(writer: Writer, call: Call, layer: LIF) -> tuple[NDArray[np.float32], Floats]:
    """Return the thresholds of the node, and the factor for its input."""
    threshold = np.broadcast_to(_array(layer.threshold), call.shape)
    if writer.thresholds == "native":
        return np.array(threshold), np.ones(())
    shared = per_channel(call.shape, threshold.astype(np.float64)) if len(call.shape) > 1 else threshold
    writer.original_thresholds[call.name] = np.array(threshold if shared is None else shared)
    return np.ones(call.shape, np.float32), 1 / threshold.astype(np.float64)


def _decays(tau: float | Tensor, shape: tuple[int, ...]) -> Floats:
    # float64: the ratio dt / tau must reproduce the decay
    return np.broadcast_to(_double(tau) if isinstance(tau, Tensor) else np.float64(tau), shape)


def _bias(layer: Any, size: int) -> NDArray[np.float32]:
    return np.zeros(size, np.float32) if layer.bias is None else _array(layer.bias)


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().cpu().numpy().astype(np.float32)


def _double(tensor: Tensor) -> Floats:
    return tensor.detach().cpu().numpy().astype(np.float64)


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value)


PASSED_ON = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.Identity)
WRITERS: dict[type[nn.Module], Callable[[Writer, Call, Any], WeightedSum]] = {
    nn.Linear: _linear,
    layers.Linear: _linear,
    SparseLinear: _sparse_linear,
    FewOutputs: _linear,
    layers.Conv1d: _conv1d,
    layers.Conv2d: _conv,
    SparseConv2d: _sparse_conv,
    layers.Conv3d: _conv3d,
    layers.BatchNorm2d: _batch_norm,
    layers.AvgPool2d: _pool,
    layers.GlobalAvgPool2d: _global_pool,
    layers.MaxPool2d: _max_pool,
    layers.Flatten: _flatten,
    nn.Flatten: _flatten,
    layers.Vote: _vote,
    layers.Delay: _delay,
    layers.DelaySlots: _delay_slots,
    layers.Concatenate: _concatenate,
    layers.SynapticFilter: _synaptic_filter,
    LIF: _lif,
    CubaLIF: _cuba_lif,
    RecurrentLIF: _recurrent_lif,
    **dict.fromkeys(PASSED_ON, _pass_on),
}
KNOWN = tuple(WRITERS)
