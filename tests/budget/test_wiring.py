"""Synapses counted by a pass of ones are those that the compiler stores."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from budget.networks import NETWORKS, Shortcut, built, recurrent
from esl_neuro.budget.fan_in import fan_in_caps
from esl_neuro.budget.wiring import INPUT, OUTPUT, fan_outs, layer_wirings, weight_of, weighted_modules
from esl_neuro.compiler.compile import compile_graph
from esl_neuro.compiler.program import INPUT as LINES
from esl_neuro.energy.fans import connection_fans
from esl_neuro.errors import BadInput
from esl_neuro.interchange import to_nir
from esl_neuro.snn import LIF
from esl_neuro.snn.layers import Linear
from esl_neuro.sparsity import Rewirer, SparseConv2d, SparseLinear


def sparse(name, seed=0):
    """A network with connections at random, none of whose weights is rounded to zero, and its masks."""
    make, shape = NETWORKS[name]
    torch.manual_seed(seed)
    network, masks = make().eval(), {}
    for name_, module in weighted_modules(network).items():
        if isinstance(module, SparseLinear):
            module.draw(0.4, np.random.default_rng(seed))
        weight = weight_of(module)
        masks[name_] = (torch.rand(weight.shape) < 0.4) | torch.tensor(isinstance(module, SparseLinear))
        with torch.no_grad():
            weight.copy_(masks[name_] * (0.5 + torch.rand(weight.shape)) * torch.randn(weight.shape).sign())
    return network, shape, masks


@pytest.mark.parametrize("name", NETWORKS)
def test_fan_outs_are_those_of_the_compiler(name):
    network, shape, masks = sparse(name)
    program = compile_graph(to_nir(network, steps=4, shape=shape), "loihi2", 4).program
    expected = {}
    for connection in program.connections:
        fans = connection_fans(connection)[:, 0]
        expected[connection.source] = expected.get(connection.source, 0) + fans
    found = {source.replace(".", "_"): fans.sum(0) for source, fans in fan_outs(network, shape, masks).items()}
    assert found[INPUT].flatten().tolist() == expected.pop(LINES).tolist()
    sources = {source: fans for source, fans in found.items() if source != INPUT and source in expected}
    assert set(sources) == set(expected)
    for source, fans in sources.items():
        assert fans.flatten().tolist() == expected[source].tolist()
    assert all(not fans.any() for source, fans in found.items() if source != INPUT and source not in expected)
    assert not any(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_that_keeps_its_caps_keeps_the_budget_on_the_chip(name):
    make, shape = NETWORKS[name]
    torch.manual_seed(1)
    network = make()
    budget = 12
    caps = fan_in_caps(network, shape, "all", budget)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    shapes = {n: (m.out_features, m.in_features) if isinstance(m, SparseLinear) else m.weight.flatten(1).shape
              for n, m in weighted_modules(network).items()}  # fmt: skip
    densities = {layer: min(caps[layer] / shapes[layer][1], 1) for layer in caps}
    rewirer = Rewirer(
        network,
        optimizer,
        layers="all",
        densities=densities,
        fan_in=caps,
        growth={"random": 1.0},
        alpha=0.5,
        update_every=1,
        end=9,
    )
    for _ in range(3):
        optimizer.zero_grad()
        network((torch.rand(3, 2, *shape) < 0.5).float()).square().mean().backward()
        optimizer.step()
        rewirer.step()
    program = compile_graph(to_nir(network.eval(), steps=3, shape=shape), "loihi2", 3).program
    most = [
        int(sum(connection.fan_in for connection in program.incoming(group.name)).max())
        for group in program.groups
        if program.incoming(group.name)
    ]
    assert max(most) <= budget
    assert max(most) > budget // 3  # the budget is used


def test_wirings_say_what_a_connection_costs_and_which_layers_share_neurons():
    pooled = layer_wirings(*(NETWORKS["pooled convolutions"][0](), (2, 8, 8)))
    assert {name: (each.synapses, each.each) for name, each in pooled.items()} == {
        "conv1": (18, 1),
        "conv2": (4 * 9 * 4, 4),
        "fc1": (20, 1),
        "fc2": (6, 1),
    }
    shared = layer_wirings(Shortcut(), (12,))
    assert shared["fc2"].neurons == shared["skip"].neurons == {"lif2"}
    looped = layer_wirings(recurrent(), (12,))
    assert looped["0"].neurons == looped["1.recurrent"].neurons == {"1"}
    assert layer_wirings(NETWORKS["a readout that does not fire"][0](), (12,))["fc2"].neurons == {OUTPUT}


def test_layers_with_the_same_neurons_divide_the_budget():
    assert fan_in_caps(recurrent(), (12,), ["0", "recurrent"], 14) == {"0": 8, "recurrent": 6}
    assert fan_in_caps(Shortcut(), (12,), ["fc1", "fc2", "skip", "fc3"], 11) == {
        "fc1": 11,
        "fc2": 5,
        "skip": 6,
        "fc3": 7,
    }
    # the recurrent weights are dense, so the other layer has the rest
    assert fan_in_caps(recurrent(), (12,), ["0", "2"], 14) == {"0": 5, "2": 9}


def test_a_budget_that_nothing_can_keep_is_refused():
    with pytest.raises(BadInput) as refusal:
        fan_in_caps(built("12-9-7-4", (12,)), (12,), ["fc1"], 8)
    assert str(refusal.value) == (
        "budget.fan_in: 8 is not possible: the neurons of the dense layer 'fc2' (9 synapses) have more; add it to "
        "sparsity.layers"
    )
    network = NETWORKS["pooled convolutions"][0]()
    with pytest.raises(BadInput, match=r"layer 'conv2' may have 3 synapses, and one connection is 4; use 12 or more"):
        fan_in_caps(network, (2, 8, 8), "all", 3)


def test_sparse_convolutions_are_refused():
    network = nn.Sequential(SparseConv2d(1, 2, 3, density=0.5), LIF((2, 1, 1)))
    with pytest.raises(BadInput, match="'0' store their connections only"):
        layer_wirings(network, (1, 6, 6))


def test_an_operation_that_is_not_known_is_refused():
    network = nn.Sequential(Linear(4, 3), nn.Softmax(-1), LIF(3))
    with pytest.raises(BadInput, match="of the network cannot be counted: there is an operation that is neither"):
        fan_outs(network, (4,), {"0": torch.ones(3, 4)})
    with pytest.raises(BadInput, match="no neurons follow layer '0' directly"):
        layer_wirings(nn.Sequential(Linear(4, 3, bias=False), Linear(3, 3), LIF(3)), (4,))
