"""The whole compiler: exact where the numbers allow it, and refused where the chip is too small."""

from __future__ import annotations

import nir
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chains import chain_network
from esl_neuro.backends.integer import run_integer
from esl_neuro.backends.validate import validate
from esl_neuro.compiler.compile import compile_any_size, compile_graph
from esl_neuro.errors import BadInput, LimitExceeded
from esl_neuro.hardware import Limit, load_target
from esl_neuro.interchange import to_nir
from esl_neuro.snn import neuron_layers, observe, weighted_layers

LOIHI2 = load_target("loihi2")


def network(sizes=(8, 7, 5), tau=0.5, seed=0):
    """Weights k/128 with a largest one of 127/128: scaled by 256 they are the even integers 2k, exactly."""
    net = chain_network(sizes, tau, 1.0).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for connection in weighted_layers(net).values():
            integers = torch.randint(-60, 128, connection.weight.shape, generator=generator)
            integers[torch.rand(integers.shape, generator=generator) < 0.3] = 0
            integers[0, 0] = 127
            connection.weight.copy_(integers / 128)
    return net


def graph_of(net, steps=6, threshold=None):
    """The NIR graph, with thresholds on a grid of 1/256 so that they are integers as well."""
    graph = to_nir(net.float(), steps)
    for index, layer in enumerate(weighted_layers(net).values(), start=1):
        size = layer.out_features
        level = np.random.default_rng(index).integers(60, 400, size) / 256
        graph.nodes[f"lif{index}"].v_threshold = level if threshold is None else np.full(size, threshold)
    return graph


def float_spikes(net, graph, spikes):
    """The float network as a loop over steps, with the thresholds of the graph."""
    signal, result = spikes.astype(np.float64), {}
    for (_, connection), (name, neurons) in zip(weighted_layers(net).items(), neuron_layers(net).items(), strict=True):
        weight = connection.weight.detach().numpy().astype(np.float64)
        v, fired = np.zeros((len(signal), len(weight))), np.zeros((*signal.shape[:2], len(weight)), dtype=np.uint8)
        for step in range(signal.shape[1]):
            v = neurons.tau * v + signal[:, step] @ weight.T
            fired[:, step] = v > graph.nodes[name].v_threshold
            v = v * (1 - fired[:, step])
        result[name] = fired
        signal = fired.astype(np.float64)
    return result


# Potentials start as multiples of 64 and stay whole numbers through this many decays.
@pytest.mark.parametrize(("tau", "steps"), [(0.5, 7), (0.75, 4), (1.0, 50)])
@pytest.mark.parametrize("seed", range(5))
def test_weights_that_are_exact_give_the_spikes_of_the_float_network(tau, steps, seed):
    net = network(tau=tau, seed=seed)
    graph = graph_of(net, steps)
    compilation = compile_graph(graph, LOIHI2, steps)
    assert max(max(error.weight_error, error.threshold_error, error.lost) for error in compilation.errors) < 1e-12
    spikes = (np.random.default_rng(seed).random((30, steps, 8)) < 0.3).astype(np.uint8)
    trace = run_integer(compilation.program, spikes)
    expected = float_spikes(net, graph, spikes)
    for name, fired in expected.items():
        assert np.array_equal(trace.spikes[name], fired)
        assert 0.02 < fired.mean() < 0.98


def test_float_loop_is_the_torch_network():
    net = network()
    graph = graph_of(net, threshold=1.0)
    spikes = (np.random.default_rng(0).random((30, 6, 8)) < 0.3).astype(np.uint8)
    with torch.no_grad():
        for neurons in neuron_layers(net).values():
            neurons.raw_threshold.fill_(float(np.log(np.expm1(1.0))))
            graph.nodes["lif1"].v_threshold = neuron_layers(net)["lif1"].threshold.numpy()
            graph.nodes["lif2"].v_threshold = neuron_layers(net)["lif2"].threshold.numpy()
    activity = observe(net, torch.from_numpy(spikes).transpose(0, 1).float())
    for name, fired in float_spikes(net, graph, spikes).items():
        assert np.array_equal(activity.spikes[name].detach().transpose(0, 1).numpy(), fired)


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), tau=st.floats(0, 1), sizes=st.lists(st.integers(1, 9), min_size=2, max_size=4))
def test_whatever_compiles_can_run(seed, tau, sizes):
    generator = torch.Generator().manual_seed(seed)
    net = chain_network(tuple(sizes), tau, 0.7)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    compilation = compile_graph(to_nir(net, 5), LOIHI2, 5)
    validate(compilation.program)
    assert [error.layer for error in compilation.errors] == [group.name for group in compilation.program.groups]


