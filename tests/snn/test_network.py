"""Networks from the papers' notation, with positive thresholds."""

from __future__ import annotations

import pytest
import torch

from chains import chain_network
from esl_neuro.errors import BadInput
from esl_neuro.recipes.sections import LifSection
from esl_neuro.snn import LIF, NetworkActivity, build_network, neuron_layers, observe, probe, weighted_layers
from esl_neuro.snn.temporal import NO_SPIKE, TemporalNetwork, spike_times, temporal_loss
from esl_neuro.training.losses import first_spike


def neurons(count=3, threshold=1.0, learn_threshold=True):
    return LIF(count, 0.5, threshold, "arctan", 1.0, learn_threshold)


def section(**changes):
    values = {
        "notation": "6-5-4-3",
        "tau": 0.5,
        "threshold": 0.7,
        "surrogate": "arctan",
        "surrogate_width": 1.0,
        "mode": "stl",
    }
    return LifSection(**(values | changes))


def weights(network):
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


@pytest.mark.parametrize("threshold", [1e-3, 0.5, 1.0, 10.0, 80.0])
def test_initial_threshold_is_the_given_one(threshold):
    torch.testing.assert_close(neurons(threshold=threshold).threshold, torch.full((3,), threshold), rtol=1e-5, atol=0)


def test_initial_threshold_may_be_large():
    torch.testing.assert_close(neurons(threshold=1000.0).threshold, torch.full((3,), 1000.0))


def test_threshold_stays_positive_whatever_the_optimiser_does():
    lif = neurons()
    with torch.no_grad():
        lif.raw_threshold.copy_(torch.tensor([-50.0, 0.0, 50.0]))
    assert (lif.threshold > 0).all()


def test_one_threshold_per_neuron_is_learned_or_not():
    assert neurons(7).threshold.shape == (7,)
    assert neurons(learn_threshold=True).raw_threshold.requires_grad
    assert not neurons(learn_threshold=False).raw_threshold.requires_grad


def test_threshold_learns_from_the_spikes():
    lif = neurons()
    lif(torch.rand(6, 4, 3)).sum().backward()
    assert (lif.raw_threshold.grad < 0).all()  # a lower threshold means more spikes


def test_unknown_surrogate_is_refused():
    with pytest.raises(BadInput, match=r"did you mean 'arctan'\?"):
        LIF(1, 0.5, 1.0, "arctn", 1.0, True)


def test_layers_are_a_chain_of_connections_without_bias():
    network = build_network(section(), (6,), seed=0)
    assert list(weighted_layers(network)) == ["fc1", "fc2", "fc3"]
    assert list(neuron_layers(network)) == ["lif1", "lif2", "lif3"]
    assert [tuple(layer.weight.shape) for layer in weighted_layers(network).values()] == [(5, 6), (4, 5), (3, 4)]
    assert all(layer.bias is None for layer in weighted_layers(network).values())


def test_weights_depend_on_the_seed_alone():
    first = weights(build_network(section(), (6,), seed=3))
    torch.rand(10)
    assert torch.equal(weights(build_network(section(), (6,), seed=3)), first)
    assert not torch.equal(weights(build_network(section(), (6,), seed=4)), first)


def test_building_leaves_the_global_random_numbers_alone():
    torch.manual_seed(11)
    expected = torch.rand(5)
    torch.manual_seed(11)
    build_network(section(), (6,), seed=3)
    assert torch.equal(torch.rand(5), expected)


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0])
def test_forward_equals_a_loop_over_steps_layers_and_neurons(tau):
    network = build_network(section(tau=tau, threshold=0.2), (6,), seed=1).double()
    inputs = (torch.rand(7, 3, 6, generator=torch.Generator().manual_seed(2)) < 0.6).double()
    activity = observe(network, inputs)
    for sample in range(3):
        potentials = {name: [0.0] * lif.threshold.numel() for name, lif in neuron_layers(network).items()}
        for step in range(7):
            signal = inputs[step, sample].tolist()
            pairs = zip(weighted_layers(network).values(), neuron_layers(network).items(), strict=True)
            for connection, (name, lif) in pairs:
                fired = []
                for n, row in enumerate(connection.weight.tolist()):
                    u = tau * potentials[name][n] + sum(w * s for w, s in zip(row, signal, strict=True))
                    fired.append(float(u > lif.threshold[n].item()))
                    potentials[name][n] = 0.0 if fired[-1] else u
                assert activity.spikes[name][step, sample].tolist() == fired
                signal = fired
    assert all(spikes.any() for spikes in activity.spikes.values())


def test_samples_do_not_mix_and_start_from_rest():
    network = build_network(section(threshold=0.2), (6,), seed=1)
    inputs = (torch.rand(7, 4, 6) < 0.6).float()
    together = network(inputs)
    network(inputs)
    for sample in range(4):
        assert torch.equal(network(inputs[:, sample : sample + 1])[:, 0], together[:, sample])


