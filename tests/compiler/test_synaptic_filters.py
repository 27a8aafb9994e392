"""A filter before a neuron becomes the neuron's synapse where that is the same, and nowhere else."""

from __future__ import annotations

from itertools import pairwise

import nir
import numpy as np
import pytest

from compiler.nir_oracle import simulate_nir
from esl_neuro.compiler.float_groups import run_groups
from esl_neuro.compiler.frontend import analyse, read_network

DT = 1e-3


def values(rng, low, high):
    return rng.uniform(low, high, 5)


def graph(rng, leak=0.0, between=None):
    """Input, weights, filter, neurons with parameters of their own, weights, filter, neurons."""
    nodes = {"input": nir.Input({"input": np.array([4])})}
    for number, inputs in ((1, 4), (2, 5)):
        nodes[f"fc{number}"] = nir.Linear(rng.normal(0.5, 1, (5, inputs)))
        nodes[f"filter{number}"] = nir.LI(values(rng, DT, 5 * DT), values(rng, 0.5, 2), np.full(5, leak))
        if between is not None:
            nodes[f"between{number}"] = between
        lif = {"tau": values(rng, DT, 5 * DT), "r": values(rng, 0.5, 2), "v_leak": values(rng, -0.2, 0.2)}
        nodes[f"lif{number}"] = nir.LIF(**lif, v_threshold=values(rng, 0.2, 0.6), v_reset=values(rng, -0.1, 0.1))
    nodes["output"] = nir.Output({"output": np.array([5])})
    return nir.NIRGraph(nodes, list(pairwise(nodes)), metadata={"dt_s": DT}, type_check=False)


FACTORS = np.array([0.5, 1, 2, 1.5, 0.75])
BETWEEN = (None, nir.Scale(FACTORS), nir.Linear(np.diag(FACTORS)), nir.Affine(np.diag(FACTORS), np.zeros(5)))


@pytest.mark.parametrize("between", BETWEEN, ids=lambda node: type(node).__name__)
def test_neurons_behind_filters_fire_as_their_equations_say(between):
    rng = np.random.default_rng(0)
    written = graph(rng, between=between)
    inputs = (rng.random((40, 4)) < 0.5).astype(float)
    _, spikes, _ = simulate_nir(written, DT, inputs)
    network = read_network(written)
    assert [group.name for group in network.groups] == ["lif1", "lif2"]
    trace = run_groups(network, inputs[None])
    for name, fired in spikes.items():
        assert fired.sum() > 10
        assert np.array_equal(trace.spikes[name][0], fired), name


def refused(written):
    network, findings = analyse(written)
    assert network is None
    return {finding.kind for finding in findings}


def test_a_filter_with_a_leak_potential_of_its_own_stays():
    assert refused(graph(np.random.default_rng(0), leak=0.1)) == {"potential-travels"}


@pytest.mark.parametrize("between", [nir.Linear(np.ones((5, 5))), nir.Affine(np.eye(5), np.ones(5))])
def test_a_filter_before_other_weights_stays(between):
    assert refused(graph(np.random.default_rng(0), between=between)) == {"potential-travels"}


def test_a_filter_that_two_nodes_hear_stays():
    written = graph(np.random.default_rng(0))
    written.edges.append(("filter1", "fc2"))
    assert refused(written) == {"potential-travels"}


def test_a_filter_beside_another_input_stays():
    written = graph(np.random.default_rng(0))
    written.nodes["beside"] = nir.Linear(np.ones((5, 4)))
    written.edges += [("input", "beside"), ("beside", "lif1")]
    assert refused(written) == {"potential-travels"}


def test_parameters_that_do_not_fit_are_named_as_before():
    written = graph(np.random.default_rng(0))
    written.nodes["filter1"].tau = np.ones(3)
    network, findings = analyse(written)
    assert network is None
    assert "node 'filter1'" in {finding.place for finding in findings}
