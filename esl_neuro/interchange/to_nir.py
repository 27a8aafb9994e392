"""Torch network to NIR graph, in the subset that independent readers agree on.

NIR declares differential equations and leaves the time step to the reader. Every number here is chosen so that
forward Euler with the time step in the metadata gives back exactly the discrete network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import nir
import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from esl_neuro import __version__
from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.interchange.nodes import STEPS_WITHOUT_LEAK, cuba_lif_node
from esl_neuro.interchange.plan import WEIGHTED, Floats, Plan, convolution, per_channel, settle
from esl_neuro.interchange.single_spikes import temporal_plan
from esl_neuro.interchange.ties import raise_thresholds
from esl_neuro.interchange.tracing import INPUT, Call, Trace, trace
from esl_neuro.snn import layers
from esl_neuro.snn.neurons import LIF, CubaLIF, RecurrentLIF
from esl_neuro.snn.quantised import QuantisedNetwork
from esl_neuro.snn.temporal import TemporalNetwork

DT_S = 1e-4  # what snnTorch, SpikingJelly and the Lava example assume when nobody tells them
OUTPUT, READOUT = "output", "readout"

Thresholds = Literal["native", "folded"]


def to_nir(
    network: nn.Module,
    steps: int,
    dt_s: float = DT_S,
    *,
    shape: tuple[int, ...] | None = None,
    thresholds: Thresholds = "native",
    tie_safe: bool = False,
) -> nir.NIRGraph:
    """Write a network as a NIR graph.

    ``tau dv/dt = -v + r I`` with ``tau = dt / (1 - tau_paper)``, ``r = 1`` and the weights divided by ``dt / tau``
    is, in forward Euler, ``v[t] = tau_paper v[t-1] + W s[t]``. A network without leak (``tau_paper = 1``) becomes
    integrate-and-fire nodes with ``r = 1 / dt``; neurons behind synapses ``CubaLIF`` nodes with ``r = tau_mem / dt``
    and ``w_in = tau_syn / dt``, which is Loihi's neuron. Connections have an explicit bias and neuron parameters are
    arrays, because some readers drop ``Linear`` nodes or refuse scalars.

    Batch norm is folded into the connection before it and an average pool is a sum whose ``1/k^2`` goes into the
    weights that follow. Where no weights follow or precede, as on the identity path of a residual block, a diagonal
    connection holds the factor. Groups of a convolution are written out as zeros (NIR's own check of types refuses
    groups), dropout is left out, a flatten right behind the input too: the input lines are in that order already.
    An output that does not fire ends in ``readout``, an ``I`` node that sums it over the steps without leak.

    Parameters
    ----------
    network : nn.Module
        The trained network, in evaluation mode as it stands; a network of the user's own may be made of the layers of
        :mod:`esl_neuro.snn` and of sums of their signals. Of a quantised one the rounded numbers are written, of which
        the compiler makes the integers that learned.
    steps : int
        Time steps per sample, kept in the metadata.
    dt_s : float
        Time step in seconds, kept in the metadata.
    shape : tuple of int, optional
        Shape of an input sample at one step, needed where the network does not begin with a linear layer.
    thresholds : {"native", "folded"}
        ``folded`` divides the weights and the bias of each neuron by its threshold, which then is one: for readers
        that know one threshold per layer only. The original ones stand in the metadata.
    tie_safe : bool
        Raise each threshold to half a step above the potentials that the layer's weights can reach below it, so that
        readers which fire at ``v >= v_threshold`` agree with those that fire at ``v > v_threshold``. Needs weights
        on a grid.

    Returns
    -------
    nir.NIRGraph
        Nodes are named after the layers, ``_`` for ``.``, between ``input`` and ``output``.

    Raises
    ------
    BadInput
        If anything in the network has no NIR form; all of it is named.

    See Also
    --------
    esl_neuro.interchange.single_spikes : how a ``TemporalNetwork`` is discretised.
    """
    if isinstance(network, QuantisedNetwork):
        network = network.on_grid()
    if thresholds not in ("native", "folded"):
        raise BadInput(f"thresholds '{thresholds}'; {did_you_mean(thresholds, ('native', 'folded'))}")
    if steps < 1 or not 0 < dt_s < math.inf:
        raise BadInput(f"steps {steps} and dt_s {dt_s} must be positive")
    if isinstance(network, TemporalNetwork):
        plan = temporal_plan(network, dt_s)
        original: dict[str, Floats] = {}
    else:
        writer = _Writer(dt_s, thresholds)
        writer.write(trace(network, shape or _first_inputs(network), KNOWN))
        plan, original = writer.plan, writer.original_thresholds
    settle(plan)
    if tie_safe:
        raise_thresholds(plan, steps, dt_s)
    if plan.findings:
        raise BadInput(f"the network has no NIR form: {'; '.join(plan.findings)}")
    metadata: dict[str, Any] = {
        "generator": f"esl-neuro {__version__}",
        "dt_s": dt_s,
        "steps": steps,
        "thresholds": thresholds,
    }
    if original:
        metadata["original_thresholds"] = original
    if tie_safe:
        metadata["tie_safe"] = True
    return nir.NIRGraph(nodes=plan.nodes, edges=list(plan.edges), metadata=metadata)


def _first_inputs(network: nn.Module) -> tuple[int, ...]:
    """Shape of the input where it need not be told: the network begins with a linear layer."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            return (layer.in_features,)
        if next(layer.children(), None) is None and not isinstance(layer, (*_PASS, layers.Flatten, nn.Flatten)):
            break
    raise BadInput(
        "the network does not begin with a linear layer; give the shape of an input sample: shape=(2, 48, 48)"
    )


