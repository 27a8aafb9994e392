"""Stock Lava and the batched processes give what the equations say, on graphs of every kind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from backends.graphs import (
    assert_equal,
    conv_graph,
    joined,
    many_channels,
    oracle,
    random_graph,
    random_inputs,
    spikes_of,
)
from backends.random_programs import random_group
from esl_neuro.backends.integer import run_integer
from esl_neuro.backends.lava import run_lava
from esl_neuro.backends.lava_batched import run_lava_batched
from esl_neuro.backends.trace import first_difference
from esl_neuro.compiler.program import INPUT, Connection, Program
from esl_neuro.compiler.timing import timing
from esl_neuro.nirgraph.kernel import Kernel

pytestmark = pytest.mark.lava

TIMEOUT_S = 120.0


def assert_lava_equals_oracle(program, inputs, stock=None, batched=None):
    expected = oracle(program, inputs)
    runs = [run_lava(program, inputs, True, timeout_s=TIMEOUT_S, **(stock or {}))]
    runs.append(run_lava_batched(program, inputs, True, timeout_s=TIMEOUT_S, **(batched or {})))
    assert [trace.backend for trace in runs] == ["lava", "lava-batched"]
    for trace in runs:
        assert_equal(trace, expected)
    return expected


@pytest.mark.parametrize("seed", range(6))
def test_random_graphs(seed):
    """Several graphs in one Lava network, and samples in two rounds, of which the second is not full."""
    rng = np.random.default_rng(seed)
    steps, input_bits = int(rng.integers(4, 10)), (1, 1, 5)[seed % 3]
    graphs = [
        random_graph(rng, steps, input_bits, loops=seed != 1, extreme=seed == 2, prefix=f"{letter} ")
        for letter in "abc"
    ]
    program = joined(graphs)
    inputs = random_inputs(rng, program, samples=3)
    expected = assert_lava_equals_oracle(program, inputs, {"copies": 2}, {"batch": 2})
    assert spikes_of(expected) >= 100


@pytest.mark.parametrize(("weight_exp", "delay", "input_bits", "copies"), [(0, 0, 1, 1), (2, 0, 4, 3), (-3, 2, 1, 2)])
def test_convolutions_in_conv(weight_exp, delay, input_bits, copies):
    """Lava's own Conv with groups, strides, dilation, exponents that it ignores, and a path that is held back."""
    rng = np.random.default_rng(10 + weight_exp)
    program = conv_graph(rng, 7, weight_exp, delay, input_bits)
    inputs = random_inputs(rng, program, samples=4)
    expected = assert_lava_equals_oracle(program, inputs, {"copies": copies, "expand_synapses": 0}, {"batch": 3})
    assert spikes_of(expected) >= 100


def test_many_channels_in_conv():
    rng = np.random.default_rng(5)
    program = many_channels(rng)
    inputs = random_inputs(rng, program, samples=2)
    trace = run_lava(program, inputs, True, timeout_s=TIMEOUT_S, expand_synapses=0)
    assert_equal(trace, oracle(program, inputs))


def test_kernels_that_conv_would_get_wrong_are_expanded(monkeypatch):
    from esl_neuro.backends import lava

    rng = np.random.default_rng(3)
    program = conv_graph(rng, 3)
    inputs = random_inputs(rng, program, samples=3)
    monkeypatch.setattr(lava._Network, "_conv", None)
    # 3 copies of 43 groups are more than 127 groups; a sum of 24 bits and more would wrap.
    kernel = Kernel(np.full((43, 1, 1, 1), 254, np.int32), (43, 1, 1), groups=43)
    graded = Kernel(np.full((1, 1, 1, 1), 254, np.int32), (1, 1, 1))
    for weights, input_bits, largest in ((kernel, 1, 1), (graded, 16, 2**16 - 1)):
        group = replace(random_group(rng, "only", weights.shape[0]), du=np.full(weights.shape[0], 4095))
        connection = Connection(INPUT, "only", weights, 0, weights.nnz)
        program = Program("loihi2", weights.shape[1], 3, 1e-3, (connection,), (group,), input_bits=input_bits)
        inputs = np.full((3, 3, weights.shape[1]), largest)
        trace = run_lava(program, inputs, True, timeout_s=TIMEOUT_S, copies=3, expand_synapses=0)
        assert_equal(trace, oracle(program, inputs))


