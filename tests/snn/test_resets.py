"""Neurons whose spikes subtract the threshold: forwards against the equations, backwards against autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esl_neuro.errors import BadInput
from esl_neuro.interchange import from_nir, to_nir
from esl_neuro.nirgraph.simulation import simulate
from esl_neuro.snn.functional import SURROGATES, lif, lif_errors, subtracted
from esl_neuro.snn.layers import Linear
from esl_neuro.snn.neurons import LIF, CubaLIF, RecurrentLIF

SUBTRACTING = ["subtract", "subtract_next_step"]


def written_out(currents, tau, threshold, reset):
    """Number by number; in the next step means after the leak."""
    steps, batch, neurons = currents.shape
    spikes = np.zeros((steps, batch, neurons))
    for sample in range(batch):
        for n in range(neurons):
            v, fired = 0.0, 0
            for step in range(steps):
                if reset == "subtract" and fired:
                    v -= float(threshold[n])
                v = tau * v + float(currents[step, sample, n])
                if reset == "subtract_next_step" and fired:
                    v -= float(threshold[n])
                fired = int(v > float(threshold[n]))
                spikes[step, sample, n] = fired
    return spikes


def problem(seed, steps=9, batch=3, neurons=4):
    generator = torch.Generator().manual_seed(seed)
    currents = torch.randn(steps, batch, neurons, generator=generator, dtype=torch.float64) + 0.5
    threshold = torch.rand(neurons, generator=generator, dtype=torch.float64) + 0.2
    errors = torch.randn(steps, batch, neurons, generator=generator, dtype=torch.float64)
    return currents, threshold, errors


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), tau=st.sampled_from([0.25, 0.5, 0.9, 1.0]), reset=st.sampled_from(SUBTRACTING))
def test_spikes_are_those_of_the_equations(seed, tau, reset):
    currents, threshold, _ = problem(seed)
    spikes = lif(currents, tau, threshold, SURROGATES["arctan"], 1.0, reset)
    assert np.array_equal(spikes.numpy(), written_out(currents, tau, threshold, reset))


@pytest.mark.parametrize("reset", SUBTRACTING)
@pytest.mark.parametrize("surrogate", ["triangle", "arctan"])
@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_the_errors_written_out_are_those_of_autograd(reset, surrogate, tau):
    """Training on integers uses the former, training in floating point the latter."""
    currents, threshold, errors = problem(3)
    currents.requires_grad_()
    threshold.requires_grad_()
    spikes = lif(currents, tau, threshold, SURROGATES[surrogate], 1.5, reset)
    (spikes * errors).sum().backward()
    potential, charged = torch.zeros_like(currents[0]), []
    for current, fired in zip(currents.detach(), spikes.detach(), strict=True):
        charged.append(tau * potential + current)
        potential = charged[-1] - fired * subtracted(threshold.detach(), tau, reset)
    error_u, error_threshold = lif_errors(
        torch.stack(charged), threshold.detach(), errors, tau, SURROGATES[surrogate], 1.5, reset
    )
    torch.testing.assert_close(error_u, currents.grad, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(error_threshold, threshold.grad, rtol=1e-10, atol=1e-12)


def network(kind, reset):
    torch.manual_seed(1)
    neurons = {
        "lif": lambda: LIF(5, 0.5, 0.3, reset=reset),
        "if": lambda: LIF(5, 1.0, 0.3, reset=reset),
        "cuba": lambda: CubaLIF(5, 0.75, 0.5, 0.3, reset=reset),
        "recurrent": lambda: RecurrentLIF(5, 0.5, 0.3, reset=reset, tau_syn=0.25),
    }[kind]()
    return torch.nn.Sequential(Linear(6, 5), neurons, Linear(5, 3), LIF(3, 0.5, 0.1, reset=reset)).eval()


@pytest.mark.parametrize("kind", ["lif", "if", "cuba", "recurrent"])
@pytest.mark.parametrize("reset", ["zero", *SUBTRACTING])
@pytest.mark.parametrize("thresholds", ["native", "folded"])
def test_a_graph_keeps_the_reset_there_and_back(kind, reset, thresholds):
    first = network(kind, reset)
    graph = to_nir(first, 12, thresholds=thresholds)
    inputs = (torch.rand(12, 8, 6, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    with torch.no_grad():
        expected = first(inputs)
        again = from_nir(graph)
        found = again(inputs)
    assert 0.05 < expected.mean() < 0.95
    assert torch.equal(expected, found)
    assert [layer.reset for layer in again.modules() if isinstance(layer, LIF)] == [reset, reset]
    simulated = simulate(graph, inputs.numpy().swapaxes(0, 1)).outputs
    assert np.array_equal(simulated, expected.numpy().swapaxes(0, 1))


def test_a_network_with_subtractions_learns():
    """A step of gradient descent towards other spikes changes weights, thresholds and the loss."""
    model = network("lif", "subtract")
    inputs = (torch.rand(10, 16, 6, generator=torch.Generator().manual_seed(2)) < 0.5).float()
    target = torch.full((16, 3), 2.0)
    losses = []
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(30):
        loss = (model(inputs).sum(0) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0]


def test_from_nir_takes_a_statement_and_warns_without_one():
    graph = to_nir(network("lif", "zero"), 5)
    assert from_nir(graph, reset="subtract")[1].reset == "subtract"
    for node in graph.nodes.values():
        for name in ("tau", "r", "v_leak", "v_reset", "v_threshold"):
            if hasattr(node, name):
                setattr(node, name, getattr(node, name).astype(np.float32))
        if hasattr(node, "tau"):
            node.r = node.tau / np.float32(1e-4)
    graph.metadata = {}
    with pytest.warns(UserWarning, match="the form that snnTorch writes"):
        from_nir(graph, 1e-4)


def test_what_cannot_be_is_refused():
    with pytest.raises(BadInput, match="reset 'soft' is unknown"):
        LIF(3, reset="soft")
    with pytest.raises(BadInput, match="needs a tau above 0"):
        LIF(3, 0.0, reset="subtract_next_step")
    with pytest.raises(BadInput, match="tie_safe raises thresholds, which changes what spikes of '1', '3' subtract"):
        to_nir(network("lif", "subtract"), 5, tie_safe=True)
