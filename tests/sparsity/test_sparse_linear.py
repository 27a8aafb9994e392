"""A sparse layer is the dense layer with zeros, without the memory for them."""

from __future__ import annotations

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from esl_neuro.errors import BadInput
from esl_neuro.neuron_major import empty_signal
from esl_neuro.snn.functional import arctan, lif
from esl_neuro.snn.network import build_layers
from esl_neuro.snn.neurons import lif_per_channel
from esl_neuro.sparsity import FewOutputs, SparseLinear
from esl_neuro.sparsity.sparse_weights import distinct


def drawn_layer(inputs, outputs, density, seed, *, bias=True, dtype=torch.float64):
    density = max(density, 1 / (inputs * outputs))
    return SparseLinear(inputs, outputs, bias, density=density, seed=seed, dtype=dtype)


def drawn_signal(kind, shape, generator):
    """Spikes, counts or numbers, in the usual memory or with one row per neuron."""
    values = torch.rand(shape, generator=generator, dtype=torch.float64)
    signal = {"spikes": (values < 0.3).double(), "counts": (values * 255).floor(), "numbers": values - 0.5}[kind]
    return signal


def gradients(module, signal, coefficients):
    signal = signal.detach().requires_grad_()
    output = module(signal)
    (output * coefficients).sum().backward()
    return output.detach(), signal.grad


