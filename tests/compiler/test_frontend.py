"""NIR graphs as discrete layers: against forward Euler of the differential equations, and every refusal by name."""

from __future__ import annotations

import nir
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esl_neuro.compiler.frontend import discretise, read_graph, time_step
from esl_neuro.errors import BadInput

DT = 1e-3


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
    size = np.size(getattr(last, "v_threshold", np.ones(np.shape(getattr(last, "weight", np.ones(1)))[0])))
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


@pytest.mark.parametrize(
    ("node", "kind"),
    [
        (nir.Flatten({"input": np.array([2])}, 0, 0), "Flatten"),
        (nir.Threshold(np.ones(2)), "Threshold"),
        (nir.LI(tau=full(2, 1), r=full(2, 1), v_leak=full(2, 0)), "LI"),
        (nir.Scale(np.ones(2)), "Scale"),
    ],
)
def test_unsupported_node_is_named_with_what_is_supported(node, kind):
    message = refusal(chain(affine(), node))
    assert f"node 'n2': {kind} is not supported; supported: Affine, CubaLIF, IF, LIF, Linear" in message


def test_reset_to_another_potential_is_refused():
    assert "node 'n2': v_reset is not 0" in refusal(chain(affine(), lif(v_reset=0.1)))


@pytest.mark.parametrize("threshold", [0, -0.5])
def test_threshold_must_be_positive(threshold):
    node = lif()
    node.v_threshold[1] = threshold
    assert f"node 'n2': v_threshold has {threshold}; every threshold must be positive" in refusal(chain(affine(), node))


@pytest.mark.parametrize(
    ("node", "name"), [(lif(tau=5e-4), "tau"), (cuba(tau_syn=5e-4), "tau_syn"), (cuba(tau_mem=5e-4), "tau_mem")]
)
def test_time_constant_below_the_time_step_is_refused(node, name):
    message = refusal(chain(nir.Linear(np.ones((2, 3))), node))
    assert f"node 'n2': {name} has 0.0005 s, less than the time step 0.001 s" in message


def test_bias_into_a_synaptic_filter_is_refused():
    assert "node 'n1': a bias into a synaptic filter" in refusal(chain(affine(bias=0.1), cuba()))
    assert len(discretise(chain(affine(bias=0.0), cuba()))) == 1


def test_weight_must_fit_its_neurons():
    assert "node 'n1': weight has shape (3, 3), 'n2' has 2 neurons" in refusal(chain(affine(3, 3), lif(2)))


def test_weight_must_fit_the_layer_before():
    assert "n3" in refusal(chain(affine(2, 3), lif(2), affine(4, 5), lif(4)))


def test_branch_is_refused():
    message = refusal(chain(affine(), lif(), nodes={"n9": lif()}, edges=[("n1", "n9"), ("n9", "output")]))
    assert "node 'n1': feeds ['n2', 'n9']; it must feed exactly one node" in message


def test_dead_end_is_refused():
    assert "node 'n2': feeds nothing" in refusal(chain(affine(), lif(), without=[("n2", "output")]))


def test_loop_is_refused():
    graph = chain(affine(2, 2), lif(), without=[("n2", "output")], edges=[("n2", "n1")])
    assert "node 'n1': is part of a loop; recurrent networks are not supported yet" in refusal(graph)


@pytest.mark.parametrize("inputs", [0, 2])
def test_exactly_one_input_is_supported(inputs):
    graph = chain(affine(), lif())
    if inputs:
        graph.nodes["input2"] = nir.Input({"input": np.array([3])})
    else:
        graph.nodes["input"] = affine(3, 3)
    assert f"graph: has {inputs} inputs; exactly one is supported" in refusal(graph)


def test_unreached_nodes_are_named():
    message = refusal(chain(affine(), lif(), nodes={"island": lif(), "atoll": lif()}))
    assert "node 'atoll': is not on the way from input to output" in message
    assert "node 'island': is not on the way from input to output" in message


@pytest.mark.parametrize("nodes", [(affine(), affine(2, 2), lif()), (lif(),), (affine(),), (affine(), lif(), lif())])
def test_connections_and_neurons_must_alternate(nodes):
    assert "must alternate a connection and its neurons" in refusal(chain(*nodes))


def test_several_findings_come_at_once():
    graph = chain(
        nir.Linear(np.ones((2, 3))), lif(v_reset=1, v_threshold=-1, tau=1e-5), affine(2, 2, bias=1), cuba(tau_syn=1e-5)
    )
    message = refusal(graph)
    for part in ("'n2': v_reset", "'n2': v_threshold", "'n2': tau has", "'n4': tau_syn", "'n3': a bias"):
        assert part in message
    message = refusal(chain(affine(), nir.Scale(np.ones(2)), nir.Threshold(np.ones(2)), nodes={"island": lif()}))
    assert all(part in message for part in ("Scale", "Threshold", "island"))


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


def test_time_step_that_is_no_number_is_refused():
    with pytest.raises(BadInput):
        time_step(chain(affine(), lif(), dt_s="1 ms"))


@pytest.mark.parametrize("place", ["weight", "bias", "tau", "r", "v_leak", "v_threshold"])
def test_number_that_is_none_is_refused(place):
    connection, neurons = affine(), lif()
    getattr(connection if place in ("weight", "bias") else neurons, place).flat[0] = np.nan
    assert place in refusal(chain(connection, neurons))


def test_file_reads_back_as_the_same_layers(tmp_path):
    graph = chain(affine(bias=0.25), lif(), affine(2, 2), nir.IF(full(2, 1e3), full(2, 1), full(2, 0)))
    nir.write(tmp_path / "network.nir", graph)
    for ours, again in zip(discretise(graph), discretise(read_graph(tmp_path / "network.nir")), strict=True):
        assert ours.name == again.name
        for field in ("weights", "bias", "du", "dv", "threshold"):
            assert np.array_equal(getattr(ours, field), getattr(again, field))


def test_file_that_is_missing_or_no_nir_file_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        read_graph(tmp_path / "network.nir")
    (tmp_path / "network.nir").write_text("not HDF5")
    with pytest.raises(BadInput, match="not a readable NIR file"):
        read_graph(tmp_path / "network.nir")


def test_a_layer_named_input_is_refused():
    graph = chain(affine(), lif())
    graph.nodes["input"], graph.nodes["start"] = graph.nodes["n2"], graph.nodes["input"]
    names = {"input": "start", "n2": "input"}
    graph.edges = [(names.get(source, source), names.get(target, target)) for source, target in graph.edges]
    del graph.nodes["n2"]
    assert "node 'input': 'input' stands for the input lines" in refusal(graph)