def test_program_carries_target_steps_time_step_and_chain():
    program = compile_graph(to_nir(network((8, 7, 5)), 6), LOIHI2, steps=9, dt_s=None).program
    assert (program.target, program.input_size, program.steps, program.dt_s) == ("loihi2", 8, 9, 1e-4)
    assert [(c.source, c.target) for c in program.connections] == [("input", "lif1"), ("lif1", "lif2")]
    assert [group.neurons for group in program.groups] == [7, 5]


def test_only_connections_that_exist_are_stored():
    net = network()
    program = compile_graph(to_nir(net, 6), LOIHI2, 6).program
    for connection, torch_connection in zip(program.connections, weighted_layers(net).values(), strict=True):
        assert connection.stored == connection.declared == int((torch_connection.weight != 0).sum())


def test_given_time_step_is_kept():
    graph = to_nir(network(), 6)
    graph.metadata = {}
    with pytest.raises(BadInput, match="dt_s"):
        compile_graph(graph, LOIHI2, 6)
    assert compile_graph(graph, LOIHI2, 6, dt_s=1e-4).program.dt_s == 1e-4


def test_target_without_arithmetic_is_refused_by_name():
    target = LOIHI2.model_copy(update={"arithmetic": None})
    with pytest.raises(BadInput, match=r"hardware target 'loihi2' has no \[arithmetic\]"):
        compile_graph(to_nir(network(), 6), target, 6)


def limited(**values):
    limits = {
        name: Limit(value=value, unknown=value is None, unit="of them", source="a data sheet", evidence="datasheet")
        for name, value in values.items()
    }
    return LOIHI2.model_copy(update={"limits": limits})


def test_too_large_network_is_refused_with_need_limit_source_and_change():
    graph = to_nir(network((40, 60, 10)), 6)
    synapses = int(np.count_nonzero(graph.nodes["fc1"].weight) + np.count_nonzero(graph.nodes["fc2"].weight))
    with pytest.raises(LimitExceeded) as caught:
        compile_graph(graph, limited(neurons_per_chip=64, synapses_per_chip=1000), 6)
    message = str(caught.value)
    assert caught.value.exit_code == 4
    assert "neurons_per_chip: needs 70, the limit is 64 (a data sheet); remove 6" in message
    assert (
        f"synapses_per_chip: needs {synapses:,}, the limit is 1,000 (a data sheet); remove {synapses - 1000:,}"
        in message
    )


def test_too_large_network_is_compiled_all_the_same_for_simulation():
    compilation = compile_any_size(to_nir(network((40, 60, 10)), 6), limited(neurons_per_chip=64), 6)
    (finding,) = compilation.findings
    assert (finding.kind, finding.severity) == ("too-large", "error")
    validate(compilation.program)


def test_limit_may_be_reached_exactly():
    graph = to_nir(network((8, 7, 5)), 6)
    assert compile_graph(graph, limited(neurons_per_chip=12), 6).program.neurons == 12
    with pytest.raises(LimitExceeded):
        compile_graph(graph, limited(neurons_per_chip=11), 6)


def test_unpublished_limits_are_not_checked():
    for target in (limited(neurons_per_chip=None), limited()):
        assert compile_graph(to_nir(network(), 6), target, 6).findings == ()


def test_small_network_fits_the_real_chip():
    assert compile_graph(to_nir(network(), 6), LOIHI2, 6).findings == ()


def test_graph_of_somebody_else_compiles():
    size = 3
    nodes = {
        "in": nir.Input({"input": np.array([4])}),
        "w": nir.Linear(np.eye(size, 4)),
        "n": nir.CubaLIF(
            **{name: np.full(size, 2e-3) for name in ("tau_syn", "tau_mem")},
            **{name: np.ones(size) for name in ("r", "v_threshold", "w_in")},
            **{name: np.zeros(size) for name in ("v_leak", "v_reset")},
        ),
        "out": nir.Output({"output": np.array([size])}),
    }
    edges = [("in", "w"), ("w", "n"), ("n", "out")]
    program = compile_graph(nir.NIRGraph(nodes, edges, metadata={}), LOIHI2, 8, dt_s=1e-3).program
    assert [group.name for group in program.groups] == ["n"]
    assert program.groups[0].du.tolist() == [2047] * size
    assert program.groups[0].dv.tolist() == [2048] * size
