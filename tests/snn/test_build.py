"""From the network section of a recipe to a network."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from esl_neuro.errors import BadInput
from esl_neuro.recipes import load_recipe
from esl_neuro.recipes.sections import KINDS
from esl_neuro.snn import LIF, build_layers, build_network, neuron_layers, observe, weighted_layers
from esl_neuro.snn.architectures import ResNet19, stl_mnist, vggsnn
from esl_neuro.snn.build import neurons_of
from esl_neuro.snn.neurons import LIAF, CubaLIF, lif_per_channel
from esl_neuro.snn.temporal import TemporalNetwork
from esl_neuro.training.evaluation import load_network
from esl_neuro.training.run_folder import create_run_folder
from esl_neuro.training.trainer import Trainer

CONSTANTS = {"lif": {"tau": 0.5}, "cuba_lif": {"tau": 0.5, "tau_syn": 0.75}, "if": {}, "liaf": {"tau": 0.5}}


def section(neuron="lif", **changes):
    if neuron == "single_spike":
        return KINDS["network"][1][neuron](neuron=neuron, **({"notation": "6-5-3"} | changes))
    values = {"notation": "6-5-4-3", "threshold": 0.2, "surrogate": "arctan", "surrogate_width": 1.0, "mode": "stl"}
    return KINDS["network"][1][neuron](neuron=neuron, **(values | CONSTANTS[neuron] | changes))


def spikes_of(shape, seed=2):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.6).float()


def same_weights(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


# Neurons.


@pytest.mark.parametrize(("tau", "tau_syn"), [(0.5, 0.75), (0.0, 0.9), (1.0, 0.5), (0.5, 0.0)])
def test_cuba_lif_equals_a_loop_over_steps_layers_and_neurons(tau, tau_syn):
    network = build_network(section("cuba_lif", tau=tau, tau_syn=tau_syn), (6,), seed=1).double()
    inputs = spikes_of((8, 3, 6)).double()
    activity = observe(network, inputs)
    assert all(type(lif) is CubaLIF for lif in neuron_layers(network).values())
    for sample in range(3):
        currents = {name: [0.0] * lif.threshold.numel() for name, lif in neuron_layers(network).items()}
        potentials = {name: list(rest) for name, rest in currents.items()}
        for step in range(8):
            signal = inputs[step, sample].tolist()
            pairs = zip(weighted_layers(network).values(), neuron_layers(network).items(), strict=True)
            for connection, (name, lif) in pairs:
                fired = []
                for n, row in enumerate(connection.weight.tolist()):
                    currents[name][n] = tau_syn * currents[name][n] + sum(
                        w * s for w, s in zip(row, signal, strict=True)
                    )
                    u = tau * potentials[name][n] + currents[name][n]
                    fired.append(float(u > lif.threshold[n].item()))
                    potentials[name][n] = 0.0 if fired[-1] else u
                assert activity.spikes[name][step, sample].tolist() == fired
                signal = fired
    assert all(fired.any() for fired in activity.spikes.values())


def test_synapses_without_memory_are_none():
    cuba = build_network(section("cuba_lif", tau_syn=0.0), (6,), seed=1)
    plain = build_network(section("lif"), (6,), seed=1)
    assert torch.equal(cuba(spikes_of((8, 3, 6))), plain(spikes_of((8, 3, 6))))


def test_synapses_let_a_spike_act_later():
    neurons = CubaLIF(1, 0.0, 0.5, 0.4, "arctan", 1.0, False)
    arriving = torch.tensor([1.0, 0.0, 0.0, 0.0]).reshape(4, 1, 1)
    assert neurons(arriving).flatten().tolist() == [1, 1, 0, 0]  # currents 1, 0.5, 0.25, 0.125


def test_gradients_flow_through_the_synapses():
    neurons = CubaLIF(2, 0.5, 0.5, 1.0, "arctan", 1.0, True)
    currents = torch.full((4, 1, 2), 0.3, requires_grad=True)
    neurons(currents)[-1].sum().backward()
    assert (currents.grad != 0).all()  # the first step too
    assert (neurons.raw_threshold.grad != 0).all()


def test_neurons_without_leak_are_lifs_that_keep_all():
    without, keeping = (build_network(section(*kind), (6,), seed=1) for kind in (("if",), ()))
    for lif in neuron_layers(keeping).values():
        lif.tau = 1.0
    built = build_network(section("lif", tau=1.0), (6,), seed=1)
    outputs = [observe(network, spikes_of((8, 3, 6))) for network in (without, keeping, built)]
    assert all(type(lif) is LIF and lif.tau == 1 for lif in neuron_layers(without).values())
    assert same_weights(without, built)
    for other in outputs[1:]:
        assert all(torch.equal(outputs[0].spikes[name], fired) for name, fired in other.spikes.items())
    assert outputs[0].outputs.any()
    leaky = build_network(section("lif"), (6,), seed=1)
    assert not torch.equal(leaky(spikes_of((8, 3, 6))), outputs[0].outputs)


def test_analog_neurons_take_their_constants_and_their_activation_from_the_section():
    asked = section("liaf", tau=0.25, threshold=1.5, activation="relu", surrogate="rectangle", surrogate_width=0.5)
    neurons = neurons_of(asked)((4, 2, 2))
    assert (type(neurons), neurons.tau, neurons.surrogate_width) == (LIAF, 0.25, 0.5)
    assert (neurons.activation.__name__, neurons.surrogate.__name__) == ("relu", "rectangle")
    torch.testing.assert_close(neurons.threshold, torch.full((4, 1, 1), 1.5))
    with pytest.raises(BadInput, match="'tanh' is unknown"):
        neurons_of(section("liaf", activation="tanh"))((4,))


def test_a_lif_and_an_analog_network_of_one_recipe_have_the_same_weights():
    analog, spiking = (build_network(section(neuron), (6,), seed=1) for neuron in ("liaf", "lif"))
    assert same_weights(analog, spiking)
    inputs = spikes_of((8, 3, 6))
    assert not torch.equal(analog(inputs), spiking(inputs))


def test_analog_neurons_behind_a_convolution_over_time_train():
    """LIAF-Net's networks of videos: the loss reaches every tap, and the mode freezes the weights of all."""
    network = build_network(section("liaf", notation="4C3T3-BN-AP2-5C3T2S2-3"), (1, 8, 8), seed=1)
    assert {name: tuple(layer.weight.shape) for name, layer in weighted_layers(network).items()} == {
        "conv1": (4, 1, 3, 3, 3),
        "conv2": (5, 4, 2, 3, 3),
        "fc1": (3, 20),
    }
    outputs = network(spikes_of((6, 2, 1, 8, 8)))
    assert outputs.shape == (6, 2, 3)
    outputs.square().sum().backward()
    assert (network.conv1.weight.grad.abs().amax((0, 1, 3, 4)) > 0).all()
    frozen = build_network(section("liaf", notation="4C3T3-3", mode="tl"), (1, 8, 8), seed=1)
    assert not any(layer.weight.requires_grad for layer in weighted_layers(frozen).values())


