"""Single-spike non-leaky networks whose spike times are exact (ESL-SNNs eqs. 3-6; Mostafa, 2018).

A neuron adds up synaptic currents that decay with time constant 1 and never leaks. With input spikes at ``t_i``::

    V_j(t) = sum_i Theta(t - t_i) w_ij (1 - exp(-(t - t_i)))                    (3)

It fires once, when ``V_j`` first reaches the threshold ``V_th``. The inputs before that moment are its causal set
``C_j``, and with ``z = exp(t)`` the spike time is rational in the weights and in the input times::

    V_th = sum_{i in C_j} w_ij (1 - exp(-(t_j - t_i)))                          (4)
    z_j = sum_{i in C_j} w_ij z_i / (sum_{i in C_j} w_ij - V_th)                (5)

Everything here is written in ``z``; times are in units of the synaptic time constant.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from esl_neuro.errors import BadInput
from esl_neuro.reading.limits import refuse_large
from esl_neuro.snn.spike_time_kernels import FusedFirstSpike, FusedFirstSpikeBinary

NO_SPIKE = 1e5
"""``z`` of a neuron that does not fire; a spike later than ``ln 1e5 = 11.5`` time constants does not count."""

Z_BRIGHT = 1.0
"""``z`` of a bright pixel: it fires at ``t = 0``. The papers do not state the polarity; this is our choice."""

Z_DARK = 6.0
"""``z`` of a dark pixel: it fires at ``t = ln 6 = 1.79``, the constant of Mostafa's MNIST experiment."""

BRIGHT_ABOVE = 0.5
"""Intensity above which a pixel is bright."""

INITIAL_SUM = 4.0
"""Sum of the weights into each neuron at the start, in units of the threshold."""

_CHUNK_BYTES = 2**20  # size of each (output, sample, input) array: a few of them fit the cache


def first_spike(z_inputs: Tensor, weights: Tensor, threshold: float = 1.0) -> Tensor:
    """Return the time at which each neuron first reaches its threshold, differentiable (eqs. 3-5).

    With the inputs in order of time, the causal set is the shortest prefix whose eq. 5 is not later than the next
    input. The gradient is that of eq. 5 (zero for inputs outside ``C_j`` and for neurons that do not fire)::

        dz_j/dw_ij = (z_i - z_j) / (sum_{C_j} w - V_th);   dz_j/dz_i = w_ij / (sum_{C_j} w - V_th)

    Parameters
    ----------
    z_inputs : Tensor, shape (batch, inputs)
        ``exp`` of the input spike times, positive; inputs at or after :data:`NO_SPIKE` are in no causal set.
    weights : Tensor, shape (outputs, inputs)
        ``w``, of any sign.
    threshold : float
        ``V_th``, positive.

    Returns
    -------
    Tensor, shape (batch, outputs)
        ``z_j``, or :data:`NO_SPIKE`.

    Raises
    ------
    BadInput
        If the shapes do not match or the threshold is not positive.
    """
    _check(z_inputs, weights, threshold)
    z_outputs: Tensor
    if _compiled(z_inputs, weights):
        z_outputs = FusedFirstSpike.apply(z_inputs, weights, float(threshold), NO_SPIKE)  # type: ignore[no-untyped-call]
    else:
        z_outputs = _FirstSpike.apply(z_inputs, weights, threshold)  # type: ignore[no-untyped-call]
    return z_outputs


def first_spike_binary(
    early: Tensor, weights: Tensor, z_early: float = Z_BRIGHT, z_late: float = Z_DARK, threshold: float = 1.0
) -> Tensor:
    """Return :func:`first_spike` for inputs with two possible times, with one matrix product and without sorting.

    With ``S_1`` the sum of the weights of the early inputs and ``S`` that of all, eq. 5 is one of::

        z_j = z_early S_1 / (S_1 - V_th)                                if S_1 > V_th and that is <= z_late
        z_j = (z_early S_1 + z_late (S - S_1)) / (S - V_th)             otherwise, if S > V_th

    The gradient with respect to the weights is that of :func:`first_spike`, again with one matrix product.

    Parameters
    ----------
    early : bool Tensor, shape (batch, inputs)
        True if the input fires at ``z_early``, False if at ``z_late``.
    weights : Tensor, shape (outputs, inputs)
        ``w``, of any sign.
    z_early, z_late : float
        ``exp`` of the two times, ``0 < z_early <= z_late < NO_SPIKE``.
    threshold : float
        ``V_th``, positive.

    Returns
    -------
    Tensor, shape (batch, outputs)
        ``z_j``, or :data:`NO_SPIKE`.

    Raises
    ------
    BadInput
        If the shapes do not match, the times are out of order or the threshold is not positive.
    """
    _check(early, weights, threshold)
    if not 0 < z_early <= z_late < NO_SPIKE:
        raise BadInput(
            f"first_spike_binary: z_early {z_early} and z_late {z_late} are out of order; "
            f"allowed: 0 < z_early <= z_late < {NO_SPIKE:g}"
        )
    times = z_early, z_late, threshold
    z_outputs: Tensor
    if _compiled(weights):
        z_outputs = FusedFirstSpikeBinary.apply(early, weights, *times, NO_SPIKE)  # type: ignore[no-untyped-call]
    else:
        z_outputs = _FirstSpikeBinary.apply(early, weights, *times)  # type: ignore[no-untyped-call]
    return z_outputs