def test_prediction_is_the_most_active_output_the_lowest_among_equals():
    spikes = torch.zeros(4, 3, 3)
    spikes[:2, 0, 2] = 1  # sample 0: neuron 2 twice
    spikes[0, 1, 1] = spikes[3, 1, 2] = 1  # sample 1: neurons 1 and 2 once each
    activity = NetworkActivity(spikes, {"lif1": torch.ones(4, 3, 9), "lif2": spikes})
    assert activity.predictions().tolist() == [2, 1, 0]


def test_gradients_reach_every_weight_and_threshold():
    network = chain_network((4, 5, 3), 0.5, 0.1)
    network(torch.ones(5, 2, 4)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in network.parameters())


@pytest.mark.parametrize(("mode", "weights_learn", "thresholds_learn"), [("stl", 1, 1), ("sl", 1, 0), ("tl", 0, 1)])
def test_modes_choose_what_learns(mode, weights_learn, thresholds_learn):
    network = build_network(section(mode=mode), (6,), seed=0)
    assert {layer.weight.requires_grad for layer in weighted_layers(network).values()} == {bool(weights_learn)}
    assert {lif.raw_threshold.requires_grad for lif in neuron_layers(network).values()} == {bool(thresholds_learn)}


def test_an_accumulating_readout_does_not_fire():
    network = build_network(section(readout="accumulate"), (6,), seed=0)
    assert list(neuron_layers(network)) == ["lif1", "lif2"]
    assert list(weighted_layers(network)) == ["fc1", "fc2", "fc3"]


# Networks of exact spike times.


@pytest.fixture
def temporal():
    """A network with some neurons too weak to fire, and the spikes of a batch of images of 2x3 pixels."""
    torch.manual_seed(5)
    network = TemporalNetwork((6, 8, 4), initial_sum=3.0)
    with torch.no_grad():
        network.weights()["fc1"][:2] *= 0.1  # never fire
        network.weights()["fc1"][2] *= 0.5  # fires only if enough inputs do
        network.weights()["fc2"][3] *= 0.2
    bright = torch.rand(5, 1, 2, 3, generator=torch.Generator().manual_seed(6)) > 0.5
    return network, torch.stack([bright, ~bright]).float()


def test_temporal_network_takes_the_first_step_as_its_early_inputs(temporal):
    network, inputs = temporal
    expected = network(inputs[0].flatten(1))
    activity = observe(network, inputs)
    assert activity.outputs.shape == (1, 5, 4)
    assert torch.equal(activity.outputs[0], -expected.output_z)
    assert len(expected.output_z.unique()) > 4
    other = inputs.clone()
    other[1] = 1 - other[1]  # all that is not early is late, whatever the other steps say
    assert torch.equal(observe(network, other).outputs, activity.outputs)


def test_prediction_of_a_temporal_network_is_the_first_neuron_to_fire(temporal):
    network, inputs = temporal
    z = network(inputs[0].flatten(1)).output_z
    expected = [times.index(min(times)) for times in spike_times(z).tolist()]
    assert observe(network, inputs).predictions().tolist() == expected
    assert torch.equal(observe(network, inputs).predictions(), z.argmin(1))


def test_spikes_of_a_temporal_network_are_the_neurons_that_fire(temporal):
    network, inputs = temporal
    activity, exact = observe(network, inputs), network(inputs[0].flatten(1))
    assert list(activity.spikes) == ["fc1", "fc2"]
    for name, fired in activity.spikes.items():
        assert fired.shape == (1, *exact.z[name].shape)
        assert torch.equal(fired[0], exact.z[name] < NO_SPIKE)
        assert 0 < fired.sum() < fired.numel()


def test_loss_of_the_observed_outputs_is_that_of_the_spike_times(temporal):
    network, inputs = temporal
    labels = torch.tensor([0, 1, 2, 3, 0])
    loss = first_spike(observe(network, inputs).outputs, labels)
    loss.backward()
    gradients = [weight.grad.clone() for weight in network.weights().values()]
    network.zero_grad()
    expected = temporal_loss(network(inputs[0].flatten(1)).output_z, labels)
    expected.backward()
    assert torch.equal(loss, expected)
    for gradient, weight in zip(gradients, network.weights().values(), strict=True):
        assert torch.equal(gradient, weight.grad)
        assert gradient.any()


def test_probe_shows_the_neurons_of_a_temporal_network(temporal):
    activity = probe(temporal[0], (1, 2, 3))
    assert {name: tuple(fired.shape) for name, fired in activity.spikes.items()} == {"fc1": (1, 1, 8), "fc2": (1, 1, 4)}
    assert activity.outputs.shape == (1, 1, 4)


@pytest.mark.parametrize("training", [True, False])
def test_probe_leaves_the_network_as_it_was(training):
    network = build_network(section(), (6,), seed=0).train(training)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    activity = probe(network, (6,))
    assert network.training is training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert sum(fired.numel() for fired in activity.spikes.values()) == 5 + 4 + 3
