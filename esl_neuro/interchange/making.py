"""Layers of this project with the numbers of NIR nodes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from esl_neuro.interchange.plan import Floats, per_channel
from esl_neuro.snn.layers import AvgPool2d, Conv2d, Linear, SynapticFilter
from esl_neuro.snn.neurons import LIF, CubaLIF, RecurrentLIF


@dataclass(frozen=True)
class Discrete:
    """A neuron or filter node after forward Euler; decays and thresholds have the shape of its signal."""

    gain: Floats
    tau: Floats
    tau_syn: Floats
    drive: Floats
    threshold: Floats  # infinite where nothing fires


@dataclass(frozen=True)
class Make:
    """Makes layers with given numbers.

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
        """Return an average pool; that of a sum lacks a factor."""
        return AvgPool2d(_ints(node.kernel_size), _ints(node.stride), _ints(node.padding))

    def linear(self, node: Any) -> Linear:
        """Return a linear layer, without bias if it is zero."""
        layer = Linear(node.weight.shape[1], node.weight.shape[0], bias=bool(np.any(node.bias)))
        _fill(layer, node.weight, node.bias)
        return layer

    def conv(self, node: Any) -> Conv2d:
        """Return a convolution, without bias if it is zero."""
        weight, groups = _grouped(node)
        padding: Any = node.padding if isinstance(node.padding, str) else _ints(node.padding)
        layer = Conv2d(
            weight.shape[1] * groups,
            len(weight),
            (weight.shape[2], weight.shape[3]),
            _ints(node.stride),
            padding,
            _ints(node.dilation),
            groups,
            bias=bool(np.any(node.bias)),
        )
        _fill(layer, weight, node.bias)
        return layer

    def neurons(self, discrete: Discrete) -> LIF:
        """Return neurons, behind synapses if they have some."""
        threshold = _narrow(discrete.threshold)
        tau, tau_syn = self.decay(discrete.tau), self.decay(discrete.tau_syn)
        layer = (
            LIF(threshold.shape, tau, 1.0, self.surrogate, self.width, self.learn)
            if isinstance(tau_syn, float) and tau_syn == 0
            else CubaLIF(threshold.shape, tau, tau_syn, 1.0, self.surrogate, self.width, self.learn)
        )
        return _with_thresholds(layer, threshold)

    def recurrent(self, discrete: Discrete, feedback: Any) -> LIF:
        """Return neurons that hear themselves through a connection."""
        threshold = _narrow(discrete.threshold)
        tau, tau_syn = self.decay(discrete.tau), self.decay(discrete.tau_syn)
        layer = RecurrentLIF(len(threshold), tau, 1.0, self.surrogate, self.width, self.learn, tau_syn)
        _fill(layer.recurrent, feedback.weight, feedback.bias)
        return _with_thresholds(layer, threshold)

    def filter(self, discrete: Discrete) -> nn.Module:
        """Return what does not fire: one filter, or two."""
        membrane = SynapticFilter(self.decay(discrete.tau))
        return (
            nn.Sequential(SynapticFilter(self.decay(discrete.tau_syn)), membrane)
            if discrete.tau_syn.any()
            else membrane
        )

    def decay(self, values: Floats) -> float | Tensor:
        """Return one number where all are equal, without what division by the time step has left in the last digits."""
        values = np.array(values)
        for digits in (11, 9, 6, 3):
            rounded = np.round(values, digits)
            values = np.where(np.abs(rounded - values) < 2e-12, rounded, values)
        narrow = _narrow(values)
        if np.all(narrow == narrow.flat[0]):
            return float(narrow.flat[0])
        return torch.from_numpy(narrow.astype(np.float32))


def discretise(node: Any, dt_s: float, shape: tuple[int, ...]) -> Discrete:
    """Apply forward Euler to a neuron or filter node."""

    def full(value: ArrayLike) -> Floats:
        return np.broadcast_to(np.asarray(value, dtype=np.float64), shape)

    threshold = getattr(node, "v_threshold", getattr(node, "threshold", None))
    limits = full(np.inf if threshold is None else threshold)
    zero, one = full(0), full(1)
    if isinstance(node, nir.Threshold):
        return Discrete(one, zero, zero, zero, limits)
    if isinstance(node, nir.IF | nir.I):
        return Discrete(full(dt_s * np.asarray(node.r)), one, zero, zero, limits)
    if isinstance(node, nir.LIF | nir.LI):
        leak = np.minimum(full(dt_s / np.asarray(node.tau)), 1)
        return Discrete(leak * node.r, one - leak, zero, leak * node.v_leak, limits)
    leak_syn, leak = (np.minimum(full(dt_s / np.asarray(tau)), 1) for tau in (node.tau_syn, node.tau_mem))
    return Discrete(leak_syn * node.w_in * leak * node.r, one - leak, one - leak_syn, zero, limits)


def _grouped(node: Any) -> tuple[NDArray[Any], int]:
    """Return the weights of a convolution, in the groups that it had before it was written out with zeros."""
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
    """Return one value a channel, shape (channels, 1, 1), where those of an image do not depend on the position."""
    channels = per_channel(values.shape, values) if values.ndim == 3 else None
    return np.array(values) if channels is None else channels[:, None, None]


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

    Small thresholds are not all within reach, because softplus is flat there. The parameter is then the one just
    above: potentials on any grid coarser than 1e-6 of the threshold fire as they should.
    """
    wanted = torch.from_numpy(threshold.astype(np.float32))
    exact = (threshold + np.log(-np.expm1(-threshold))).astype(np.float32)
    step = np.maximum(np.spacing(np.abs(exact)), np.spacing(threshold.astype(np.float32)) / 2)
    candidates = torch.from_numpy(np.stack([exact + np.float32(k) * step for k in range(-4, 9)]))
    # One by one: in the last place, softplus depends on where in a tensor a number stands.
    reached = torch.stack([nn.functional.softplus(candidate.clone()) for candidate in candidates])
    surplus = torch.where(reached >= wanted, reached - wanted, torch.full_like(reached, math.inf))
    return candidates.gather(0, surplus.argmin(0, keepdim=True))[0]


def _ints(value: Any) -> tuple[int, int]:
    first, second = (int(side) for side in np.broadcast_to(value, 2))
    return first, second
