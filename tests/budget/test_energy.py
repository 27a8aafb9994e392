"""The energy that training keeps within a budget is that of the energy report: same counts, same prices."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from budget.test_wiring import NETWORKS, sparse
from esl_neuro.backends.integer import run_integer
from esl_neuro.budget.energy import (
    AIM,
    RHO,
    EnergyBudget,
    Meter,
    SampleEnergy,
    Tally,
    connections,
    parse_energy,
)
from esl_neuro.budget.pricing import OPERATIONS, Activity, SourceActivity, energy_per_sample, synaptic_price_nj
from esl_neuro.budget.wiring import INPUT, OUTPUT, fan_outs, weight_operations, weighted_modules
from esl_neuro.compiler.compile import compile_graph
from esl_neuro.energy import count, price
from esl_neuro.errors import BadInput
from esl_neuro.hardware import load_target
from esl_neuro.interchange import to_nir
from esl_neuro.snn import LIF, observe
from esl_neuro.snn.network import NetworkActivity
from esl_neuro.sparsity import Rewirer, SparseLinear

STEPS = 6
LOIHI2 = load_target("loihi2")


def on_the_chip(name):
    """A network, its input, and what the integer program of it counts and spikes."""
    network, shape, masks = sparse(name)
    inputs = (np.random.default_rng(3).random((4, STEPS, *shape)) < 0.5).astype(np.uint8)
    program = compile_graph(to_nir(network, steps=STEPS, shape=shape), "loihi2", STEPS).program
    trace = run_integer(program, inputs.reshape(4, STEPS, -1))
    return network, shape, inputs, program, trace, masks


@pytest.mark.parametrize(
    "name", ["feed-forward", "in sparse storage", "pooled convolutions", "recurrent", "a shortcut"]
)
def test_operations_and_energy_are_those_of_the_export(name):
    network, shape, inputs, program, trace, _ = on_the_chip(name)
    counts = count(program, trace)
    meter = Meter(network, shape)
    tally = meter.tally()
    # The float network has the names of the program's groups, and gets its spikes: only counting is compared.
    groups = {group.name.replace("_", "."): trace.spikes[group.name] for group in program.groups}
    names = [name_ for name_ in meter.neurons if name_ != OUTPUT]
    assert list(meter.neurons.values()) == [group.neurons for group in program.groups]
    spikes = {name_: torch.from_numpy(np.moveaxis(groups[name_], 0, 1).astype(np.float32)) for name_ in names}
    signal = torch.from_numpy(np.moveaxis(inputs, 0, 1).astype(np.float32))
    grown = torch.zeros(trace.steps - len(signal), *signal.shape[1:])  # steps until the last layer has seen the end
    tally.add(torch.cat([signal, grown]), NetworkActivity(torch.zeros(1), spikes))
    activity = tally.activity()
    assert activity.synaptic * 4 == counts.total("sop_effective")
    found = energy_per_sample(activity, LOIHI2)
    report = price(counts, LOIHI2, None)[0]
    priced = {True: 0.0, False: 0.0}
    for term in report.terms:
        priced[term.count_unit in OPERATIONS] += term.energy_pj.nominal / 1000
    assert report.model == found.model
    assert found.operations_nj == pytest.approx(priced[True], rel=1e-12)
    assert found.beside_nj == pytest.approx(priced[False], rel=1e-12)


def test_the_cost_of_a_batch_is_the_energy_of_its_tally_and_has_gradients_of_weights_and_thresholds():
    network, shape, _ = sparse("a shortcut")
    meter = Meter(network, shape)
    inputs = (torch.rand(STEPS, 8, *shape, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    activity = observe(network, inputs)
    tally = meter.tally()
    tally.add(inputs, activity)
    energy = SampleEnergy.of(tally, LOIHI2).operations_nj
    budget = EnergyBudget(meter, LOIHI2, energy / AIM / 1.25, STEPS, rate_floor=1e-9)
    budget.state.multiplier = 2.0
    cost = budget.cost(inputs, activity)
    assert cost.item() == pytest.approx(2.0 * 0.25 + RHO * ((1 + 0.25**2) ** 0.5 - 1), rel=1e-5)
    cost.backward()
    thresholds = [lif.raw_threshold.grad for lif in (network.lif1, network.lif2)]
    assert all((grad <= 0).all() and (grad < 0).any() for grad in thresholds)  # higher thresholds, less energy
    assert network.fc1.weight.grad.any()
    # The output layer's spikes meet no synapse.
    assert network.lif3.raw_threshold.grad is None or not network.lif3.raw_threshold.grad.any()


def test_a_layer_below_the_floor_is_named_and_costs_until_it_fires():
    network, shape, _ = sparse("feed-forward")
    with torch.no_grad():
        network.lif1.raw_threshold.fill_(50.0)
    meter = Meter(network, shape)
    budget = EnergyBudget(meter, LOIHI2, 1e9, STEPS, rate_floor=0.01)
    inputs = torch.ones(STEPS, 4, *shape)
    activity, tally = observe(network, inputs), meter.tally()
    tally.add(inputs, activity)
    energy = budget.priced(tally)
    assert "lif1" in energy.below(0.01)
    assert budget.figures(energy)["quiet_layers"] == energy.below(0.01)
    assert budget.cost(inputs, activity).item() == pytest.approx(len(energy.below(0.01)), abs=1e-6)


def test_fan_outs_follow_the_connections():
    network, shape, masks = sparse("feed-forward")

    class Layer:
        weight, mask = network.fc2.weight, masks["fc2"].clone()

    meter = Meter(network, shape, [Layer])
    before = meter.fans()["lif1"].clone()
    Layer.mask[0] = True
    assert torch.equal(meter.fans()["lif1"], before)  # counted once
    meter.changed()
    assert torch.equal(meter.fans()["lif1"][0], Layer.mask.float().sum(0))


def test_the_multiplier_rises_above_the_budget_and_falls_below_it():
    network, shape, _ = sparse("feed-forward")
    budget = EnergyBudget(Meter(network, shape), LOIHI2, 1000.0, STEPS, 0.01)
    aim = AIM * 1000
    for energy, expected in ((3 * aim, 1.0), (1.25 * aim, 1.25), (0.5 * aim, 0.75), (0.1 * aim, 0.0)):
        budget.finish_epoch(SampleEnergy(energy, 0.0, 0.0, {}), 1.0, 0.5)
        assert budget.state.multiplier == pytest.approx(RHO * expected)
    better = [
        budget.keep_better(SampleEnergy(energy, 0.0, 0.0, {}), accuracy, best)
        for energy, accuracy, best in (
            (3000, 0.9, -1),  # the first
            (2000, 0.5, 0.9),  # nearer to the budget
            (2500, 0.99, 0.5),  # farther
            (900, 0.3, 0.5),  # within
            (1500, 0.99, 0.3),  # above again
            (999, 0.31, 0.3),  # within, and better
            (100, 0.2, 0.31),
        )
    ]
    assert better == [True, True, False, True, False, True, False]


def test_the_multiplier_is_worth_as_many_points_as_the_loss_shows():
    network, shape, _ = sparse("feed-forward")
    budget = EnergyBudget(Meter(network, shape), LOIHI2, 1000.0, STEPS, 0.01)
    budget.state.multiplier = AIM * 10.0
    assert budget.points_per_nj() is None
    budget.state.history = [(9.0, 0.0)] * 4 + [(1.0, 0.5), (0.9, 0.6), (0.8, 0.7), (0.7, 0.8)]
    assert budget.points_per_nj() == pytest.approx(100 * 1.0 * 0.01)
    budget.state.history = [(1.0, 0.5), (0.9, 0.4), (0.8, 0.3)] * 3
    assert budget.points_per_nj() is None


@pytest.mark.parametrize(
    ("text", "amount", "relative"),
    [("400 nJ", 400, False), ("0.4uJ", 400, False), ("1e3 pJ", 1, False), ("0.5x", 0.5, True)],
)
def test_energies_are_read(text, amount, relative):
    goal = parse_energy(text)
    assert (goal.amount, goal.relative) == (pytest.approx(amount), relative)


@pytest.mark.parametrize("text", ["400", "nJ", "-1 nJ", "0x", "1e999 nJ", "1.2.3 nJ", "half", "400 kJ"])
def test_other_texts_are_refused(text):
    with pytest.raises(BadInput, match=r"is no energy; write \"400 nJ\""):
        parse_energy(text)


def test_budgets_below_the_updates_or_the_input_are_refused_with_the_numbers():
    network, shape, _ = sparse("feed-forward")
    meter = Meter(network, shape)
    updates = energy_per_sample(
        Activity(1, STEPS, tuple(SourceActivity(name, size, 0, 0) for name, size in meter.neurons.items())), LOIHI2
    ).operations_nj
    with pytest.raises(
        BadInput, match=rf"the updates of 20 neurons in 6 steps alone cost {updates:.4g} nJ; raise it above"
    ):
        EnergyBudget(meter, LOIHI2, updates, STEPS, 0.01)
    budget = EnergyBudget(meter, LOIHI2, 1.2 * updates, STEPS, 0.01)
    budget.leave_room_for_input(torch.zeros(12), 0.4)
    fans = meter.fans()[INPUT][0]
    left = AIM * 1.2 * updates - updates
    arriving = 2 * left / synaptic_price_nj(LOIHI2) / float(fans.sum()) * torch.ones(12)
    with pytest.raises(BadInput, match=r"input alone cost .* lower the density 0.4 of the sparse layers below 0.2,"):
        budget.leave_room_for_input(arriving, 0.4)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("h100", "is no neuromorphic chip"),
        ("xylo", "no energy per operation has been published"),
        ("loihi", "prices spikes, updates that a spike reaches"),
        ("rolls", "has no price for neuron updates"),
    ],
)
def test_targets_without_prices_that_training_can_count_are_refused(target, reason):
    with pytest.raises(BadInput, match=reason):
        synaptic_price_nj(load_target(target))


def test_every_network_of_the_tests_has_a_meter():
    for name in NETWORKS:
        network, shape, _ = sparse(name)
        assert sum(Meter(network, shape).neurons.values()) > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_the_price_of_a_connection_is_the_operations_that_it_adds(name):
    network, shape, _ = sparse(name)
    inputs = (torch.rand(STEPS, 4, *shape, generator=torch.Generator().manual_seed(1)) < 0.5).float()
    activity = observe(network, inputs)
    spikes = {INPUT: inputs, **activity.spikes}
    meter = Meter(network, shape)
    delays = max(map(len, meter.fans().values()))
    arriving = {
        source: torch.stack([sent.detach().sum(1)[: max(STEPS - delay, 0)].sum(0) for delay in range(delays)])
        for source, sent in spikes.items()
    }

    def counted(connected):  # one more tally, with the fan-outs of these connections
        fans = fan_outs(network, shape, connected)
        tally = Tally(fans | {each: torch.zeros(delays, 1) for each in spikes.keys() - fans.keys()}, meter.neurons)
        tally.add(inputs, activity)
        return sum(tally.synaptic.values())

    now = connections(network)
    total, operations = weight_operations(network, now, arriving)
    assert total == counted(now)
    for name_, module in weighted_modules(network).items():
        if isinstance(module, SparseLinear):
            positions, changes = module.index.positions(), range(0, module.connections, 5)
        else:
            positions, changes = np.arange(module.weight.numel()), range(0, module.weight.numel(), 7)
        prices = operations[name_].at(positions).tolist()
        for place in changes:
            other = now[name_].clone()
            other.view(-1)[place] = ~other.view(-1)[place]
            added = 1 if other.view(-1)[place] else -1
            assert counted(now | {name_: other}) == total + added * prices[place]


@pytest.mark.parametrize("growth", ["random", "random_unfired", "gradient", "momentum"])
@pytest.mark.parametrize("name", ["feed-forward", "in sparse storage", "pooled convolutions", "recurrent", "groups"])
def test_rewiring_creates_no_connection_beyond_the_energy_and_counts_exactly(name, growth):
    if name == "in sparse storage" and growth == "momentum":
        return
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    network = make()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    rewirer = Rewirer(
        network, optimizer, layers="all", density=0.4, growth={growth: 1.0}, alpha=0.5, update_every=1, end=99
    )
    meter = Meter(network, shape, rewirer.layers)
    budget = EnergyBudget(meter, LOIHI2, 1e9, STEPS, rate_floor=1e-9)
    count, seen = rewirer.layers[0].connections, []

    def spending():
        now = budget.spending()
        now.left = limits[len(seen)] - (BIG - now.left)  # of this many operations
        seen.append((now, now.left))
        return now

    BIG = budget.spending_limit(8)
    rewirer.spending = spending
    limits, above = [10**6, 400, 300, 10, 0], 0
    for step in range(len(limits)):
        budget.state.multiplier = float(step)
        inputs = (torch.rand(STEPS, 8, *shape) < 0.5).float()
        activity = observe(network, inputs)
        optimizer.zero_grad()
        (activity.outputs.square().mean() + budget.cost(inputs, activity)).backward()
        optimizer.step()
        rewirer.step()
        meter.changed()
        now, before = seen[-1]
        assert BIG - budget.spending().left == limits[step] - now.left  # counted anew, with the same spikes
        assert now.left >= min(before, 0)
        assert rewirer.layers[0].connections == count
        above += before < 0
    assert above  # the last budgets were exceeded before


def test_prices_are_those_of_the_whole_batch_if_processes_divide_it():
    network, shape, _ = sparse("recurrent")
    optimizer = torch.optim.Adam(network.parameters())
    rewirer = Rewirer(network, optimizer, layers="all", density=0.4, growth={"random": 1.0}, end=9)
    meter = Meter(network, shape, rewirer.layers)
    inputs = (torch.rand(STEPS, 9, *shape, generator=torch.Generator().manual_seed(2)) < 0.5).float()

    def after(signal):
        budget = EnergyBudget(meter, LOIHI2, 1e5, STEPS, rate_floor=1e-9)
        budget.state.multiplier = 0.7
        budget.cost(signal, observe(network, signal))
        return budget

    told = []
    after(inputs[:, 4:]).spending(lambda counts: told.append(counts) or counts)
    joint = after(inputs[:, :4]).spending(lambda counts: counts + told.pop(0))
    whole = after(inputs).spending()
    assert (joint.left, joint.mean) == (whole.left, whole.mean)
    for layer in rewirer.layers:
        positions = np.arange(layer.possible)
        assert joint.price(layer.name)(positions).tolist() == whole.price(layer.name)(positions).tolist()
        assert max(whole.price(layer.name)(positions)) > 1.0


def test_weights_that_follow_each_other_without_neurons_are_refused():
    network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2), LIF(2))
    budget = EnergyBudget(Meter(network, (4,)), LOIHI2, 1e9, STEPS, rate_floor=1e-9)
    with pytest.raises(BadInput, match="follow each other without neurons between them"):
        budget.refuse_shared_synapses()


def test_growth_rules_do_not_see_the_passes_that_count_synapses():
    network, shape, _ = sparse("in sparse storage")
    layers = [module for module in network.modules() if isinstance(module, SparseLinear)]
    for layer in layers:
        layer.errors = []  # as in a batch before an update
    Meter(network, shape).fans()
    assert layers
    assert [layer.errors for layer in layers] == [[] for _ in layers]