@dataclass(frozen=True)
class _Signal:
    """A sum of outputs of nodes, each times a factor."""

    terms: tuple[tuple[str, float], ...]

    def times(self, factor: float) -> _Signal:
        return _Signal(tuple((name, factor * own) for name, own in self.terms))


@dataclass
class _Writer:
    """Turns call after call into nodes; what goes on between nodes waits in the signals and on the edges."""

    dt_s: float
    thresholds: Thresholds
    plan: Plan = field(default_factory=Plan)
    signals: dict[str, _Signal] = field(default_factory=dict)
    original_thresholds: dict[str, Floats] = field(default_factory=dict)

    def write(self, traced: Trace) -> None:
        self.traced = traced
        self.shapes = {call.name: call.shape for call in traced.calls}
        self.plan.add(INPUT, nir.Input({INPUT: np.array(traced.shape)}), traced.shape)
        self.signals[INPUT] = _Signal(((INPUT, 1.0),))
        for call in traced.calls:
            if call.layer is None:
                terms = tuple(term for name in call.inputs for term in self.signals[name].terms)
                self.signals[call.name] = _Signal(terms).times(call.factor)
            else:
                self.signals[call.name] = WRITERS[type(call.layer)](self, call, call.layer)
        self._finish(self.signals[traced.output], self.shapes.get(traced.output, traced.shape))

    def node(
        self, call: Call, node: nir.NIRNode, shape: tuple[int, ...], factor: Any = 1.0, suffix: str = ""
    ) -> _Signal:
        """Add a node that takes the inputs of a call, times a factor."""
        name = call.name + suffix
        self.plan.add(name, node, shape)
        for source, own in self.signals[call.inputs[0]].terms:
            self.plan.connect(source, name, own * np.asarray(factor, np.float64))
        return _Signal(((name, 1.0),))

    def summed(self, call: Call, node: nir.NIRNode, shape: tuple[int, ...], suffix: str = "") -> _Signal:
        """Add a node without weights, which lets a factor pass."""
        signal = self.signals[call.inputs[0]]
        common = signal.terms[0][1]
        return self.node(call, node, shape, 1 / common, suffix).times(common)

    def input_shape(self, call: Call) -> tuple[int, ...]:
        return self.shapes.get(call.inputs[0], self.traced.shape)

    def refuse(self, call: Call, reason: str) -> _Signal:
        self.plan.findings.append(f"'{call.name}' ({type(call.layer).__name__}): {reason}")
        return self.signals[call.inputs[0]]

    def _finish(self, signal: _Signal, shape: tuple[int, ...]) -> None:
        source = signal.terms[0][0]
        ends = (nir.LIF, nir.CubaLIF, nir.IF, nir.LI, nir.I)
        if not (signal.terms == ((source, 1.0),) and isinstance(self.plan.nodes[source], ends)):
            self.plan.add(READOUT, nir.I(r=np.full(shape, 1 / self.dt_s)), shape)
            for name, factor in signal.terms:
                self.plan.connect(name, READOUT, factor)
            source = READOUT
        self.plan.add(OUTPUT, nir.Output({OUTPUT: np.array(shape)}), shape)
        self.plan.connect(source, OUTPUT)


def _linear(writer: _Writer, call: Call, layer: Any) -> _Signal:
    if len(writer.input_shape(call)) != 1:
        return writer.refuse(call, "its input has height and width; put a Flatten before it")
    node = nir.Affine(weight=_array(layer.weight), bias=_bias(layer, layer.out_features))
    return writer.node(call, node, call.shape)


