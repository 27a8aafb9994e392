"""Delay slots: a linear layer reads its input with several delays, and has a connection for each of them."""

from __future__ import annotations

import pytest
import torch

from esl_neuro.budget.wiring import fan_outs, layer_wirings
from esl_neuro.errors import BadInput
from esl_neuro.recipes.sections import LifSection
from esl_neuro.snn import build_layers, build_network
from esl_neuro.snn.layers import DelaySlots, Linear
from esl_neuro.snn.neurons import lif_per_channel
from esl_neuro.sparsity import Rewirer

NEURONS = lif_per_channel(0.5, 0.3)


def spikes(*shape, seed=0):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.4).float()


def section(notation, **fields):
    common = {"threshold": 1.0, "tau": 0.5, "surrogate": "arctan", "surrogate_width": 1.0, "mode": "stl"}
    return LifSection(notation=notation, **common, **fields)


@pytest.mark.parametrize(("slots", "stride", "steps"), [(1, 1, 3), (3, 1, 5), (4, 3, 7), (5, 2, 1), (64, 1, 4)])
def test_every_line_comes_with_every_delay(slots, stride, steps):
    """Slot by slot and step by step; a slot beyond the sample is silent."""
    signal = torch.randn(steps, 2, 3)
    found = DelaySlots(slots, stride)(signal)
    assert found.shape == (steps, 2, 3 * slots)
    for slot in range(slots):
        for step in range(steps):
            own = found[step, :, 3 * slot : 3 * (slot + 1)]
            earlier = step - slot * stride
            assert torch.equal(own, signal[earlier] if earlier >= 0 else torch.zeros(2, 3))


def test_a_connection_is_a_source_a_target_and_a_delay():
    """One weight at (target 1, slot 2, source 0) moves a spike of source 0 by four steps to neuron 1, nothing else."""
    layer = Linear(9, 2, bias=False)
    torch.nn.init.zeros_(layer.weight)
    with torch.no_grad():
        layer.weight[1, 2 * 3 + 0] = 1
    signal = spikes(9, 2, 3)
    current = layer(DelaySlots(3, 2)(signal))
    assert torch.equal(current[4:, :, 1], signal[:-4, :, 0])
    assert not current[:4].any()
    assert not current[:, :, 0].any()


def test_every_linear_layer_of_a_notation_has_its_slots():
    network = build_layers("6-7-DP-(5-4)x2", (6,), NEURONS, delay_slots=3, delay_stride=2)
    slots = {name: module for name, module in network.named_modules() if isinstance(module, DelaySlots)}
    assert {module.delays for module in slots.values()} == {range(0, 6, 2)}
    sizes = {name: (module.in_features, module.out_features) for name, module in network.named_modules()
             if isinstance(module, Linear)}  # fmt: skip
    assert sizes["fc1"] == (18, 7)
    assert all(inputs in (18, 21, 15) for inputs, _ in sizes.values())


def test_pruning_and_growth_move_connections_between_slots():
    """From one slot only, growth by gradient finds the delay that the task needs."""
    torch.manual_seed(0)
    network = build_layers("8-4", (8,), NEURONS, bias=False, delay_slots=4)
    optimizer = torch.optim.Adam(network.parameters(), 0.05)
    rewirer = Rewirer(network, optimizer, density=0.25, layers=["fc1"], end=160, update_every=4, seed=1,
                      growth={"gradient": 1.0})  # fmt: skip
    before = rewirer.layers[0].connections
    for seed in range(80):
        signal = spikes(12, 16, 8, seed=seed)
        wanted = torch.cat([torch.zeros(3, 16, 4), signal[:-3, :, :4]])  # three steps later
        loss = (network(signal) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rewirer.step()
    weight, mask = network.fc1.weight.detach(), rewirer.layers[0].mask
    assert int(mask.sum()) == before == 32
    for neuron in range(4):
        strongest = int(weight[neuron].abs().argmax())
        assert divmod(strongest, 8) == (3, neuron)


def test_a_budget_counts_every_slot_as_a_synapse():
    torch.manual_seed(1)
    network = build_layers("3-4-2", (3,), NEURONS, delay_slots=3, delay_stride=2, spiking_output=True)
    masks = {name: torch.rand_like(network.get_submodule(name).weight) < 0.5 for name in ("fc1", "fc2")}
    fans = fan_outs(network, (3,), masks)
    for source, layer, size in (("input", "fc1", 3), ("lif1", "fc2", 4)):
        by_slot = masks[layer].reshape(-1, 3, size).sum(0)
        for delay, fan in enumerate(fans[source]):
            expected = by_slot[delay // 2] if delay in (0, 2, 4) else torch.zeros(size)
            assert torch.equal(fan, expected.float())
    assert {name: wiring.synapses for name, wiring in layer_wirings(network, (3,)).items()} == {"fc1": 9, "fc2": 12}


@pytest.mark.parametrize(
    ("notation", "shape", "words"),
    [
        ("4C3-10", (1, 6, 6), r"'4C3-10' has convolutions, and only linear layers have delay slots, here 3; set "),
        ("VGGSNN-10", (2, 48, 48), r"3 does not change 'VGGSNN-10', a fixed architecture; set 1, and use linear"),
        ("models:mine", (4,), r"3 does not change 'models:mine', a network of your own; set 1, and put .*DelaySlots"),
    ],
)
def test_what_has_no_slots_is_refused(notation, shape, words):
    readout = "accumulate" if notation.startswith("VGG") else "spikes"
    with pytest.raises(BadInput, match=words):
        build_network(section(notation, delay_slots=3, readout=readout), shape, 0)


@pytest.mark.parametrize(("slots", "stride"), [(0, 1), (3, 0)])
def test_no_slots_are_refused(slots, stride):
    with pytest.raises(BadInput, match=f"{slots} slots of {stride} steps are not allowed; both must be 1 or more"):
        DelaySlots(slots, stride)