def _compiled(*signals: Tensor) -> bool:
    """Return whether the compiled functions take these signals: one floating-point type, on the CPU."""
    kinds = {(signal.device.type, signal.dtype) for signal in signals}
    return kinds in ({("cpu", torch.float32)}, {("cpu", torch.float64)})


def _check(inputs: Tensor, weights: Tensor, threshold: float) -> None:
    if inputs.ndim != 2 or weights.ndim != 2 or inputs.shape[1] != weights.shape[1] or inputs.shape[1] < 1:
        raise BadInput(
            f"first spike: inputs of shape {tuple(inputs.shape)} do not fit weights of shape {tuple(weights.shape)}; "
            "allowed: (batch, inputs) and (outputs, inputs) with at least one input"
        )
    if not threshold > 0:
        raise BadInput(f"first spike: threshold {threshold} is not allowed; use a positive one, such as 1.0")


class _FirstSpike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z_inputs: Tensor, weights: Tensor, threshold: float) -> Tensor:
        z_sorted, order = z_inputs.clamp(max=NO_SPIKE).sort(dim=1)
        gaps = torch.nn.functional.pad(z_sorted, (0, 1), value=NO_SPIKE).diff(dim=1)  # none after a silent input
        parts = [_fire(rows, z_sorted, gaps, order, threshold) for rows in torch.split(weights, _rows(z_inputs))]
        z_outputs, excess, last = (torch.cat(part).T for part in zip(*parts, strict=True))
        places = torch.arange(order.shape[1], device=order.device)
        rank = torch.empty_like(order).scatter_(1, order, places.expand_as(order))
        ctx.save_for_backward(z_inputs, weights, z_outputs, excess, last, rank)
        return z_outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        z_inputs, weights, z_outputs, excess, last, rank = ctx.saved_tensors
        errors = grads[0] / excess
        grad_inputs, grad_weights = torch.zeros_like(z_inputs), torch.empty_like(weights)
        rows = _rows(z_inputs)
        for start in range(0, weights.shape[0], rows):
            chunk = slice(start, start + rows)
            causal = rank <= last.T[chunk, :, None]
            error = causal * errors.T[chunk, :, None]  # (outputs, batch, inputs)
            grad_inputs += (error * weights[chunk, None, :]).sum(0)
            grad_weights[chunk] = (error * (z_inputs - z_outputs.T[chunk, :, None])).sum(1)
        return grad_inputs, grad_weights, None


