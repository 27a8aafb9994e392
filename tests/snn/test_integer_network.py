"""A quantised network is the integer program: every spike equal, to the program's definition and to the simulator."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from esl_neuro.backends.integer import run_integer
from esl_neuro.compiler.compile import compile_graph
from esl_neuro.errors import BadInput
from esl_neuro.hardware import load_target
from esl_neuro.hardware.rounding import InputFormat
from esl_neuro.interchange import to_nir
from esl_neuro.snn import build_layers, observe
from esl_neuro.snn.integer_network import QuantisedNetwork
from esl_neuro.snn.layers import AvgPool2d, Conv2d, Flatten, Linear
from esl_neuro.snn.neurons import LIAF, LIF, CubaLIF

TARGET = load_target("loihi2")
ARITHMETIC = TARGET.arithmetic
STEPS = 6
BYTES = InputFormat(8, 255.0)


def neurons(tau=0.5, tau_syn=None, spread=0.5):
    """LIFs whose thresholds differ."""

    def make(shape):
        channels = (shape[0], *[1] * (len(shape) - 1))
        arguments = (1.0, "arctan", 1.0, True)
        layer = LIF(channels, tau, *arguments) if tau_syn is None else CubaLIF(channels, tau, tau_syn, *arguments)
        nn.init.normal_(layer.raw_threshold, 0.5, spread)
        return layer

    return make


def network(
    notation,
    shape,
    *,
    make=None,
    bias=False,
    spiking_output=True,
    inputs=None,
    seed=0,
    size=1.0,
    chip=TARGET,
    streaming=False,
    weight_bits=None,
):
    torch.manual_seed(seed)
    layers = build_layers(
        notation, shape, make or neurons(), bias=bias, spiking_output=spiking_output, streaming=streaming
    )
    for name, parameter in layers.named_parameters():
        if name.endswith("weight"):
            parameter.data *= 3 * size
    for layer in layers.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.5, 2)
            nn.init.normal_(layer.weight, 1, 0.2)
            nn.init.normal_(layer.bias, 0, 0.2)
    return QuantisedNetwork(layers, chip.arithmetic, inputs or InputFormat(), weight_bits=weight_bits)


def spikes(*shape, seed=0, rate=0.4):
    return (np.random.default_rng(seed).random((STEPS, 3, *shape)) < rate).astype(np.float32)


def trunc0(value, keep):
    product = value * keep
    return product // 4096 if product >= 0 else -(-product // 4096)


def reference_neurons(a, keep_u, keep_v, vth, bias):
    """Group's docstring in Python's integers: spikes and potentials after every step; ``a`` is (steps, neurons)."""
    limit = 2**23
    u, v = [0] * len(vth), [0] * len(vth)
    fired, potentials = np.zeros(a.shape, int), np.zeros(a.shape, int)
    for step, sums in enumerate(a):
        for n, arriving in enumerate(int(value) for value in sums):
            u[n] = trunc0(u[n], keep_u) + (arriving << 6)
            if u[n] > limit:
                u[n] -= 2 * limit
            elif u[n] <= -limit:
                u[n] += 2 * limit
            v[n] = max(-(limit - 1), min(limit - 1, trunc0(v[n], keep_v) + u[n] + bias[n]))
            if v[n] > vth[n] << 6:
                fired[step, n], v[n] = 1, 0
            potentials[step, n] = v[n]
    return fired, potentials


def whole(tensor, shape):
    values = np.broadcast_to(tensor.detach().numpy(), shape).ravel()
    assert (values == np.rint(values)).all()
    return [int(value) for value in values]


def reference(quantised, signal):
    """Spikes of every layer, and the potential of the readout, by brute force; no rounding but the chip's."""
    payloads = quantised.inputs.payloads(torch.from_numpy(signal)).double() if quantised.inputs.bits > 1 else signal
    current, record, potential = torch.as_tensor(payloads).double(), {}, None
    for stage in quantised.stages:
        integers = quantised.integers(stage)
        for name in stage.before:
            layer = quantised.get_submodule(name)
            current = layer(current)
            if isinstance(layer, nn.AvgPool2d):
                current = (current * layer.kernel_size**2).round()
        connection = quantised.get_submodule(stage.connection)
        weights = integers.weights.double()
        assert (weights % 2 == 0).all()
        assert weights.abs().max() <= 254
        merged = current.flatten(0, 1)
        if isinstance(connection, nn.Conv2d):
            merged = nn.functional.conv2d(merged, weights, None, connection.stride, connection.padding)
        else:
            merged = merged @ weights.T
        sums = merged.reshape(*current.shape[:2], *merged.shape[1:]).detach().numpy().astype(np.int64)
        assert integers.weight_exp <= 0
        sums >>= -integers.weight_exp
        shape, constants = sums.shape[2:], integers.constants
        vth, bias = whole(constants.vth, shape), whole(constants.bias, shape)
        assert max(vth) < 2**17
        samples = [
            reference_neurons(
                sums[:, sample].reshape(len(sums), -1), int(constants.keep_u), int(constants.keep_v), vth, bias
            )
            for sample in range(sums.shape[1])
        ]
        fired = np.stack([sample[0] for sample in samples], axis=1).reshape(sums.shape)
        if stage.neurons is None:
            potential = np.stack([sample[1][-1] for sample in samples])
        else:
            record[stage.neurons] = fired
        current = torch.from_numpy(fired).double()
    return record, potential