def one_neuron_groups(rng, edges, steps=5, bias=False):
    names = list(dict.fromkeys(target for _, target, _ in edges))
    groups = tuple(
        replace(
            random_group(rng, name, 1),
            du=np.array([4095]),
            dv=np.array([0]),
            vth=np.array([1]),
            bias_mant=np.array([4095 if bias else 0]),
        )
        for name in names
    )
    connections = tuple(Connection(s, t, sp.csr_matrix([[2]]), 0, 1, delay) for s, t, delay in edges)
    return Program("loihi2", 1, steps, 1e-3, connections, groups)


def test_a_bias_does_not_speak_before_the_first_step():
    """Groups wait for the input; a neuron that a bias makes spike meanwhile must not be heard over a delay."""
    program = one_neuron_groups(
        np.random.default_rng(0),
        [(INPUT, "a", 0), ("a", "b", 0), ("b", "c", 3), ("c", "c", 1), ("a", "c", 2)],
        bias=True,
    )
    assert_lava_equals_oracle(program, np.zeros((3, 5, 1), np.uint8), {"copies": 1}, {"batch": 1})


def test_a_path_that_is_held_back_between_large_groups():
    """With a matrix of all delays, zeros included, it would need 40 GiB."""
    rng, neurons = np.random.default_rng(0), 100_000
    identity = 2 * sp.identity(neurons, dtype=np.int32, format="csr")
    ends = [(INPUT, "a"), ("a", "b"), (INPUT, "b")]
    connections = tuple(Connection(source, target, identity, 0, neurons) for source, target in ends)
    groups = tuple(random_group(rng, name, neurons) for name in "ab")
    program = Program("loihi2", neurons, 3, 1e-3, connections, groups)
    assert max(timing(program).hold) == 1
    inputs = random_inputs(rng, program, samples=1)
    trace = run_lava(program, inputs, timeout_s=TIMEOUT_S)
    assert first_difference(run_integer(program, inputs), trace) is None
    assert spikes_of(trace) >= 100


def test_spikes_that_would_arrive_after_the_last_step_are_lost():
    program = one_neuron_groups(np.random.default_rng(0), [(INPUT, "a", 0), ("a", "b", 4)])
    inputs = np.zeros((2, 5, 1), np.uint8)
    inputs[0, 1:] = 1  # the spike of step 1 is too late, in the next sample it would be seen
    expected = assert_lava_equals_oracle(program, inputs, {"copies": 1}, {"batch": 1})
    assert expected.spikes["a"].sum() == 4
    assert expected.spikes["b"].sum() == 0


def test_a_path_that_is_held_back_longer_than_lava_can():
    chain = [(INPUT, "g0", 0), *((f"g{k}", f"g{k + 1}", 0) for k in range(3)), ("g0", "g3", 63)]
    program = one_neuron_groups(np.random.default_rng(0), chain, steps=70)
    assert max(timing(program).hold) == 65
    inputs = np.zeros((1, 70, 1), np.uint8)
    inputs[0, :3] = 1
    assert assert_lava_equals_oracle(program, inputs).spikes["g3"][0, 63:].sum() > 0


def test_potential_is_read_without_recording_potentials():
    rng = np.random.default_rng(1)
    program = replace(random_graph(rng, 5), readout="potential")
    inputs = random_inputs(rng, program, samples=3)
    expected = oracle(program, inputs)
    for run in (run_lava, run_lava_batched):
        trace = run(program, inputs, timeout_s=TIMEOUT_S)
        assert (trace.u, trace.v) == ({}, {})
        assert (trace.potential == expected.potential).all()
        assert trace.predictions().tolist() == expected.predictions().tolist()


def test_batch_does_not_change_the_result_and_progress_is_told():
    rng = np.random.default_rng(2)
    program = random_graph(rng, 5)
    inputs = random_inputs(rng, program, samples=7)
    expected = oracle(program, inputs)
    told = []
    for batch in (1, 3, None):
        trace = run_lava_batched(
            program, inputs, timeout_s=TIMEOUT_S, batch=batch, progress=lambda *now: told.append(now)
        )
        assert_equal(trace, expected)
    assert told[-1] == (7, 7)
    assert all(0 < done <= total == 7 for done, total in told)
