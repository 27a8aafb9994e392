"""Nothing reaches a simulator that the simulators could compute differently, or Lava silently changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from backends.random_programs import (
    KINDS,
    random_graph,
    random_group,
    random_images,
    random_program,
    random_spikes,
    random_weights,
)
from esl_neuro.backends.integer import count_integer, run_integer
from esl_neuro.backends.validate import largest_sum, validate
from esl_neuro.compiler.program import Connection, Program
from esl_neuro.compiler.timing import timing
from esl_neuro.energy.counts import count
from esl_neuro.errors import BadInput
from esl_neuro.nirgraph.kernel import Kernel


@pytest.fixture
def program():
    program = random_program(np.random.default_rng(11), depth=2, steps=5)
    assert all(connection.weights.nnz > 1 for connection in program.connections)
    return program


def with_group(program, **arrays):
    return replace(program, groups=(replace(program.groups[0], **arrays), program.groups[1]))


def with_connection(program, **values):
    return replace(program, connections=(replace(program.connections[0], **values), program.connections[1]))


def changed(values, first):
    values = values.copy()
    values[0] = first
    return values


def assert_refused(program, *sentences, spikes=None):
    with pytest.raises(BadInput) as caught:
        validate(program, spikes)
    for sentence in sentences:
        assert sentence in str(caught.value)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("extreme", [False, True])
def test_legal_programs_pass(seed, extreme):
    rng = np.random.default_rng(seed)
    program = random_program(rng, extreme=extreme)
    validate(program)
    validate(program, random_spikes(rng, program, samples=1))


@pytest.mark.parametrize(
    ("quantity", "low", "high"),
    [("du", -1, 4095), ("dv", 0, 4095), ("vth", 0, 131_071), ("bias_mant", -4095, 4095), ("bias_exp", 0, 7)],
)
def test_neuron_ranges(program, quantity, low, high):
    values = getattr(program.groups[0], quantity)
    for allowed in (low, high):
        validate(with_group(program, **{quantity: changed(values, allowed)}))
    for refused in (low - 1, high + 1):
        assert_refused(
            with_group(program, **{quantity: changed(values, refused)}),
            f"layer 'layer 1': {quantity}: {refused} is not allowed (1 of {values.size} values)",
            f"allowed: from {low} to {high}",
        )


@pytest.mark.parametrize("weight", [255, 256, -256, 3, -1])
def test_weight_values(program, weight):
    weights = program.connections[0].weights.copy()
    weights.data[0] = weight
    assert_refused(
        with_connection(program, weights=weights), f"'input' -> 'layer 1': weights: {weight} is not allowed", "even"
    )


@pytest.mark.parametrize("weight_exp", [-9, 8])
def test_weight_exponent(program, weight_exp):
    assert_refused(
        with_connection(program, weight_exp=weight_exp), f"weight_exp is {weight_exp}; allowed: from -8 to 7"
    )


def test_types(program):
    group, weights = program.groups[0], program.connections[0].weights
    assert_refused(with_group(program, vth=group.vth + 0.5), "vth has type float64; only integers")
    assert_refused(with_connection(program, weights=weights.astype(float)), "weights have type float64; only integers")
    assert_refused(
        with_connection(program, weights=weights.tocsc()),
        "a csc_matrix; expected a scipy.sparse.csr_matrix or a Kernel",
    )
    assert_refused(with_connection(program, weights=sp.csr_array(weights)), "csr_array")


def test_shapes(program):
    group, connection = program.groups[0], program.connections[0]
    assert_refused(with_group(program, du=np.array([1, 2])), "du has shape (2,)", f"expected ({group.neurons},)")
    assert_refused(with_connection(program, weights=connection.weights[:, :-1]), "weights have shape")
    assert_refused(
        with_group(program, **dict.fromkeys(("du", "dv", "vth", "bias_mant", "bias_exp"), np.array([], int))),
        "has 0 neurons",
    )


def test_duplicate_synapses(program):
    connection = program.connections[0]
    rows = connection.weights.shape[0]
    indptr = np.full(rows + 1, 2)
    indptr[0] = 0
    doubled = sp.csr_matrix((np.array([2, 4]), np.array([0, 0]), indptr), shape=connection.weights.shape)
    assert_refused(with_connection(program, weights=doubled), "contain a duplicate synapse")


def test_graph(program):
    first, second = program.connections
    assert_refused(replace(program, connections=(first,)), "layer 'layer 2': has no incoming connection")
    assert_refused(replace(program, connections=(), groups=()), "number of groups: 0, of connections: 0")
    assert_refused(
        with_connection(program, source="layer_1"),
        "'layer_1' -> 'layer 1': group 'layer_1' does not exist; did you mean 'layer 1'?",
    )
    assert_refused(with_connection(program, target="input"), "group 'input' does not exist")
    assert_refused(replace(program, connections=(second, first)), "in the order of the groups that they feed")
    assert_refused(with_group(program, name="layer 2"), "names must be unique")
    assert_refused(with_group(program, name="input"), "not 'input'")
    assert_refused(replace(program, steps=0), "steps is 0; it must be at least 1")
    assert_refused(replace(program, readout="spike"), "readout is 'spike'; did you mean 'spikes'?")
    for bits in (0, 25):
        assert_refused(replace(program, input_bits=bits), f"input_bits is {bits}; allowed: from 1 to 24")


@pytest.mark.parametrize("delay", [-1, 64])
def test_delay(program, delay):
    assert_refused(with_connection(program, delay=delay), f"delay is {delay}; allowed: from 0 to 63")


def test_what_is_needed_in_the_same_step_comes_first(program):
    neurons = [group.neurons for group in program.groups]
    back = Connection("layer 2", "layer 1", random_weights(np.random.default_rng(0), *neurons, 0.5), 0, 0)
    for connection in (back, replace(back, source="layer 1", weights=sp.csr_matrix((neurons[0],) * 2, dtype=int))):
        with_loop = replace(program, connections=(program.connections[0], connection, program.connections[1]))
        assert_refused(
            with_loop, f"'{connection.source}' must come before 'layer 1'; reorder the groups, or give a loop"
        )
        loop = 2 if connection is back else 1
        for delay in range(1, loop + 1):
            delayed = replace(connection, delay=delay)
            with_loop = replace(program, connections=(program.connections[0], delayed, program.connections[1]))
            if delay < loop:
                assert_refused(with_loop, "layer 1 -> layer 2 -> layer 1 has fewer steps of delay than connections")
            else:
                validate(with_loop)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("kind", KINDS)
def test_legal_graphs_pass(seed, kind):
    rng = np.random.default_rng(seed)
    program = random_graph(rng, kind, extreme=seed % 2 == 0)
    validate(program, random_spikes(rng, program, samples=1))
    timing(program)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"weights": np.full((4, 2, 3, 3), 3, np.int32)}, "weights: 3 is not allowed (72 of 72 values); allowed: even"),
        ({"weights": np.full((4, 2, 3, 3), 256, np.int32)}, "weights: 256 is not allowed"),
        ({"weights": np.full((4, 2, 3, 3), 2.0)}, "weights have type float64"),
        ({"weights": np.zeros((4, 2, 3), np.int32)}, "kernel weights have shape (4, 2, 3)"),
        ({"weights": np.zeros((4, 2, 9, 3), np.int32)}, "kernel (9, 3) is larger than its padded input (6, 5)"),
        ({"stride": (1, 0)}, "stride is (1, 0); expected (rows, columns), each at least 1"),
        ({"padding": (-1, 0)}, "padding is (-1, 0)"),
        ({"dilation": (1,)}, "dilation is (1,)"),
        ({"groups": 2}, "2 groups of 2 input channels do not fit 2 input and 4 output channels"),
        ({"input_shape": (2, 7, 5)}, "weights have shape (60, 70); expected (48, 60) (targets, sources)"),
    ],
)
def test_kernels(change, sentence):
    kernel = Kernel(np.full((4, 2, 3, 3), -2, np.int32), (2, 6, 5))
    group = random_group(np.random.default_rng(0), "conv", kernel.shape[0])
    connection = Connection("input", "conv", kernel, 0, kernel.nnz)
    program = Program("loihi2", kernel.shape[1], 1, 1e-3, (connection,), (group,))
    validate(program)
    changed_connection = replace(connection, weights=replace(kernel, **change))
    assert_refused(replace(program, connections=(changed_connection,)), sentence)


def test_current_that_could_leave_32_bits():
    """254 * 2**7 * 64 for each of many inputs; with no decay of the current it also grows from step to step."""
    rng = np.random.default_rng(0)
    program = random_program(rng, depth=1, steps=1, exponents=[7], extreme=True, widest=40)
    program.groups[0].du[:] = -1

    def with_inputs(inputs, steps):
        weights = sp.csr_matrix(np.full((program.groups[0].neurons, inputs), 254))
        return replace(with_connection_only(program, weights), input_size=inputs, steps=steps)

    validate(with_inputs(900, steps=1))
    assert_refused(with_inputs(1100, steps=1), "can reach", "lower weight_exp (7)")
    assert_refused(with_inputs(900, steps=2), "within 2 steps")
    validate(with_inputs(8, steps=100_000))  # below 2**24 the wrap holds the current for ever
    # What counts is the sum of all connections, and the payload.
    half = with_inputs(600, steps=1)
    validate(half)
    assert_refused(replace(half, connections=half.connections * 2), "can reach", "lower weight_exp (7, 7)")
    assert_refused(replace(half, input_bits=2), "can reach")


def test_sum_that_could_leave_32_bits_before_it_is_shifted_down():
    program = random_program(np.random.default_rng(0), depth=1, steps=1, exponents=[-8])
    weights = sp.csr_matrix(np.full((program.groups[0].neurons, 1), 254))
    program = replace(with_connection_only(program, weights), input_size=1)
    validate(replace(program, input_bits=23))
    assert_refused(replace(program, input_bits=24), "weighted sum of neuron 0 can reach 4.26e+09", "input_bits (24)")


def test_a_kernel_is_bounded_like_its_matrix():
    rng = np.random.default_rng(0)
    for _ in range(20):
        _, (kernel,) = random_images(rng, 1)
        exact = largest_sum(kernel.matrix())
        assert (largest_sum(kernel) >= exact).all()
        if kernel.padding == (0, 0):
            assert largest_sum(kernel).tolist() == exact.tolist()


def with_connection_only(program, weights):
    return replace(program, connections=(replace(program.connections[0], weights=weights),))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda spikes: spikes[0], "input spikes have shape"),
        (lambda spikes: spikes[:, :-1], "(samples, steps, input lines) = (1 or more, 5,"),
        (lambda spikes: spikes[:0], "input spikes have shape (0,"),
        (lambda spikes: spikes.astype(float), "have type float64"),
        (lambda spikes: spikes * 2, "input spikes: 2 is not allowed"),
        (lambda spikes: -spikes.astype(int), "input spikes: -1 is not allowed"),
    ],
)
def test_input(program, change, sentence):
    spikes = random_spikes(np.random.default_rng(0), program, samples=2)
    assert_refused(program, sentence, spikes=change(spikes))
    with pytest.raises(BadInput):
        run_integer(program, change(spikes))


@pytest.mark.parametrize(("payload", "sentence"), [(16, "input spikes: 16 is not allowed"), (-1, "-1 is not allowed")])
def test_payloads(program, payload, sentence):
    program = replace(program, input_bits=4)
    spikes = random_spikes(np.random.default_rng(0), program, samples=2)
    spikes[0, 0, 0] = 15
    validate(program, spikes)
    spikes[0, 0, 0] = payload
    assert_refused(program, sentence, "allowed: from 0 to 15", spikes=spikes)


def test_every_finding_is_in_one_message(program):
    group = program.groups[0]
    program = with_group(program, dv=changed(group.dv, -7), vth=changed(group.vth, 131_072))
    program = replace(program, groups=(program.groups[0], replace(program.groups[1], du=program.groups[1].du + 5000)))
    assert_refused(
        program,
        "layer 'layer 1': dv: -7",
        "layer 'layer 1': vth: 131072",
        "layer 'layer 2': du:",
        "input spikes have type",
        spikes=np.zeros((1, 5, program.input_size)),
    )


def test_what_a_spike_subtracts_fits_the_register(program):
    values = program.groups[0].vth << 6
    for allowed in (0, 2**23 - 1):
        validate(with_group(program, reset_by=changed(values, allowed)))
    for refused in (-1, 2**23):
        assert_refused(
            with_group(program, reset_by=changed(values, refused)),
            f"layer 'layer 1': reset_by: {refused} is not allowed (1 of {values.size} values)",
            "allowed: from 0 to 8388607",
        )
    assert_refused(with_group(program, reset_by=values.astype(float)), "reset_by has type float64")
    assert_refused(with_group(program, reset_by=values[:, None]), "reset_by has shape")


def test_a_reset_that_the_chip_does_not_have_is_refused(program):
    subtracting = with_group(program, reset_by=program.groups[0].vth << 6)
    validate(subtracting)
    assert_refused(
        replace(subtracting, target="loihi"),
        "layers 'layer 1' reset by subtraction; the neurons of target 'loihi' do not (arithmetic.resets: zero)",
    )


@pytest.mark.parametrize(
    ("part", "at", "value", "sentence"),
    [
        ("indices", 0, -1, "source -1 does not exist"),
        ("indices", -1, 2**30, "source 1073741824 does not exist"),
        ("indptr", 1, -5, "indptr does not ascend from 0"),
        ("indptr", -1, 2**30, "indptr ends at 1073741824"),
    ],
)
def test_no_kernel_sees_an_index_outside_its_arrays(program, part, at, value, sentence):
    weights = program.connections[0].weights.copy()
    getattr(weights, part)[at] = value
    broken = with_connection(program, weights=weights)
    spikes = random_spikes(np.random.default_rng(0), program, samples=2)
    assert_refused(broken, sentence)
    for run in (run_integer, count_integer):
        with pytest.raises(BadInput, match=sentence):
            run(broken, spikes)
    with pytest.raises(BadInput, match=sentence):
        count(broken, run_integer(program, spikes))


@pytest.mark.parametrize("shape", [(2, 6), (2.0, 6, 5), (0, 6, 5), (2, -6, 5)])
def test_a_kernel_without_an_image_is_refused(shape):
    kernel = Kernel(np.full((4, 2, 3, 3), -2, np.int32), (2, 6, 5))
    group = random_group(np.random.default_rng(0), "conv", kernel.shape[0])
    connection = Connection("input", "conv", replace(kernel, input_shape=shape), 0, 1)
    assert_refused(Program("loihi2", kernel.shape[1], 1, 1e-3, (connection,), (group,)), "input_shape is")


@pytest.mark.parametrize("quantity", ["dt_s", "input_scale"])
@pytest.mark.parametrize("value", [0.0, -1.0, np.inf, np.nan])
def test_a_scale_is_positive_and_finite(program, quantity, value):
    validate(replace(program, **{quantity: 1e-300}))
    assert_refused(replace(program, **{quantity: value}), f"{quantity} is {value}; it must be positive and finite")


def with_formats(program, **changes):
    return replace(program, target="own", arithmetic=program.formats.model_copy(update=changes))


def test_a_chip_of_other_potentials_cannot_be_simulated(program):
    assert_refused(
        with_formats(program, potential_bits=16),
        "target 'own' has currents and potentials of 16 bits; the simulators use 24 bits and would wrap and saturate "
        "at other values",
    )


def test_every_layer_with_a_reset_that_the_chip_lacks_is_named(program):
    groups = tuple(replace(group, reset_by=group.vth << 6) for group in program.groups)
    assert_refused(
        replace(with_formats(program, resets=["zero"]), groups=groups),
        "layers 'layer 1', 'layer 2' reset by subtraction; the neurons of target 'own' do not "
        "(arithmetic.resets: zero)",
    )


def test_registers_of_a_chip_come_before_the_ranges_of_the_simulators(program):
    narrow = with_formats(program, weight_min=-8, weight_max=8, weight_step=4)
    weights = program.connections[0].weights.copy()
    weights.data[:] = 4
    small = with_connection(narrow, weights=weights)
    small = replace(small, connections=(small.connections[0], replace(small.connections[1], weights=weights * 0)))
    for value in (6, 12, -12):
        weights.data[0] = value
        assert_refused(small, f"weights: {value} is not allowed", "in steps of 4, from -8 to 8 (registers of 'own')")
    wide = with_formats(program, weight_min=-512, weight_max=512)
    weights.data[0] = 256
    assert_refused(
        with_connection(wide, weights=weights), "weights: 256 is not allowed", "even, from -254 to 254 (simulators)"
    )


@pytest.mark.parametrize("exponent", [-9, 8])
def test_exponents_that_only_the_chip_has_are_refused(program, exponent):
    wide = with_formats(program, weight_exp_min=-16, weight_exp_max=16)
    assert_refused(with_connection(wide, weight_exp=exponent), f"weight_exp is {exponent}; allowed: from -8 to 7")
    narrow = with_formats(program, weight_exp_min=-2, weight_exp_max=2)
    assert_refused(with_connection(narrow, weight_exp=exponent), f"weight_exp is {exponent}; allowed: from -2 to 2")


def test_the_range_of_the_input_is_named(program):
    spikes = random_spikes(np.random.default_rng(0), program, samples=1).astype(int)
    spikes[0, 0, 0] = 2
    assert_refused(
        program, f"input spikes: 2 is not allowed (1 of {spikes.size} values); allowed: 0 or 1", spikes=spikes
    )
    spikes[0, 0, 0] = 16
    assert_refused(replace(program, input_bits=4), "allowed: from 0 to 15 (4 bits)", spikes=spikes)


def test_a_missing_end_of_a_connection_is_named_with_the_nearest_group(program):
    assert_refused(
        with_connection(program, target="layer1"),
        "connection 'input' -> 'layer1': group 'layer1' does not exist; did you mean 'layer 1'?",
        "layer 'layer 1': has no incoming connection; add one",
    )


def largest_current(inputs, exponent, du, steps):
    """A bound on the current of a neuron with weights of 254 and payloads of 10 bits, step by step."""
    drive = 64 * (254 * inputs * 1023 * 2.0**exponent + (exponent < 0))
    left = 0.0
    for _ in range(steps - 1):
        left = left * (4095 - du) / 4096 + max(drive - 2**24, 0)
    return drive + left


@pytest.mark.parametrize("du", [-1, 0, 7, 409, 4095])
@pytest.mark.parametrize("steps", [1, 2, 5, 60])
@pytest.mark.parametrize("exponent", [-1, 0, 2])
def test_currents_are_refused_as_soon_as_they_can_leave_32_bits(du, steps, exponent):
    inputs = next(k for k in range(1, 1000) if largest_current(k, exponent, du, steps) > 2**31 - 2**25)
    group = replace(random_group(np.random.default_rng(0), "only", 2), du=np.array([4095, du]))

    def with_inputs(count):
        weights = sp.csr_matrix(np.array([[2], [254]]) @ np.ones((1, count), int))
        connection = Connection("input", "only", weights, exponent, 0)
        return Program("loihi2", count, steps, 1e-3, (connection,), (group,), input_bits=10)

    if inputs > 1:
        validate(with_inputs(inputs - 1))
    assert_refused(
        with_inputs(inputs),
        f"layer 'only': the synaptic current of neuron 1 can reach {largest_current(inputs, exponent, du, steps):.3g} "
        f"within {steps} steps, the limit of Lava's 32-bit sums is 2.11e+09; lower weight_exp ({exponent})",
    )
