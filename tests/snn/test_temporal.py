"""Exact spike times against brute-force integration, exact gradients against finite differences."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esl_neuro.data import load_dataset
from esl_neuro.errors import BadInput
from esl_neuro.snn import temporal
from esl_neuro.snn.temporal import (
    NO_SPIKE,
    Z_BRIGHT,
    Z_DARK,
    TemporalActivity,
    TemporalNetwork,
    first_spike,
    first_spike_binary,
    normalise_gradients,
    normalised_gradient,
    spike_times,
    temporal_loss,
    weight_sum_cost,
)

shapes = {
    "seed": st.integers(0, 10**6),
    "batch": st.integers(1, 5),
    "n_in": st.integers(1, 9),
    "n_out": st.integers(1, 6),
}


def problem(seed, batch, n_in, n_out, ties=False):
    """Random times, some of them never, and weights of both signs in double precision."""
    rng = np.random.default_rng(seed)
    times = rng.integers(0, 4, (batch, n_in)) / 2 if ties else rng.uniform(0, 2, (batch, n_in))
    z = np.where(rng.random((batch, n_in)) < 0.15, NO_SPIKE, np.exp(times))
    weights = rng.normal(1.5 / math.sqrt(n_in), 1.0, (n_out, n_in))
    return torch.from_numpy(z), torch.from_numpy(weights)


def potential(t, z, weights):
    """V_j(t) of eq. 3 for one neuron; ``t`` may be an array."""
    times = np.where(z < NO_SPIKE, np.log(z), np.inf)
    lag = np.asarray(t)[..., None] - times
    return (np.where(lag > 0, weights * -np.expm1(-np.maximum(lag, 0)), 0)).sum(-1)


def integrate(z, weights, threshold):
    """First crossing of eq. 3, segment by segment on a grid, then bisected: knows nothing of eq. 5."""
    times = np.sort(np.log(z[z < NO_SPIKE]))
    edges = np.append(times, math.log(NO_SPIKE)) if times.size else []
    for start, end in itertools.pairwise(edges):
        grid = np.linspace(start, end, 200)
        above = potential(grid, z, weights) >= threshold
        if above.any():
            high = int(above.argmax())
            low, high = grid[max(high - 1, 0)], grid[high]
            for _ in range(60):
                middle = (low + high) / 2
                low, high = (low, middle) if potential(middle, z, weights) >= threshold else (middle, high)
            return high
    return math.inf


def integrate_all(z, weights, threshold):
    return np.array([[integrate(sample, row, threshold) for row in weights.numpy()] for sample in z.numpy()])


def causal_sets(z, z_outputs):
    """C_j of eq. 4: bool, shape (batch, outputs, inputs)."""
    return (z[:, None, :] < z_outputs[:, :, None]) & (z_outputs < NO_SPIKE)[:, :, None]


def gradients(function, *tensors, weighting):
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    (function(*leaves) * weighting).sum().backward()
    return [leaf.grad for leaf in leaves]


@settings(max_examples=60)
@given(**shapes, ties=st.booleans(), threshold=st.sampled_from([0.3, 1.0, 2.5]))
def test_spike_times_equal_brute_force_integration(seed, batch, n_in, n_out, ties, threshold):
    z, weights = problem(seed, batch, n_in, n_out, ties)
    expected = integrate_all(z, weights, threshold)
    np.testing.assert_allclose(spike_times(first_spike(z, weights, threshold)), expected, rtol=0, atol=1e-6)


def test_the_problems_hold_spikes_silence_and_small_causal_sets():
    z, weights = problem(0, 40, 9, 6)
    z_outputs = first_spike(z, weights)
    sizes = causal_sets(z, z_outputs).sum(2)
    assert 0.2 < (z_outputs < NO_SPIKE).double().mean() < 0.95
    assert set(range(1, 8)) <= set(sizes.flatten().tolist())


def test_one_input_by_hand():
    # 2 (1 - exp(-t)) = 1 at t = ln 2, after an input at z = 3: z = 6
    assert first_spike(torch.tensor([[3.0]]), torch.tensor([[2.0]])).tolist() == [[6.0]]
    # a weight of just the threshold takes for ever
    assert first_spike(torch.tensor([[3.0]]), torch.tensor([[1.0], [0.5], [-2.0]])).tolist() == [[NO_SPIKE] * 3]


def test_inhibition_in_time_silences_and_too_late_does_not():
    weights = torch.tensor([[2.0, -1.5]])
    z = torch.tensor([[1.0, 1.9], [1.0, 2.0], [1.0, 2.1]])  # alone, the first input fires the neuron at z = 2
    assert first_spike(z, weights).tolist() == [[NO_SPIKE], [2.0], [2.0]]


def test_potential_above_the_threshold_counts_even_if_later_inhibition_wins():
    # the sum of all weights is negative, yet the neuron fires before the inhibition arrives
    assert first_spike(torch.tensor([[1.0, 5.0]]), torch.tensor([[3.0, -9.0]])).tolist() == [[1.5]]


@given(**shapes)
def test_equation_4_holds_and_the_causal_set_is_minimal(seed, batch, n_in, n_out):
    z, weights = problem(seed, batch, n_in, n_out)
    z_outputs = first_spike(z, weights)
    for b, j in (z_outputs < NO_SPIKE).nonzero().tolist():
        row, end = weights[j].numpy(), math.log(z_outputs[b, j])
        assert potential(end, z[b].numpy(), row) == pytest.approx(1, abs=1e-8)
        events = np.log(z[b][z[b] < z_outputs[b, j]].numpy())
        assert (potential(events, z[b].numpy(), row) < 1).all()  # no shorter causal set reaches the threshold


@given(**shapes, ties=st.booleans())
def test_order_of_the_inputs_does_not_matter(seed, batch, n_in, n_out, ties):
    z, weights = problem(seed, batch, n_in, n_out, ties)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(n_in))
    torch.testing.assert_close(first_spike(z[:, order], weights[:, order]), first_spike(z, weights), rtol=1e-7, atol=0)


@given(**shapes)
def test_inputs_that_never_spike_change_nothing(seed, batch, n_in, n_out):
    z, weights = problem(seed, batch, n_in, n_out)
    without = weights.expand(batch, -1, -1).masked_fill((z >= NO_SPIKE)[:, None, :], 0)
    expected = torch.cat([first_spike(z[b : b + 1], without[b]) for b in range(batch)])
    assert torch.equal(first_spike(z, weights), expected)
    infinite = z.masked_fill(z >= NO_SPIKE, math.inf)
    assert torch.equal(first_spike(infinite, weights), expected)


def test_no_input_spike_no_output_spike():
    z = torch.full((2, 3), NO_SPIKE, requires_grad=True)
    weights = torch.full((4, 3), 9.0, requires_grad=True)
    z_outputs = first_spike(z, weights)
    assert (z_outputs == NO_SPIKE).all()
    z_outputs.sum().backward()
    assert not z.grad.any()
    assert not weights.grad.any()


@settings(max_examples=25)
@given(**shapes, threshold=st.sampled_from([0.3, 1.0, 2.5]))
def test_gradients_equal_finite_differences(seed, batch, n_in, n_out, threshold):
    z, weights = problem(seed, batch, n_in, n_out)
    # very late spikes bend too much for differences; the formula is tested on them below
    weighting = torch.from_numpy(np.random.default_rng(seed + 1).normal(size=(batch, n_out)))
    weighting = weighting.masked_fill(first_spike(z, weights, threshold) > 20, 0)
    step = 1e-4

    def loss(z, weights):
        return (first_spike(z, weights, threshold) * weighting).sum()

    steady = causal_sets(z, first_spike(z, weights, threshold))
    computed = gradients(lambda *t: first_spike(*t, threshold), z, weights, weighting=weighting)
    for which, tensor in enumerate((z, weights)):
        for index in np.ndindex(*tensor.shape):
            moved = []
            for sign in (-2, -1, 1, 2):
                pair = [z.clone(), weights.clone()]
                pair[which][index] += sign * step
                if not torch.equal(causal_sets(pair[0], first_spike(*pair, threshold)), steady):
                    break  # a kink lies between
                moved.append(float(loss(*pair)))
            else:
                difference = (moved[0] - 8 * moved[1] + 8 * moved[2] - moved[3]) / (12 * step)
                assert difference == pytest.approx(float(computed[which][index]), rel=1e-7, abs=1e-7)


@given(**shapes)
def test_gradients_equal_their_formula_and_vanish_outside_the_causal_set(seed, batch, n_in, n_out):
    z, weights = problem(seed, batch, n_in, n_out)
    weighting = torch.from_numpy(np.random.default_rng(seed + 1).normal(size=(batch, n_out)))
    z_outputs = first_spike(z, weights)
    causal = causal_sets(z, z_outputs)
    grad_z, grad_weights = torch.zeros_like(z), torch.zeros_like(weights)
    for b, j, i in causal.nonzero().tolist():
        error = weighting[b, j] / (weights[j][causal[b, j]].sum() - 1)
        grad_z[b, i] += error * weights[j, i]
        grad_weights[j, i] += error * (z[b, i] - z_outputs[b, j])
    computed = gradients(first_spike, z, weights, weighting=weighting)
    torch.testing.assert_close(computed[0], grad_z, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(computed[1], grad_weights, rtol=1e-6, atol=1e-9)
    assert not computed[0][~causal.any(1)].any()
    assert not computed[1][~causal.any(0)].any()


@given(**shapes, threshold=st.sampled_from([0.5, 1.0]), late=st.sampled_from([1.0, 1.5, 6.0, 50.0]))
def test_two_times_equal_the_general_function(seed, batch, n_in, n_out, threshold, late):
    _, weights = problem(seed, batch, n_in, n_out)
    rng = np.random.default_rng(seed + 1)
    early = torch.from_numpy(rng.random((batch, n_in)) < rng.random())
    z = torch.where(early, 1.0, late).double()
    weighting = torch.from_numpy(rng.normal(size=(batch, n_out)))
    expected = first_spike(z, weights, threshold)
    torch.testing.assert_close(first_spike_binary(early, weights, 1.0, late, threshold), expected, rtol=1e-8, atol=0)
    _, general = gradients(lambda *t: first_spike(*t, threshold), z, weights, weighting=weighting)
    (binary,) = gradients(lambda w: first_spike_binary(early, w, 1.0, late, threshold), weights, weighting=weighting)
    torch.testing.assert_close(binary, general, rtol=1e-6, atol=1e-9)


def test_two_times_by_hand():
    early = torch.tensor([[True, False]])
    # the early input alone: 1.25 / 0.25 = 5, before 6; 1.1 / 0.1 = 11, after it, so both: (1.1 + 6) / 1.1; none
    weights = torch.tensor([[1.25, 1.0], [1.1, 1.0], [0.5, 0.5]], dtype=torch.float64)
    z = first_spike_binary(early, weights)
    torch.testing.assert_close(z, torch.tensor([[5.0, 7.1 / 1.1, NO_SPIKE]], dtype=torch.float64))


@given(**shapes, ties=st.booleans(), threshold=st.sampled_from([0.5, 1.0]), late=st.sampled_from([1.5, 6.0]))
def test_torch_operations_equal_the_compiled_functions(seed, batch, n_in, n_out, ties, threshold, late):
    z, weights = problem(seed, batch, n_in, n_out, ties)
    early = z < z.median()
    weighting = torch.from_numpy(np.random.default_rng(seed).normal(size=(batch, n_out)))
    results = {}
    for compiled in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(temporal, "_compiled", lambda *_, compiled=compiled: compiled)
            results[compiled] = (
                first_spike(z, weights, threshold),
                *gradients(lambda *t: first_spike(*t, threshold), z, weights, weighting=weighting),
                first_spike_binary(early, weights, 1.0, late, threshold),
                *gradients(lambda w: first_spike_binary(early, w, 1.0, late, threshold), weights, weighting=weighting),
            )
    for ours, theirs in zip(results[True], results[False], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


def test_memory_order_of_the_arguments_does_not_matter():
    z, weights = problem(5, 6, 9, 4)
    early, weighting = z < z.median(), torch.ones(6, 4, dtype=torch.float64)

    def results(z, weights, early):
        return (
            first_spike(z, weights),
            *gradients(first_spike, z, weights, weighting=weighting),
            first_spike_binary(early, weights),
            *gradients(lambda w: first_spike_binary(early, w), weights, weighting=weighting),
        )

    given = z, weights, early
    turned = [signal.T.contiguous().T for signal in given]
    for ours, theirs in zip(results(*turned), results(*given), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.fixture
def by_torch(monkeypatch):
    """Use torch's operations, as on devices for which nothing is compiled."""
    monkeypatch.setattr(temporal, "_compiled", lambda *_: False)


