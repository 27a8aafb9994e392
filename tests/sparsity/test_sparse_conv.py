"""A sparse convolution is the dense convolution with zeros, without the memory for them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from esl_neuro.errors import BadInput
from esl_neuro.interchange import from_nir, to_nir
from esl_neuro.neuron_major import empty_image, is_neuron_major
from esl_neuro.snn import observe
from esl_neuro.snn.layers import AvgPool2d, BatchNorm2d, Conv2d, Flatten, MaxPool2d
from esl_neuro.snn.network import build_layers
from esl_neuro.snn.neurons import LIF, lif_per_channel
from esl_neuro.sparsity import FewOutputs, Rewirer, SparseConv2d, SparseLinear, conv_kernels
from esl_neuro.sparsity.indexed_growth import INDEXED_GROWTH_RULES
from esl_neuro.sparsity.topology import Topology
from esl_neuro.spike_bits import kept_bits

OPTIMISERS = {
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=0.02),
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.02, momentum=0.9),
}
SAME = ("random", "random_unfired", "gradient")

convolutions = st.fixed_dictionaries(
    {
        "channels": st.tuples(st.integers(1, 5), st.integers(1, 7)),
        "kernel": st.tuples(st.integers(1, 4), st.integers(1, 4)),
        "stride": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "padding": st.tuples(st.integers(0, 4), st.integers(0, 4)),
        "size": st.tuples(st.integers(4, 9), st.integers(4, 9)),
        "density": st.floats(0.02, 1),
        "bias": st.booleans(),
    }
)


def drawn_layer(channels, kernel, stride, padding, density, bias, seed, dtype=torch.float64, **_size):
    possible = channels[0] * channels[1] * kernel[0] * kernel[1]
    return SparseConv2d(
        *channels, kernel, stride, padding, bias, density=max(density, 1 / possible), seed=seed, dtype=dtype
    )


def dense_twin(layer):
    twin = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        bias=layer.bias is not None,
        dtype=layer.values.dtype,
    )
    with torch.no_grad():
        twin.weight.copy_(layer.to_dense())
        if layer.bias is not None:
            twin.bias.copy_(layer.bias)
    return twin


def with_rows(signal):
    return empty_image(tuple(signal.shape[:2]), tuple(signal.shape[2:]), signal.dtype).copy_(signal)


def gradients(module, signal, coefficients, shape):
    signal = signal.detach().requires_grad_()
    output = module(signal)
    (output.view(coefficients.shape) * coefficients).sum().backward()
    return output.detach().reshape(shape), signal.grad.reshape(-1)


@settings(max_examples=80)
@given(
    case=convolutions,
    leading=st.tuples(st.integers(1, 3), st.integers(1, 50)),
    neuron_major=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_results_and_gradients_are_those_of_the_dense_kernel(case, leading, neuron_major, seed):
    layer = drawn_layer(**case, seed=seed)
    twin = dense_twin(layer)
    generator = torch.Generator().manual_seed(seed)
    signal = torch.randn(*leading, case["channels"][0], *case["size"], generator=generator, dtype=torch.float64)
    expected = twin(signal.flatten(0, 1))
    coefficients = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    given_ = with_rows(signal) if neuron_major else signal
    for actual, right in zip(
        gradients(layer, given_, coefficients, expected.shape),
        gradients(twin, signal.flatten(0, 1), coefficients, expected.shape),
        strict=True,
    ):
        torch.testing.assert_close(actual, right)
    torch.testing.assert_close(layer.values.grad, twin.weight.grad[layer.to_dense() != 0])
    if case["bias"]:
        torch.testing.assert_close(layer.bias.grad, twin.bias.grad)


@settings(max_examples=30)
@given(case=convolutions, leading=st.tuples(st.integers(1, 3), st.integers(1, 50)), seed=st.integers(0, 1000))
def test_bits_of_spikes_give_what_their_numbers_give(case, leading, seed):
    layer = drawn_layer(**case, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    currents = torch.randn(*leading, case["channels"][0], *case["size"], generator=generator, dtype=torch.float64)
    with torch.no_grad():
        spikes = LIF(tuple(currents.shape[2:]), threshold=0.5).double()(with_rows(3 * currents))
    assert kept_bits(spikes) is not None
    results = []
    for signal in (spikes, spikes.clone()):
        layer.zero_grad()
        output = layer(signal)
        output.square().sum().backward()
        results.append((output.detach(), layer.values.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_an_image_that_does_not_fit_into_the_cache_is_processed_in_parts():
    layer = SparseConv2d(96, 2, 3, padding=1, density=0.2, seed=0)
    signal = torch.randn(3, 50, 96, 5, 12, generator=torch.Generator().manual_seed(0))
    assert conv_kernels.CACHED < 96 * 3 * 14 * 128 * 4
    expected = dense_twin(layer)(signal.flatten(0, 1))
    torch.testing.assert_close(layer(signal).flatten(0, 1), expected, rtol=1e-4, atol=1e-4)
    found = torch.autograd.grad(layer(signal).square().sum(), layer.values)[0]
    twin = dense_twin(layer)
    twin(signal.flatten(0, 1)).square().sum().backward()
    torch.testing.assert_close(found, twin.weight.grad[layer.to_dense() != 0], rtol=1e-3, atol=1e-1)


def test_a_constant_signal_is_processed_once():
    layer = SparseConv2d(2, 3, 3, padding=1, density=0.5)
    signal = torch.rand(5, 2, 6, 6).expand(4, 5, 2, 6, 6)
    output = layer(signal)
    assert output.stride(0) == 0
    torch.testing.assert_close(output, layer(signal.contiguous()))
    grown = [torch.autograd.grad(layer(each).square().sum(), layer.values)[0] for each in (signal, signal.contiguous())]
    torch.testing.assert_close(*grown)


@pytest.mark.parametrize("layer", [AvgPool2d(2), MaxPool2d(2), BatchNorm2d(3), LIF((3, 1, 1)), LIF((3, 6, 8))])
@pytest.mark.parametrize("constant", [False, True])
def test_layers_on_images_with_one_row_per_neuron_give_what_they_give_on_others(layer, constant):
    generator = torch.Generator().manual_seed(0)
    usual = 2 * torch.randn(1 if constant else 2, 16, 3, 6, 8, generator=generator)
    results = []
    for signal in (usual, with_rows(usual)):
        own = copy.deepcopy(layer)
        signal = signal.requires_grad_()
        output = own(signal.expand(2, *signal.shape[1:]) if constant else signal)
        output.pow(3).sum().backward()
        results.append([output.detach(), signal.grad, *own.buffers(), *(each.grad for each in own.parameters())])
    assert constant or is_neuron_major(output)
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def network(notation, shape, conv=None, linear=None):
    return build_layers(notation, shape, lif_per_channel(tau=0.5), conv=conv, linear=linear).double()


def sparse_conv(_name, *sizes):
    return SparseConv2d(*sizes, dtype=torch.float64)


@pytest.mark.parametrize(
    ("notation", "constant"),
    [("8C3-BN-AP2-6C3S2-BN-7C5-MP2-10", True), ("8C3-BN-6C3-BN-AP2-10", False), ("8C3-6C3-AP2-10", False)],
)
def test_a_network_of_sparse_convolutions_learns_like_the_masked_one(notation, constant):
    torch.manual_seed(0)
    sparse = network(
        notation, (3, 12, 13), lambda _, *sizes: SparseConv2d(*sizes, density=0.4), lambda _, *s: FewOutputs(*s)
    )
    dense = network(notation, (3, 12, 13))
    state = sparse.state_dict()
    for name, layer in sparse.named_modules():
        if isinstance(layer, SparseConv2d):
            layer.values.data *= 3
            state = {key: value for key, value in state.items() if not key.startswith(f"{name}.")}
            state |= {f"{name}.weight": layer.to_dense(), f"{name}.bias": layer.bias.data}
    dense.load_state_dict(state)
    inputs = torch.rand(1 if constant else 3, 16, 3, 12, 13, dtype=torch.float64)
    inputs = (2 * inputs).expand(3, 16, 3, 12, 13) if constant else (inputs < 0.4).double()
    results = []
    for model in (sparse, dense):
        for _ in range(2):  # the second step reads running statistics that the first one changed
            model.zero_grad()
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
    statistics = dict(dense.named_buffers())
    for name, value in sparse.named_buffers():
        if "running" in name:
            torch.testing.assert_close(value, statistics[name])


@pytest.mark.parametrize("columns", [37, 160])
def test_results_do_not_depend_on_the_number_of_threads(columns):
    generator = torch.Generator().manual_seed(0)
    signal = torch.randn(columns, 6, 9, 9, generator=generator).requires_grad_()
    layer = SparseConv2d(6, 33, 3, 2, 1, density=0.2)
    coefficients = torch.randn(columns, 33, 5, 5, generator=generator)

    def everything(threads):
        torch.set_num_threads(threads)
        output = layer(signal)
        return [output, *torch.autograd.grad((output * coefficients).sum(), [signal, *layer.parameters()])]

    try:
        assert all(torch.equal(*pair) for pair in zip(everything(1), everything(2), strict=True))
    finally:
        torch.set_num_threads(1)


class Twins:
    """A convolutional network twice, masked and in sparse storage, with the same connections, weights and data."""

    def __init__(self, channels, kernel, stride, optimiser, seed, **settings):
        inputs, hidden, outputs = channels
        torch.manual_seed(seed)
        make = {"masked": nn.Conv2d, "sparse": SparseConv2d}
        self.models = {
            kind: nn.Sequential(
                conv(inputs, hidden, kernel, stride, 1, dtype=torch.float64),
                nn.Tanh(),
                conv(hidden, outputs, 3, 1, 1, dtype=torch.float64),
            )
            for kind, conv in make.items()
        }
        self.optimizers, self.rewirers = {}, {}
        for kind, model in self.models.items():
            self.optimizers[kind] = OPTIMISERS[optimiser](model.parameters())
            self.rewirers[kind] = Rewirer(model, self.optimizers[kind], layers="all", seed=seed, **settings)
        for layer, indexed in zip(*(each.layers for each in self.rewirers.values()), strict=True):
            source = self.models["masked"].get_submodule(layer.name)
            positions = np.flatnonzero(layer.mask.numpy())
            indexed.module.connect(positions, source.weight.detach().numpy().ravel()[positions])
            indexed.module.bias.data.copy_(source.bias.detach())
            if indexed.explored_positions is not None:
                indexed.explored_positions = positions
        self.generator = torch.Generator().manual_seed(seed)

    def step(self):
        images = torch.randn(
            9, self.models["masked"][0].in_channels, 6, 7, generator=self.generator, dtype=torch.float64
        )
        updates = []
        for kind, model in self.models.items():
            self.optimizers[kind].zero_grad()
            output = model(images)
            (output - images.mean((1, 2, 3), keepdim=True)).square().mean().backward()
            self.optimizers[kind].step()
            updates.append(self.rewirers[kind].step())
        return updates


@settings(max_examples=20)
@given(
    channels=st.tuples(st.integers(1, 4), st.integers(2, 70), st.integers(1, 3)),
    kernel=st.integers(2, 3),
    stride=st.integers(1, 2),
    density=st.floats(0.05, 0.9),
    growth=st.dictionaries(st.sampled_from(SAME), st.floats(0.1, 10), min_size=1, max_size=3),
    prune=st.sampled_from(["magnitude", "per_sign", "threshold"]),
    fan_in=st.one_of(st.none(), st.integers(20, 40)),
    optimiser=st.sampled_from(sorted(OPTIMISERS)),
    seed=st.integers(0, 1000),
)
def test_masked_and_sparse_have_the_same_connections_weights_and_moments_at_every_step(
    channels, kernel, stride, density, growth, prune, fan_in, optimiser, seed
):
    density = max(density, 1 / (channels[0] * channels[1] * kernel**2), 1 / (channels[1] * channels[2] * 9))
    if fan_in is not None:
        density = min(density, 15 / (9 * channels[1]), 15 / (9 * channels[0]))
    options = {"density": density, "growth": growth, "prune": prune, "threshold": 0.05, "fan_in": fan_in}
    twins = Twins(channels, kernel, stride, optimiser, seed, alpha=0.4, update_every=2, end=8, **options)
    for _ in range(8):
        new = [layer.mask & (layer.weight == 0) for layer in twins.rewirers["masked"].layers]
        masked, sparse = twins.step()
        layers = twins.rewirers["masked"].layers
        # Connections that nothing reads have a gradient of zero: which of them are chosen is a tie.
        if any((layer.weight.grad[born] == 0).any() for layer, born in zip(layers, new, strict=True)):
            break
        if "gradient" in growth and any((layer.weight.grad == 0).any() for layer in layers):
            break
        for one, other in zip(masked, sparse, strict=True):
            assert (one.births, one.deaths, one.fan_in, one.fan_out) == (
                other.births,
                other.deaths,
                other.fan_in,
                other.fan_out,
            )
        for layer, indexed in zip(layers, twins.rewirers["sparse"].layers, strict=True):
            assert indexed.shape() == layer.shape()
            assert indexed.module.index.positions().tolist() == np.flatnonzero(layer.mask.numpy()).tolist()
            torch.testing.assert_close(indexed.weight, layer.weight[layer.mask])
            one, other = (
                twins.optimizers[kind].state[weight]
                for kind, weight in (("masked", layer.weight), ("sparse", indexed.weight))
            )
            for key, moment in other.items():
                if isinstance(moment, torch.Tensor) and moment.dim():
                    torch.testing.assert_close(moment, one[key][layer.mask])


@pytest.mark.parametrize("rule", INDEXED_GROWTH_RULES.names())
def test_every_growth_rule_creates_as_many_connections_as_die(rule):
    twins = Twins((2, 8, 2), 3, 1, "Adam", 0, density=0.3, growth={"random": 1.0}, update_every=2, end=20)
    rewirer = twins.rewirers["sparse"]
    rewirer.growth = {rule: 1.0}
    for layer in rewirer.layers:
        layer.explored_positions = layer.module.index.positions()
    counts = [layer.connections for layer in rewirer.layers]
    births = 0
    for _ in range(6):
        births += sum(update.births for update in twins.step()[1])
        assert [layer.connections for layer in rewirer.layers] == counts
        assert all((np.diff(layer.module.index.positions()) > 0).all() for layer in rewirer.layers)
    assert births > 0


def test_a_resumed_run_ends_bit_for_bit_like_the_uninterrupted_one():
    def run(stop=None):
        options = {"density": 0.3, "growth": {"random_unfired": 0.5, "gradient": 0.5}, "update_every": 3, "end": 100}
        twins = Twins((2, 8, 2), 3, 2, "Adam", 3, **options)
        for step in range(10):
            if step == stop:
                parts = twins.models, twins.optimizers, twins.rewirers
                saved = [copy.deepcopy(each["sparse"].state_dict()) for each in parts]
                later = Twins((2, 8, 2), 3, 2, "Adam", 4, **options)
                later.generator, later.rewirers["sparse"].seed = twins.generator, 3
                for each, state in zip((later.models, later.optimizers, later.rewirers), saved, strict=True):
                    each["sparse"].load_state_dict(state)
                twins = later
            twins.step()
        return twins.models["sparse"].state_dict() | twins.rewirers["sparse"].state_dict()

    whole = run()
    for stop in (2, 5, 6):
        resumed = run(stop)
        assert whole.keys() == resumed.keys()
        assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_equally_many_connections_of_each_channel_are_drawn_and_windows_are_refused():
    layer = SparseConv2d(3, 5, 3)
    layer.draw_topology(Topology(7), np.random.default_rng(0))
    assert (layer.to_dense() != 0).flatten(1).sum(1).tolist() == [7] * 5
    with pytest.raises(BadInput, match=r"sparsity\.window: 9 lines around a neuron do not exist in the kernel"):
        layer.draw_topology(Topology(7, window=9), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("layer", "shape"), [(SparseConv2d(2, 3, 3, padding=1), (2, 5, 5)), (SparseLinear(4, 3), (4,))]
)
def test_a_layer_without_connections_returns_its_bias(layer, shape):
    signal = torch.rand(2, 3, *shape).requires_grad_()
    output = layer(signal)
    output.sum().backward()
    assert (
        (output.flatten(3) == layer.bias.view(1, 1, 3, 1)).all() if output.dim() > 3 else (output == layer.bias).all()
    )
    assert layer.values.grad.numel() == 0
    assert not signal.grad.any()


def test_connections_that_change_between_forward_and_backward_are_an_error():
    layer = SparseConv2d(2, 3, 3, density=0.5)
    loss = layer(torch.rand(5, 2, 6, 6)).sum()
    layer.draw(0.5, np.random.default_rng(1))
    with pytest.raises(RuntimeError, match="connections changed"):
        loss.backward()


def test_a_dense_convolution_becomes_a_sparse_one():
    torch.manual_seed(0)
    dense = nn.Conv2d(3, 4, 3, 2, 1)
    mask = torch.rand(dense.weight.shape) < 0.5
    with torch.no_grad():
        dense.weight.masked_fill_(~mask, 0)
    signal = torch.rand(2, 3, 7, 7)
    layer = SparseConv2d.from_dense(dense, mask)
    assert layer.connections == mask.sum()
    torch.testing.assert_close(layer(signal), dense(signal))
    assert Flatten()(layer(signal[None])).shape == (1, 2, 64)


def test_convolutions_that_are_not_supported_are_refused_with_all_findings():
    dense = nn.Conv2d(4, 4, 3, padding="same", groups=2, dilation=2, padding_mode="reflect")
    with pytest.raises(BadInput) as caught:
        SparseConv2d.from_dense(dense)
    for part in (
        "groups is 2",
        r"dilation is (2, 2)",
        "padding_mode is 'reflect'",
        "padding is 'same'",
        "masked nn.Conv2d",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stride": 0, "padding": -1}, r"stride is \(0, 0\); allowed: 1 and above; padding is \(-1, -1\)"),
        ({"dtype": torch.float16}, "dtype is torch.float16"),
        ({"density": 0.001}, "leaves no connection of 36"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(BadInput, match=message):
        SparseConv2d(2, 2, 3, **arguments)


@pytest.mark.parametrize("shape", [(1, 3, 5, 5), (2, 5, 5), (1, 2, 2, 5)])
def test_signals_that_do_not_fit_are_refused(shape):
    with pytest.raises(BadInput, match="SparseConv2d: "):
        SparseConv2d(2, 2, 3)(torch.rand(shape))


def test_a_sparse_network_is_exported_as_the_masked_one_and_returns_with_its_spikes():
    torch.manual_seed(0)
    neurons, notation = lif_per_channel(threshold=0.2), "6C3-BN-AP2-5C3S2-4"
    conv = lambda _, *sizes: SparseConv2d(*sizes, density=0.4)  # noqa: E731
    sparse = build_layers(notation, (2, 8, 8), neurons, conv=conv, spiking_output=True).eval()
    masked = copy.deepcopy(sparse)
    for name in ("conv1", "conv2"):
        twin = dense_twin(sparse.get_submodule(name))
        layer = Conv2d(twin.in_channels, twin.out_channels, twin.kernel_size, twin.stride, twin.padding)
        layer.load_state_dict(twin.state_dict())
        setattr(masked, name, layer)
    graphs = [to_nir(each, 4, shape=(2, 8, 8)) for each in (sparse, masked)]
    assert graphs[0].nodes.keys() == graphs[1].nodes.keys()
    for name, node in graphs[1].nodes.items():
        for field, value in vars(node).items():
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(getattr(graphs[0].nodes[name], field), value)
    assert np.count_nonzero(graphs[0].nodes["conv2"].weight) == sparse.conv2.connections
    inputs = (torch.rand(4, 3, 2, 8, 8) < 0.5).float()
    expected = observe(sparse, inputs).outputs
    assert expected.sum() > 0
    assert torch.equal(observe(from_nir(graphs[0]).eval(), inputs).outputs, expected)


def test_a_kernel_that_nir_cannot_hold_is_refused():
    with pytest.raises(BadInput, match="3x1 cannot be read back; use 3x3"):
        to_nir(nn.Sequential(SparseConv2d(2, 3, (3, 1), density=1.0), LIF((3, 1, 1))), 2, shape=(2, 5, 5))
