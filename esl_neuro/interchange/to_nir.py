"""Torch network to NIR graph, in the subset that independent readers agree on.

NIR declares differential equations and leaves the time step to the reader. Every number here is chosen so that
forward Euler with the time step in the metadata gives back exactly the discrete network.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import nir
import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from esl_neuro import __version__
from esl_neuro.errors import BadInput
from esl_neuro.snn import LIF
from esl_neuro.snn.layers import Flatten
from esl_neuro.snn.quantised import QuantisedNetwork
from esl_neuro.snn.temporal import TemporalNetwork

DT_S = 1e-4  # what snnTorch, SpikingJelly and the Lava example assume when nobody tells them


def to_nir(network: nn.Module, steps: int, dt_s: float = DT_S) -> nir.NIRGraph:
    """Write a network as a NIR graph with its learned thresholds.

    ``tau dv/dt = -v + r I`` with ``tau = dt / (1 - tau_paper)``, ``r = 1`` and the weights divided by ``dt / tau``
    is, in forward Euler, ``v[t] = tau_paper v[t-1] + W s[t]``. A network without leak (``tau_paper = 1``) becomes
    integrate-and-fire nodes with ``r = 1 / dt``. Connections are ``Affine`` with an explicit bias and neuron
    parameters are arrays, because some readers drop ``Linear`` nodes or refuse scalars.

    Parameters
    ----------
    network : nn.Module
        The trained network: linear layers and LIF neurons in turn, as ``build_layers`` makes them. Of a quantised one
        the rounded numbers are written, of which the compiler makes the integers that learned.
    steps : int
        Time steps per sample, kept in the metadata.
    dt_s : float
        Time step in seconds, kept in the metadata.

    Returns
    -------
    nir.NIRGraph
        Nodes ``input``, ``fc1``, ``lif1``, ..., ``output`` in a chain.

    Raises
    ------
    BadInput
        If the network has other layers, or its last layer does not fire.
    """
    if isinstance(network, QuantisedNetwork):
        network = network.on_grid()
    layers = _exportable_layers(network)
    first, last = layers[0].connection, layers[-1].connection
    nodes: dict[str, nir.NIRNode] = {"input": nir.Input({"input": np.array([first.in_features])})}
    for layer in layers:
        node, gain = _neuron_node(layer.neurons, dt_s)
        nodes[layer.connection_name] = nir.Affine(
            weight=_array(layer.connection.weight) / np.float32(gain), bias=_bias(layer.connection) / np.float32(gain)
        )
        nodes[layer.neurons_name] = node
    nodes["output"] = nir.Output({"output": np.array([last.out_features])})
    return nir.NIRGraph(
        nodes=nodes,
        edges=list(itertools.pairwise(nodes)),
        metadata={"generator": f"esl-neuro {__version__}", "dt_s": dt_s, "steps": steps, "thresholds": "native"},
    )


@dataclass(frozen=True)
class _Layer:
    connection_name: str
    connection: nn.Linear
    neurons_name: str
    neurons: LIF


def _exportable_layers(network: nn.Module) -> list[_Layer]:
    """Pair the linear layers with their neurons; refuse by name what has no NIR form here yet."""
    if isinstance(network, TemporalNetwork):
        raise BadInput("networks of single spikes cannot be exported yet; allowed: linear layers and LIF neurons")
    children = [(name, layer) for name, layer in network.named_children() if not isinstance(layer, nn.Dropout)]
    if children and isinstance(children[0][1], Flatten):  # the program's input lines are in that order already
        children = children[1:]
    refused = [
        f"'{name}' ({type(layer).__name__})"
        for name, layer in children
        if not isinstance(layer, nn.Linear) and type(layer) is not LIF  # a CubaLIF is a LIF, but not that node
    ]
    if refused:
        raise BadInput(
            f"these layers cannot be exported yet: {', '.join(refused)}; allowed: linear layers and LIF neurons"
        )
    layers = []
    for (name, connection), (neurons_name, neurons) in zip(children[::2], children[1::2], strict=False):
        if not isinstance(connection, nn.Linear) or not isinstance(neurons, LIF):
            raise BadInput(
                f"layers '{name}' and '{neurons_name}' cannot be exported: linear layers and LIFs must alternate"
            )
        layers.append(_Layer(name, connection, neurons_name, neurons))
    if len(children) % 2 or not layers:
        raise BadInput(
            f"the last layer '{children[-1][0] if children else ''}' does not fire, and only spiking outputs can be "
            "exported yet; train with network.readout = 'spikes'"
        )
    return layers


def _bias(connection: nn.Linear) -> NDArray[np.float32]:
    if connection.bias is None:
        return np.zeros(connection.out_features, np.float32)
    return _array(connection.bias)


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return np.asarray(tensor.detach(), dtype=np.float32)


def _neuron_node(neurons: LIF, dt_s: float) -> tuple[nir.NIRNode, float]:
    """Return the node, and the gain by which forward Euler multiplies its input."""
    threshold = _array(neurons.threshold)
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
