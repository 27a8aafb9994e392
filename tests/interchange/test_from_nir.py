"""A network comes back from its graph as it was."""

from __future__ import annotations

from itertools import pairwise

import nir
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from esl_neuro.errors import BadInput
from esl_neuro.interchange import from_nir, read_nir, to_nir, write_nir
from esl_neuro.interchange.making import raw_threshold
from esl_neuro.nirgraph.simulation import simulate
from esl_neuro.snn import neuron_layers, weighted_layers
from interchange.networks import NAMES, assert_same_spikes, named, on_grid, random_spikes, spikes_of

KINDS = ["lif", "if", "cuba", "each its own"]


def by_node(layers):
    return {name.replace(".", "_"): layer for name, layer in layers.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_network_to_file_to_network_to_graph_is_equal(name, kind, tmp_path):
    network, shape = named(name, kind)
    on_grid(network, seed=len(name))
    inputs = random_spikes(shape)
    graph = to_nir(network, 6, shape=shape)
    write_nir(tmp_path / "network.nir", graph)
    again = from_nir(read_nir(tmp_path / "network.nir"))
    lines = inputs.reshape(*inputs.shape[:2], *graph.nodes["input"].input_type["input"])
    ours, outputs = spikes_of(network, inputs)
    theirs, same_outputs = spikes_of(again, lines)
    for layer, spikes in ours.items():
        assert np.array_equal(theirs[layer], spikes)
    np.testing.assert_allclose(same_outputs, outputs, rtol=1e-5, atol=1e-5)

    second = to_nir(again, 6, shape=tuple(lines.shape[2:]))
    assert set(second.nodes) == set(graph.nodes)
    for node_name, node in graph.nodes.items():
        other = second.nodes[node_name]
        assert type(other) is type(node)
        for field in ("tau", "tau_syn", "tau_mem", "r", "w_in", "v_threshold", "weight", "bias"):
            if hasattr(node, field):
                np.testing.assert_allclose(getattr(other, field), getattr(node, field), rtol=1e-6, atol=1e-7)
                if field == "v_threshold":
                    assert np.array_equal(getattr(other, field), getattr(node, field))


@pytest.mark.parametrize("tau", [0.0, 0.5, 0.75, 1.0])
def test_parameters_come_back_bit_for_bit_where_factors_are_powers_of_two(tau):
    network, _ = named("chain")
    for layer in neuron_layers(network).values():
        layer.tau = tau
    again = from_nir(to_nir(network, 6))
    assert isinstance(again, nn.Sequential)
    assert list(dict(again.named_children())) == list(dict(network.named_children()))
    for name, layer in weighted_layers(network).items():
        assert torch.equal(weighted_layers(again)[name].weight, layer.weight)
        assert torch.equal(weighted_layers(again)[name].bias, layer.bias)
    for name, layer in neuron_layers(network).items():
        assert torch.equal(neuron_layers(again)[name].threshold, layer.threshold)
        assert neuron_layers(again)[name].tau == tau


@settings(max_examples=30, deadline=None)
@given(st.floats(0.01, 0.999), st.integers(0, 1000))
def test_other_decays_come_back_within_two_units_in_the_last_place(tau, seed):
    torch.manual_seed(seed)
    network, _ = named("chain")
    for layer in neuron_layers(network).values():
        layer.tau = tau
    again = from_nir(to_nir(network, 6))
    for name, layer in weighted_layers(network).items():
        ours, theirs = layer.weight.detach().numpy(), weighted_layers(again)[name].weight.detach().numpy()
        assert np.all(np.abs(ours - theirs) <= 2 * np.spacing(np.abs(ours)))
    assert all(layer.tau == pytest.approx(tau, abs=1e-11) for layer in neuron_layers(again).values())


def test_groups_and_pools_come_back():
    network, shape = named("groups")
    again = by_node(dict(from_nir(to_nir(network, 6, shape=shape)).named_modules()))
    assert [again[name].groups for name in ("0", "3")] == [2, 4]
    assert (again["2"].kernel_size, again["2"].stride, again["2"].padding) == ((2, 2), (1, 1), (1, 1))
    assert again["0"].weight.shape == (4, 1, 3, 3)


@pytest.mark.parametrize("name", ["chain", "residual", "recurrent", "batch norm and pools", "groups"])
def test_every_parameter_can_be_trained(name):
    network, shape = named(name)
    on_grid(network, seed=2)
    again = from_nir(to_nir(network, 6, shape=shape))
    again(random_spikes(shape)).sum().backward()
    assert all(parameter.grad is not None for parameter in again.parameters())
    assert any(layer.weight.grad.any() for layer in weighted_layers(again).values())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(2.0**-13, 2.0**13, width=32), min_size=1, max_size=20))