def _rows(z_inputs: Tensor) -> int:
    """Return the number of output neurons per chunk, which limits the working memory."""
    return max(1, _CHUNK_BYTES // (z_inputs.numel() * z_inputs.element_size() + 1))


def _fire(
    weights: Tensor, z_sorted: Tensor, gaps: Tensor, order: Tensor, threshold: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the causal sets of a few neurons, from inputs sorted by time.

    Between two inputs ``z (V - V_th)`` is linear in ``z`` (eq. 3), with slope ``sum w - V_th`` over the inputs so far.
    It starts at ``-V_th z_1``, and the neuron fires where it reaches zero, which is eq. 5 without cancellation. The
    first segment at whose end it is not negative is one in which it rises.

    Returns
    -------
    z_outputs, excess, last : Tensor, shape (outputs, batch)
        ``z_j``; ``sum w - V_th`` over the causal set, 1 without a spike; the index of its last input, -1 without a
        spike.
    """
    excess = weights.index_select(1, order.flatten()).view(-1, *order.shape).cumsum(2).sub_(threshold)
    level = threshold * z_sorted[:, :1]
    rises = (excess * gaps).cumsum_(2)
    fired, last = (rises >= level).max(2, keepdim=True)  # the first True, if there is one
    risen = rises.gather(2, (last - 1).clamp(min=0)).masked_fill(last == 0, 0)
    excess = excess.gather(2, last)
    z_outputs = z_sorted.expand_as(rises).gather(2, last) + (level - risen) / excess
    fired &= z_outputs < NO_SPIKE
    outputs = z_outputs.where(fired, NO_SPIKE), excess.where(fired, 1), last.where(fired, -1)
    return outputs[0][:, :, 0], outputs[1][:, :, 0], outputs[2][:, :, 0]


class _FirstSpikeBinary(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, early: Tensor, weights: Tensor, z_early: float, z_late: float, threshold: float) -> Tensor:
        sum_early, sum_all = early.to(weights.dtype) @ weights.T, weights.sum(1)
        excess = sum_early - threshold
        by_early = (excess > 0) & (z_early * sum_early <= excess * z_late)
        excess = excess.where(by_early, sum_all - threshold)
        moment = z_early * sum_early + z_late * (sum_all - sum_early).masked_fill(by_early, 0)
        z_outputs = torch.clamp(moment / excess, min=z_early).where(by_early, torch.clamp(moment / excess, min=z_late))
        fired = (excess > 0) & (z_outputs < NO_SPIKE)
        z_outputs, excess = z_outputs.where(fired, NO_SPIKE), excess.where(fired, 1)
        ctx.save_for_backward(early, z_outputs, excess, fired & by_early, fired & ~by_early)
        ctx.z_early, ctx.z_late = z_early, z_late
        return z_outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None, None, None]:
        early, z_outputs, excess, by_early, by_all = ctx.saved_tensors
        error = grads[0] / excess
        # sum_b error (z_i - z_j) over C_j, with z_i = z_late + early_i (z_early - z_late) where C_j holds all inputs
        of_early = error * ((ctx.z_early - z_outputs) * by_early + (ctx.z_early - ctx.z_late) * by_all)
        of_all = (error * (ctx.z_late - z_outputs) * by_all).sum(0)
        return None, of_early.T @ early.to(error.dtype) + of_all[:, None], None, None, None


def spike_times(z: Tensor) -> Tensor:
    """Return ``t = ln z`` in synaptic time constants, infinite without a spike."""
    return z.log().masked_fill(z >= NO_SPIKE, math.inf)


def temporal_loss(z_outputs: Tensor, labels: Tensor) -> Tensor:
    """Return the loss that makes the right neuron fire first (ESL-SNNs eq. 6), averaged over the batch.

    ``L(g, z) = -ln(exp(-z_g) / sum_i exp(-z_i))``

    Parameters
    ----------
    z_outputs : Tensor, shape (batch, classes)
        ``z`` of the output neurons.
    labels : int64 Tensor, shape (batch,)
        ``g``.
    """
    return torch.nn.functional.cross_entropy(-z_outputs, labels)


@dataclass(frozen=True)
class TemporalActivity:
    """Spike times of one forward pass.

    Attributes
    ----------
    z : dict of str to Tensor, shape (batch, neurons)
        ``exp`` of the spike times of the neurons behind each connection, input to output; :data:`NO_SPIKE` if silent.
    """

    z: dict[str, Tensor]

    @property
    def output_z(self) -> Tensor:
        """``exp`` of the spike times of the last layer."""
        return next(reversed(self.z.values()))

    def predictions(self) -> Tensor:
        """Class of each sample: the output neuron that fires first, the lowest index if several or none do."""
        return self.output_z.argmin(1)


class TemporalNetwork(nn.Module):
    """A chain of linear connections without bias between neurons that fire at most once: ``fc1, fc2, ...``.

    Parameters
    ----------
    sizes : tuple of int
        Neurons of each layer, input first.
    threshold : float
        ``V_th`` of every neuron, positive.
    initial_sum : float
        Sum of the weights into each neuron at the start, in units of the threshold. It must be above 1, because only a
        neuron whose weights sum to more than its threshold certainly fires.

    Raises
    ------
    BadInput
        If the threshold is not positive or the initial sum not above 1.
    """

    def __init__(self, sizes: tuple[int, ...], *, threshold: float = 1.0, initial_sum: float = INITIAL_SUM) -> None:
        super().__init__()
        if not threshold > 0:
            raise BadInput(f"TemporalNetwork: threshold {threshold} is not allowed; use a positive one, such as 1.0")
        if not initial_sum > 1:
            raise BadInput(f"TemporalNetwork: initial_sum {initial_sum} leaves every neuron silent; use one above 1")
        self.sizes = sizes
        self.threshold = threshold
        self.initial_sum = initial_sum
        self.connections = nn.ModuleDict()
        for index, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes), start=1):
            refuse_large(f"TemporalNetwork of {sizes}", f"layer {index} takes", 4 * fan_in * fan_out)
            self.connections[f"fc{index}"] = nn.Linear(fan_in, fan_out, bias=False)
            nn.init.uniform_(self.connections[f"fc{index}"].get_parameter("weight"))
        self.rescale_rows()

    def weights(self) -> dict[str, nn.Parameter]:
        """Return the weights of each connection, shape (outputs, inputs), by name."""
        return {name: connection.get_parameter("weight") for name, connection in self.connections.items()}

    def rescale_rows(self) -> None:
        """Scale the weights into each neuron so that they sum to ``initial_sum * threshold``.

        Call it again after masks have removed initial weights. The rescaling of a mask by ``1/sqrt(density)`` preserves
        the variance of zero-mean weights. These weights are positive, so their sum must be preserved instead for a
        neuron to fire at the same time. Neurons whose weights do not sum to a positive number are not changed.
        """
        with torch.no_grad():
            for weight in self.weights().values():
                sums = weight.sum(1, keepdim=True)
                weight.mul_(torch.where(sums > 0, self.initial_sum * self.threshold / sums, 1))

    def forward(self, inputs: Tensor) -> TemporalActivity:
        """Run intensities in [0, 1] of shape (batch, inputs), one spike per input: bright at 0, dark at ``ln 6``."""
        first, *others = self.weights().items()
        bright = inputs > BRIGHT_ABOVE
        z = {first[0]: first_spike_binary(bright, first[1], Z_BRIGHT, Z_DARK, self.threshold)}
        for name, weight in others:
            z[name] = first_spike(next(reversed(z.values())), weight, self.threshold)
        return TemporalActivity(z)


def weight_sum_cost(
    network: TemporalNetwork, strength: float = 100.0, masks: Mapping[str, Tensor] | None = None
) -> Tensor:
    """Return the cost of neurons whose weights are too small to fire (Mostafa, 2018).

    ``K sum_layers sum_j max(0, V_th - sum_{i active} w_ij)``

    The cost is a sum over neurons, so that the gradient of a neuron does not depend on the width of its layer.

    Parameters
    ----------
    network : TemporalNetwork
        Network with ``w`` and ``V_th``.
    strength : float
        ``K``.
    masks : mapping of str to bool Tensor, optional
        Active connections by name of the layer, shape of its weights. Default: the non-zero weights. Inactive weights
        are zero.

    Returns
    -------
    Tensor, shape ()
        The cost; only active weights receive a gradient from it.
    """
    costs = []
    for name, weight in network.weights().items():
        short = weight.detach().sum(1) < network.threshold  # usually few neurons
        active = masks[name][short] if masks and name in masks else weight[short] != 0
        costs.append((network.threshold - (weight[short] * active).sum(1)).sum())
    return strength * torch.stack(costs).sum()


def normalised_gradient(gradient: Tensor, limit: float = 10.0) -> Tensor:
    """Return the gradient of one layer, scaled down to the limit if its row-normalised Frobenius norm is above it.

    ``||G|| = sqrt(sum_ij G_ij^2) / rows``, a row being an output neuron (our reading of Mostafa, 2018).

    Parameters
    ----------
    gradient : Tensor, shape (outputs, inputs)
        ``G``.
    limit : float
        Largest norm, positive.
    """
    norm = torch.linalg.vector_norm(gradient, dtype=torch.float64) / gradient.shape[0]  # squares overflow float32
    return gradient.mul((limit / norm).clamp(max=1))


def normalise_gradients(parameters: Iterable[nn.Parameter], limit: float = 10.0) -> None:
    """Apply :func:`normalised_gradient` to the gradient of each weight matrix, layer by layer.

    Raises
    ------
    BadInput
        If the limit is not positive.
    """
    if not limit > 0:
        raise BadInput(f"normalise_gradients: limit {limit} is not allowed; use a positive one, such as 10")
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad = normalised_gradient(parameter.grad, limit)
