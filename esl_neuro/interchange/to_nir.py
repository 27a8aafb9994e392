"""Torch network to NIR graph, in the subset that independent readers agree on.

NIR declares differential equations and leaves the time step to the reader. Every number here is chosen so that
forward Euler with the time step in the metadata gives back exactly the discrete network.
"""

from __future__ import annotations

import itertools

import nir
import numpy as np
from numpy.typing import NDArray

from esl_neuro import __version__
from esl_neuro.snn import LIF, Network

DT_S = 1e-4  # what snnTorch, SpikingJelly and the Lava example assume when nobody tells them


def to_nir(network: Network, steps: int, dt_s: float = DT_S) -> nir.NIRGraph:
    """Write a network as a NIR graph with its learned thresholds.

    ``tau dv/dt = -v + r I`` with ``tau = dt / (1 - tau_paper)``, ``r = 1`` and the weights divided by ``dt / tau``
    is, in forward Euler, ``v[t] = tau_paper v[t-1] + W s[t]``. A network without leak (``tau_paper = 1``) becomes
    integrate-and-fire nodes with ``r = 1 / dt``. Connections are ``Affine`` with an explicit zero bias and neuron
    parameters are arrays, because some readers drop ``Linear`` nodes or refuse scalars.

    Parameters
    ----------
    network : Network
        The trained network.
    steps : int
        Time steps per sample, kept in the metadata.
    dt_s : float
        Time step in seconds, kept in the metadata.

    Returns
    -------
    nir.NIRGraph
        Nodes ``input``, ``fc1``, ``lif1``, ..., ``output`` in a chain.
    """
    nodes: dict[str, nir.NIRNode] = {"input": nir.Input({"input": np.array([network.sizes[0]])})}
    for (connection_name, connection), (neuron_name, neurons) in zip(
        network.connections.items(), network.neurons.items(), strict=True
    ):
        weight = connection.weight.detach().numpy().astype(np.float32)
        nodes[neuron_name], gain = _neuron_node(neurons, dt_s)
        nodes[connection_name] = nir.Affine(
            weight=weight / np.float32(gain), bias=np.zeros(weight.shape[0], np.float32)
        )
    nodes["output"] = nir.Output({"output": np.array([network.sizes[-1]])})
    chain = [
        "input",
        *(name for pair in zip(network.connections, network.neurons, strict=True) for name in pair),
        "output",
    ]
    return nir.NIRGraph(
        nodes=nodes,
        edges=list(itertools.pairwise(chain)),
        metadata={"generator": f"esl-neuro {__version__}", "dt_s": dt_s, "steps": steps, "thresholds": "native"},
    )


def _neuron_node(neurons: LIF, dt_s: float) -> tuple[nir.NIRNode, float]:
    """Return the node, and the gain by which forward Euler multiplies its input."""
    threshold = neurons.threshold.detach().numpy().astype(np.float32)
    if neurons.tau == 1:
        node = nir.IF(r=_full(threshold, 1 / dt_s), v_threshold=threshold, v_reset=_full(threshold, 0))
        return node, 1.0
    leak = 1 - neurons.tau
    node = nir.LIF(
        tau=_full(threshold, dt_s / leak),
        r=_full(threshold, 1),
        v_leak=_full(threshold, 0),
        v_threshold=threshold,
        v_reset=_full(threshold, 0),
    )
    return node, leak


def _full(like: NDArray[np.float32], value: float) -> NDArray[np.float64]:
    # float64: the ratio dt / tau must give back the decay
    return np.full(like.shape, value, dtype=np.float64)