@settings(max_examples=60)
@given(
    sizes=st.tuples(st.integers(1, 40), st.integers(1, 150)),
    leading=st.one_of(st.tuples(st.integers(1, 300)), st.tuples(st.integers(1, 4), st.integers(1, 70))),
    density=st.floats(0.01, 1),
    kind=st.sampled_from(["spikes", "counts", "numbers"]),
    neuron_major=st.booleans(),
    bias=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_results_and_gradients_are_those_of_the_dense_matrix(sizes, leading, density, kind, neuron_major, bias, seed):
    layer = drawn_layer(*sizes, density, seed, bias=bias)
    generator = torch.Generator().manual_seed(seed)
    signal = drawn_signal(kind, (*leading, sizes[0]), generator)
    if neuron_major:
        signal = empty_signal(leading, sizes[0], torch.float64).copy_(signal)
    coefficients = torch.randn(*leading, sizes[1], generator=generator, dtype=torch.float64)
    dense = nn.Linear(*sizes, bias=bias, dtype=torch.float64)
    with torch.no_grad():
        dense.weight.copy_(layer.to_dense())
        if bias:
            dense.bias.copy_(layer.bias)
    for actual, expected in zip(
        gradients(layer, signal, coefficients), gradients(dense, signal, coefficients), strict=True
    ):
        torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(layer.values.grad, dense.weight.grad[layer.to_dense() != 0])
    if bias:
        torch.testing.assert_close(layer.bias.grad, dense.bias.grad)


@given(
    sizes=st.tuples(st.integers(1, 60), st.integers(1, 12)),
    leading=st.tuples(st.integers(1, 4), st.integers(1, 70)),
    kind=st.sampled_from(["spikes", "numbers"]),
    bias=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_a_readout_of_few_outputs_is_the_dense_layer(sizes, leading, kind, bias, seed):
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    layer = FewOutputs(*sizes, bias=bias, dtype=torch.float64)
    dense = nn.Linear(*sizes, bias=bias, dtype=torch.float64)
    dense.load_state_dict(layer.state_dict())
    usual = drawn_signal(kind, (*leading, sizes[0]), generator)
    coefficients = torch.randn(*leading, sizes[1], generator=generator, dtype=torch.float64)
    expected = gradients(dense, usual, coefficients)
    for signal in (usual, empty_signal(leading, sizes[0], torch.float64).copy_(usual)):
        layer.zero_grad()
        for one, other in zip(gradients(layer, signal, coefficients), expected, strict=True):
            torch.testing.assert_close(one, other)
        for one, other in zip(layer.parameters(), dense.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad)


def test_a_constant_signal_is_processed_once():
    layer = drawn_layer(8, 6, 0.5, 0)
    signal = torch.rand(5, 8, dtype=torch.float64).expand(3, 5, 8)
    output = layer(signal)
    assert output.stride(0) == 0
    torch.testing.assert_close(output, layer(signal.contiguous()))


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_errors_of_a_constant_signal_are_added_over_the_steps(steps):
    """The neurons behind such a layer return errors with one row per neuron."""
    layer, generator = drawn_layer(30, 50, 0.2, 0), torch.Generator().manual_seed(0)
    signal, weights = (
        torch.rand(1, 7, 30, generator=generator, dtype=torch.float64),
        torch.randn(50, dtype=torch.float64),
    )
    repeated, written = signal.expand(steps, 7, 30), signal.repeat(steps, 1, 1)
    found = []
    for inputs in (repeated, written):
        layer.zero_grad()
        spikes = lif(layer(inputs), 0.5, torch.full((50,), 0.3, dtype=torch.float64), arctan, 1.0)
        (spikes * weights).sum().backward()
        found.append((spikes.detach(), layer.values.grad, layer.bias.grad))
    for one, other in zip(*found, strict=True):
        assert one.any()
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("columns", [5, 16, 127, 128, 129, 300])
def test_many_lines_of_numbers_are_added_like_few(columns):
    """From 8,193 lines on, rows are read where they are, and those of connections further on are fetched ahead."""
    layer, generator = drawn_layer(9000, 40, 0.01, 0), torch.Generator().manual_seed(columns)
    signal = torch.randn(columns, 9000, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(layer(signal), signal @ layer.to_dense().T + layer.bias)


def test_a_network_of_sparse_layers_and_neurons_learns_like_the_dense_one():
    # Spikes, both kinds of errors and the readout have one row per neuron between the layers.
    def network(linear):
        return build_layers("30-50-40-7", (30,), lif_per_channel(tau=0.5), linear=linear).double()

    torch.manual_seed(0)
    sparse = network(lambda name, *sizes: SparseLinear(*sizes, density=0.4) if name != "fc3" else FewOutputs(*sizes))
    dense = network(None)
    state = dense.state_dict()
    for name, layer in sparse.named_modules():
        if isinstance(layer, SparseLinear):
            state |= {f"{name}.weight": 3 * layer.to_dense(), f"{name}.bias": layer.bias}
            layer.values.data *= 3
        elif name == "fc3":
            state |= {f"{name}.{part}": value for part, value in layer.state_dict().items()}
    dense.load_state_dict(state)
    inputs = (torch.rand(5, 33, 30) < 0.3).double()
    results = []
    for model in (sparse, dense):
        output = model(inputs)
        output.square().mean().backward()
        results.append((output.detach(), {name: each.grad for name, each in model.named_parameters()}))
    torch.testing.assert_close(results[0][0], results[1][0])
    assert results[0][0].abs().max() > 0.1
    for name, gradient in results[0][1].items():
        if name.endswith("values"):
            module = name.removesuffix(".values")
            there = sparse.get_submodule(module).to_dense() != 0
            torch.testing.assert_close(gradient, results[1][1][f"{module}.weight"][there])
            assert gradient.abs().max() > 0
        else:
            torch.testing.assert_close(gradient, results[1][1][name])


def test_values_that_are_not_finite_stay_so():
    layer = drawn_layer(4, 3, 1.0, 0)
    for bad in (torch.nan, torch.inf):
        signal = torch.ones(2, 4, dtype=torch.float64)
        signal[1, 2] = bad
        output = layer(signal)
        assert torch.isfinite(output[0]).all()
        assert not torch.isfinite(output[1]).any()


@pytest.mark.parametrize("columns", [37, 512])
def test_results_do_not_depend_on_the_number_of_threads(columns):
    generator = torch.Generator().manual_seed(0)
    signals = [drawn_signal(kind, (columns, 300), generator).float().requires_grad_() for kind in ("spikes", "numbers")]
    coefficients = torch.randn(columns, 200, generator=generator)
    layer = drawn_layer(300, 200, 0.1, 0, dtype=torch.float32)

    def everything(threads):
        torch.set_num_threads(threads)
        found = []
        for signal in signals:
            output = layer(signal)
            found += [output, *torch.autograd.grad((output * coefficients).sum(), [signal, *layer.parameters()])]
        return found

    try:
        assert all(torch.equal(*pair) for pair in zip(everything(1), everything(2), strict=True))
    finally:
        torch.set_num_threads(1)


@given(total=st.integers(1, 300), share=st.floats(0, 1), seed=st.integers(0, 100))
def test_distinct_positions_are_sorted_and_exactly_as_many(total, share, seed):
    count = round(share * total)
    found = distinct(total, count, np.random.default_rng(seed))
    assert len(found) == count
    assert (np.diff(found) > 0).all()
    assert count == 0 or (found[0] >= 0 and found[-1] < total)


def test_every_set_of_positions_is_as_probable():
    rng = np.random.default_rng(0)
    counts = np.zeros(8)
    for _ in range(4000):
        counts[distinct(8, 3, rng)] += 1
    assert abs(counts / 1500 - 1).max() < 0.1


def test_fixed_fan_in_gives_every_neuron_as_many_connections():
    layer = SparseLinear(50, 30, fan_in=7, seed=1)
    assert (layer.crow_indices.diff() == 7).all()
    assert (layer.to_dense() != 0).sum(1).tolist() == [7] * 30


def test_a_state_with_another_number_of_connections_is_loaded():
    one, other = drawn_layer(20, 10, 0.3, 0), drawn_layer(20, 10, 0.6, 1)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    signal = torch.rand(5, 20, dtype=torch.float64)
    assert torch.equal(one(signal), other(signal))
    assert other.values.shape == one.values.shape
    assert torch.equal(copy.deepcopy(one)(signal), one(signal))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("col_indices", lambda lines: lines.fill_(20), "input lines are 20 to 20; allowed: 0 to 19"),
        ("col_indices", lambda lines: lines.zero_(), "do not ascend"),
        ("crow_indices", lambda starts: starts.zero_(), "crow_indices do not ascend from 0 to 60"),
        ("values", lambda values: values.resize_(3), "have the shapes"),
        ("crow_indices", torch.Tensor.double, "torch.int32 and torch.float64; expected"),
        ("col_indices", torch.Tensor.long, "torch.int64 and torch.int64; expected"),
    ],
)
def test_a_damaged_index_is_refused(name, change, message):
    layer = drawn_layer(20, 10, 0.3, 0)
    state = copy.deepcopy(layer.state_dict())
    state[name] = change(state[name])
    with pytest.raises(RuntimeError, match=message):
        layer.load_state_dict(state)


def test_connections_that_change_between_forward_and_backward_are_an_error():
    layer = drawn_layer(20, 10, 0.3, 0)
    loss = layer(torch.rand(5, 20, dtype=torch.float64)).sum()
    layer.draw(0.3, np.random.default_rng(1))
    with pytest.raises(RuntimeError, match="connections changed"):
        loss.backward()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fan_in": 9}, "fan_in is 9; allowed: 1 to 8"),
        ({"fan_in": 2, "density": 0.5}, "mutually exclusive"),
        ({"dtype": torch.float16}, "dtype is torch.float16"),
        ({"density": 0.001}, "leaves no connection of 64"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(BadInput, match=message):
        SparseLinear(8, 8, **arguments)


MEMORY = """
import resource, torch
from esl_neuro.sparsity import MaskedAdam, SparseLinear

def step(size):
    layer = SparseLinear(size, size, bias=False, fan_in=16)
    optimizer = MaskedAdam(layer.parameters())
    signal = torch.rand(16, size).round_().requires_grad_()
    layer(signal).square().mean().backward()
    optimizer.step()

peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
step(64)
before = peak()
step(65_536)
print(peak() - before)
"""


def test_memory_grows_with_the_connections_only():
    # A dense copy of the weights would take 16 GiB. The step includes Adam and the gradient of the signal.
    result = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True, timeout=120)
    assert float(result.stdout) < 150
