"""Laws of the compiler: names, units and the order of neurons are notation, and change no integer."""

from __future__ import annotations

import copy
import itertools

import nir
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from esl_neuro.compiler.compile import compile_graph
from esl_neuro.compiler.program import INPUT, differences

few = settings(max_examples=8)
SEEDS = st.integers(0, 2**32 - 1)
DT_S = 1e-3


def chain(rng, sizes=(5, 6, 3)):
    """Layers one after the other, some with a synaptic filter."""
    nodes = {"input": nir.Input({"input": np.array(sizes[:1])})}
    for number, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        full = lambda value, size=outputs: np.full(size, float(value))  # noqa: E731
        filtered = rng.random() < 0.5  # a bias into a filter would become a neuron of its own
        weights, bias = rng.normal(0, 0.5, (outputs, inputs)), rng.normal(0, 0.05, outputs) * (not filtered)
        nodes[f"fc{number}"] = nir.Affine(weights, bias)
        tau = rng.uniform(2, 6, outputs) * DT_S
        threshold = rng.uniform(0.4, 1, outputs)
        if not filtered:
            lif = nir.LIF(tau=tau, r=tau / DT_S, v_leak=full(0), v_threshold=threshold, v_reset=full(0))
        else:
            lif = nir.CubaLIF(full(2e-3), tau, tau / DT_S, full(0), threshold, v_reset=full(0), w_in=full(2))
        nodes[f"lif{number}"] = lif
    nodes["output"] = nir.Output({"output": np.array(sizes[-1:])})
    return nir.NIRGraph(nodes, list(itertools.pairwise(nodes)))


def compiled(graph):
    return compile_graph(graph, "loihi2", 6, DT_S).program


def renamed(graph, names):
    nodes = {names[name]: node for name, node in graph.nodes.items()}
    return nir.NIRGraph(nodes, [(names[source], names[target]) for source, target in graph.edges])


def permuted(graph, order):
    """The same graph with the neurons of its first layer in another order."""
    again = copy.deepcopy(graph)
    first, second, neurons = (again.nodes[name] for name in ("fc0", "fc1", "lif0"))
    first.weight, first.bias, second.weight = first.weight[order], first.bias[order], second.weight[:, order]
    for name in ("tau", "tau_mem", "tau_syn", "r", "v_leak", "v_threshold", "v_reset", "w_in"):
        if hasattr(neurons, name):
            setattr(neurons, name, np.broadcast_to(getattr(neurons, name), order.shape)[order])
    return again


@few
@given(SEEDS)
def test_the_same_graph_gives_the_same_program_and_is_left_as_it_was(seed):
    graph = chain(np.random.default_rng(seed))
    before = copy.deepcopy(graph)
    assert differences(compiled(graph), compiled(graph)) == []
    assert differences(compiled(graph), compiled(before)) == []


@few
@given(SEEDS)
def test_names_of_nodes_change_no_integer(seed):
    graph = chain(np.random.default_rng(seed))
    names = {
        name: name if name in ("input", "output") else f"z {len(graph.nodes) - k}" for k, name in enumerate(graph.nodes)
    }
    changed = differences(compiled(graph), compiled(renamed(graph, names)))
    assert {place.rpartition(".")[2] for place in changed} <= {"name", "source", "target"}


@few
@given(SEEDS, st.integers(-20, 20))
def test_a_power_of_two_in_all_weights_thresholds_and_biases_only_moves_the_scale(seed, exponent):
    graph = chain(np.random.default_rng(seed))
    scaled = copy.deepcopy(graph)
    for name, node in scaled.nodes.items():
        if name.startswith("fc"):
            node.weight, node.bias = node.weight * 2.0**exponent, node.bias * 2.0**exponent
        elif name.startswith("lif"):
            node.v_threshold = node.v_threshold * 2.0**exponent
    one, two = compiled(graph), compiled(scaled)
    assert {place.rpartition(".")[2] for place in differences(one, two)} <= {"scale"}
    for group, other in zip(one.groups, two.groups, strict=True):
        assert np.array_equal(group.scale, other.scale * 2.0**exponent)


@few
@given(SEEDS)
def test_neurons_in_another_order_are_the_same_neurons_in_that_order(seed):
    rng = np.random.default_rng(seed)
    graph = chain(rng)
    order = rng.permutation(6)
    one, two = compiled(graph), compiled(permuted(graph, order))
    first, moved = one.groups[0], two.groups[0]
    for name in ("du", "dv", "vth", "bias_mant", "bias_exp", "scale"):
        assert np.array_equal(getattr(first, name)[order], getattr(moved, name)), name
    assert np.array_equal(one.connections[0].matrix.toarray()[order], two.connections[0].matrix.toarray())
    assert np.array_equal(one.connections[1].matrix.toarray()[:, order], two.connections[1].matrix.toarray())
    assert [connection.weight_exp for connection in one.connections] == [each.weight_exp for each in two.connections]


@few
@given(SEEDS)
def test_a_program_has_the_connections_of_its_graph_and_no_others(seed):
    """Weights may round to zero, but none appears, changes its sign or its place."""
    graph = chain(np.random.default_rng(seed))
    program = compiled(graph)
    assert [(each.source, each.target) for each in program.connections] == [(INPUT, "lif0"), ("lif0", "lif1")]
    for connection, name in zip(program.connections, ("fc0", "fc1"), strict=True):
        integers, floats = connection.matrix.toarray(), graph.nodes[name].weight
        assert not (integers * np.sign(floats) < 0).any()
        assert connection.stored == np.count_nonzero(integers) <= connection.declared == np.count_nonzero(floats)