@pytest.mark.usefixtures("by_torch")
@pytest.mark.parametrize("chunk", [1, 3000, 2**30])
def test_chunks_do_not_change_results(monkeypatch, chunk):
    z, weights = problem(3, 7, 30, 11)
    weighting = torch.ones(7, 11, dtype=torch.float64)
    expected = first_spike(z, weights), *gradients(first_spike, z, weights, weighting=weighting)
    monkeypatch.setattr(temporal, "_CHUNK_BYTES", chunk)
    computed = first_spike(z, weights), *gradients(first_spike, z, weights, weighting=weighting)
    for ours, theirs in zip(computed, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("by_torch")
def test_working_memory_does_not_hold_all_outputs(monkeypatch):
    rows = []
    fire = temporal._fire
    monkeypatch.setattr(temporal, "_fire", lambda weights, *rest: rows.append(len(weights)) or fire(weights, *rest))
    first_spike(torch.rand(64, 784) + 1, torch.rand(100, 784))
    assert sum(rows) == 100
    assert max(rows) * 64 * 784 * 4 <= 2**20


def test_arguments_stay_as_they_were():
    z, weights = problem(4, 3, 5, 2)
    before = z.clone(), weights.clone()
    gradients(first_spike, z, weights, weighting=torch.ones(3, 2, dtype=torch.float64))
    assert torch.equal(z, before[0])
    assert torch.equal(weights, before[1])


@pytest.mark.parametrize("shape", [((2, 3), (4, 2)), ((3,), (4, 3)), ((2, 0), (4, 0))])
def test_shapes_that_do_not_fit_are_refused(shape):
    with pytest.raises(BadInput, match="do not fit weights"):
        first_spike(torch.ones(shape[0]), torch.ones(shape[1]))


def test_values_out_of_range_are_refused():
    z, early, weights = torch.ones(2, 3), torch.ones(2, 3, dtype=torch.bool), torch.ones(4, 3)
    with pytest.raises(BadInput, match="threshold 0"):
        first_spike(z, weights, 0.0)
    with pytest.raises(BadInput, match="are out of order"):
        first_spike_binary(early, weights, 6.0, 1.0)
    with pytest.raises(BadInput, match="leaves every neuron silent"):
        TemporalNetwork((3, 2), initial_sum=1.0)
    with pytest.raises(BadInput, match="threshold -1"):
        TemporalNetwork((3, 2), threshold=-1.0)
    with pytest.raises(BadInput, match="limit 0"):
        normalise_gradients([], 0)


def test_spike_times_are_logarithms_and_silence_is_never():
    assert spike_times(torch.tensor([1.0, math.e, NO_SPIKE])).tolist() == [0, pytest.approx(1), math.inf]


def test_loss_equals_equation_6():
    z = torch.tensor([[1.0, 2.0, 4.0], [3.0, 1.5, NO_SPIKE]], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([2, 0])
    rows = [[math.exp(-v) for v in row] for row in z.tolist()]
    expected = [-math.log(row[label] / sum(row)) for row, label in zip(rows, labels.tolist(), strict=True)]
    loss = temporal_loss(z, labels)
    assert loss.item() == pytest.approx(sum(expected) / 2, rel=1e-12)
    loss.backward()
    for row, label, grad in zip(rows, labels.tolist(), z.grad.tolist(), strict=True):
        assert grad == pytest.approx([((k == label) - value / sum(row)) / 2 for k, value in enumerate(row)])


def test_network_is_its_layers_one_after_the_other():
    torch.manual_seed(0)
    network = TemporalNetwork((6, 5, 4, 3), threshold=0.5).double()
    inputs = torch.tensor([[0.0, 0.5, 0.51, 1.0, 0.2, 0.9]], dtype=torch.float64)
    z = torch.tensor([[Z_DARK, Z_DARK, Z_BRIGHT, Z_BRIGHT, Z_DARK, Z_BRIGHT]], dtype=torch.float64)
    activity = network(inputs)
    assert list(activity.z) == list(network.weights()) == ["fc1", "fc2", "fc3"]
    for name, weight in network.weights().items():
        z = first_spike(z, weight, 0.5)
        torch.testing.assert_close(activity.z[name], z, rtol=1e-12, atol=0)
    assert activity.output_z is activity.z["fc3"]
    assert pytest.approx(1.7917595, abs=1e-7) == math.log(Z_DARK)


def test_predictions():
    z = {
        "fc1": torch.tensor([[1.0, NO_SPIKE, 3.0], [NO_SPIKE] * 3]),
        "fc2": torch.tensor([[NO_SPIKE, 2.0], [NO_SPIKE] * 2]),
    }
    activity = TemporalActivity(z)
    assert activity.predictions().tolist() == [1, 0]


def test_every_neuron_of_a_new_network_fires():
    torch.manual_seed(0)
    network = TemporalNetwork((50, 20, 10), threshold=2.0)
    for weight in network.weights().values():
        assert (weight >= 0).all()
        torch.testing.assert_close(weight.sum(1), torch.full((len(weight),), 8.0))
    assert (network(torch.rand(9, 50)).z["fc1"] < NO_SPIKE).all()


@pytest.mark.parametrize("scale", [1.0, 0.15**-0.5])
def test_rescaled_rows_keep_their_sum_under_a_mask(scale):
    torch.manual_seed(0)
    network = TemporalNetwork((200, 30, 10))
    before = {name: weight.detach().clone() for name, weight in network.weights().items()}
    mask = torch.rand(30, 200) < 0.15
    mask[4] = False
    with torch.no_grad():
        network.weights()["fc1"].mul_(mask * scale)
    network.rescale_rows()
    weight = network.weights()["fc1"]
    expected = torch.full((30,), 4.0)
    expected[4] = 0  # without connections there is nothing to scale
    torch.testing.assert_close(weight.sum(1), expected)
    assert torch.equal(weight != 0, mask & (before["fc1"] != 0))
    torch.testing.assert_close(network.weights()["fc2"], before["fc2"])


def test_weight_sum_cost_equals_its_formula():
    network = TemporalNetwork((4, 3, 2), threshold=1.5).double()
    values = {
        "fc1": [[0.5, 0.0, 0.25, 0.0], [2.0, 0.0, 0.0, 1.0], [1.0, -2.0, 0.0, 0.0]],
        "fc2": [[0.4, 0.4, 0.0], [0.5, 0.5, 0.5]],
    }
    with torch.no_grad():
        for name, weight in network.weights().items():
            weight.copy_(torch.tensor(values[name]))
    # short of 1.5: 0.75 and 2.5 in fc1, 0.7 in fc2; the neuron that sums to 1.5 is not short
    cost = weight_sum_cost(network, 10.0)
    assert float(cost) == pytest.approx(10 * (0.75 + 2.5 + 0.7))
    cost.backward()
    assert network.weights()["fc1"].grad.tolist() == [[-10, 0, -10, 0], [0, 0, 0, 0], [-10, -10, 0, 0]]
    assert network.weights()["fc2"].grad.tolist() == [[-10, -10, 0], [0, 0, 0]]
    assert float(weight_sum_cost(network)) == pytest.approx(395)


def test_weight_sum_cost_pulls_active_connections_that_are_zero():
    network = TemporalNetwork((3, 1))
    with torch.no_grad():
        network.weights()["fc1"].copy_(torch.tensor([[0.5, 0.0, 0.0]]))
    weight_sum_cost(network, 2.0, {"fc1": torch.tensor([[True, True, False]])}).backward()
    assert network.weights()["fc1"].grad.tolist() == [[-2, -2, 0]]


@pytest.mark.parametrize("limit", [0.1, 0.5, 10.0])
def test_normalised_gradient_equals_its_formula(limit):
    gradient = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    norm = math.sqrt(sum(value**2 for value in gradient.flatten().tolist())) / 5
    before = gradient.clone()
    torch.testing.assert_close(normalised_gradient(gradient, limit), gradient * min(1, limit / norm))
    assert torch.equal(gradient, before)
    assert normalised_gradient(torch.zeros(2, 2), limit).tolist() == [[0, 0], [0, 0]]


def test_huge_gradients_are_normalised_without_overflow():
    gradient = normalised_gradient(torch.full((4, 4), 1e30), 10.0)
    torch.testing.assert_close(gradient, torch.full((4, 4), 10.0))  # Frobenius norm 40 over 4 rows


def test_gradients_are_normalised_layer_by_layer():
    layers = [torch.nn.Parameter(torch.zeros(2, 2)) for _ in range(3)]
    layers[0].grad, layers[1].grad = torch.full((2, 2), 100.0), torch.full((2, 2), 1.0)
    normalise_gradients(layers, 2.0)
    assert layers[0].grad.tolist() == [[2, 2], [2, 2]]
    assert layers[1].grad.tolist() == [[1, 1], [1, 1]]
    assert layers[2].grad is None


def train(network, inputs, labels, *, epochs, batch, learning_rate):
    optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate)
    for _ in range(epochs):
        for part in torch.randperm(len(inputs)).split(batch):
            loss = temporal_loss(network(inputs[part]).output_z, labels[part])
            optimiser.zero_grad()
            (loss + weight_sum_cost(network, 1.0)).backward()
            normalise_gradients(network.parameters())
            optimiser.step()


def accuracy(network, inputs, labels):
    with torch.no_grad():
        return float((network(inputs).predictions() == labels).double().mean())


def test_learns_exclusive_or():
    torch.manual_seed(0)
    # the first input marks t = 0: without it, two dark inputs are two bright ones, later
    inputs = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    labels = torch.tensor([0, 1, 1, 0])
    network = TemporalNetwork((3, 8, 2))
    train(network, inputs, labels, epochs=200, batch=4, learning_rate=0.01)
    assert accuracy(network, inputs, labels) == 1
    assert float(temporal_loss(network(inputs).output_z, labels)) < 0.1


def test_learns_digits():
    torch.manual_seed(0)
    digits = load_dataset("digits")
    values, labels = torch.from_numpy(digits.train.values), torch.from_numpy(digits.train.labels)
    network = TemporalNetwork((64, 64, 10))
    train(network, values, labels, epochs=4, batch=32, learning_rate=0.003)
    assert accuracy(network, torch.from_numpy(digits.test.values), torch.from_numpy(digits.test.labels)) > 0.8


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_extreme_weights_never_make_training_blow_up(scale):
    torch.manual_seed(0)
    network = TemporalNetwork((20, 15, 5))
    with torch.no_grad():
        for weight in network.weights().values():
            weight.copy_(torch.randn_like(weight) * scale)
    optimiser = torch.optim.SGD(network.parameters(), lr=scale)
    for _ in range(200):
        activity = network(torch.rand(16, 20))
        loss = temporal_loss(activity.output_z, torch.randint(5, (16,))) + weight_sum_cost(network)
        optimiser.zero_grad()
        loss.backward()
        assert all(torch.isfinite(weight.grad).all() for weight in network.parameters())
        normalise_gradients(network.parameters())
        optimiser.step()
        assert torch.isfinite(loss)
        assert all(torch.isfinite(z).all() and (z >= Z_BRIGHT).all() for z in activity.z.values())
    assert all(torch.isfinite(weight).all() for weight in network.parameters())
