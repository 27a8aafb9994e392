"""A streaming rollout: every layer reads what all layers sent one step before, whatever the length of the paths."""

from __future__ import annotations

import pytest
import torch

from esl_neuro.errors import BadInput
from esl_neuro.recipes.sections import LifSection
from esl_neuro.snn import build_layers, build_network, neuron_layers, observe
from esl_neuro.snn.build import ARCHITECTURES
from esl_neuro.snn.functional import lif_step
from esl_neuro.snn.layers import Delay
from esl_neuro.snn.neurons import lif_per_channel

NEURONS = lif_per_channel(0.5, 0.3)
STEPS = 7


def image(seed=0):
    return (torch.rand(STEPS, 2, 1, 4, 4, generator=torch.Generator().manual_seed(seed)) < 0.5).float()


def fire(layer, potentials, name, current):
    spikes, _, potentials[name] = lif_step(
        potentials.get(name, torch.zeros_like(current)), current, 0.5, layer.threshold
    )
    return spikes


@torch.no_grad()
def test_dense_block_equals_layers_that_are_updated_at_once():
    """All layers compute their step from the spikes of the step before; nothing is shared with the code but the LIF."""
    torch.manual_seed(2)
    network = build_layers("3C3-2D3x2-4C1-10", (1, 4, 4), NEURONS, streaming=True).eval()
    for parameter in network.parameters():
        parameter.mul_(2)
    inputs = image()
    activity = observe(network, inputs)
    part = dict(network.named_modules())
    convolve = lambda name, signal: torch.nn.functional.conv2d(  # noqa: E731
        signal, part[name].weight, part[name].bias, padding=part[name].padding
    )
    shapes = {"lif1": (2, 3, 4, 4), "dense1.lif": (2, 2, 4, 4), "dense2.lif": (2, 2, 4, 4), "lif2": (2, 4, 4, 4)}
    before, potentials = {name: torch.zeros(shape) for name, shape in shapes.items()}, {}
    for step in range(STEPS):
        both = torch.cat([before["lif1"], before["dense1.lif"]], 1)
        currents = {
            "lif1": convolve("conv1", inputs[step]),
            "dense1.lif": normalise(part["dense1.bn"], convolve("dense1.conv", before["lif1"])),
            "dense2.lif": normalise(part["dense2.bn"], convolve("dense2.conv", both)),
            "lif2": convolve("conv2", torch.cat([both, before["dense2.lif"]], 1)),
        }
        output = torch.nn.functional.linear(before["lif2"].flatten(1), part["fc1"].weight, part["fc1"].bias)
        torch.testing.assert_close(activity.outputs[step], output)
        before = {name: fire(part[name], potentials, name, current) for name, current in currents.items()}
        for name, spikes in before.items():
            assert torch.equal(activity.spikes[name][step], spikes), (name, step)
    assert all(0 < spikes.mean() < 1 for spikes in activity.spikes.values())


def normalise(layer, values):
    return torch.nn.functional.batch_norm(
        values, layer.running_mean, layer.running_var, layer.weight, layer.bias, eps=layer.eps
    )


@torch.no_grad()
def test_a_streaming_chain_is_the_chain_some_steps_later():
    """Without a bias nothing happens before spikes arrive, so the k-th layer repeats the aligned one, k steps later."""
    torch.manual_seed(0)
    aligned, streaming = (
        build_layers("16-12-9-5", (1, 4, 4), NEURONS, bias=False, spiking_output=True, streaming=each)
        for each in (False, True)
    )
    streaming.load_state_dict(aligned.state_dict())
    one, other = (observe(network, image()) for network in (aligned, streaming))
    for late, (name, spikes) in enumerate(one.spikes.items()):
        assert spikes.any()
        assert torch.equal(other.spikes[name], Delay(late)(spikes) if late else spikes)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_every_architecture_delays_all_neurons_but_those_of_the_output(name):
    kind = ARCHITECTURES[name]
    network = kind.build(2, lif_per_channel(), True)
    delays = sum(isinstance(layer, Delay) for layer in network.modules())
    assert delays == len(neuron_layers(network)) - (kind.readout == "spikes")
    assert not any(isinstance(layer, Delay) for layer in kind.build(2, lif_per_channel(), False).modules())


def section(notation):
    return LifSection(
        notation=notation,
        tau=0.5,
        threshold=0.3,
        surrogate="arctan",
        surrogate_width=1.0,
        mode="sl",
        timing="streaming",
    )


def test_the_field_of_the_recipe_asks_for_it():
    assert any(isinstance(layer, Delay) for layer in build_network(section("16-4-2"), (16,), seed=0).modules())


def test_a_network_of_your_own_has_delays_of_its_own():
    with pytest.raises(
        BadInput, match=r"'streaming' does not change 'nets:make', a network of your own; set 'aligned'"
    ):
        build_network(section("nets:make"), (16,), seed=0)


@pytest.mark.parametrize(
    ("notation", "reason"),
    [
        ("4C3-2D3", "end with a layer such as 10"),
        ("4C3-2D2-10", "use an odd one"),
        ("16-2D3-10", "no height and width"),
    ],
)
def test_a_dense_layer_that_does_not_fit_is_refused(notation, reason):
    with pytest.raises(BadInput, match=f"DenseConv of '{notation}' does not fit: .*{reason}"):
        build_layers(notation, (1, 4, 4), NEURONS)
