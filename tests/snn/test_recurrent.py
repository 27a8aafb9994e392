"""Neurons that hear their own layer, and neurons that differ in their decays."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from esl_neuro.snn import neuron_layers, observe, weighted_layers
from esl_neuro.snn.functional import arctan, lif, recurrent_lif
from esl_neuro.snn.layers import Linear, SynapticFilter
from esl_neuro.snn.neurons import LIF, CubaLIF, RecurrentLIF


def currents(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def passes(neuron, inputs, threshold, errors):
    inputs, threshold = inputs.clone().requires_grad_(), threshold.clone().requires_grad_()
    spikes = neuron(inputs, threshold)
    (spikes * errors).sum().backward()
    return spikes.detach(), inputs.grad, threshold.grad


@pytest.mark.parametrize("tau", [0.0, 0.5, 0.9, 1.0])
def test_without_feedback_spikes_and_gradients_are_those_of_the_lif(tau):
    inputs, errors = currents(7, 4, 5), currents(7, 4, 5, seed=1)
    threshold = currents(5, seed=2).abs() + 0.2
    fused = passes(lambda i, t: lif(i, tau, t, arctan, 1.0), inputs, threshold, errors)
    stepped = passes(lambda i, t: recurrent_lif(i, tau, 0.0, t, arctan, 1.0), inputs, threshold, errors)
    for one, other in zip(fused, stepped, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_decays_of_a_tensor_are_those_of_each_neuron_alone():
    taus, inputs, threshold = torch.tensor([0.0, 0.3, 0.9, 1.0]).double(), currents(9, 3, 4), torch.tensor(0.4).double()
    together = lif(inputs, taus, threshold, arctan, 1.0)
    for neuron, tau in enumerate(taus.tolist()):
        alone = lif(inputs[..., neuron : neuron + 1], tau, threshold, arctan, 1.0)
        assert torch.equal(together[..., neuron : neuron + 1], alone)
    assert 0.1 < together.mean() < 0.9


def test_synapses_may_differ_too():
    taus, inputs = torch.tensor([0.0, 0.5, 0.25]), torch.randn(6, 2, 3)
    together = SynapticFilter(taus)(inputs)
    for neuron, tau in enumerate(taus.tolist()):
        torch.testing.assert_close(together[..., neuron], SynapticFilter(tau)(inputs)[..., neuron])


@pytest.mark.parametrize(("tau", "tau_syn"), [(0.5, 0.0), (0.75, 0.5)])
def test_a_neuron_hears_its_layer_one_step_later(tau, tau_syn):
    """Against the equations, written out for each neuron and step."""
    layer = RecurrentLIF(5, tau, 0.5, "arctan", 1.0, True, tau_syn)
    inputs = torch.randn(8, 3, 5, generator=torch.Generator().manual_seed(3))
    spikes, weight = layer(inputs), layer.recurrent.weight
    for sample in range(3):
        synaptic, potential, fired = [0.0] * 5, [0.0] * 5, [0.0] * 5
        for step in range(8):
            heard = [sum(weight[n, m].item() * fired[m] for m in range(5)) for n in range(5)]
            for n in range(5):
                synaptic[n] = tau_syn * synaptic[n] + inputs[step, sample, n].item() + heard[n]
                potential[n] = tau * potential[n] + synaptic[n]
            fired = [float(v > 0.5) for v in potential]
            potential = [v * (1 - o) for v, o in zip(potential, fired, strict=True)]
            assert spikes[step, sample].tolist() == fired
    assert spikes.any()


def test_recurrent_weights_learn_to_keep_a_memory():
    """A spike in step 0 decides what is to fire in the last step, long after the membrane has forgotten it."""
    torch.manual_seed(0)
    network = nn.Sequential(Linear(2, 16), RecurrentLIF(16, 0.2, 0.5, "arctan", 2.0, True), Linear(16, 2))
    inputs = torch.zeros(8, 2, 2)
    inputs[0] = 3 * torch.eye(2)
    optimiser = torch.optim.Adam(network.parameters(), 2e-2)
    for _ in range(150):
        loss = nn.functional.cross_entropy(network(inputs)[-1], torch.tensor([0, 1]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.1
    with torch.no_grad():
        network[1].recurrent.weight.zero_()
    assert nn.functional.cross_entropy(network(inputs)[-1], torch.tensor([0, 1])) > 0.5


def test_recurrent_layers_are_seen_by_observers_and_learners():
    network = nn.Sequential(Linear(2, 4), RecurrentLIF(4, 0.5, 0.5, "arctan", 1.0, True))
    assert list(neuron_layers(network)) == ["1"]
    assert list(weighted_layers(network)) == ["0", "1.recurrent"]
    assert observe(network, torch.ones(3, 2, 2)).spikes["1"].shape == (3, 2, 4)


def test_decays_of_single_neurons_are_kept_with_the_state():
    tau, tau_syn = torch.tensor([0.5, 0.25]), torch.tensor([0.75, 0.0])
    layer = CubaLIF(2, tau, tau_syn, 1.0, "arctan", 1.0, True)
    assert torch.equal(layer.state_dict()["tau"], tau)
    assert torch.equal(layer.state_dict()["synapses.tau_syn"], tau_syn)
    assert "tau" not in LIF(2, 0.5, 1.0, "arctan", 1.0, True).state_dict()


def test_halves_are_widened():
    layer = RecurrentLIF(3, 0.5, 0.5, "arctan", 1.0, True)
    assert layer(torch.randn(4, 2, 3).bfloat16()).dtype == torch.float32
