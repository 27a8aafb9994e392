"""Training networks of exact spike times: what keeps their neurons firing, and that they learn."""

from __future__ import annotations

import json
import math

import pytest
import torch
from safetensors.torch import load_file

from esl_neuro.recipes import load_recipe
from esl_neuro.recipes.sections import LifSection, SingleSpikeSection
from esl_neuro.snn import build_network
from esl_neuro.sparsity import make_learner
from esl_neuro.training.run_folder import create_run_folder
from esl_neuro.training.single_spikes import make_stabiliser
from esl_neuro.training.trainer import Trainer

OVERRIDES = (
    'network={neuron="single_spike", notation="64-32-10"}',
    "data.encoding=binary_single_spike",
    "data.steps=2",
    "training.loss=first_spike",
    "training.learning_rate=3e-3",
    "training.batch=32",
    "training.epochs=5",
    "sparsity.density=0.3",
    "sparsity.update_every=20",
)
CONNECTIONS = round(0.3 * 64 * 32)


def start(root, *overrides):
    recipe = load_recipe("mlp-digits", (*OVERRIDES, *overrides))
    return Trainer.start(recipe, lambda: create_run_folder(root, recipe))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    trainer = start(tmp_path_factory.mktemp("single"))
    return trainer, trainer.run(lambda *_: None, lambda *_: None)


def test_single_spikes_learn(trained):
    trainer, result = trained
    entries = [json.loads(line) for line in trainer.folder.metrics.read_text().splitlines()]
    assert result.test_accuracy > 0.7  # chance is 0.1
    assert entries[-1]["loss"] < 0.6 * entries[0]["loss"]
    assert entries[-1]["thresholds"] == {}


def test_every_neuron_fires_at_most_once(trained):
    assert 0.1 < trained[1].spikes_per_neuron <= 1


def test_connections_of_single_spikes_are_exact(trained):
    trainer, result = trained
    assert result.connections == CONNECTIONS + 320
    assert trainer.learner.layers[0].name == "fc1"
    tensors = load_file(str(trainer.folder.path / "best.safetensors"))
    weight, mask = (tensors[name] for name in ("network/connections.fc1.weight", "learner/fc1/mask"))
    assert int(mask.sum()) == CONNECTIONS
    assert (weight[~mask] == 0).all()
    structure = [json.loads(line) for line in trainer.folder.structure.read_text().splitlines()]
    assert sum(line["births"] for line in structure) > 0


@pytest.mark.parametrize(("threshold", "initial_sum"), [(1.0, 4.0), (0.5, 3.0)])
def test_rows_have_their_sum_again_once_they_are_masked(tmp_path, threshold, initial_sum):
    trainer = start(tmp_path, f"network.threshold={threshold}", f"network.initial_sum={initial_sum}")
    mask = trainer.learner.layers[0].mask
    assert int(mask.sum()) == CONNECTIONS
    for weight in trainer.network.weights().values():
        sums = weight.detach().sum(1)
        torch.testing.assert_close(sums, torch.full_like(sums, threshold * initial_sum))
    assert (trainer.network.weights()["fc1"][~mask] == 0).all()


# The stabiliser alone.

SECTION = SingleSpikeSection(neuron="single_spike", notation="6-5-3", threshold=0.8, sum_cost=3.0, gradient_limit=0.5)


@pytest.fixture
def parts():
    """A network with a masked layer, and its stabiliser."""
    network = build_network(SECTION, (6,), seed=0)
    optimizer = torch.optim.Adam(network.parameters())
    sparsity = load_recipe("mlp-digits", ("sparsity.density=0.5",)).sparsity
    learner = make_learner(sparsity, network, optimizer, iterations=10, seed=0)
    return network, learner, make_stabiliser(SECTION, network, learner.layers)


def test_cost_is_what_the_sums_of_active_weights_lack_to_the_threshold(parts):
    network, learner, stabiliser = parts
    assert stabiliser.cost().item() == 0  # at the start no neuron is too weak
    with torch.no_grad():
        for weight in network.weights().values():
            weight[1:] *= 0.1
    network.zero_grad()
    cost = stabiliser.cost()
    expected = 0.0
    for weight in network.weights().values():
        for row in weight.tolist():
            expected += 3.0 * max(0.0, 0.8 - sum(row))
    assert cost.item() == pytest.approx(expected, rel=1e-6)
    assert expected > 0
    cost.backward()
    weak = torch.tensor([row > 0 for row in range(5)])[:, None]
    mask = learner.layers[0].mask
    assert torch.equal(network.weights()["fc1"].grad, -3.0 * (mask & weak).float())
    assert 0 < int((mask & weak).sum()) < 24


def test_a_connection_that_was_just_born_is_active_too(parts):
    network, learner, stabiliser = parts
    mask = learner.layers[0].mask
    with torch.no_grad():
        network.weights()["fc1"] *= 0.1
    place = tuple((~mask).nonzero()[0].tolist())
    mask[place] = True  # its weight is zero, which the mask tells from no connection
    stabiliser.cost().backward()
    assert network.weights()["fc1"].grad[place] == -3.0


def test_gradients_above_the_limit_are_scaled_down_and_others_stay(parts):
    network, _, stabiliser = parts
    large, small = network.weights().values()
    large.grad, small.grad = torch.randn(large.shape) * 100, torch.randn(small.shape) * 1e-3
    directions = [weight.grad.clone() for weight in (large, small)]
    stabiliser.limit_gradients()
    assert math.sqrt(sum(value**2 for value in large.grad.flatten().tolist())) / 5 == pytest.approx(0.5, rel=1e-5)
    torch.testing.assert_close(large.grad / large.grad.norm(), directions[0] / directions[0].norm())
    assert torch.equal(small.grad, directions[1])


def test_gradients_are_limited_in_training(tmp_path):
    trainer = start(tmp_path, "network.gradient_limit=1e-3", "training.epochs=1", "data.samples=64")
    norms, step = [], trainer.learner.step

    def listen():
        norms.extend(float(weight.grad.norm()) / len(weight) for weight in trainer.network.weights().values())
        return step()

    trainer.learner.step = listen
    trainer.run(lambda *_: None, lambda *_: None)
    assert max(norms) == pytest.approx(1e-3, rel=1e-4)


def test_cost_of_weak_neurons_reaches_the_weights_in_training(tmp_path):
    def sums(cost):
        trainer = start(tmp_path, f"network.sum_cost={cost}", "training.epochs=2", "training.learning_rate=1e-2")
        with torch.no_grad():
            trainer.network.weights()["fc1"] *= 0.1  # sums of 0.4 of the threshold
        trainer.run(lambda *_: None, lambda *_: None)
        return trainer.network.weights()["fc1"].detach().sum(1)

    assert (sums(10.0) > 0.9).all()
    assert (sums(0.0) < 0.9).any()


def test_networks_over_time_need_nothing():
    section = LifSection(notation="6-5-3", tau=0.5, threshold=1.0, surrogate="arctan", surrogate_width=1.0, mode="stl")
    network = build_network(section, (6,), seed=0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    stabiliser = make_stabiliser(section, network, [])
    network(torch.ones(3, 2, 6)).sum().backward()
    gradients = [parameter.grad.clone() for parameter in network.parameters()]
    assert stabiliser.cost() == 0
    stabiliser.limit_gradients()
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        assert torch.equal(parameter.grad, gradient)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