def test_thresholds_are_met_from_above(values):
    wanted = np.array(values, dtype=np.float64)
    reached = nn.functional.softplus(raw_threshold(wanted)).numpy()
    assert np.all(reached >= wanted.astype(np.float32))
    assert np.all(reached <= wanted * (1 + 2e-6))


def test_thresholds_that_softplus_gives_are_met_exactly():
    wanted = nn.functional.softplus(torch.linspace(-3, 5, 20_000))
    reached = nn.functional.softplus(raw_threshold(wanted.double().numpy()))
    assert torch.equal(reached, wanted)


@pytest.mark.parametrize("threshold", [0.25, 0.5, 1.0, 2.0, 10.0, float(np.float32(np.log(2)))])
def test_usual_thresholds_are_met_exactly(threshold):
    assert nn.functional.softplus(raw_threshold(np.array([threshold]))).item() == np.float32(threshold)


def foreign(nodes, edges, size=3, **metadata):
    ends = {"input": nir.Input({"input": np.array([size])}), "output": nir.Output({"output": np.array([size])})}
    return nir.NIRGraph({**ends, **nodes}, edges, {"dt_s": 1e-3, **metadata}, type_check=False)


def lif(size=3, **changes):
    fields = {"tau": 2e-3, "r": 1.0, "v_leak": 0.0, "v_threshold": 0.5, "v_reset": 0.0, **changes}
    return nir.LIF(**{name: np.broadcast_to(np.asarray(value, float), size).copy() for name, value in fields.items()})


def test_gains_biases_scales_and_leak_potentials_of_foreign_graphs_are_kept():
    generator = np.random.default_rng(0)
    weight = generator.integers(-8, 16, (3, 3)) / 8
    nodes = {
        "a.b": nir.Affine(weight, np.full(3, 0.25)),
        "cells": lif(r=[1.0, 2.0, 4.0], v_leak=[0.0, 0.5, -0.25], tau=[2e-3, 4e-3, 1e-3]),
        "scale": nir.Scale(np.array([2.0, 0.5, 1.0])),
        "end": lif(v_threshold=[0.25, 0.5, 1.0]),
    }
    graph = foreign(
        nodes, [("input", "a.b"), ("a.b", "cells"), ("cells", "scale"), ("scale", "end"), ("end", "output")]
    )
    inputs = random_spikes((3,), steps=20, batch=7)
    run, (spikes, _) = simulate(graph, inputs.numpy().swapaxes(0, 1)), spikes_of(from_nir(graph), inputs)
    for name in ("cells", "end"):
        assert np.array_equal(spikes[name], run.spikes[name].swapaxes(0, 1))
        assert 0 < spikes[name].mean() < 1


def test_names_that_torch_does_not_allow_are_changed():
    names = ["in put", "train", "a.b", "a_b"]
    nodes = {name: nir.Affine(np.eye(3) * 2, np.ones(3)) for name in names}
    path = ["input", *names, "output"]
    network = from_nir(foreign(nodes, list(pairwise(path))))
    assert [name for name, _ in network.named_children()] == ["in put", "train_", "a_b", "a_b_"]
    assert network(torch.ones(1, 1, 3)).tolist() == [[[31, 31, 31]]]


