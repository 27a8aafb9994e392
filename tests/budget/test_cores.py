"""Cores hold a network from its first connections on, and the compiler says so."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from budget.networks import NETWORKS, built
from budget.random_budgets import Trained, checked, rewirer_of, trained
from esl_neuro.budget.cores import CoreBudget
from esl_neuro.compiler.core_planning import CORES
from esl_neuro.errors import BadInput, CheckFailed
from esl_neuro.hardware import load_target
from esl_neuro.snn import LIF
from esl_neuro.snn.layers import Linear
from esl_neuro.sparsity import Rewirer, SparseLinear
from esl_neuro.sparsity.cores import INPUT_AXONS, CoreRoom
from esl_neuro.sparsity.growth import GROWTH_RULES
from esl_neuro.sparsity.sparse_weights import SignalErrors

LOIHI, LOIHI2 = load_target("loihi"), load_target("loihi2")
NOTHING = np.empty(0, np.int64)


def made(name, seed=0, density=0.3, growth="random", chip=LOIHI, **limits):
    """A network with its budget and its rewirer."""
    make, shape = NETWORKS[name]
    torch.manual_seed(seed)
    budget = CoreBudget(network := make(), shape, "all", chip.with_limits(limits, "budget"))
    return budget, rewirer_of(network, budget, density, growth, seed)


@settings(deadline=None, max_examples=3)
@given(seed=st.integers(0, 10**6), name=st.sampled_from(list(NETWORKS)))
@example(seed=3, name="in sparse storage")
@example(seed=8, name="a shortcut")
def test_the_compiler_never_finds_a_core_that_is_too_small(seed, name):
    try:
        network = trained(np.random.default_rng(seed), name)
    except BadInput:
        return  # before training; the texts are tested below
    for verdict in checked(network):
        assert verdict.compiles
        assert verdict.fits


@pytest.mark.parametrize(
    ("name", "which", "limits"),
    [
        ("recurrent", 1, {"input_axons_per_core": 9, "neurons_per_core": 3}),
        ("pooled convolutions", 0, {"synaptic_memory_per_core": 5400, "neurons_per_core": 64}),
        ("feed-forward", 1, {"output_axons_per_core": 4, "neurons_per_core": 4, CORES: 6}),
    ],
)
def test_a_candidate_is_taken_if_and_only_if_the_compiler_says_that_it_fits(name, which, limits):
    budget, rewirer = made(name, density=0.15, **limits)
    layer, fits = rewirer.layers[which], []
    free = np.flatnonzero(~layer.mask.flatten().numpy())
    candidates = np.random.default_rng(1).permutation(free)[:16]
    taken = set(budget.cores.add_fitting(layer.name, candidates, 16, np.full(len(layer.mask), 999)).tolist())
    again, other = made(name, density=0.15, **limits)
    mask = other.layers[which].mask.view(-1)
    for at, position in enumerate(candidates.tolist()):
        mask[position] = True
        again.cores.add(layer.name, np.array([position]))
        try:
            again.check(other.layers)
            fits.append(at)
        except CheckFailed:
            mask[position] = False
            again.cores.remove(layer.name, np.array([position]))
    assert taken == set(fits)
    assert 0 < len(taken) < 16


def test_a_source_that_already_reaches_the_core_costs_no_axon():
    budget, rewirer = made("feed-forward", input_axons_per_core=6)
    cores, layer = budget.cores, rewirer.layers[0]
    cores.clear()
    cores.add(layer.name, np.arange(6))  # the first neuron reads six lines: all axons
    room = CoreRoom(cores, layer.name, np.full(9, 12), NOTHING)
    assert room.accept(np.arange(6, 24), 18).tolist() == [6, 7, 8, 9, 10, 11]  # of the second one, the same lines
    cores.remove(layer.name, np.array([0]))
    assert cores.counters.used[INPUT_AXONS, 0] == 5
    assert room.accept(np.arange(6, 24), 18)[0] == 0


def test_the_last_connection_of_a_source_is_dear_where_all_axons_are_in_use():
    budget, rewirer = made("feed-forward", density=0.1, input_axons_per_core=3, **{CORES: 3})
    cores, layer = budget.cores, rewirer.layers[0]
    cores.clear()
    cores.add(layer.name, np.array([0, 1, 12, 13, 26]))
    assert cores.prices(layer.name, np.array([0, 1, 12, 13, 26])).tolist() == [1, 1, 1, 1, 5 / 3]
    cores.remove(layer.name, np.array([26]))
    assert cores.prices(layer.name, np.array([0, 12])).tolist() == [1, 1]


@pytest.mark.parametrize("growth", ["random", "gradient"])
def test_masked_layers_and_sparse_storage_change_alike(growth):
    masks = []
    for linear in (None, lambda _name, inputs, outputs, bias: SparseLinear(inputs, outputs, bias)):
        network = built("12-9-4", (12,), linear=linear)
        target = LOIHI.with_limits({"input_axons_per_core": 5, CORES: 3}, "budget")
        budget = CoreBudget(network, (12,), "all", target)
        rewirer = rewirer_of(network, budget, 0.25, growth, 5)
        values = torch.Generator().manual_seed(1)
        whole = [torch.randn(layer.shape(), generator=values) for layer in rewirer.layers]
        steep = [torch.randn(layer.shape(), generator=values) for layer in rewirer.layers]
        for layer, weights, gradients in zip(rewirer.layers, whole, steep, strict=True):
            there = places(layer)
            layer.weight.data = weights.flatten()[there] if linear else weights * layer.mask
            if not linear:
                layer.weight.grad = gradients
            elif growth == "gradient":
                layer.module.errors = [signal_of(gradients)]
        rewirer.step()
        masks.append([places(layer).tolist() for layer in rewirer.layers])
        budget.check(rewirer.layers)
    assert masks[0] == masks[1]


def places(layer):
    return (
        torch.from_numpy(layer.module.index.positions())
        if hasattr(layer, "module")
        else layer.mask.flatten().nonzero()[:, 0]
    )


def signal_of(gradient):
    """A backward pass whose product of errors and signal is a given gradient."""
    columns = gradient.shape[1]
    return SignalErrors(np.eye(columns, dtype=np.float32), gradient.numpy(), columns)


def test_replicas_with_the_same_gradients_keep_the_same_connections():
    replicas = [made("pooled convolutions", growth="gradient", synaptic_memory_per_core=6000) for _ in range(2)]
    for _ in range(3):
        gradients = [torch.randn(layer.mask.shape) for layer in replicas[0][1].layers]
        for _, rewirer in replicas:
            for layer, gradient in zip(rewirer.layers, gradients, strict=True):
                layer.weight.grad = gradient.clone()
            rewirer.optimizer.step()
            assert sum(update.births for update in rewirer.step()) > 0
        for one, other in zip(*(rewirer.layers for _, rewirer in replicas), strict=True):
            assert torch.equal(one.mask, other.mask)


def test_fan_in_and_cores_hold_together():
    network = built("12-9-4", (12,))
    budget = CoreBudget(network, (12,), "all", LOIHI2.with_limits({"input_axons_per_core": 6}, "budget"))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    rewirer = Rewirer(network, optimizer, layers="all", density=0.2, fan_in=3, cores=budget.plan, end=9,
                      update_every=1, alpha=0.6, growth={"random": 1.0})  # fmt: skip
    counts = [layer.connections for layer in rewirer.layers]
    for _ in range(4):
        assert sum(update.births for update in rewirer.step()) > 0
        assert max(layer.fan_in().max() for layer in rewirer.layers) <= 3
        assert [layer.connections for layer in rewirer.layers] == counts
        budget.check(rewirer.layers)


def test_full_cores_let_only_die_what_can_be_replaced():
    budget, rewirer = made("feed-forward", density=0.5, input_axons_per_core=6)
    first = rewirer.layers[0]
    assert first.connections == 9 * 6  # every connection that six axons allow: none can be born
    updates = rewirer.step()
    assert updates[0].births == updates[0].deaths <= first.connections
    assert first.connections == 9 * 6
    budget.check(rewirer.layers)


def test_a_state_of_other_connections_is_refused():
    _, rewirer = made("feed-forward", input_axons_per_core=8)
    state = {name: value.clone() for name, value in rewirer.state_dict().items()}
    rewirer.load_state_dict(state)
    state[f"{rewirer.layers[0].name}/mask"][:] = True
    with pytest.raises(BadInput, match=r"exceed it: input_axons_per_core 12, allowed 8; raise the budget"):
        rewirer.load_state_dict(state)


def test_a_count_that_differs_from_that_of_the_compiler_is_an_error_of_the_project():
    budget, rewirer = made("feed-forward")
    budget.check(rewirer.layers)
    budget.cores.counters.used[0, 1] += 1
    with pytest.raises(CheckFailed, match=r"differently, an error of esl-neuro, please report it: synapses of core 1"):
        budget.check(rewirer.layers)


@pytest.mark.parametrize("name", ["feed-forward", "in sparse storage", "recurrent", "a shortcut", "members"])
def test_layers_share_cores_where_the_chip_has_too_few(name):
    """The compiler counts what training counts, on cores that hold neurons of several layers."""
    limits = {CORES: 1, "synaptic_memory_per_core": 20_000, "input_axons_per_core": 60, "output_axons_per_core": 60}
    budget, rewirer = made(name, density=0.3, **limits)
    assert len(budget.core_plan.cores) > 1
    assert budget.check(rewirer.layers).cores == 1
    births = sum(update.births for _ in range(3) for update in stepped(rewirer))
    placement = budget.check(rewirer.layers)  # compares every counter
    assert births
    assert placement.planned
    for verdict in checked(Trained(budget.network, budget.shape, budget, rewirer, births)):
        assert verdict.fits, verdict.findings


def test_a_convolution_shares_no_core():
    with pytest.raises(BadInput, match="convolutions share no core"):
        made("pooled convolutions", density=0.3, **{CORES: 2})
    budget, rewirer = made("pooled convolutions", density=0.3, **{CORES: 3})
    assert budget.check(rewirer.layers).cores == 3  # two convolutions, and two layers behind them together


def stepped(rewirer):
    for layer in rewirer.layers:
        layer.weight.grad = torch.randn_like(layer.weight)
    rewirer.optimizer.step()
    return rewirer.step()


def test_a_rule_of_your_own_that_ignores_the_cores_is_found(monkeypatch):
    def first(_layer, candidates, count, *_):
        return candidates.flatten().nonzero()[:count, 0]

    monkeypatch.setitem(GROWTH_RULES._entries, "random", first)
    _, rewirer = made("feed-forward", density=0.4, input_axons_per_core=6)
    with pytest.raises(CheckFailed, match=r"growth rule 'random': the cores of layer '\S+' do not hold"):
        rewirer.step()


@pytest.mark.parametrize(
    ("limits", "density", "problem"),
    [
        ({CORES: 1, "neurons_per_core": 16}, 0.3, "cores 1 is not possible: 20 neurons in 3 layers"),
        ({CORES: 3, "neurons_per_core": 5}, 0.3, "need 5; raise cores to 5, or neurons_per_core to 8"),
        ({CORES: 3, "input_axons_per_core": 2}, 0.3, "and its cores hold 18; lower the density to 0.1666"),
        ({CORES: 3, "input_axons_per_core": 2}, 0.3, "or raise input_axons_per_core to 4"),
        ({CORES: 3, "synaptic_memory_per_core": 10}, 0.3, "its cores hold none"),
    ],
)
def test_what_no_cores_hold_is_refused_with_what_would_do(limits, density, problem):
    with pytest.raises(BadInput) as refusal:
        made("feed-forward", density=density, **limits)
    assert str(refusal.value).startswith("budget: ")
    assert problem in str(refusal.value)


def test_a_dense_layer_that_no_core_holds_is_refused():
    make, shape = NETWORKS["feed-forward"]
    budget = CoreBudget(network := make(), shape, ["fc2"], LOIHI2.with_limits({"input_axons_per_core": 7}, "budget"))
    with pytest.raises(BadInput, match=r"input_axons_per_core 7 is not possible.*use 12; raise it to 12, or add their"):
        rewirer_of(network, budget, 0.3, "random", 0)


def test_weights_that_meet_before_the_neurons_are_refused():
    network = nn.Sequential(Linear(6, 4), Linear(4, 3), LIF(3))
    budget = CoreBudget(network, (6,), "all", LOIHI2)
    with pytest.raises(BadInput, match="budget: "):
        rewirer_of(network, budget, 0.5, "random", 0)


def test_layers_do_not_exchange_connections():
    make, shape = NETWORKS["feed-forward"]
    budget = CoreBudget(network := make(), shape, "all", LOIHI2)
    optimizer = torch.optim.Adam(network.parameters())
    with pytest.raises(BadInput, match="'momentum' moves connections between layers, whose cores are fixed"):
        Rewirer(network, optimizer, layers="all", density=0.5, end=9, cores=budget.plan, redistribution="momentum")


def test_planning_leaves_the_network_as_it_was():
    make, shape = NETWORKS["pooled convolutions"]
    network = make()
    before = copy.deepcopy(network.state_dict())
    CoreBudget(network, shape, "all", LOIHI).plan(dict.fromkeys(CoreBudget(network, shape, "all", LOIHI).layers, 5))
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_several_delays_between_two_layers_are_refused():
    from esl_neuro.snn.layers import DelaySlots

    network = torch.nn.Sequential(DelaySlots(3), torch.nn.Linear(12, 5), LIF(5))
    optimizer = torch.optim.Adam(network.parameters())
    budget = CoreBudget(network, (4,), "all", load_target("loihi2"))
    with pytest.raises(BadInput, match=r"'input' -> .*several delays share their axons.*omit network.delay_slots"):
        Rewirer(network, optimizer, density=0.5, layers="all", end=10, cores=budget.plan)
