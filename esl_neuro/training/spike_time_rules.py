"""Learning rules for one layer of neurons in continuous time: tempotron and PSD.

Both change a weight by the kernel of its input spikes at some instants of the neuron (``eligibility``): the tempotron
at the maximum of the potential, PSD at the desired and at the actual output spikes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from esl_neuro.errors import BadInput
from esl_neuro.random_streams import stream
from esl_neuro.registry import Registry
from esl_neuro.snn.neurons import CubaLIF
from esl_neuro.snn.spike_response import (
    Floats,
    Kernel,
    Maxima,
    Pattern,
    eligibility,
    maxima,
    output_spikes,
)


@dataclass
class SpikeTimeLayer:
    """One layer of neurons in continuous time, trained by a rule of :data:`SPIKE_TIME_RULES`.

    Attributes
    ----------
    weights : float64 array, shape (neurons, lines)
    end_ms : float
        Duration of every pattern.
    kernel : Kernel
    threshold : float
    """

    weights: Floats
    end_ms: float
    kernel: Kernel = field(default_factory=Kernel)
    threshold: float = 1.0

    @classmethod
    def random(cls, neurons: int, lines: int, end_ms: float, *, scale: float, seed: int, **more: Any) -> SpikeTimeLayer:
        """Return a layer with weights from ``N(0, scale**2)``."""
        return cls(scale * stream(seed, "spike-time weights").standard_normal((neurons, lines)), end_ms, **more)

    def maxima(self, pattern: Pattern) -> Maxima:
        """Return the largest potentials without threshold."""
        return maxima(self.weights, pattern, self.kernel, self.end_ms)

    def spikes(self, pattern: Pattern) -> tuple[Floats, ...]:
        """Return the output spikes of each neuron, in ms."""
        return output_spikes(self.weights, pattern, self.kernel, self.threshold, self.end_ms)

    def learn(self, rule: str, pattern: Pattern, target: Any, rate: float) -> None:
        """Apply a rule once: ``w += rate * rule``; ``target`` is what the rule expects."""
        self.weights += rate * SPIKE_TIME_RULES[rule](self, pattern, target)

    def network(self, dt_ms: float) -> nn.Sequential:
        """Return the layer in time steps: a linear layer and CUBA-LIF neurons, for export.

        With spikes on the grid, the potential of step k is exactly ``V((k + 1) dt)`` until the first output spike;
        output spikes are rounded to the grid. Inputs: :func:`on_grid`.

        Raises
        ------
        BadInput
            If the step is not positive.
        """
        if not dt_ms > 0:
            raise BadInput(f"dt_ms is {dt_ms}; expected a positive step")
        decay, decay_s = (float(np.exp(-dt_ms / tau)) for tau in (self.kernel.tau_ms, self.kernel.tau_s_ms))
        neurons, lines = self.weights.shape
        connection = nn.Linear(lines, neurons, bias=False)
        with torch.no_grad():
            # v[k] = w (decay^(k+1) - decay_s^(k+1)) / (decay - decay_s) after a spike of weight w in step 0
            connection.weight.copy_(torch.from_numpy(self.weights * self.kernel.v0 * (decay - decay_s)))
        cells = CubaLIF(neurons, decay, decay_s, self.threshold, learn_threshold=False)
        return nn.Sequential(connection, cells)


Rule = Callable[[SpikeTimeLayer, Pattern, Any], Floats]

SPIKE_TIME_RULES: Registry[Rule] = Registry("spike-time rule")


@SPIKE_TIME_RULES.register
def tempotron(layer: SpikeTimeLayer, pattern: Pattern, target: NDArray[np.bool_]) -> Floats:
    """Correct neurons that fire and should not, or the reverse (Gütig and Sompolinsky 2006).

    ``dw_i = +- sum_{t_i < t*} K(t* - t_i)`` with ``t*`` the time of the largest potential; plus for a missed spike,
    minus for a wrong one. It is the gradient of ``+-V(t*)``.

    Parameters
    ----------
    target : bool array, shape (neurons,)
        Whether each neuron should fire at least once.
    """
    wanted = np.asarray(target, dtype=bool)
    neurons, lines = layer.weights.shape
    if wanted.shape != (neurons,):
        raise BadInput(f"tempotron: the target has the shape {wanted.shape}, expected one value for {neurons} neurons")
    largest = layer.maxima(pattern)
    fires = largest.potentials > layer.threshold
    change = np.zeros_like(layer.weights)
    for neuron in np.flatnonzero(fires != wanted):
        sign = 1.0 if wanted[neuron] else -1.0
        change[neuron] = sign * eligibility(pattern, largest.times_ms[neuron], lines, layer.kernel)
    return change


@SPIKE_TIME_RULES.register
def psd(layer: SpikeTimeLayer, pattern: Pattern, target: tuple[Floats, ...]) -> Floats:
    """Move output spikes to desired times (precise-spike-driven, Yu, Tang, Tan and Li 2013).

    ``dw_i = sum_d sum_i K(t_d - t_i) - sum_o sum_i K(t_o - t_i)`` with ``t_d`` the desired and ``t_o`` the actual
    spikes, the integral of ``(s_d(t) - s_o(t)) I_i(t)`` over a trial. The neuron, CUBA-LIF, is ours; the
    paper allows several.

    Parameters
    ----------
    target : tuple of float64 array
        Desired spike times of each neuron, in ms.
    """
    neurons, lines = layer.weights.shape
    if len(target) != neurons:
        raise BadInput(f"psd: the target has spike times for {len(target)} neurons, the layer has {neurons}")
    actual = layer.spikes(pattern)
    return np.stack(
        [
            eligibility(pattern, desired, lines, layer.kernel) - eligibility(pattern, fired, lines, layer.kernel)
            for desired, fired in zip(target, actual, strict=True)
        ]
    )


def on_grid(patterns: list[Pattern], lines: int, dt_ms: float, steps: int) -> NDArray[np.uint8]:
    """Return patterns in time steps, shape (patterns, steps, lines): a spike at t is in step ``round(t / dt)``.

    Raises
    ------
    BadInput
        If a spike comes after the last step, or two of a line fall into one step.
    """
    counts = np.zeros((len(patterns), steps, lines), np.int64)
    for number, pattern in enumerate(patterns):
        slots = np.rint(pattern.times_ms / dt_ms).astype(np.int64)
        if slots.max(initial=0) >= steps:
            raise BadInput(f"pattern {number}: a spike is in step {slots.max()}, there are {steps} steps of {dt_ms} ms")
        np.add.at(counts[number], (slots, pattern.lines), 1)
    if counts.max(initial=0) > 1:
        raise BadInput(f"{counts.max()} spikes of a line fall into one step of {dt_ms} ms; use a shorter step")
    return counts.astype(np.uint8)