def _conv(writer: _Writer, call: Call, layer: Any) -> _Signal:
    if layer.padding_mode != "zeros":
        return writer.refuse(call, f"padding_mode '{layer.padding_mode}' has no NIR form; use 'zeros'")
    kernel, dilation = layer.kernel_size, layer.dilation
    if kernel[0] != kernel[1]:
        side = max(kernel)
        return writer.refuse(
            call,
            f"NIR derives shapes from one side of the kernel, so {kernel[0]}x{kernel[1]} cannot be read back; "
            f"use {side}x{side}, with zeros at the border",
        )
    padding = layer.padding
    if isinstance(padding, str):
        reach = dilation[0] * (kernel[0] - 1)
        if padding == "same" and reach % 2:
            return writer.refuse(call, f"padding 'same' of an even kernel ({kernel[0]}) differs from side to side")
        padding = (reach // 2,) * 2 if padding == "same" else (0, 0)
    weight = _without_groups(_array(layer.weight), layer.groups)
    bias = _bias(layer, layer.out_channels)
    node = convolution(weight, bias, writer.input_shape(call)[1:], layer.stride, padding, dilation)
    if layer.groups > 1:
        node.metadata = {"groups": layer.groups}  # so that from_nir can make the groups again
    return writer.node(call, node, call.shape)


def _without_groups(weight: NDArray[np.float32], groups: int) -> NDArray[np.float32]:
    if groups == 1:
        return weight
    fan_out, fan_in, *kernel = weight.shape
    whole = np.zeros((groups, fan_out // groups, groups, fan_in, *kernel), weight.dtype)
    for group, part in enumerate(weight.reshape(groups, fan_out // groups, fan_in, *kernel)):
        whole[group, :, group] = part
    return whole.reshape(fan_out, groups * fan_in, *kernel)


def _batch_norm(writer: _Writer, call: Call, layer: Any) -> _Signal:
    """Fold ``gamma (x - mean) / sqrt(var + eps) + beta`` into the connection before it."""
    signal = writer.signals[call.inputs[0]]
    name, factor = signal.terms[0]
    node: Any = writer.plan.nodes[name]
    alone = len(signal.terms) == 1 and writer.traced.users(call.inputs[0]) == 1 and writer.traced.users(name) == 1
    if not (alone and factor == 1 and isinstance(node, WEIGHTED)):
        return writer.refuse(call, "can only be folded into a convolution before it that feeds nothing else")
    if layer.running_mean is None:
        return writer.refuse(call, "has no running statistics; train with track_running_stats=True")
    gamma, beta = (1.0, 0.0) if layer.weight is None else (_double(layer.weight), _double(layer.bias))
    scale = gamma / np.sqrt(_double(layer.running_var) + layer.eps)
    node.weight = (node.weight * scale[:, None, None, None]).astype(np.float32)
    node.bias = ((node.bias - _double(layer.running_mean)) * scale + beta).astype(np.float32)
    return signal


def _pool(writer: _Writer, call: Call, layer: Any) -> _Signal:
    kernel, padding = _pair(layer.kernel_size), _pair(layer.padding)
    stride = _pair(layer.stride if layer.stride is not None else layer.kernel_size)
    channels, *sides = writer.input_shape(call)
    size = [(side + 2 * p - k) // s + 1 for side, p, k, s in zip(sides, padding, kernel, stride, strict=True)]
    if (channels, *size) != call.shape:
        return writer.refuse(call, "ceil_mode has no NIR form here; pad the signal instead")
    if any(padding) and not layer.count_include_pad:
        return writer.refuse(call, "count_include_pad=False divides by another number at the border; use True")
    divisor = layer.divisor_override or math.prod(kernel)
    node = nir.SumPool2d(np.array(kernel), np.array(stride), np.array(padding))
    return writer.summed(call, node, call.shape).times(1 / divisor)


def _global_pool(writer: _Writer, call: Call, _layer: nn.Module) -> _Signal:
    channels, *sides = writer.input_shape(call)
    pooled = writer.summed(
        call, nir.SumPool2d(np.array(sides), np.array(sides), np.zeros(2, np.int64)), (channels, 1, 1)
    )
    flat = f"{call.name}_flatten"
    writer.plan.add(flat, _flatten_node((channels, 1, 1)), (channels,))
    writer.plan.connect(call.name, flat)
    return _Signal(((flat, pooled.terms[0][1] / math.prod(sides)),))


def _max_pool(writer: _Writer, call: Call, _layer: nn.Module) -> _Signal:
    return writer.refuse(
        call, "NIR has no maximum pooling; train with average pooling (AP2) or a strided convolution (64C3S2)"
    )


def _flatten(writer: _Writer, call: Call, layer: Any) -> _Signal:
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
    # Dimensions from behind: some readers count the batch, some do not.
    return nir.Flatten({"input": np.array(shape)}, start_dim=-len(shape), end_dim=-1)


def _vote(writer: _Writer, call: Call, layer: Any) -> _Signal:
    (classes,) = call.shape
    mean = np.kron(np.eye(classes), np.full((1, layer.group), 1 / layer.group)).astype(np.float32)
    return writer.node(call, nir.Affine(weight=mean, bias=np.zeros(classes, np.float32)), call.shape)


def _pass_on(writer: _Writer, call: Call, _layer: nn.Module) -> _Signal:
    return writer.signals[call.inputs[0]]


def _lif(writer: _Writer, call: Call, layer: Any) -> _Signal:
    leak = 1 - _decays(layer.tau, call.shape)
    threshold, scale = _thresholds(writer, call, layer)
    parameters = {"v_threshold": threshold, "v_reset": np.zeros(call.shape)}
    if not leak.any():
        return writer.node(call, nir.IF(r=np.full(call.shape, 1 / writer.dt_s), **parameters), call.shape, scale)
    leak = np.maximum(leak, 1 / STEPS_WITHOUT_LEAK)
    node = nir.LIF(tau=writer.dt_s / leak, r=np.ones(call.shape), v_leak=np.zeros(call.shape), **parameters)
    return writer.node(call, node, call.shape, scale / leak)  # r = 1, because some readers ignore it


def _cuba_lif(writer: _Writer, call: Call, layer: Any) -> _Signal:
    return _behind_synapses(writer, call, layer, layer.synapses.tau_syn)


def _behind_synapses(writer: _Writer, call: Call, layer: Any, tau_syn: float | Tensor) -> _Signal:
    threshold, scale = _thresholds(writer, call, layer)
    node = cuba_lif_node(_decays(tau_syn, call.shape), _decays(layer.tau, call.shape), threshold, writer.dt_s)
    return writer.node(call, node, call.shape, scale)


def _recurrent_lif(writer: _Writer, call: Call, layer: Any) -> _Signal:
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


def _synaptic_filter(writer: _Writer, call: Call, layer: Any) -> _Signal:
    leak = 1 - _decays(layer.tau_syn, call.shape)
    if not leak.any():
        return writer.node(call, nir.I(r=np.full(call.shape, 1 / writer.dt_s)), call.shape)
    leak = np.maximum(leak, 1 / STEPS_WITHOUT_LEAK)
    node = nir.LI(tau=writer.dt_s / leak, r=np.ones(call.shape), v_leak=np.zeros(call.shape))
    return writer.node(call, node, call.shape, 1 / leak)


def _thresholds(writer: _Writer, call: Call, layer: LIF) -> tuple[NDArray[np.float32], Floats]:
    """Return thresholds as they stand in the node, and the factor for the input."""
    threshold = np.broadcast_to(_array(layer.threshold), call.shape)
    if writer.thresholds == "native":
        return np.array(threshold), np.ones(())
    shared = per_channel(call.shape, threshold.astype(np.float64)) if len(call.shape) == 3 else threshold
    writer.original_thresholds[call.name] = np.array(threshold if shared is None else shared)
    return np.ones(call.shape, np.float32), 1 / threshold.astype(np.float64)


def _decays(tau: float | Tensor, shape: tuple[int, ...]) -> Floats:
    # float64: the ratio dt / tau must give back the decay
    return np.broadcast_to(_double(tau) if isinstance(tau, Tensor) else np.float64(tau), shape)


def _bias(layer: Any, size: int) -> NDArray[np.float32]:
    return np.zeros(size, np.float32) if layer.bias is None else _array(layer.bias)


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return np.array(tensor.detach().cpu(), dtype=np.float32)


def _double(tensor: Tensor) -> Floats:
    return np.array(tensor.detach().cpu(), dtype=np.float64)


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value)


_PASS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.Identity)
WRITERS: dict[type[nn.Module], Callable[[_Writer, Call, Any], _Signal]] = {
    nn.Linear: _linear,
    layers.Linear: _linear,
    layers.Conv2d: _conv,
    layers.BatchNorm2d: _batch_norm,
    layers.AvgPool2d: _pool,
    layers.GlobalAvgPool2d: _global_pool,
    layers.MaxPool2d: _max_pool,
    layers.Flatten: _flatten,
    nn.Flatten: _flatten,
    layers.Vote: _vote,
    layers.SynapticFilter: _synaptic_filter,
    LIF: _lif,
    CubaLIF: _cuba_lif,
    RecurrentLIF: _recurrent_lif,
    **dict.fromkeys(_PASS, _pass_on),
}
KNOWN = tuple(WRITERS)