def test_nested_graphs_are_dissolved():
    inner = nir.NIRGraph(
        {
            "input": nir.Input({"input": np.array([3])}),
            "lif": lif(),
            "w_rec": nir.Linear(np.array([[0.0, 0.5, 0.25], [-0.5, 0.0, 0.5], [0.25, 0.25, 0.0]])),
            "output": nir.Output({"output": np.array([3])}),
        },
        [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")],
    )
    nodes = {"fc": nir.Linear(np.eye(3)[::-1] * 1.5), "rnn": inner}
    graph = foreign(nodes, [("input", "fc"), ("fc", "rnn"), ("rnn", "output")])
    inputs = random_spikes((3,), steps=20, batch=7)
    spikes, _ = spikes_of(from_nir(graph), inputs)
    run = simulate(graph, inputs.numpy().swapaxes(0, 1))
    assert np.array_equal(spikes["rnn_lif"], run.spikes["rnn.lif"].swapaxes(0, 1))
    assert 0 < spikes["rnn_lif"].mean() < 1


def test_everything_that_no_layer_does_is_named_at_once():
    nodes = {
        "wait": nir.Delay(np.array([1e-3, 2e-3, 1e-3])),
        "up": lif(v_leak=0.25),
        "quick": lif(tau=1e-4),
        "below": lif(v_threshold=-1.0),
        "back": nir.Affine(np.eye(3), np.ones(3)),
    }
    edges = [("input", "wait"), ("wait", "up"), ("up", "quick"), ("quick", "below"), ("below", "back")]
    with pytest.raises(BadInput) as caught:
        from_nir(foreign(nodes, [*edges, ("back", "up"), ("below", "output")]))
    for part in ("'wait' (Delay)", "'quick'", "less than the time step", "-1", "the cycle of"):
        assert part in str(caught.value)


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_delays_are_those_of_the_graph(steps):
    nodes = {"fc": nir.Linear(np.eye(3)[::-1] * 1.5), "wait": nir.Delay(np.full(3, steps * 1e-3)), "lif": lif()}
    edges = [("input", "fc"), ("fc", "wait"), ("wait", "lif"), ("lif", "output")]
    assert_same_as_the_graph(foreign(nodes, edges), (3,), ["lif"])


@pytest.mark.parametrize(
    ("delay_s", "said"),
    [([1e-3, 2e-3, 1e-3], "delays by 1 to 2 steps"), ([5e-4] * 3, "delays by 0.5 steps"), ([-1e-3] * 3, "by -1 steps")],
)
def test_delays_that_no_layer_has_are_refused(delay_s, said):
    nodes = {"wait": nir.Delay(np.array(delay_s)), "lif": lif()}
    with pytest.raises(BadInput, match=rf"'wait' \(Delay\)[^;]*{said}|'wait'"):
        from_nir(foreign(nodes, [("input", "wait"), ("wait", "lif"), ("lif", "output")]))


@pytest.mark.parametrize("between", [[], ["mix"]])
def test_delay_of_a_bias_is_refused_because_the_graph_has_it_from_the_first_step(between):
    nodes = {"fc": nir.Affine(np.eye(3), np.ones(3)), "wait": nir.Delay(np.full(3, 1e-3)), "lif": lif()}
    mixing = {name: nir.Linear(np.eye(3)[::-1] * 0.5) for name in between}
    chain = ["input", "fc", *between, "wait", "lif", "output"]
    with pytest.raises(BadInput, match=r"'wait' \(Delay\): delays the bias of 'fc'"):
        from_nir(foreign(nodes | mixing, list(pairwise(chain))))


def assert_same_as_the_graph(graph, shape, names, steps=20):
    """The network fires as the equations of the graph do, in every named layer, and not always or never."""
    inputs = random_spikes(shape, steps=steps, batch=7)
    run, (spikes, _) = simulate(graph, inputs.numpy().swapaxes(0, 1)), spikes_of(from_nir(graph), inputs)
    for name in names:
        assert np.array_equal(spikes[name], run.spikes[name].swapaxes(0, 1)), name
        assert 0 < spikes[name].mean() < 1


@pytest.mark.parametrize(
    "cells",
    [
        lif(r=2.0),
        nir.IF(*(np.full(3, value) for value in (500.0, 1.25, 0.0))),
        nir.IF(*(np.array(value) for value in (500.0, 1.25, -0.5))),
        nir.Threshold(np.full(3, 0.75)),
        nir.CubaLIF(*(np.full(3, value) for value in (2e-3, 4e-3, 2.0, 0.0, 0.5, 0.0, 2.0))),
    ],
)
def test_neurons_that_feed_themselves_at_once_are_recurrent(cells):
    """An edge from a node to itself delivers its spikes one step later, with the gain of the neurons."""
    weight = np.array([[1.0, 0.5, 0], [0, 0.5, -0.5], [0.5, 0, 1.0]])
    nodes = {"fc": nir.Linear(weight), "cells": cells}
    edges = [("input", "fc"), ("fc", "cells"), ("cells", "cells"), ("cells", "output")]
    assert_same_as_the_graph(foreign(nodes, edges), (3,), ["cells"])
    without = foreign(nodes, [edge for edge in edges if edge != ("cells", "cells")])
    inputs = random_spikes((3,), steps=20, batch=7).numpy().swapaxes(0, 1)
    assert (simulate(without, inputs).outputs != simulate(foreign(nodes, edges), inputs).outputs).any()  # it matters


def test_several_inputs_and_outputs_are_named():
    nodes = {
        "cells": lif(),
        "more": nir.Input({"input": np.array([3])}),
        "aside": nir.Output({"output": np.array([3])}),
    }
    edges = [("input", "cells"), ("more", "cells"), ("cells", "output"), ("cells", "aside")]
    with pytest.raises(BadInput) as caught:
        from_nir(foreign(nodes, edges))
    for part in ("'more' (Port) has no layer here; give the graph one input", "'aside': is one of several outputs"):
        assert part in str(caught.value)


def test_a_self_loop_of_an_image_is_named():
    graph = foreign({"cells": lif((2, 2, 2))}, [("input", "cells"), ("cells", "cells"), ("cells", "output")])
    graph.nodes["input"] = nir.Input({"input": np.array([2, 2, 2])})
    graph.nodes["output"] = nir.Output({"output": np.array([2, 2, 2])})
    with pytest.raises(BadInput, match=r"the cycle of 'cells', 'cells_recurrent' .* in one dimension"):
        from_nir(graph)


@pytest.mark.parametrize("cuba", [False, True])
def test_a_bias_of_a_recurrent_connection_is_constant_from_the_first_step(cuba):
    kind = nir.CubaLIF(*(np.full(3, value) for value in (2e-3, 4e-3, 2.0, 0.0, 2.5, 0.0, 2.0))) if cuba else lif(r=2.0)
    back = nir.Affine(np.array([[0.0, 0.5, 0.25], [-0.5, 0.0, 0.5], [0.25, 0.25, 0.0]]), np.array([0.25, 0.0, -0.125]))
    nodes = {"fc": nir.Affine(np.eye(3)[::-1].copy(), np.array([0.0, 0.125, 0.0])), "cells": kind, "back": back}
    edges = [("input", "fc"), ("fc", "cells"), ("cells", "back"), ("back", "cells"), ("cells", "output")]
    assert_same_as_the_graph(foreign(nodes, edges), (3,), ["cells"])
    straight = foreign(nodes, [("input", "cells"), *edges[2:]])  # no connection before the neurons has a bias
    del straight.nodes["fc"]
    assert_same_as_the_graph(straight, (3,), ["cells"])


@pytest.mark.parametrize("leak", [0.0, 0.5, -0.5])
def test_potentials_are_measured_from_the_reset(leak):
    """Neurons start at v_reset, decay towards v_leak, and return to v_reset; each neuron has its own."""
    cells = lif(r=2.0, v_reset=[0.25, -0.5, 0.0], v_leak=leak, v_threshold=[0.75, 0.5, 1.0])
    nodes = {
        "fc": nir.Affine(np.eye(3)[::-1].copy(), np.zeros(3)),
        "cells": cells,
        "end": nir.IF(*(np.full(3, value) for value in (1000.0, 1.5, -0.25))),
    }
    edges = [("input", "fc"), ("fc", "cells"), ("cells", "end"), ("end", "output")]
    assert_same_as_the_graph(foreign(nodes, edges), (3,), ["cells", "end"], steps=40)


@pytest.mark.parametrize(("stride", "padding", "dilation", "groups"), [(1, 0, 1, 1), (2, 1, 1, 1), (1, 2, 2, 2)])
def test_a_convolution_over_one_axis_is_a_layer(stride, padding, dilation, groups):
    generator = np.random.default_rng(0)
    weight = generator.integers(-8, 16, (4, 2 // groups, 3)) / 8
    length = (9 + 2 * padding - dilation * 2 - 1) // stride + 1
    nodes = {
        "conv": nir.Conv1d(9, weight, stride, padding, dilation, groups, np.array([0.25, 0, -0.125, 0])),
        "cells": lif((4, length), r=2.0, v_leak=0.125),
        "flat": nir.Flatten({"input": np.array([4, length])}, 0, -1),
        "fc": nir.Linear(generator.integers(-4, 5, (3, 4 * length)) / 8),
        "end": lif(3, r=2.0),
    }
    graph = foreign(nodes, list(pairwise(["input", *nodes, "output"])))
    graph.nodes["input"] = nir.Input({"input": np.array([2, 9])})
    assert_same_as_the_graph(graph, (2, 9), ["cells", "end"])
    network = from_nir(graph)
    again = to_nir(network, 20, 1e-3, shape=(2, 9))
    inputs = random_spikes((2, 9), steps=20, batch=3).numpy().swapaxes(0, 1)
    assert np.array_equal(simulate(again, inputs).spikes["end"], simulate(graph, inputs).spikes["end"])


def test_time_step_may_be_given():
    graph = to_nir(named("chain")[0], 6, dt_s=1e-3)
    del graph.metadata["dt_s"]
    with pytest.raises(BadInput, match="no 'dt_s'"):
        from_nir(graph)
    assert neuron_layers(from_nir(graph, dt_s=1e-3))["lif1"].tau == 0.5


def test_a_network_that_came_back_fires_as_its_own_graph_says():
    network, shape = named("residual")
    again = from_nir(to_nir(on_grid(network, 5), 6, shape=shape))
    assert_same_spikes(again, to_nir(again, 6, shape=shape), random_spikes(shape))
