"""The LIF neuron against a loop over single numbers, and its gradients against autograd."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esl_neuro.snn.functional import ACTIVATIONS, SURROGATES, liaf, liaf_step, lif, lif_step

SLOPES = {
    "triangle": lambda x, width: max(0.0, width - abs(x)) / width**2,
    "arctan": lambda x, width: 1 / (1 + (math.pi * x / width) ** 2),
    "rectangle": lambda x, width: 1 / (2 * width) if abs(x) < width else 0.0,
}


class Step(torch.autograd.Function):
    """Heaviside step whose derivative is the surrogate slope, evaluated number by number."""

    @staticmethod
    def forward(ctx, distance, name, width):
        ctx.save_for_backward(distance)
        ctx.slope, ctx.width = SLOPES[name], width
        return (distance > 0).to(distance.dtype)

    @staticmethod
    def backward(ctx, grad):
        (distance,) = ctx.saved_tensors
        slopes = [ctx.slope(x, ctx.width) for x in distance.flatten().tolist()]
        return grad * torch.tensor(slopes, dtype=grad.dtype).reshape(distance.shape), None, None


def autograd_loop(currents, tau, threshold, name, width, detach_reset=False):
    potential, spikes = torch.zeros_like(currents[0]), []
    for current in currents:
        potential = tau * potential + current
        fired = Step.apply(potential - threshold, name, width)
        spikes.append(fired)
        potential = potential * (1 - (fired.detach() if detach_reset else fired))
    return torch.stack(spikes)


def scalar_loop(currents, tau, threshold):
    steps, batch, neurons = currents.shape
    spikes = torch.zeros_like(currents)
    for b in range(batch):
        for n in range(neurons):
            v = 0.0
            for t in range(steps):
                v = tau * v + float(currents[t, b, n])
                if v > float(threshold[n]):
                    spikes[t, b, n] = 1
                    v = 0.0
    return spikes


def problem(seed, steps, batch, neurons):
    generator = torch.Generator().manual_seed(seed)
    currents = torch.randn(steps, batch, neurons, generator=generator, dtype=torch.float64) + 0.5
    threshold = torch.rand(neurons, generator=generator, dtype=torch.float64) + 0.2
    weights = torch.randn(steps, batch, neurons, generator=generator, dtype=torch.float64)
    return currents, threshold, weights


def gradients(run, currents, threshold, weights):
    currents, threshold = currents.clone().requires_grad_(), threshold.clone().requires_grad_()
    (run(currents, threshold) * weights).sum().backward()
    return currents.grad, threshold.grad


shapes = {"steps": st.integers(1, 8), "batch": st.integers(1, 4), "neurons": st.integers(1, 5)}
taus = st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0])


@settings(max_examples=50)
@given(seed=st.integers(0, 10**6), tau=taus, **shapes)
def test_spikes_equal_the_scalar_loop(seed, tau, steps, batch, neurons):
    currents, threshold, _ = problem(seed, steps, batch, neurons)
    spikes = lif(currents, tau, threshold, SURROGATES["arctan"], 1.0)
    assert torch.equal(spikes, scalar_loop(currents, tau, threshold))


@settings(max_examples=50)
@given(
    seed=st.integers(0, 10**6),
    tau=taus,
    name=st.sampled_from(sorted(SLOPES)),
    width=st.sampled_from([0.5, 1.0, 3.0]),
    **shapes,
)
def test_gradients_equal_autograd_through_the_loop(seed, tau, name, width, steps, batch, neurons):
    currents, threshold, weights = problem(seed, steps, batch, neurons)
    computed = gradients(lambda i, v: lif(i, tau, v, SURROGATES[name], width), currents, threshold, weights)
    expected = gradients(lambda i, v: autograd_loop(i, tau, v, name, width), currents, threshold, weights)
    for ours, theirs in zip(computed, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", SLOPES)
def test_reset_is_part_of_the_gradient(name):
    currents, threshold, weights = problem(1, 8, 3, 4)
    ours = gradients(lambda i, v: lif(i, 0.5, v, SURROGATES[name], 1.0), currents, threshold, weights)
    detached = gradients(lambda i, v: autograd_loop(i, 0.5, v, name, 1.0, True), currents, threshold, weights)
    for attached, without in zip(ours, detached, strict=True):
        assert (attached - without).abs().max() > 1e-3


def test_gradient_of_a_sum_is_accepted():
    currents, threshold, _ = problem(2, 5, 2, 3)
    ones = torch.ones_like(currents)
    expected = gradients(lambda i, v: autograd_loop(i, 0.5, v, "arctan", 1.0), currents, threshold, ones)
    leaf, level = currents.clone().requires_grad_(), threshold.clone().requires_grad_()
    lif(leaf, 0.5, level, SURROGATES["arctan"], 1.0).sum().backward()  # an expanded gradient, without memory of its own
    torch.testing.assert_close(leaf.grad, expected[0])
    torch.testing.assert_close(level.grad, expected[1])


@pytest.mark.parametrize("name", SLOPES)
@pytest.mark.parametrize("width", [0.5, 1.0, 2.0])
def test_surrogate_equals_its_formula(name, width):
    assert set(SLOPES) == set(SURROGATES.names())
    distances = torch.linspace(-3, 3, 61, dtype=torch.float64)
    expected = torch.tensor([SLOPES[name](x, width) for x in distances.tolist()], dtype=torch.float64)
    before = distances.clone()
    torch.testing.assert_close(SURROGATES[name](distances, width), expected, rtol=1e-14, atol=1e-14)
    assert torch.equal(distances, before)


@pytest.mark.parametrize("width", [0.5, 1.0, 2.0])
def test_area_under_the_surrogates_is_that_of_a_step(width):
    distances = torch.linspace(-1000, 1000, 200_000, dtype=torch.float64)  # an even number: none on an edge
    for name in SLOPES:
        area = torch.trapezoid(SURROGATES[name](distances, width), distances).item()
        assert area == pytest.approx(width if name == "arctan" else 1, rel=1e-3)


def test_potential_equal_to_the_threshold_is_no_spike():
    currents = torch.tensor([1.0, math.nextafter(1.0, 2.0)], dtype=torch.float64).reshape(1, 1, 2)
    threshold = torch.ones(2, dtype=torch.float64)
    assert lif(currents, 0.5, threshold, SURROGATES["arctan"], 1.0).flatten().tolist() == [0, 1]


def test_one_neuron_by_hand():
    # u = 1 (not above 1), 0.5 + 0.75 = 1.25 (spike, v = 0), 0.75, 0.375 + 0.625 = 1 (no), 0.5 + 0.75 (spike)
    currents = torch.tensor([1.0, 0.75, 0.75, 0.625, 0.75]).reshape(5, 1, 1)
    spikes = lif(currents, 0.5, torch.ones(1), SURROGATES["arctan"], 1.0)
    assert spikes.flatten().tolist() == [0, 1, 0, 0, 1]


def test_step_returns_spike_charged_and_reset_potential():
    spikes, charged, potential = lif_step(torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, 1.0]]), 0.5, torch.ones(2))
    assert spikes.tolist() == [[0, 1]]
    assert charged.tolist() == [[0.5, 1.5]]
    assert potential.tolist() == [[0.5, 0]]


def test_inputs_stay_as_they_were():
    currents, threshold, _ = problem(3, 4, 2, 3)
    before = currents.clone(), threshold.clone()
    gradients(lambda i, v: lif(i, 0.5, v, SURROGATES["triangle"], 1.0), currents, threshold, torch.ones_like(currents))
    assert torch.equal(currents, before[0])
    assert torch.equal(threshold, before[1])


# Leaky integrate and analog fire.

ANALOG = {
    "selu": lambda u: 1.0507009873554805 * (u if u > 0 else 1.6732632423543772 * (math.exp(u) - 1)),
    "relu": lambda u: max(0.0, u),
}


def analog_loop(currents, tau, threshold, g):
    steps, batch, neurons = currents.shape
    outputs = torch.zeros_like(currents)
    for b in range(batch):
        for n in range(neurons):
            v = 0.0
            for t in range(steps):
                u = tau * v + float(currents[t, b, n])
                outputs[t, b, n] = g(u)
                v = 0.0 if u > float(threshold[n]) else u
    return outputs


@settings(max_examples=50)
@given(seed=st.integers(0, 10**6), tau=taus, name=st.sampled_from(sorted(ANALOG)), **shapes)
def test_analog_outputs_equal_the_scalar_loop(seed, tau, name, steps, batch, neurons):
    assert set(ANALOG) == set(ACTIVATIONS.names())
    currents, threshold, _ = problem(seed, steps, batch, neurons)
    outputs = liaf(currents, tau, threshold, ACTIVATIONS[name], SURROGATES["rectangle"], 0.5)
    torch.testing.assert_close(outputs, analog_loop(currents, tau, threshold, ANALOG[name]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", SLOPES)
def test_gradient_of_analog_neurons_includes_the_reset(name):
    currents, threshold, weights = problem(4, 8, 3, 4)

    def loop(currents, threshold):
        potential, outputs = torch.zeros_like(currents[0]), []
        for current in currents:
            charged = 0.5 * potential + current
            outputs.append(torch.nn.functional.selu(charged))
            potential = charged * (1 - Step.apply(charged - threshold, name, 0.5))
        return torch.stack(outputs)

    computed = gradients(
        lambda i, v: liaf(i, 0.5, v, ACTIVATIONS["selu"], SURROGATES[name], 0.5), currents, threshold, weights
    )
    for ours, theirs in zip(computed, gradients(loop, currents, threshold, weights), strict=True):
        assert theirs.any()
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_analog_step_sends_what_it_had_before_the_reset():
    outputs, potential = liaf_step(
        torch.tensor([[1.0, 1.0]]),
        torch.tensor([[0.0, 1.0]]),
        0.5,
        torch.ones(2),
        ACTIVATIONS["relu"],
        SURROGATES["arctan"],
        1.0,
    )
    assert outputs.tolist() == [[0.5, 1.5]]
    assert potential.tolist() == [[0.5, 0]]