def assert_is_the_reference(quantised, signal):
    activity = observe(quantised, torch.from_numpy(signal))
    record, potential = reference(quantised, signal)
    assert list(record) == list(activity.spikes)
    for name, fired in record.items():
        assert np.array_equal(activity.spikes[name].detach().numpy(), fired), name
    if potential is not None:
        unit = quantised.integers(quantised.stages[-1]).constants.unit.numpy()
        assert np.array_equal(activity.outputs.sum(0).detach().numpy(), potential * unit)
        assert np.array_equal(activity.predictions().numpy(), potential.argmax(1))
    return record, potential


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    tau=st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]),
    tau_syn=st.sampled_from([None, 0.4, 0.97]),
    size=st.sampled_from([0.01, 1.0, 100.0]),
    bias=st.booleans(),
)
def test_every_spike_is_that_of_the_definition(seed, tau, tau_syn, size, bias):
    quantised = network("9-7-4", (9,), make=neurons(tau, tau_syn), bias=bias and tau_syn is None, seed=seed, size=size)
    assert_is_the_reference(quantised, spikes(9, seed=seed))


@pytest.mark.parametrize(("notation", "shape"), [("9-7-6-4", (9,)), ("4C3-BN-AP2-5C3-AP2-4", (1, 8, 8))])
def test_a_streaming_chain_is_its_program(notation, shape):
    quantised = network(notation, shape, streaming=True, size=2.0, make=neurons(spread=0.1))
    signal = spikes(*shape)
    assert_is_the_reference(quantised, signal)
    program = compile_graph(to_nir(quantised, STEPS, shape=shape), TARGET, STEPS).program
    assert sum(connection.delay for connection in program.connections) == len(quantised.stages) - 1
    trace = run_integer(program, signal.astype(np.int32).reshape(STEPS, 3, -1).swapaxes(0, 1))
    for name, fired in observe(quantised, torch.from_numpy(signal)).spikes.items():
        assert fired.any()
        assert np.array_equal(fired.detach().numpy().reshape(STEPS, 3, -1).swapaxes(0, 1), trace.spikes[name])


def test_the_networks_above_are_not_silent():
    record, _ = assert_is_the_reference(network("9-7-4", (9,)), spikes(9))
    assert all(0 < fired.mean() < 1 for fired in record.values())


@pytest.mark.parametrize("tau_syn", [None, 0.9])
def test_wrap_and_saturation_are_those_of_the_definition(tau_syn):
    quantised = network("600-5-3", (600,), make=neurons(0.9, tau_syn))
    with torch.no_grad():
        quantised.get_submodule("fc1").weight.copy_(torch.sign(torch.randn(5, 1)).expand(5, 600))
        quantised.get_submodule("lif1").raw_threshold.fill_(400.0)  # never reached by what does not wrap
    signal = np.ones((STEPS, 1, 600), np.float32)
    assert 254 * 600 * 64 > 2**23
    assert_is_the_reference(quantised, signal)


def test_graded_input_and_accumulating_readout_are_those_of_the_definition():
    for seed in range(5):
        quantised = network("9-7-4", (9,), bias=seed % 2 == 1, spiking_output=False, inputs=BYTES, seed=seed)
        once = np.random.default_rng(seed).random((1, 3, 9), dtype=np.float32)
        _, potential = assert_is_the_reference(quantised, np.repeat(once, STEPS, axis=0))
        assert len(np.unique(potential)) > 5
        assert quantised.integers(quantised.stages[0]).weight_exp < 0
        assert quantised.inputs.payloads(torch.from_numpy(once)).max() > 200


def test_input_that_never_changes_and_its_copies_give_the_same():
    quantised = network("9-7-4", (9,), spiking_output=False, inputs=BYTES)
    once = torch.rand(1, 3, 9)
    one, other = (quantised(signal) for signal in (once.expand(STEPS, 3, 9), once.repeat(STEPS, 1, 1)))
    assert torch.equal(one, other)


