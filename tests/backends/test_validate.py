"""Nothing reaches a simulator that the simulators could compute differently, or Lava silently changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from random_programs import random_program, random_spikes

from esl_neuro.backends.integer import run_integer
from esl_neuro.backends.validate import validate
from esl_neuro.errors import BadInput


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
        with_connection(program, weights=weights), f"layer 'layer 1': weights: {weight} is not allowed", "even"
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
        with_connection(program, weights=weights.tocsc()), "a csc_matrix; a scipy.sparse.csr_matrix is needed"
    )
    assert_refused(with_connection(program, weights=sp.csr_array(weights)), "csr_array")


def test_shapes(program):
    group, connection = program.groups[0], program.connections[0]
    assert_refused(with_group(program, du=np.array([1, 2])), "du has shape (2,)", f"each of {group.neurons} neurons")
    assert_refused(with_connection(program, weights=connection.weights[:, :-1]), "weights have shape")
    assert_refused(
        with_group(program, **dict.fromkeys(("du", "dv", "vth", "bias_mant", "bias_exp"), np.array([], int))),
        "it has no neurons",
    )


def test_duplicate_synapses(program):
    connection = program.connections[0]
    rows = connection.weights.shape[0]
    indptr = np.full(rows + 1, 2)
    indptr[0] = 0
    doubled = sp.csr_matrix((np.array([2, 4]), np.array([0, 0]), indptr), shape=connection.weights.shape)
    assert_refused(with_connection(program, weights=doubled), "store a synapse twice")


def test_chain(program):
    first, second = program.connections
    assert_refused(replace(program, connections=(first,)), "1 connections and 2 groups")
    assert_refused(replace(program, connections=(), groups=()), "0 connections and 0 groups")
    assert_refused(
        with_connection(program, source="elsewhere"), "'elsewhere' -> 'layer 1'", "needs 'input' -> 'layer 1'"
    )
    assert_refused(
        replace(program, connections=(first, replace(second, source="input"))), "needs 'layer 1' -> 'layer 2'"
    )
    assert_refused(with_group(program, name="layer 2"), "each needs its own name")
    assert_refused(replace(program, steps=0), "steps is 0; it must be at least 1")


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


def with_connection_only(program, weights):
    return replace(program, connections=(replace(program.connections[0], weights=weights),))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda spikes: spikes[0], "input spikes have shape"),
        (lambda spikes: spikes[:, :-1], "must be (1 or more, 5,"),
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