def test_activity_of_analog_neurons_counts_outputs_other_than_zero():
    network = build_network(section("liaf", activation="relu", notation="6-3"), (6,), seed=1)
    activity = observe(network, spikes_of((8, 3, 6)))
    assert torch.equal(activity.spikes["lif1"], (activity.outputs > 0).float())
    assert 0 < activity.spikes["lif1"].mean() < 1
    assert ((activity.outputs > 0) & (activity.outputs < 1)).any()


@pytest.mark.parametrize("neuron", CONSTANTS)
@pytest.mark.parametrize(
    ("thresholds", "shapes"), [("channel", [(8, 1, 1), (10,)]), ("position", [(8, 6, 6), (10,)])], ids=str
)
def test_thresholds_are_one_per_channel_or_one_per_position(neuron, thresholds, shapes):
    network = build_network(section(neuron, notation="8C3-AP2-10", thresholds=thresholds), (1, 6, 6), seed=0)
    levels = [lif.threshold for lif in neuron_layers(network).values()]
    assert [tuple(level.shape) for level in levels] == shapes
    for level in levels:
        torch.testing.assert_close(level, torch.full_like(level, 0.2))


def test_both_kinds_of_thresholds_start_as_the_same_network():
    networks = [
        build_network(section(notation="8C3-AP2-10", thresholds=kind), (1, 6, 6), 0) for kind in ("channel", "position")
    ]
    inputs = spikes_of((4, 3, 1, 6, 6))
    assert torch.equal(networks[0](inputs), networks[1](inputs))
    assert networks[0](inputs).any()


@pytest.mark.parametrize("neuron", CONSTANTS)
@pytest.mark.parametrize(("mode", "weights", "thresholds"), [("stl", 1, 1), ("sl", 1, 0), ("tl", 0, 1)])
def test_modes_choose_what_learns_for_all_neurons(neuron, mode, weights, thresholds):
    network = build_network(section(neuron, mode=mode), (6,), seed=0)
    assert {layer.weight.requires_grad for layer in weighted_layers(network).values()} == {bool(weights)}
    assert {lif.raw_threshold.requires_grad for lif in neuron_layers(network).values()} == {bool(thresholds)}


