"""Run the groups of a network at full precision, as the reference for quantisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esl_neuro.compiler.network import FloatGroup, FloatNetwork
from esl_neuro.compiler.program import INPUT
from esl_neuro.nirgraph.linear_maps import Floats, apply


@dataclass(frozen=True)
class FloatTrace:
    """Spikes and potentials of a float network.

    Attributes
    ----------
    spikes : dict of str to uint8 array, shape (samples, steps, neurons)
    v : dict of str to float64 array, shape (samples, steps, neurons)
        Membrane potential of each group before the reset.
    """

    spikes: dict[str, NDArray[np.uint8]]
    v: dict[str, Floats]


def run_groups(network: FloatNetwork, inputs: NDArray[Any]) -> FloatTrace:
    """Run a network in float64, each sample from ``u = v = 0``.

    Parameters
    ----------
    network : FloatNetwork
        The network.
    inputs : array, shape (samples, steps, input lines)
        0/1 spikes or graded values, in units of the network.
    """
    samples, steps, _ = inputs.shape
    # Internally neurons are the first axis and samples the last: a step has one column per sample.
    signals = {INPUT: np.asarray(inputs, dtype=np.float64).transpose(1, 2, 0)}
    potentials: dict[str, Floats] = {}
    state = {group.name: np.zeros((2, group.neurons, samples)) for group in network.groups}
    for group in network.groups:
        signals[group.name] = np.zeros((steps, group.neurons, samples))
        potentials[group.name] = np.zeros((steps, group.neurons, samples))
    incoming = {group.name: network.incoming(group.name) for group in network.groups}
    for step in range(steps):
        for group in network.groups:
            arriving = np.zeros((group.neurons, samples))
            for connection in incoming[group.name]:
                if step >= connection.delay:
                    arriving += apply(connection.weights, signals[connection.source][step - connection.delay])
            v, fired = _advance(group, state[group.name], arriving)
            potentials[group.name][step], signals[group.name][step] = v, fired
    return FloatTrace(
        {group.name: signals[group.name].transpose(2, 0, 1).astype(np.uint8) for group in network.groups},
        {name: values.transpose(2, 0, 1) for name, values in potentials.items()},
    )


def _advance(group: FloatGroup, state: Floats, arriving: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Advance ``state`` (u and v) by one step; return the potential before the reset, and who fires."""
    u = (1 - group.du[:, None]) * state[0] + arriving
    v = (1 - group.dv[:, None]) * state[1] + u + group.bias[:, None]
    fired = v > group.threshold[:, None]
    state[0], state[1] = u, np.where(fired, 0 if group.reset_by is None else v - group.reset_by[:, None], v)
    return v, fired
