"""Make layers of this project from the parameters of NIR nodes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from esl_neuro.interchange.plan import Floats, per_channel
from esl_neuro.nirgraph.neuron_nodes import NeuronNode
from esl_neuro.nirgraph.sparse_nodes import noted_connections
from esl_neuro.resets import Reset
from esl_neuro.snn.layers import AvgPool2d, Conv1d, Conv2d, Linear, SynapticFilter
from esl_neuro.snn.neurons import LIF, CubaLIF, RecurrentLIF
from esl_neuro.sparsity.sparse_linear import SparseLinear
from esl_neuro.sparsity.sparse_weights import ConnectionIndex


@dataclass(frozen=True)
class Make:
    """Makes layers with given parameters.

    Attributes
    ----------
    surrogate : str
        Surrogate gradient of neurons.
    width : float
        Its width, in units of potential.
    learn : bool
        Whether thresholds are trained.
    """

    surrogate: str
    width: float
    learn: bool

    def pool(self, node: Any) -> AvgPool2d:
        """Return an average pool; a sum pool lacks its factor."""
        return AvgPool2d(_pair(node.kernel_size), _pair(node.stride), _pair(node.padding))

    def linear(self, node: Any) -> Linear | SparseLinear:
        """Return a linear layer, without bias if it is zero; with sparse storage if its connections are noted."""
        noted = noted_connections(node.metadata)
        if noted is not None:
            columns, starts = noted
            rows = np.repeat(np.arange(len(node.weight)), np.diff(starts))
            return _sparse(node.weight[rows, columns], columns, starts, node.weight.shape, node.bias)
        layer = Linear(node.weight.shape[1], node.weight.shape[0], bias=bool(np.any(node.bias)))
        _fill(layer, node.weight, node.bias)
        return layer

    def sparse(self, node: Any) -> SparseLinear:
        """Return a linear layer with sparse storage, without bias if it is zero."""
        return _sparse(node.values, node.columns, node.row_starts, node.sizes, node.bias)

    def conv(self, node: Any) -> Conv1d | Conv2d:
        """Return a convolution, without bias if it is zero."""
        weight, groups = _grouped(node)
        axes = weight.ndim - 2
        kind: Any = Conv1d if axes == 1 else Conv2d
        layer: Conv1d | Conv2d = kind(
            weight.shape[1] * groups,
            len(weight),
            weight.shape[2:],
            _ints(node.stride, axes),
            node.padding if isinstance(node.padding, str) else _ints(node.padding, axes),
            _ints(node.dilation, axes),
            groups,
            bias=bool(np.any(node.bias)),
        )
        _fill(layer, weight, node.bias)
        return layer

    def neurons(self, node: NeuronNode, shape: tuple[int, ...], reset: Reset) -> LIF:
        """Return neurons, with synapses if the node has them."""
        threshold, tau, tau_syn = self._numbers(node, shape)
        layer = (
            LIF(threshold.shape, tau, 1.0, self.surrogate, self.width, self.learn, reset)
            if isinstance(tau_syn, float) and tau_syn == 0
            else CubaLIF(threshold.shape, tau, tau_syn, 1.0, self.surrogate, self.width, self.learn, reset)
        )
        return _with_thresholds(layer, threshold)

    def recurrent(self, node: NeuronNode, shape: tuple[int, ...], feedback: Any, reset: Reset) -> LIF:
        """Return recurrent neurons."""
        threshold, tau, tau_syn = self._numbers(node, shape)
        layer = RecurrentLIF(len(threshold), tau, 1.0, self.surrogate, self.width, self.learn, tau_syn, reset)
        _fill(layer.recurrent, feedback.weight, feedback.bias)
        return _with_thresholds(layer, threshold)

    def filter(self, node: NeuronNode, shape: tuple[int, ...]) -> nn.Module:
        """Return the one or two filters of a node that does not fire."""
        _, tau, tau_syn = self._numbers(node, shape)
        return (
            nn.Sequential(SynapticFilter(tau_syn), SynapticFilter(tau)) if np.any(node.du < 1) else SynapticFilter(tau)
        )

    def _numbers(self, node: NeuronNode, shape: tuple[int, ...]) -> tuple[Floats, float | Tensor, float | Tensor]:
        """Return thresholds and the decays of membrane and synapse."""
        tau, tau_syn = (self.decay((1 - decay).reshape(shape)) for decay in (node.dv, node.du))
        return _narrow(node.threshold.reshape(shape)), tau, tau_syn

    def decay(self, values: Floats) -> float | Tensor:
        """Return one number if all are equal, without rounding errors from the division by the time step."""
        values = np.array(values)
        for digits in (11, 9, 6, 3):
            rounded = np.round(values, digits)
            values = np.where(np.abs(rounded - values) < 2e-12, rounded, values)
        narrow = _narrow(values)
        if np.all(narrow == narrow.flat[0]):
            return float(narrow.flat[0])
        return torch.from_numpy(narrow.astype(np.float32))


def _grouped(node: Any) -> tuple[NDArray[Any], int]:
    """Return the weights of a convolution in the groups that it had before export expanded them with zeros."""
    groups = int(node.metadata.get("groups", 1))
    fan_out, fan_in = node.weight.shape[:2]
    if int(node.groups) > 1 or groups == 1 or fan_out % groups or fan_in % groups:
        return node.weight, int(node.groups)
    blocks = node.weight.reshape(groups, fan_out // groups, groups, fan_in // groups, *node.weight.shape[2:])
    inside = np.stack([blocks[group, :, group] for group in range(groups)])
    if np.count_nonzero(inside) != np.count_nonzero(node.weight):
        return node.weight, 1
    return inside.reshape(fan_out, fan_in // groups, *node.weight.shape[2:]), groups


def _narrow(values: Floats) -> Floats:
    """Return one value per channel, as (channels, 1, 1), if the values do not depend on the position."""
    channels = per_channel(values.shape, values) if values.ndim > 1 else None
    return np.array(values) if channels is None else channels.reshape(-1, *[1] * (values.ndim - 1))


def _sparse(
    values: NDArray[Any], columns: NDArray[Any], starts: NDArray[Any], sizes: tuple[int, int], bias: NDArray[Any]
) -> SparseLinear:
    outputs, inputs = sizes
    layer = SparseLinear(inputs, outputs, bias=bool(np.any(bias)))
    index = ConnectionIndex(columns.astype(np.int32), starts.astype(np.int64), inputs)
    layer.connect(index.positions(), values.astype(np.float32))
    if layer.bias is not None:
        layer.bias.data.copy_(torch.from_numpy(np.asarray(bias, dtype=np.float32)))
    return layer


def _fill(layer: Any, weight: NDArray[Any], bias: NDArray[Any]) -> None:
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.asarray(weight, dtype=np.float32)))
        if layer.bias is not None:
            layer.bias.copy_(torch.from_numpy(np.asarray(bias, dtype=np.float32)))


def _with_thresholds(layer: LIF, threshold: Floats) -> LIF:
    with torch.no_grad():
        layer.raw_threshold.copy_(raw_threshold(threshold))
    return layer


def raw_threshold(threshold: Floats) -> Tensor:
    """Return the parameters whose softplus is the threshold in single precision.

    Not every small threshold is representable, because softplus is flat there. The parameter is then the next larger
    one: potentials on a grid coarser than 1e-6 of the threshold still fire correctly.
    """
    wanted = torch.from_numpy(threshold.astype(np.float32))
    exact = (threshold + np.log(-np.expm1(-threshold))).astype(np.float32)
    step = np.maximum(np.spacing(np.abs(exact)), np.spacing(threshold.astype(np.float32)) / 2)
    candidates = torch.from_numpy(np.stack([exact + np.float32(k) * step for k in range(-4, 9)]))
    # One by one: the last bit of softplus depends on the position of a number in a tensor.
    reached = torch.stack([nn.functional.softplus(candidate.clone()) for candidate in candidates])
    surplus = torch.where(reached >= wanted, reached - wanted, torch.full_like(reached, math.inf))
    return candidates.gather(0, surplus.argmin(0, keepdim=True))[0]


def _pair(value: Any) -> tuple[int, int]:
    first, second = _ints(value)
    return first, second


def _ints(value: Any, axes: int = 2) -> tuple[int, ...]:
    return tuple(int(side) for side in np.broadcast_to(np.ravel(value), axes))