def test_constants_of_the_section_arrive_in_the_neurons():
    asked = section("cuba_lif", tau=0.25, tau_syn=0.125, threshold=1.5, surrogate="triangle", surrogate_width=0.5)
    neurons = neurons_of(asked)((4, 2, 2))
    assert (neurons.tau, neurons.synapses.tau_syn, neurons.surrogate_width) == (0.25, 0.125, 0.5)
    assert neurons.surrogate.__name__ == "triangle"
    torch.testing.assert_close(neurons.threshold, torch.full((4, 1, 1), 1.5))


# Seeds.


@pytest.mark.parametrize("neuron", [*CONSTANTS, "single_spike"])
def test_weights_depend_on_the_seed_alone(neuron):
    first = build_network(section(neuron), (6,), seed=3)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    again = build_network(section(neuron), (6,), seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert same_weights(first, again)
    assert not same_weights(first, build_network(section(neuron), (6,), seed=4))


# Architectures by name.


@pytest.mark.parametrize(
    ("notation", "readout", "shape", "by_hand"),
    [
        ("VGGSNN-11", "accumulate", (2, 48, 48), lambda: vggsnn(11)),
        ("VGGSNN-strided-10", "accumulate", (2, 48, 48), lambda: vggsnn(10, strided=True)),
        ("ResNet19-100", "accumulate", (3, 32, 32), lambda: ResNet19(100)),
        ("STL-MNIST-10", "spikes", (1, 28, 28), lambda: stl_mnist(10, lif_per_channel())),
    ],
)
def test_architecture_by_name_is_that_of_the_paper(notation, readout, shape, by_hand):
    network = build_network(section(notation=notation, readout=readout, tau=0.25), shape, seed=0)
    expected = by_hand()
    assert type(network) is type(expected)
    assert [type(layer) for layer in network.modules()] == [type(layer) for layer in expected.modules()]
    assert {name: value.shape for name, value in network.state_dict().items()} == {
        name: value.shape for name, value in expected.state_dict().items()
    }
    assert {lif.tau for lif in neuron_layers(network).values()} == {0.25}
    assert network(torch.zeros(1, 1, *shape)).shape == (1, 1, int(notation.rpartition("-")[2]))


def test_architecture_has_thresholds_as_the_section_asks():
    network = build_network(
        section(notation="STL-MNIST-10", readout="spikes", thresholds="position"), (1, 28, 28), seed=0
    )
    shapes = [tuple(lif.threshold.shape) for lif in neuron_layers(network).values()]
    assert shapes == [(128, 28, 28), (128, 14, 14), (2048,), (100,)]


@pytest.mark.parametrize(
    ("notation", "readout", "fits"),
    [
        ("VGGSNN-10", "accumulate", [2, 48, 48]),
        ("VGGSNN-strided-10", "accumulate", [2, 48, 48]),
        ("ResNet19-10", "accumulate", [3, 32, 32]),
        ("STL-MNIST-10", "spikes", [1, 28, 28]),
    ],
)
@pytest.mark.parametrize("shape", [(64,), (1, 27, 28), (2, 48, 47)])
def test_architecture_for_another_input_is_refused_with_the_fix(notation, readout, fits, shape):
    with pytest.raises(BadInput) as caught:
        build_network(section(notation=notation, readout=readout), shape, seed=0)
    message = str(caught.value)
    assert message.startswith(f"network.notation: '{notation}' needs inputs of shape {tuple(fits)}")
    assert message.endswith(f"the data have {shape}; set data.shape = {fits}")


@pytest.mark.parametrize(
    ("notation", "shape", "wrong", "right"),
    [("ResNet19-10", (3, 32, 32), "spikes", "accumulate"), ("STL-MNIST-10", (1, 28, 28), "accumulate", "spikes")],
)
def test_architecture_with_another_readout_is_refused_with_the_fix(notation, shape, wrong, right):
    with pytest.raises(BadInput) as caught:
        build_network(section(notation=notation, readout=wrong), shape, seed=0)
    assert str(caught.value) == f"network.readout: '{wrong}' does not fit '{notation}'; set '{right}'"


@pytest.mark.parametrize("notation", ["VGGSNN", "VGGSN-10", "ResNet19-ten", "resnet19-10"])
def test_name_that_is_no_architecture_is_refused_as_a_notation(notation):
    with pytest.raises(BadInput, match=r"network\.notation"):
        build_network(section(notation=notation), (3, 32, 32), seed=0)


# Single spikes.


def test_single_spike_network_is_the_temporal_network():
    network = build_network(
        section("single_spike", notation="6-5-3", threshold=0.5, initial_sum=3.0), (1, 2, 3), seed=0
    )
    assert type(network) is TemporalNetwork
    assert (network.sizes, network.threshold, network.initial_sum) == ((6, 5, 3), 0.5, 3.0)
    for weight in network.weights().values():
        torch.testing.assert_close(weight.sum(1), torch.full((len(weight),), 1.5))


@pytest.mark.parametrize("notation", ["6", "6-8C3-3", "8C3-3", "6-DP-3", "6-4-V2"])
def test_single_spike_network_takes_layer_sizes_only(notation):
    with pytest.raises(BadInput, match=r"network\.notation.*write layer sizes only, such as 784-800-10"):
        build_network(section("single_spike", notation=notation), (6,), seed=0)


def test_single_spike_network_must_fit_the_data():
    with pytest.raises(BadInput, match="'6-5-3' begins with 6 inputs, the data have 8"):
        build_network(section("single_spike"), (2, 2, 2), seed=0)


# Networks of the user's own.

OWN = """
from torch import nn

from esl_neuro.snn import build_layers


class Twice(nn.Module):
    def __init__(self, shape, neurons):
        super().__init__()
        self.body = build_layers("64-24", shape, neurons, spiking_output=True)
        self.head = build_layers("24-10", (24,), neurons)

    def forward(self, signal):
        return self.head(self.body(signal))


def own_network(shape, neurons):
    return Twice(shape, neurons)


def no_network(shape, neurons):
    return [shape]


size = 24
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """A module of the user's on the path: ``own_networks_for_tests``."""
    name = "own_networks_for_tests"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


def test_network_of_the_users_own_takes_its_neurons_from_the_section(own_module):
    asked = section("cuba_lif", notation=f"{own_module}:own_network", mode="tl")
    network = build_network(asked, (64,), seed=0)
    assert type(network).__name__ == "Twice"
    assert list(neuron_layers(network)) == ["body.lif1"]
    assert type(neuron_layers(network)["body.lif1"]) is CubaLIF
    assert not any(layer.weight.requires_grad for layer in weighted_layers(network).values())
    assert same_weights(network, build_network(asked, (64,), seed=0))
    assert not same_weights(network, build_network(asked, (64,), seed=1))


def test_network_of_the_users_own_trains_and_loads(own_module, tmp_path):
    recipe = load_recipe(
        "mlp-digits",
        (
            f"network.notation={own_module}:own_network",
            'sparsity.layers=["body.fc1"]',
            "sparsity.density=0.3",
            "sparsity.update_every=4",
            "data.steps=4",
            "training.epochs=3",
        ),
    )
    trainer = Trainer.start(recipe, lambda: create_run_folder(tmp_path / "runs", recipe))
    result = trainer.run(lambda *_: None, lambda *_: None)
    assert result.test_accuracy > 0.5  # chance is 0.1
    assert result.connections == round(0.3 * 64 * 24) + 240
    again = load_network(trainer.folder, trainer.dataset)
    assert type(again).__name__ == "Twice"
    assert int((again.body.fc1.weight != 0).sum()) <= round(0.3 * 64 * 24)


def test_module_that_does_not_exist_is_refused_by_name():
    with pytest.raises(
        BadInput, match=r"network\.notation: module 'no_such_module' of .* cannot be imported"
    ) as caught:
        build_network(section(notation="no_such_module:build"), (6,), seed=0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("function", ["own_netwrk", "size", ""])
def test_function_that_does_not_exist_gets_the_nearest_spelling(own_module, function):
    with pytest.raises(BadInput) as caught:
        build_network(section(notation=f"{own_module}:{function}"), (6,), seed=0)
    message = str(caught.value)
    assert f"module '{own_module}' has no function '{function}'" in message
    assert "own_network" in message
    if function == "own_netwrk":
        assert "did you mean 'own_network'?" in message


def test_function_that_returns_no_network_is_refused(own_module):
    with pytest.raises(BadInput, match=r"no_network' returned list; the function is called as \(shape, neurons\)"):
        build_network(section(notation=f"{own_module}:no_network"), (6,), seed=0)


def test_notation_passes_bias_and_readout_on():
    network = build_network(section(notation="6-5-3", bias=True, readout="accumulate"), (6,), seed=0)
    by_hand = build_layers("6-5-3", (6,), lif_per_channel(), bias=True)
    assert {name: value.shape for name, value in network.state_dict().items()} == {
        name: value.shape for name, value in by_hand.state_dict().items()
    }
    assert isinstance(network, nn.Sequential)
