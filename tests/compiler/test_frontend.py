"""NIR graphs as groups: by hand, against forward Euler neuron by neuron, and every refusal by name."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import nir
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esl_neuro.compiler.frontend import analyse, read_network
from esl_neuro.errors import BadInput
from esl_neuro.nirgraph.files import read_nir
from esl_neuro.nirgraph.kernel import Kernel
from esl_neuro.nirgraph.time_step import time_step

DT = 1e-3


@dataclass(frozen=True)
class Layer:
    """A group and the matrix that feeds it."""

    name: str
    weights: np.ndarray
    bias: np.ndarray
    du: np.ndarray
    dv: np.ndarray
    threshold: np.ndarray


def discretise(graph, dt_s=None):
    """A chain as layers."""
    network = read_network(graph, dt_s)
    sources = ["input", *(group.name for group in network.groups)]
    assert [(each.source, each.delay) for each in network.connections] == [(name, 0) for name in sources[:-1]]
    return tuple(
        Layer(group.name, each.weights.toarray(), group.bias, group.du, group.dv, group.threshold)
        for each, group in zip(network.connections, network.groups, strict=True)
    )


def full(size, value):
    return np.full(size, float(value))


def lif(size=2, **changes):
    values = {"tau": 2e-3, "r": 1, "v_leak": 0, "v_threshold": 1, "v_reset": 0} | changes
    return nir.LIF(**{name: full(size, value) for name, value in values.items()})


def cuba(size=2, **changes):
    values = {
        "tau_syn": 4e-3,
        "tau_mem": 2e-3,
        "r": 1,
        "v_leak": 0,
        "v_threshold": 1,
        "v_reset": 0,
        "w_in": 1,
    } | changes
    return nir.CubaLIF(**{name: full(size, value) for name, value in values.items()})


def chain(*nodes, dt_s=DT, **more):
    """Input, the nodes as n1, n2, ..., output; ``more`` nodes and edges come on top."""
    first, last = nodes[0], nodes[-1]
    size = len(last.weight) if hasattr(last, "weight") else np.size(getattr(last, "r", np.ones(2)))
    named = {"input": nir.Input({"input": np.array([first.weight.shape[1] if hasattr(first, "weight") else size])})}
    named |= {f"n{index}": node for index, node in enumerate(nodes, start=1)}
    named["output"] = nir.Output({"output": np.array([size])})
    edges = list(zip(named, list(named)[1:], strict=False)) + more.get("edges", [])
    edges = [edge for edge in edges if edge not in more.get("without", [])]
    metadata = {} if dt_s is None else {"dt_s": dt_s}
    return nir.NIRGraph(named | more.get("nodes", {}), edges, metadata=metadata, type_check=False)


def affine(outputs=2, inputs=3, bias=0.0):
    return nir.Affine(np.ones((outputs, inputs)), full(outputs, bias))


def random_chain(rng, kinds):
    """A random network; decays, gains, leaks, biases and thresholds differ from neuron to neuron."""
    nodes, fan_in = [], 4
    for kind in kinds:
        size = int(rng.integers(1, 5))
        weight, bias = rng.normal(0.3, 1, (size, fan_in)), rng.normal(0, 0.2, size)
        linear = kind == "CubaLIF" or rng.random() < 0.3
        nodes.append(nir.Linear(weight) if linear else nir.Affine(weight, bias))
        tau, tau_syn = DT * rng.uniform(1, 8, size), DT * rng.uniform(1, 8, size)
        shared = {"r": rng.uniform(0.5, 2, size), "v_threshold": rng.uniform(0.2, 1, size), "v_reset": np.zeros(size)}
        v_leak = rng.normal(0, 0.3, size)
        if kind == "LIF":
            nodes.append(nir.LIF(tau=tau, v_leak=v_leak, **shared))
        elif kind == "IF":
            nodes.append(nir.IF(**shared | {"r": rng.uniform(100, 900, size)}))
        else:
            w_in = rng.uniform(0.5, 2, size)
            nodes.append(nir.CubaLIF(tau_syn=tau_syn, tau_mem=tau, v_leak=v_leak, w_in=w_in, **shared))
        fan_in = size
    return chain(*nodes)


def euler_potentials(graph, spikes):
    """Charged potentials and spikes of each neuron node by forward Euler of its equations, neuron by neuron."""
    names = [name for name in graph.nodes if name.startswith("n")]
    result, signal = {}, spikes
    for connection, neurons in zip(names[::2], names[1::2], strict=True):
        weight, node = graph.nodes[connection].weight, graph.nodes[neurons]
        bias = getattr(graph.nodes[connection], "bias", np.zeros(len(weight)))
        charged, fired = np.zeros((len(signal), len(weight))), np.zeros((len(signal), len(weight)))
        for n in range(len(weight)):
            i = v = 0.0
            for t in range(len(signal)):
                x = sum(weight[n, m] * signal[t][m] for m in range(weight.shape[1])) + bias[n]
                if isinstance(node, nir.IF):
                    v += DT * node.r[n] * x
                elif isinstance(node, nir.LIF):
                    v += DT / node.tau[n] * (node.v_leak[n] - v + node.r[n] * x)
                else:
                    i += DT / node.tau_syn[n] * (-i + node.w_in[n] * x)
                    v += DT / node.tau_mem[n] * (node.v_leak[n] - v + node.r[n] * i)
                charged[t, n], fired[t, n] = v, v > node.v_threshold[n]
                v = 0.0 if fired[t, n] else v
        result[neurons], signal = (charged, fired), fired
    return result


def layer_potentials(layers, spikes):
    """The same of the discrete layers, from the recursion that they document."""
    result, signal = {}, np.asarray(spikes)
    for layer in layers:
        u = v = np.zeros(layer.threshold.size)
        charged, fired = [], []
        for row in signal:
            u = (1 - layer.du) * u + layer.weights @ row
            v = (1 - layer.dv) * v + u + layer.bias
            charged.append(v)
            fired.append((v > layer.threshold).astype(float))
            v = v * (1 - fired[-1])
        signal = np.array(fired)
        result[layer.name] = (np.array(charged), signal)
    return result


@settings(max_examples=50)
@given(seed=st.integers(0, 10**6), kinds=st.lists(st.sampled_from(["LIF", "CubaLIF", "IF"]), min_size=1, max_size=3))
def test_layers_are_forward_euler_of_the_graph(seed, kinds):
    rng = np.random.default_rng(seed)
    graph = random_chain(rng, kinds)
    spikes = (rng.random((15, 4)) < 0.5).astype(float)
    computed = layer_potentials(discretise(graph), spikes)
    expected = euler_potentials(graph, spikes)
    assert list(computed) == list(expected)
    for name, (charged, fired) in expected.items():
        np.testing.assert_allclose(computed[name][0], charged, rtol=1e-9, atol=1e-9)
        assert np.array_equal(computed[name][1], fired)


def test_lif_by_hand():
    graph = chain(nir.Affine(np.array([[2.0, -4.0]]), np.array([0.5])), lif(1, tau=4e-3, r=2, v_leak=0.4))
    (layer,) = discretise(graph)
    assert layer.name == "n2"
    np.testing.assert_allclose(layer.weights, [[1.0, -2.0]])  # dt / tau * r = 1/2
    np.testing.assert_allclose(layer.bias, [0.25 + 0.1])
    np.testing.assert_allclose([layer.du, layer.dv, layer.threshold], [[1], [0.25], [1]])


def test_cuba_lif_by_hand():
    graph = chain(nir.Linear(np.array([[2.0]])), cuba(1, tau_syn=4e-3, tau_mem=2e-3, r=2, w_in=4, v_leak=1))
    (layer,) = discretise(graph)
    np.testing.assert_allclose(layer.weights, [[2.0 * 0.25 * 4 * 0.5 * 2]])
    np.testing.assert_allclose([layer.du, layer.dv, layer.bias], [[0.25], [0.5], [0.5]])


def test_if_has_no_leak():
    (layer,) = discretise(chain(affine(bias=0.5), nir.IF(full(2, 1 / DT), full(2, 1), full(2, 0))))
    np.testing.assert_allclose([layer.du, layer.dv, layer.bias], [[1, 1], [0, 0], [0.5, 0.5]])
    np.testing.assert_allclose(layer.weights, np.ones((2, 3)))


def test_order_comes_from_the_edges_not_from_the_names():
    nodes = {
        "z": nir.Input({"input": np.array([3])}),
        "y": affine(2, 3),
        "b": lif(2),
        "a": affine(4, 2),
        "x": lif(4),
        "c": nir.Output({"output": np.array([4])}),
    }
    edges = [("x", "c"), ("a", "x"), ("z", "y"), ("b", "a"), ("y", "b")]
    layers = discretise(nir.NIRGraph(nodes, edges, metadata={"dt_s": DT}))
    assert [(layer.name, layer.weights.shape) for layer in layers] == [("b", (2, 3)), ("x", (4, 2))]


def test_missing_reset_potential_means_zero():
    node = lif()
    node.v_reset = None
    assert len(discretise(chain(affine(), node))) == 1


def test_tau_of_one_step_is_allowed():
    (layer,) = discretise(chain(affine(), lif(tau=DT)))
    np.testing.assert_allclose(layer.dv, [1, 1])


def refusal(graph, dt_s=None):
    with pytest.raises(BadInput) as caught:
        discretise(graph, dt_s)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def kinds(graph, dt_s=None):
    """Kinds and places of all errors."""
    network, findings = analyse(graph, dt_s)
    wrong = [(finding.kind, finding.place) for finding in findings if finding.severity == "error"]
    assert (network is None) == bool(wrong)
    return wrong


class MaxPool2d(nir.ir.node.NIRNode):
    """A node that NIR does not have."""

    def __init__(self):
        self.input_type = self.output_type = {}
        self.metadata = {}


def test_unknown_node_is_named_with_what_is_supported():
    graph = chain(affine(), MaxPool2d(), lif())
    assert "node 'n2': MaxPool2d is not supported; supported: Affine, AvgPool2d, Conv1d" in refusal(graph)
    assert kinds(graph) == [("unsupported-node", "node 'n2'")]


def test_reset_potential_is_where_the_potential_is_counted_from():
    (layer,) = discretise(chain(affine(), lif(v_reset=0.25, v_leak=0.75, v_threshold=1)))
    np.testing.assert_allclose([layer.threshold, layer.bias], [[0.75, 0.75], [0.25, 0.25]])
    message = refusal(chain(affine(), lif(v_reset=1.5)))
    assert "node 'n2': v_threshold is -0.5 above v_reset; every threshold must be positive above v_reset" in message


def test_reset_by_subtraction_is_read_from_the_metadata():
    node = lif()
    node.metadata = {"reset_mechanism": "subtract"}
    (group,) = read_network(chain(affine(), node)).groups
    assert group.reset_by.tolist() == group.threshold.tolist()
    node.metadata = {"reset_mechanism": "zero"}
    (group,) = read_network(chain(affine(), node)).groups
    assert group.reset_by is None


@pytest.mark.parametrize("threshold", [0, -0.5])
def test_threshold_must_be_positive(threshold):
    node = lif()
    node.v_threshold[1] = threshold
    assert f"node 'n2': v_threshold is {threshold}; every threshold must be positive" in refusal(chain(affine(), node))


@pytest.mark.parametrize(
    ("node", "name"), [(lif(tau=5e-4), "tau"), (cuba(tau_syn=5e-4), "tau_syn"), (cuba(tau_mem=5e-4), "tau_mem")]
)
def test_time_constant_below_the_time_step_is_refused(node, name):
    message = refusal(chain(nir.Linear(np.ones((2, 3))), node))
    assert f"node 'n2': {name} is 0.0005 s, less than the time step 0.001 s" in message


def test_bias_into_a_synaptic_filter_comes_from_a_neuron_that_always_fires():
    network = read_network(chain(affine(bias=0.5), cuba(tau_syn=4e-3, w_in=2)))
    assert [group.name for group in network.groups] == ["bias", "n2"]
    always, neurons = network.groups
    assert always.bias > always.threshold
    assert neurons.bias.tolist() == [0, 0]
    (constant,) = (each for each in network.connections if each.source == "bias")
    np.testing.assert_allclose(constant.weights.toarray(), [[0.5 * 0.25 * 2 * 0.5]] * 2)
    assert len(discretise(chain(affine(bias=0.0), cuba()))) == 1
    (layer,) = discretise(chain(affine(bias=0.5), cuba(tau_syn=DT)))  # without memory, a bias is a bias
    np.testing.assert_allclose(layer.bias, [0.25, 0.25])


def test_weight_must_fit_what_arrives():
    assert "node 'n2': tau has shape (2,), the input has shape (3,)" in refusal(chain(affine(3, 3), lif(2)))
    message = refusal(chain(affine(2, 3), lif(2), affine(4, 5), lif(4)))
    assert "node 'n3': weight has shape (4, 5), the input has shape (2,) (2 elements)" in message


def test_dead_end_and_island_are_named():
    message = refusal(chain(affine(), lif(), nodes={"n9": lif(), "island": lif()}, edges=[("n1", "n9")]))
    assert "node 'n9': is not on a path from input to output" in message
    assert "node 'island': is not on a path from input to output" in message


def test_loop_takes_the_spikes_of_the_step_before():
    graph = chain(affine(2, 2), lif(), nodes={"r": nir.Linear(np.full((2, 2), -1.0))}, edges=[("n2", "r"), ("r", "n2")])
    network = read_network(graph)
    assert [(each.source, each.target, each.delay) for each in network.connections] == [
        ("input", "n2", 0),
        ("n2", "n2", 1),
    ]


def two_in_a_loop(delay_steps=None):
    """n2 and n4 in a loop, closed through a Delay if steps are given."""
    back = {"r": nir.Linear(np.ones((2, 2)))}
    edges = [("n4", "r"), ("r", "n2")]
    if delay_steps is not None:
        back["d"] = nir.Delay(np.full(2, delay_steps * DT))
        edges = [("n4", "d"), ("d", "r"), ("r", "n2")]
    return chain(affine(), lif(), affine(2, 2), lif(), nodes=back, edges=edges)


def test_loop_of_two_groups_needs_two_steps():
    for graph in (two_in_a_loop(), two_in_a_loop(1)):
        message = refusal(graph)
        assert "groups 'n2', 'n4': form a loop of 2 connections" in message.replace("'n4', 'n2'", "'n2', 'n4'")
        assert "add a Delay node of 2 steps (0.002 s) to the loop" in message
    network = read_network(two_in_a_loop(2))
    assert [each.delay for each in network.connections if each.source == "n4"] == [2]


def test_every_fast_loop_is_named():
    graph = two_in_a_loop()
    graph.nodes |= {"n6": lif(), "s": nir.Scale(np.ones(2)), "q": nir.Scale(np.ones(2)), "n7": lif()}
    graph.edges += [("n4", "n6"), ("n6", "s"), ("s", "n7"), ("n7", "q"), ("q", "n6"), ("n7", "output")]
    assert [kind for kind, _ in kinds(graph)] == ["fast-loop", "fast-loop"]


def test_loop_without_a_neuron_is_refused():
    graph = chain(affine(), nir.Scale(full(2, 0.5)), lif(), edges=[("n2", "n2")])
    assert kinds(graph) == [("linear-loop", "node 'n2'")]
    assert "add a LIF or IF node to it" in refusal(graph)


def test_output_that_feeds_what_feeds_it_back_is_refused():
    nodes = {"a": affine(2, 2), "h": lif(), "b": nir.Linear(np.ones((2, 2))), "d": nir.Delay(full(2, 2 * DT))}
    graph = chain(affine(), lif(), nodes=nodes, edges=[("n2", "a"), ("a", "h"), ("h", "d"), ("d", "b"), ("b", "n2")])
    assert kinds(graph) == [("output-order", "node 'n2'")]


def test_a_graph_without_an_input_or_an_output_is_refused():
    graph = chain(affine(), lif())
    graph.nodes["input"] = affine(3, 3)
    assert "graph: has no input; add an Input node where signals enter the network" in refusal(graph)
    graph = chain(affine(), lif())
    graph.nodes["output"] = lif()
    assert ("output-count", "graph") in kinds(graph)


def test_edges_must_hang_together():
    graph = chain(affine(), lif(), edges=[("n1", "nobody"), ("n1", "n2"), ("n2", "input"), ("output", "n1")])
    graph.edges.append(("n1",))
    assert {kind for kind, _ in kinds(graph)} == {
        "missing-node",
        "duplicate-edge",
        "fed-input",
        "feeding-output",
        "malformed",
    }


def test_linear_nodes_between_groups_are_one_connection():
    graph = chain(affine(4, 3, bias=1.0), nir.Scale(np.array([1.0, 2, 3, 4])), nir.Linear(np.ones((2, 4))), lif())
    (layer,) = discretise(graph)
    np.testing.assert_allclose(layer.weights, np.full((2, 3), 5.0))
    np.testing.assert_allclose(layer.bias, [5.0, 5.0])


def image(*nodes, shape=(2, 6, 4), edges=None, **more):
    """A graph of image nodes n1, n2, ... behind an input of a shape."""
    named = {"input": nir.Input({"input": np.array(shape)})}
    named |= {f"n{index}": node for index, node in enumerate(nodes, start=1)} | more
    size = np.size(nodes[-1].v_threshold)
    named["output"] = nir.Output({"output": np.array(nodes[-1].v_threshold.shape or [size])})
    return nir.NIRGraph(named, edges or list(pairwise(named)), metadata={"dt_s": DT}, type_check=False)


def conv(out=3, channels=2, taps=(3, 3), stride=1, padding=1, input_shape=None, groups=1):
    weight = np.random.default_rng(0).normal(size=(out, channels // groups, *taps))
    return nir.Conv2d(input_shape, weight, stride, padding, 1, groups, np.zeros(out))


def test_convolution_stays_a_kernel():
    network = read_network(image(conv(), nir.Flatten({"input": np.array([3, 6, 4])}, 0, -1), lif(72)))
    (connection,) = network.connections
    assert isinstance(connection.weights, Kernel)
    assert connection.weights.input_shape == (2, 6, 4)


def test_pooling_that_divides_evenly_joins_the_convolution_behind_it():
    pool = nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
    (connection,) = read_network(image(pool, conv(), lif(18))).connections
    assert isinstance(connection.weights, Kernel)
    assert connection.weights.weights.shape == (3, 2, 6, 6)
    assert (connection.weights.stride, connection.weights.padding) == ((2, 2), (2, 2))
    # Five rows: the last one is in no window, so padding must not see it.
    (connection,) = read_network(image(pool, conv(), lif(12), shape=(2, 5, 4))).connections
    assert not isinstance(connection.weights, Kernel)


def test_gains_that_differ_within_a_channel_are_written_one_by_one():
    node = lif(72)
    node.r = np.linspace(1, 2, 72)
    (connection,) = read_network(image(conv(), node)).connections
    assert not isinstance(connection.weights, Kernel)


@pytest.mark.parametrize(
    ("node", "kind"),
    [
        (conv(channels=4), "shape-mismatch"),
        (conv(out=4, channels=2, groups=2, input_shape=(5, 5)), "shape-mismatch"),
        (conv(taps=(9, 9), padding=0), "shape-mismatch"),
        (conv(stride=0), "malformed"),
        (conv(stride=2, padding="same"), "padding"),
        (conv(padding=10**6), "too-large"),
        (nir.SumPool2d(np.array([9, 1]), np.array([1, 1]), np.array([0, 0])), "shape-mismatch"),
        (nir.SumPool2d(np.array([0, 1]), np.array([1, 1]), np.array([0, 0])), "malformed"),
        (nir.Flatten({"input": None}, 2, 1), "shape-mismatch"),
        (nir.Conv1d(None, np.ones((1, 2, 3)), 1, 0, 1, 1, np.zeros(1)), "shape-mismatch"),
        (nir.Linear(np.ones((2, 2, 24))), "shape-mismatch"),
        (nir.Scale(np.ones(5)), "shape-mismatch"),
        (nir.Delay(np.array(1.5 * DT)), "delay"),
        (nir.Delay(np.array(-DT)), "delay"),
        (nir.Delay(np.array(np.nan)), "not-finite"),
        (nir.Affine(np.ones((2, 48)), np.ones(3)), "shape-mismatch"),
    ],
)
def test_linear_node_that_contradicts_itself_or_its_input_is_refused(node, kind):
    assert (kind, "node 'n1'") in kinds(image(node, lif(2)))


def test_padding_that_is_missing_is_named():
    node = conv()
    del node.padding
    assert ("malformed", "node 'n1'") in kinds(image(node, lif(72)))


def test_time_constant_may_be_written_as_text():
    node = lif()
    node.tau = np.array(["0.0005", "0.002"])
    assert "tau is 0.0005 s, less than the time step" in refusal(chain(affine(), node))


@pytest.mark.parametrize("tau", [0, -1e-3])
def test_time_constant_must_be_positive(tau):
    assert f"tau is {tau:g} s; it must be positive" in refusal(chain(affine(), lif(tau=tau)))


def test_delay_between_steps_names_the_nearest():
    message = refusal(chain(affine(), nir.Delay(full(2, 1.5 * DT)), lif()))
    assert "which is 1.5 steps of 0.001 s; use a whole number of steps, nearest: 0.001 and 0.002 s" in message


def test_signals_that_meet_must_be_alike():
    graph = chain(affine(), lif(), nodes={"b": affine(3, 3)}, edges=[("input", "b"), ("b", "n2")])
    assert [kind for kind, _ in kinds(graph)] == ["shape-mismatch"]


def test_declared_shape_that_is_wrong_is_a_warning():
    graph = image(conv(taps=(3, 1), padding=0, input_shape=(6, 4)), lif(48))
    assert graph.nodes["n1"].output_type["output"].tolist() == [3, 4, 2]  # the library takes the height for both
    network, findings = analyse(graph)
    assert {(finding.kind, finding.severity) for finding in findings} == {("declared-shape", "warning")}
    assert "node 'n1': declares the shape (3, 4, 2), but its output has shape (3, 4, 4), which is used" in map(
        str, findings
    )
    assert network.groups[0].neurons == 48


def test_image_into_a_matrix_is_taken_in_a_row():
    network, findings = analyse(image(affine(2, 48), lif()))
    assert network is not None
    assert [(finding.kind, finding.severity) for finding in findings] == [("declared-shape", "warning")]


@pytest.mark.parametrize(
    "node",
    [
        nir.LI(tau=full(2, 2e-3), r=full(2, 1), v_leak=full(2, 0.5)),
        nir.CubaLI(tau_syn=full(2, 4e-3), tau_mem=full(2, 2e-3), r=full(2, 1), v_leak=full(2, 0.5)),
        nir.I(full(2, 1 / DT)),
    ],
)
def test_readout_by_potential_never_fires_and_feeds_nothing(node):
    network = read_network(chain(affine(), node))
    assert network.readout == "potential"
    assert not network.groups[-1].fires
    graph = chain(affine(), node, affine(2, 2), lif())
    assert kinds(graph) == [("potential-travels", "node 'n2'")]
    assert "feeds 'n4'; the chip sends spikes only" in refusal(graph)


def test_linear_end_is_accumulated():
    network = read_network(chain(affine(), lif(), affine(2, 2, bias=0.5)))
    last = network.groups[-1]
    assert (last.name, network.readout) == ("n3", "potential")
    assert (last.dv.tolist(), last.bias.tolist()) == ([0, 0], [0.5, 0.5])


def nested(inner):
    """A chain as a graph within a graph."""
    size = {"input": np.array([2])}, {"output": np.array([2])}
    nodes = {"input": nir.Input(size[0]), **inner, "output": nir.Output(size[1])}
    return nir.NIRGraph(nodes, [*pairwise(nodes)], metadata={}, type_check=False)


def test_nested_graphs_are_unpacked(tmp_path):
    graph = chain(affine(), nested({"deep": nested({"lif": lif()})}), affine(2, 2), lif())
    network = read_network(graph)
    assert [group.name for group in network.groups] == ["n2.deep.lif", "n4"]
    nir.write(tmp_path / "nested.nir", graph)
    again = read_network(read_nir(tmp_path / "nested.nir"))
    assert [group.name for group in again.groups] == ["n2.deep.lif", "n4"]


def test_what_is_wrong_in_a_nested_graph_is_named():
    inner = nested({"lif": lif(v_threshold=-1)})
    assert kinds(chain(affine(), inner)) == [("threshold", "node 'n2.lif'")]
    inner.nodes["more"] = nir.Input({"input": np.array([2])})
    inner.edges.append(("more", "lif"))
    assert ("input-count", "graph 'n2'") in kinds(chain(affine(), inner))
    clash = chain(
        affine(), nested({"lif": lif()}), nodes={"n2.lif": lif()}, edges=[("n1", "n2.lif"), ("n2.lif", "output")]
    )
    assert ("duplicate-name", "node 'n2.lif'") in kinds(clash)


def test_several_findings_come_at_once():
    graph = chain(nir.Linear(np.ones((2, 3))), lif(v_threshold=-1, tau=1e-5), affine(2, 2), cuba(tau_syn=1e-5))
    assert kinds(graph) == [
        ("time-constant", "node 'n2'"),
        ("threshold", "node 'n2'"),
        ("time-constant", "node 'n4'"),
    ]
    message = refusal(chain(affine(), MaxPool2d(), MaxPool2d(), nodes={"island": lif()}))
    assert all(part in message for part in ("'n2'", "'n3'", "island"))


def test_missing_time_step_does_not_hide_the_rest():
    assert kinds(chain(affine(), lif(v_threshold=-1), dt_s=None)) == [
        ("no-time-step", "graph"),
        ("threshold", "node 'n2'"),
    ]


def test_scalar_parameters_count_for_all():
    node = nir.LIF(*(np.array(value) for value in (2e-3, 1.0, 0.0, 1.0, 0.0)))
    (layer,) = discretise(chain(affine(4), node, nodes={"output": nir.Output({"output": np.array([4])})}))
    assert layer.threshold.tolist() == [1] * 4


def test_time_step_is_needed():
    graph = chain(affine(), lif(), dt_s=None)
    assert "no 'dt_s' in its metadata" in refusal(graph)
    assert time_step(graph, 1e-3) == 1e-3
    assert len(discretise(graph, 1e-3)) == 1


def test_given_time_step_goes_before_that_of_the_metadata():
    graph = chain(affine(), lif(tau=4e-3))
    assert time_step(graph) == DT
    assert time_step(graph, 2e-3) == 2e-3
    np.testing.assert_allclose(discretise(graph, 2e-3)[0].dv, [0.5, 0.5])


@pytest.mark.parametrize("step", [0, -1e-3, float("nan")])
def test_time_step_must_be_positive(step):
    assert f"the time step is {step} s; it must be positive" in refusal(chain(affine(), lif()), step)
    assert "must be positive" in refusal(chain(affine(), lif(), dt_s=step))


@pytest.mark.parametrize("place", ["weight", "bias", "tau", "r", "v_leak", "v_threshold"])
def test_number_that_is_none_is_refused(place):
    connection, neurons = affine(), lif()
    getattr(connection if place in ("weight", "bias") else neurons, place).flat[0] = np.nan
    assert place in refusal(chain(connection, neurons))


def test_file_reads_back_as_the_same_layers(tmp_path):
    graph = chain(affine(bias=0.25), lif(), affine(2, 2), nir.IF(full(2, 1e3), full(2, 1), full(2, 0)))
    nir.write(tmp_path / "network.nir", graph)
    for ours, again in zip(discretise(graph), discretise(read_nir(tmp_path / "network.nir")), strict=True):
        assert ours.name == again.name
        for field in ("weights", "bias", "du", "dv", "threshold"):
            assert np.array_equal(getattr(ours, field), getattr(again, field))


def test_a_layer_named_input_is_refused():
    graph = chain(affine(), lif())
    graph.nodes["input"], graph.nodes["start"] = graph.nodes["n2"], graph.nodes["input"]
    names = {"input": "start", "n2": "input"}
    graph.edges = [(names.get(source, source), names.get(target, target)) for source, target in graph.edges]
    del graph.nodes["n2"]
    assert "node 'input': 'input' is reserved for the input lines" in refusal(graph)