@pytest.mark.parametrize("notation", ["4C3-AP2-6C3S2-10", "4C3-BN-AP2-6C3-BN-AP2-10", "4C3-DP-AP2-20-V2"])
@pytest.mark.parametrize("inputs", [InputFormat(), BYTES])
def test_convolutions_pools_and_folded_batch_norm_are_those_of_the_definition(notation, inputs):
    quantised = network(notation, (2, 8, 8), inputs=inputs, size=4.0)
    signal = spikes(2, 8, 8) if inputs.bits == 1 else np.random.default_rng(0).random((STEPS, 3, 2, 8, 8), np.float32)
    record, _ = assert_is_the_reference(quantised, signal)
    assert all(fired.any() for fired in record.values())


def wide(tau_syn=None):
    """A network whose first layer would wrap: 3,000 weights of one sign."""
    quantised = network("3000-5-4", (3000,), make=neurons(0.5, tau_syn))
    with torch.no_grad():
        weight = quantised.get_parameter("fc1.weight")
        weight.abs_()
        quantised.get_parameter("lif1.raw_threshold").fill_(30.0)
    return quantised


@pytest.mark.parametrize("tau_syn", [None, 0.9])
def test_a_wide_layer_has_room_for_all_spikes_at_once(tau_syn):
    quantised = wide(tau_syn)
    integers = quantised.integers(quantised.stages[0])
    assert integers.weight_exp < 0
    assert integers.weights.max() == 254
    kept = 4096 / (4096 - integers.constants.keep_u)
    assert integers.weights.sum(1).max() * 2.0**integers.weight_exp * kept < 2**17
    record, _ = assert_is_the_reference(quantised, np.ones((STEPS, 3, 3000), np.float32))
    assert record["lif1"].any()
    again = QuantisedNetwork(quantised.on_grid(), ARITHMETIC)
    assert again.integers(again.stages[0]).weight_exp == integers.weight_exp
    assert torch.equal(again.integers(again.stages[0]).weights, integers.weights)


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), tau=st.sampled_from([0.3, 0.5, 0.9, 1.0]), bias=st.booleans())
def test_what_is_exported_and_compiled_are_the_very_integers(seed, tau, bias):
    assert_compiled_are_the_very_integers(network("9-7-4", (9,), make=neurons(tau), bias=bias, seed=seed), seed)


def test_what_is_compiled_of_a_wide_layer_are_the_very_integers():
    assert_compiled_are_the_very_integers(wide(), 0)


def other_chip(**registers):
    return TARGET.model_copy(update={"arithmetic": ARITHMETIC.model_copy(update=registers)})


@pytest.mark.parametrize("registers", [{"weight_min": -64, "weight_max": 64}, {"decay_bits": 4}, {"threshold_bits": 8}])
@pytest.mark.parametrize("seed", range(3))
def test_a_network_learns_with_the_registers_that_its_chip_has(registers, seed):
    chip = other_chip(**registers)
    quantised = network("9-7-4", (9,), make=neurons(0.3), seed=seed, chip=chip)
    assert_is_the_reference(quantised, spikes(9, seed=seed))
    assert_compiled_are_the_very_integers(quantised, seed, chip)
    stage = quantised.stages[0]
    there, here = (each.integers(stage) for each in (network("9-7-4", (9,), make=neurons(0.3), seed=seed), quantised))
    same = torch.equal(there.weights, here.weights) and torch.equal(there.constants.vth, here.constants.vth)
    assert not (same and there.constants.keep_v == here.constants.keep_v)


@pytest.mark.parametrize(("notation", "shape"), [("9-7-4", (9,)), ("4C3-BN-AP2-5C3-AP2-4", (1, 8, 8))])
@pytest.mark.parametrize("bits", [2, 4, 6])
def test_layers_with_few_bits_are_those_of_the_definition(notation, shape, bits):
    first = next(name for name, each in network(notation, shape).named_children() if hasattr(each, "weight"))
    quantised = network(notation, shape, weight_bits={first: bits})
    found = [set(quantised.integers(stage).weights.flatten().tolist()) for stage in quantised.stages]
    assert all(weight % (2 << (8 - bits)) == 0 for weight in found[0])
    assert len(found[0]) <= 2**bits - 1
    assert any(weight % 4 for weight in found[1])
    assert_is_the_reference(quantised, spikes(*shape))


def test_potentials_of_another_width_are_refused():
    with pytest.raises(BadInput, match=r"20-bit currents and potentials, training uses 24 bits"):
        network("9-7-4", (9,), chip=other_chip(potential_bits=20))


