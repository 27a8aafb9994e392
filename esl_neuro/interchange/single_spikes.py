"""Networks of exact spike times in discrete time: as NIR nodes, their input, and what the time step costs.

Between spikes the neuron of :mod:`esl_neuro.snn.temporal` is a current-based neuron without leak, so its node is a
``CubaLIF`` whose membrane forgets nothing. Its synapses decay by ``exp(-dt / tau)`` a step, not by ``1 - dt / tau``:
an input that came ``n`` steps ago has then contributed exactly ``w (1 - exp(-n dt / tau))``, whatever the time step,
and the only error is that spikes fall on steps.

That each neuron fires once is enforced by an inhibition of itself as strong as all its excitation together,
``K_j = sum_i max(w_ij, 0)``. After a spike the potential is zero. What arrives later, and what the synapses still hold,
adds at most ``sum_i max(w_ij, 0) (1 - exp(-n dt / tau))`` in ``n`` steps; the inhibition, which begins one step after
the spike and has the same shape, takes away ``K_j`` times the same. The potential is never positive again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import nir
import numpy as np
import torch
from numpy.typing import NDArray

from esl_neuro.errors import BadInput
from esl_neuro.interchange.nodes import cuba_lif_node
from esl_neuro.interchange.plan import Floats, Plan
from esl_neuro.nirgraph.simulation import simulate
from esl_neuro.snn.temporal import BRIGHT_ABOVE, NO_SPIKE, Z_BRIGHT, Z_DARK, TemporalNetwork, spike_times

TAU_SYN_S = 10e-3
"""Synaptic time constant in seconds, the network's unit of time. The papers give it no length; this one is ours."""

BATCH = 64


def temporal_plan(network: TemporalNetwork, dt_s: float) -> Plan:
    """Return the nodes of a network of single spikes: ``fc1, lif1, lif1_inhibition, fc2, ...``.

    Parameters
    ----------
    network : TemporalNetwork
        The network.
    dt_s : float
        Time step in seconds, a small part of :data:`TAU_SYN_S`.
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
    """Return the steps after which a spike counts as none, ``ln 1e5`` time constants."""
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
        raise BadInput(f"dark pixels fire in step {dark_at}, but there are {steps} steps of {dt_s:g} s; use more")
    bright = intensities > BRIGHT_ABOVE
    samples, inputs = intensities.shape
    spikes = np.zeros((samples, steps, inputs), np.float32)
    spikes[:, bright_at][bright] = 1
    spikes[:, dark_at][~bright] = 1
    return spikes


@dataclass(frozen=True)
class Discretisation:
    """What a time step costs, against the exact network.

    Attributes
    ----------
    dt_s : float
        Time step in seconds.
    steps, samples : int
        Steps per sample, samples.
    exact_accuracy, discrete_accuracy : float
        Shares of right predictions.
    agreement : float
        Share of samples with the same prediction.
    mean_error_s, max_error_s : dict of str to float
        Size of the error of the spike times of each layer, over neurons that fire in both networks, in seconds.
    differing : dict of str to int
        Neurons of each layer, over all samples, that fire in one network only.
    repeated : int
        Second spikes of any neuron; there must be none.
    """

    dt_s: float
    steps: int
    samples: int
    exact_accuracy: float
    discrete_accuracy: float
    agreement: float
    mean_error_s: dict[str, float]
    max_error_s: dict[str, float]
    differing: dict[str, int]
    repeated: int


def discretisation(
    network: TemporalNetwork,
    graph: nir.NIRGraph,
    intensities: NDArray[np.float32],
    labels: NDArray[np.int64],
) -> Discretisation:
    """Run a network of single spikes exactly and as the graph it was exported to, and compare.

    The discrete class is the output that fires in the earliest step, among those the one with the highest potential.

    Parameters
    ----------
    network : TemporalNetwork
        The exact network.
    graph : nir.NIRGraph
        What :func:`~esl_neuro.interchange.to_nir` made of it.
    intensities : float32 array, shape (samples, inputs)
        In [0, 1].
    labels : int64 array, shape (samples,)
    """
    dt_s, steps = float(graph.metadata["dt_s"]), int(graph.metadata["steps"])
    names = [f"lif{index}" for index in range(1, len(network.sizes))]
    exact: dict[str, list[Floats]] = {name: [] for name in names}
    discrete: dict[str, list[Floats]] = {name: [] for name in names}
    predictions, exact_predictions, repeated = [], [], 0
    for start in range(0, len(intensities), BATCH):
        batch = intensities[start : start + BATCH]
        with torch.no_grad():
            activity = network(torch.from_numpy(batch))
        exact_predictions.append(activity.predictions().numpy())
        run = simulate(graph, input_spikes(batch, dt_s, steps))
        for name, z in zip(names, activity.z.values(), strict=True):
            spikes = run.spikes[name]
            exact[name].append(spike_times(z).double().numpy() * TAU_SYN_S)
            discrete[name].append(np.where(spikes.any(1), spikes.argmax(1) * dt_s, np.inf))
            repeated += int(np.maximum(spikes.sum(1) - 1, 0).sum())
        predictions.append(_earliest(run.spikes[names[-1]], run.potentials[names[-1]]))
    ours, theirs = np.concatenate(predictions), np.concatenate(exact_predictions)
    mean, largest, differing = {}, {}, {}
    for name in names:
        one, other = np.concatenate(exact[name]), np.concatenate(discrete[name])
        both = np.isfinite(one) & np.isfinite(other)
        errors = np.abs(one[both] - other[both]) if both.any() else np.zeros(1)
        mean[name], largest[name] = float(errors.mean()), float(errors.max())
        differing[name] = int((np.isfinite(one) != np.isfinite(other)).sum())
    return Discretisation(
        dt_s=dt_s,
        steps=steps,
        samples=len(labels),
        exact_accuracy=float((theirs == labels).mean()),
        discrete_accuracy=float((ours == labels).mean()),
        agreement=float((ours == theirs).mean()),
        mean_error_s=mean,
        max_error_s=largest,
        differing=differing,
        repeated=repeated,
    )


def _earliest(spikes: Floats, potentials: Floats) -> NDArray[np.int64]:
    """First output to fire, the higher potential among equals, the lowest index if none fires."""
    fired, first = spikes.any(1), spikes.argmax(1)
    height = np.take_along_axis(potentials, first[:, None], 1)[:, 0]
    rank = np.where(fired, first - height / (1 + np.abs(height)), np.inf)  # in (first - 1, first]
    return np.asarray(rank.argmin(1), dtype=np.int64)
