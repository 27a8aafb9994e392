"""Pre-train layers without labels by spike-timing-dependent plasticity, before supervised training.

Lee, Panda, Srinivasan and Roy, Frontiers in Neuroscience 12:435, 2018: each layer in turn learns by STDP from the
spikes of the layers before it, then the whole network is fine-tuned by gradients. The rule acts at the spikes of a
neuron and depends on how long ago each input spiked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from esl_neuro.errors import BadInput


@dataclass(frozen=True)
class Stdp:
    """Settings of the rule; the values are ours.

    Attributes
    ----------
    rate : float
        ``eta``.
    tau : float
        Steps in which the trace of an input spike falls to ``1 / e``.
    offset : float
        Trace below which a weight falls, in (0, 1).
    low, high : float
        Bounds of the weights, at which they stop.
    """

    rate: float = 0.1
    tau: float = 4.0
    offset: float = 0.3
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not (self.tau > 0 and self.rate > 0 and 0 < self.offset < 1 and self.low < self.high):
            raise BadInput(f"{self}: expected tau and rate above 0, an offset between 0 and 1, and low below high")


def traces(inputs: Tensor, tau: float) -> Tensor:
    """Return ``exp((t_j - t) / tau)`` with ``t_j`` the last spike of a line up to step ``t``; 0 before its first.

    Parameters
    ----------
    inputs : Tensor, shape (steps, ...)
        Spikes, 0 or 1.
    """
    trace, found = torch.zeros_like(inputs[0]), []
    for spikes in inputs:
        trace = torch.where(spikes > 0, 1.0, trace * math.exp(-1 / tau))
        found.append(trace)
    return torch.stack(found)


def stdp(weights: Tensor, inputs: Tensor, outputs: Tensor, rule: Stdp) -> Tensor:
    """Return the change of the weights of a layer.

    ::

        dw_ij = eta (exp((t_j - t_i) / tau) - offset) (w_max - w_ij) (w_ij - w_min)

    at an output spike ``t_i`` with the last input spike ``t_j <= t_i``; the exponential is 0 if there was none. The
    change is the mean over the spikes of a neuron in the batch (ours), so a busy neuron does not learn faster. The
    paper's equation was not read: that a spike acts by the trace minus an offset and by the distance to the bounds is
    known from a public re-implementation; the product of both distances is ours.

    Parameters
    ----------
    weights : Tensor, shape (neurons, lines)
    inputs : Tensor, shape (steps, samples, lines)
        Spikes, 0 or 1; for a convolution, the patches of all positions are samples.
    outputs : Tensor, shape (steps, samples, neurons)
        Spikes of the layer.
    """
    spikes = outputs.flatten(0, 1)
    count = spikes.sum(0).unsqueeze(1)
    met = spikes.T @ traces(inputs, rule.tau).flatten(0, 1) / count.clamp(min=1)
    bounded = (rule.high - weights) * (weights - rule.low)
    return torch.where(count > 0, rule.rate * (met - rule.offset) * bounded, 0.0)


def compete(currents: Tensor, thresholds: Tensor, decay: float) -> Tensor:
    """Return the spikes of neurons of which at most one fires in a step of a sample (ours).

    ``v[t] = decay v[t-1] + I[t]``; the neuron furthest above its threshold fires, and all potentials of its sample
    become zero, so that neurons learn different inputs.

    Parameters
    ----------
    currents : Tensor, shape (steps, samples, neurons)
    thresholds : Tensor, shape (neurons,)
    decay : float
        Membrane decay per step.
    """
    potential, found = torch.zeros_like(currents[0]), []
    for current in currents:
        potential = decay * potential + current
        above = potential - thresholds
        best = above.argmax(-1, keepdim=True)
        spikes = torch.zeros_like(potential).scatter_(-1, best, (above.gather(-1, best) > 0).to(potential))
        potential = potential * (1 - spikes.amax(-1, keepdim=True))
        found.append(spikes)
    return torch.stack(found)


@torch.no_grad()
def pretrain(
    weights: Tensor, batches: list[Tensor], rule: Stdp, *, threshold: float, decay: float, balance: float = 0.1
) -> Tensor:
    """Train the weights of a layer in place, one update per batch, and return the final thresholds (ours).

    After every batch the threshold of a neuron moves by ``balance`` times its share of the spikes above an equal share,
    relative to that, so that every neuron takes part; while none fires, all thresholds fall by ``balance``.

    Parameters
    ----------
    weights : Tensor, shape (neurons, lines)
        Zeros remain zero, because there is no connection.
    batches : list of Tensor, shape (steps, samples, lines)
        Input spikes; for a convolution see :func:`patches`.
    rule : Stdp
    threshold : float
        Of all neurons at the start.
    decay : float
        Membrane decay per step.
    balance : float
        Strength of the balance, below 1.

    Returns
    -------
    Tensor, shape (neurons,)

    Raises
    ------
    BadInput
        If no neuron fired in the last batch, so that the layer learned little or nothing.
    """
    connected = weights != 0
    thresholds, total = torch.full((len(weights),), threshold, dtype=weights.dtype), 0.0
    for inputs in batches:
        outputs = compete(inputs @ weights.T, thresholds, decay)
        weights += stdp(weights, inputs, outputs, rule) * connected
        weights.clamp_(rule.low, rule.high).mul_(connected)
        share = outputs.mean((0, 1))
        total = float(share.sum())
        if total > 0:
            thresholds += balance * threshold * (share * len(weights) / total - 1)
            thresholds.clamp_(min=balance * threshold)
        else:
            thresholds *= 1 - balance
    if total == 0:
        raise BadInput(
            f"pretrain: no neuron fires at the threshold {float(thresholds.min()):.3g}, so nothing is learned; begin "
            f"below {threshold:g}, or give more batches"
        )
    return thresholds


def patches(images: Tensor, kernel: int, padding: int) -> Tensor:
    """Return what a convolution of stride 1 sees at every position, as samples of a linear layer.

    Parameters
    ----------
    images : Tensor, shape (steps, samples, channels, height, width)

    Returns
    -------
    Tensor, shape (steps, samples x positions, channels x kernel x kernel)
        The order of lines is that of ``conv.weight.flatten(1)``.
    """
    steps, samples = images.shape[:2]
    columns = torch.nn.functional.unfold(images.flatten(0, 1), kernel, padding=padding)
    return columns.transpose(1, 2).reshape(steps, samples * columns.shape[-1], columns.shape[1])
