"""Groups, and the project's simulation, against an independent simulation of the same graph."""

from __future__ import annotations

import numpy as np

from compiler.nir_oracle import SILENT, simulate_nir
from esl_neuro.compiler.float_groups import run_groups
from esl_neuro.compiler.frontend import read_network
from esl_neuro.nirgraph.simulation import simulate
from random_graphs import DT

STEPS = 12


def assert_same(graph, rng, dt=DT, rate=0.4):
    network = read_network(graph, dt)
    inputs = (rng.random((STEPS, network.input_size)) < rate).astype(float)
    potentials, spikes, output = simulate_nir(graph, dt, inputs)
    trace, by_nodes = run_groups(network, inputs[None]), simulate(graph, inputs[None], dt)
    near = False
    for name, fired in spikes.items():
        resets = np.ravel(getattr(node_of(graph, name), "v_reset", 0.0))
        np.testing.assert_allclose(trace.v[name][0] + resets, potentials[name], rtol=1e-9, atol=1e-9, err_msg=name)
        threshold = np.ravel(
            getattr(node_of(graph, name), "v_threshold", getattr(node_of(graph, name), "threshold", 0))
        )
        near |= bool(np.any(np.abs(potentials[name] - threshold) < 1e-9))
        assert near or np.array_equal(trace.spikes[name][0], fired), name
        np.testing.assert_allclose(flat(by_nodes.potentials[name]), potentials[name], rtol=1e-9, atol=1e-9)
        assert near or np.array_equal(flat(by_nodes.spikes[name]), fired), name
    np.testing.assert_allclose(flat(by_nodes.outputs), output, rtol=1e-9, atol=1e-9)
    last = network.groups[-1]
    if not last.fires:
        silent = isinstance(node_of(graph, last.name), SILENT)
        expected = potentials[last.name] if silent else np.cumsum(output, axis=0)
        np.testing.assert_allclose(trace.v[last.name][0], expected, rtol=1e-9, atol=1e-9)
    return network, trace


def flat(signal):
    """Shape (steps, neurons) of the only sample."""
    return signal.reshape(signal.shape[1], -1)


def node_of(graph, name):
    for part in name.split("."):
        graph = graph.nodes[part]
    return graph
