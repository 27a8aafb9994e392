"""Networks of exact spike times in discrete time: their NIR nodes and their input.

Between spikes the neuron of :mod:`esl_neuro.snn.temporal` is a current-based neuron without leak, so its node is a
``CubaLIF`` without membrane leak. Its synapses decay by ``exp(-dt / tau)`` per step, not by ``1 - dt / tau``: an input
from ``n`` steps ago has then contributed exactly ``w (1 - exp(-n dt / tau))`` for any time step, and the only error is
the rounding of spike times to steps.

A self-inhibition as strong as the total excitation, ``K_j = sum_i max(w_ij, 0)``, makes each neuron fire only once.
After a spike the potential is zero. What arrives later, and what the synapses still hold, adds at most ``sum_i
max(w_ij, 0) (1 - exp(-n dt / tau))`` in ``n`` steps; the inhibition, which begins one step after the spike and has the
same shape, subtracts ``K_j`` times the same. The potential is never positive again.
"""

from __future__ import annotations

import math

import nir
import numpy as np
from numpy.typing import NDArray

from esl_neuro.errors import BadInput
from esl_neuro.interchange.nodes import cuba_lif_node
from esl_neuro.interchange.plan import Plan
from esl_neuro.snn.temporal import BRIGHT_ABOVE, NO_SPIKE, Z_BRIGHT, Z_DARK, TemporalNetwork

TAU_SYN_S = 10e-3
"""Synaptic time constant in seconds, the network's unit of time. The papers give no value; this is our choice."""

BATCH = 64
MOST_STEPS = 10_000_000  # of a time constant


def temporal_plan(network: TemporalNetwork, dt_s: float) -> Plan:
    """Return the nodes of a network of single spikes: ``fc1, lif1, lif1_inhibition, fc2, ...``.

    Parameters
    ----------
    network : TemporalNetwork
        The network.
    dt_s : float
        Time step in seconds, much shorter than :data:`TAU_SYN_S`.
    """
    decay = math.exp(-dt_s / TAU_SYN_S)
    plan, source = Plan(), "input"
    plan.add(source, nir.Input({"input": np.array([network.sizes[0]])}), (network.sizes[0],))
    for index, parameter in enumerate(network.weights().values(), start=1):
        weight = parameter.detach().cpu().numpy().astype(np.float32)
        size, neurons = len(weight), f"lif{index}"
        excitation = np.maximum(weight, 0).sum(1, dtype=np.float64)
        threshold = np.full(size, network.threshold, np.float32)
        plan.add(f"fc{index}", nir.Affine(weight, np.zeros(size, np.float32)), (size,))
        plan.add(neurons, cuba_lif_node(np.full(size, decay), np.ones(size), threshold, dt_s), (size,))
        plan.add(
            f"{neurons}_inhibition",
            nir.Affine(np.diag(-excitation).astype(np.float32), np.zeros(size, np.float32)),
            (size,),
        )
        plan.connect(source, f"fc{index}")
        for connection in (f"fc{index}", f"{neurons}_inhibition"):
            plan.connect(connection, neurons, 1 - decay)
        plan.connect(neurons, f"{neurons}_inhibition")
        source = neurons
    plan.add("output", nir.Output({"output": np.array([size])}), (size,))
    plan.connect(source, "output")
    return plan


def steps_needed(dt_s: float) -> int:
    """Return the number of steps after which a spike does not count, ``ln 1e5`` time constants.

    Raises
    ------
    BadInput
        If the time step is not a positive number, or so short that there are too many.
    """
    if not 0 < dt_s < math.inf or TAU_SYN_S / dt_s > MOST_STEPS:
        raise BadInput(f"the time step is {dt_s:g} s; give from {TAU_SYN_S / MOST_STEPS:g} s")
    return math.ceil(math.log(NO_SPIKE) * TAU_SYN_S / dt_s)


def arrival_steps(dt_s: float) -> list[int]:
    """Return the steps in which bright and dark pixels fire."""
    return [round(math.log(z) * TAU_SYN_S / dt_s) for z in (Z_BRIGHT, Z_DARK)]


def input_spikes(intensities: NDArray[np.float32], dt_s: float, steps: int) -> NDArray[np.float32]:
    """Return the input of the discrete network: bright pixels fire in step 0, dark ones ``ln 6`` later.

    Parameters
    ----------
    intensities : array, shape (batch, inputs)
        In [0, 1].
    dt_s : float
        Time step in seconds.
    steps : int
        Steps per sample.

    Returns
    -------
    float32 array, shape (samples, steps, inputs)

    Raises
    ------
    BadInput
        If the dark pixels would fire after the last step.
    """
    bright_at, dark_at = arrival_steps(dt_s)
    if dark_at >= steps:
        raise BadInput(
            f"dark pixels fire in step {dark_at}, but there are {steps} steps of {dt_s:g} s; use at least {dark_at + 1}"
        )
    bright = intensities > BRIGHT_ABOVE
    samples, inputs = intensities.shape
    spikes = np.zeros((samples, steps, inputs), np.float32)
    spikes[:, bright_at][bright] = 1
    spikes[:, dark_at][~bright] = 1
    return spikes