def assert_compiled_are_the_very_integers(quantised, seed, chip=TARGET):
    program = compile_graph(to_nir(quantised, STEPS), chip, STEPS).program
    for (connection, group), stage in zip(program.layers(), quantised.stages, strict=True):
        integers = quantised.integers(stage)
        assert connection.weight_exp == integers.weight_exp
        assert np.array_equal(connection.matrix.toarray(), integers.weights.numpy())
        assert np.array_equal(group.vth, integers.constants.vth.numpy())
        assert np.array_equal(
            group.bias_mant << group.bias_exp, np.broadcast_to(integers.constants.bias, group.vth.shape)
        )
        assert (4096 - group.dv == integers.constants.keep_v).all()
    signal = spikes(program.input_size, seed=seed)
    trace = run_integer(program, signal.transpose(1, 0, 2).astype(np.uint8))
    for name, fired in observe(quantised, torch.from_numpy(signal)).spikes.items():
        assert np.array_equal(trace.spikes[name], fired.detach().numpy().transpose(1, 0, 2))


def test_the_grid_of_a_network_on_the_grid_is_the_same():
    for inputs in (InputFormat(), BYTES):
        quantised = network("4C3-BN-AP2-6C3-BN-AP2-10", (2, 8, 8), inputs=inputs, spiking_output=False)
        again = QuantisedNetwork(quantised.on_grid(), ARITHMETIC, inputs)
        for stage, other in zip(quantised.stages, again.stages, strict=True):
            first, second = quantised.integers(stage), again.integers(other)
            assert torch.equal(first.weights, second.weights)
            assert torch.equal(first.constants.vth, second.constants.vth)
            assert torch.equal(first.constants.bias.flatten(), second.constants.bias.flatten())
            assert first.weight_exp == second.weight_exp


def test_gradients_are_those_of_the_float_network_on_the_grid():
    """Where decays are exact and nothing is truncated, both networks are the same function."""
    quantised = network("9-7-4", (9,), make=neurons(1.0), bias=True)
    with torch.no_grad():
        for name, parameter in quantised.on_grid().named_parameters():
            quantised.get_parameter(name).copy_(parameter)
    plain = quantised.on_grid()
    signal, errors = torch.from_numpy(spikes(9)), torch.randn(STEPS, 3, 4)
    for each in (quantised, plain):
        (each(signal) * errors).sum().backward()
    assert torch.equal(quantised(signal), plain(signal))
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(quantised.get_parameter(name).grad, parameter.grad, rtol=1e-3, atol=1e-4)


def test_gradients_of_synapses_and_of_the_readout_are_those_of_the_float_network():
    quantised = network("9-7-4", (9,), make=neurons(1.0, 0.5), spiking_output=False)
    plain = quantised.on_grid()
    signal, errors = torch.from_numpy(spikes(9)), torch.randn(STEPS, 3, 4)
    for each in (quantised, plain):
        (each(signal) * errors).sum().backward()
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(quantised.get_parameter(name).grad, parameter.grad, rtol=2e-2, atol=2e-2)


def test_names_and_state_are_those_of_the_float_network():
    torch.manual_seed(0)
    layers = build_layers("9-7-4", (9,), neurons(), spiking_output=True)
    quantised = QuantisedNetwork(layers, ARITHMETIC)
    assert list(quantised.state_dict()) == list(layers.state_dict())
    assert all(one is other for one, other in zip(quantised.parameters(), layers.parameters(), strict=True))


def test_what_has_no_integer_form_is_refused_by_name():
    torch.manual_seed(0)
    layers = build_layers("4C3-MP2-10", (1, 8, 8), neurons(), spiking_output=True)
    with pytest.raises(BadInput, match=r"'pool1' \(MaxPool2d\) has no integer form"):
        QuantisedNetwork(layers, ARITHMETIC)
    with pytest.raises(BadInput, match="'fc1': a bias into a synaptic filter"):
        network("9-7-4", (9,), make=neurons(0.5, 0.4), bias=True)
    with pytest.raises(BadInput, match=r"'1' \(LIAF\) has analog outputs and so no integer form; use LIF; allowed"):
        QuantisedNetwork(nn.Sequential(Linear(4, 3), LIAF(3), Linear(3, 2)), ARITHMETIC)
    with pytest.raises(BadInput, match="type Linear"):
        QuantisedNetwork(nn.Linear(2, 3), ARITHMETIC)


@pytest.mark.parametrize("last", [AvgPool2d(2), Flatten()])
def test_a_layer_without_weights_behind_it_is_refused(last):
    layers = nn.Sequential(OrderedDict(conv1=Conv2d(1, 4, 3), lif1=neurons()((4, 6, 6)), last=last))
    with pytest.raises(BadInput, match="'last' is not followed by a weighted layer"):
        QuantisedNetwork(layers, ARITHMETIC)
