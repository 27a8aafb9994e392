"""Calibration: never worse than the formula on its data; what goes wrong on data is named."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import nir
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.integer_oracle import run
from esl_neuro.compiler.calibrate import (
    CANDIDATES,
    accuracy_loss_by_layer,
    check_activity,
    group_error,
    rounded_network,
    search_scalings,
)
from esl_neuro.compiler.compile import compile_any_size, input_payload, quantise_network
from esl_neuro.compiler.float_groups import run_groups
from esl_neuro.compiler.frontend import read_network
from esl_neuro.compiler.program import Connection, Group, Program
from esl_neuro.hardware import load_target
from esl_neuro.hardware.rounding import InputFormat
from random_graphs import DT, random_graph

LOIHI2 = load_target("loihi2")
ARITHMETIC = LOIHI2.arithmetic
STEPS = 8


def compiled(graph, payload=InputFormat(), scalings=None):  # noqa: B008 (frozen)
    network = read_network(graph)
    program, errors = quantise_network(network, "loihi2", ARITHMETIC, STEPS, payload, scalings)
    return network, program, errors


def layered(rng, readout=False):
    """Two layers whose formula is coarse: each neuron has one weight far above its threshold."""
    weights = rng.normal(0, 1, (12, 20))
    weights[:, 0] = 30
    nodes = {
        "input": nir.Input({"input": np.array([20])}),
        "fc1": nir.Linear(weights),
        "lif1": nir.LIF(*(np.full(12, value) for value in (2 * DT, 2.0, 0.0, 2.0, 0.0))),
        "fc2": nir.Linear(rng.normal(0, 1, (5, 12))),
    }
    nodes["out"] = (
        nir.LI(*(np.full(5, value) for value in (4 * DT, 4.0, 0.1)))
        if readout
        else nir.LIF(*(np.full(5, value) for value in (4 * DT, 4.0, 0.1, 1.0, 0.0)))
    )
    nodes["output"] = nir.Output({"output": np.array([5])})
    names = list(nodes)
    return nir.NIRGraph(nodes, list(pairwise(names)), metadata={"dt_s": DT})


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_programs_of_any_graph_follow_the_float_network(seed):
    """Weak by itself, since rounding may move any spike; it fails at once if a scale, sign, bias or delay is wrong."""
    rng = np.random.default_rng(seed)
    network, program, _ = compiled(random_graph(rng))
    inputs = (rng.random((6, STEPS, network.input_size)) < 0.4).astype(np.uint8)
    wanted, got = run_groups(network, inputs), run(program, inputs)
    first = program.groups[0].name if program.groups[0].name != "bias" else program.groups[1].name
    if all(each.source in ("input", "bias") for each in network.incoming(first)):
        entries = wanted.spikes[first].size
        assert np.count_nonzero(wanted.spikes[first] != got.spikes[first]) <= max(3, 0.1 * entries)
    if program.readout == "potential":
        assert not got.output_spikes.any()


@pytest.mark.parametrize("readout", [False, True])
def test_search_is_never_worse_than_the_formula_and_mends_a_coarse_layer(readout):
    rng = np.random.default_rng(0)
    network = read_network(layered(rng, readout))
    inputs = (rng.random((60, STEPS, 20)) < 0.3).astype(np.uint8)
    found = search_scalings(network, ARITHMETIC, STEPS, inputs, run)
    assert [each.group for each in found] == ["lif1", "out"]
    assert all(each.error <= each.error_by_formula for each in found)
    assert found[0].error < 0.7 * found[0].error_by_formula  # the large weights made the others coarse
    scalings = {each.group: each.scaling for each in found}
    program, _ = quantise_network(network, "loihi2", ARITHMETIC, STEPS, InputFormat(), scalings)
    wanted, got = run_groups(network, inputs), run(program, inputs)
    for each in found:
        assert group_error(wanted, got, program, each.group) == each.error


def test_formula_stands_where_nothing_is_better():
    rng = np.random.default_rng(0)
    network = read_network(layered(rng))
    silent = np.zeros((3, STEPS, 20), dtype=np.uint8)
    found = search_scalings(network, ARITHMETIC, STEPS, silent, run)
    assert [each.scaling for each in found] == [CANDIDATES[0]] * 2


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_graded_input_carries_its_payload(bits):
    rng = np.random.default_rng(bits)
    payload = input_payload(bits)
    network, program, _ = compiled(layered(rng), payload)
    assert (program.input_bits, program.input_scale) == (bits, 2**bits - 1)
    inputs = rng.random((30, STEPS, 20)) if bits > 1 else (rng.random((30, STEPS, 20)) < 0.5)
    fed = payload.payloads(inputs).astype(np.int32)
    assert fed.max() <= 2**bits - 1
    assert fed.min() >= 0
    wanted, got = run_groups(network, fed / payload.scale), run(program, fed)
    assert group_error(wanted, got, program, "lif1") < 0.05
    assert wanted.spikes["lif1"].mean() > 0.02


def one_group(weight, **values):
    zero = np.zeros(1, dtype=np.int64)
    group = {"du": zero + 4095, "dv": zero, "vth": zero + 100, "bias_mant": zero, "bias_exp": zero} | values
    connection = Connection("input", "a", sp.csr_matrix(np.array([[weight]])), group.pop("exponent", 0), 1)
    return Program(
        "loihi2", 1, 20, 1e-3, (connection,), (Group("a", **group, scale=1.0),), group.pop("readout", "spikes")
    )


def kinds(program, inputs=None):
    inputs = np.ones((2, program.steps, 1), dtype=np.uint8) if inputs is None else inputs
    return [finding.kind for finding in check_activity(program, inputs, run(program, inputs))]


def test_what_goes_wrong_on_data_is_named():
    one = np.ones(1, dtype=np.int64)
    assert kinds(one_group(200)) == []
    assert kinds(one_group(200, vth=131_071 * one)) == ["silent-layer"]
    assert "current-wraps" in kinds(one_group(254, du=10 * one, exponent=7))
    assert kinds(one_group(-254, exponent=7)) == ["silent-layer", "potential-saturates"]
    read = replace(one_group(254, exponent=6, vth=131_071 * one), readout="potential")
    assert kinds(read) == ["readout-fires"]
    assert kinds(replace(one_group(2, vth=131_071 * one), readout="potential")) == []


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_no_current_wraps_in_a_network_with_headroom(seed):
    rng = np.random.default_rng(seed)
    network, program, errors = compiled(random_graph(rng))
    inputs = (rng.random((4, STEPS, network.input_size)) < 0.5).astype(np.uint8)
    found = {finding.kind for finding in check_activity(program, inputs, run(program, inputs))}
    if max(error.headroom for error in errors) < 1:
        assert "current-wraps" not in found
    assert "readout-fires" not in found


def test_blame_of_each_layer_alone_and_of_all_others():
    costs = {"a": 0.05, "b": 0.01, "c": 0.0}
    found = accuracy_loss_by_layer(costs, lambda layers: 0.9 - sum(costs[name] for name in layers))
    for name, cost in costs.items():
        assert found[name] == (pytest.approx(cost), pytest.approx(cost))


def test_rounded_network_has_the_numbers_of_the_program():
    rng = np.random.default_rng(0)
    network, program, _ = compiled(layered(rng))
    everything = frozenset(group.name for group in network.groups)
    inputs = (rng.random((40, STEPS, 20)) < 0.3).astype(np.uint8)
    rounded = run_groups(rounded_network(network, program, everything), inputs)
    got = run(program, inputs)
    for name in everything:  # what is left is the rounding of u and v
        assert np.mean(rounded.spikes[name] != got.spikes[name]) < 0.003
    untouched = rounded_network(network, program, frozenset())
    assert all(
        np.array_equal(one.threshold, two.threshold) for one, two in zip(untouched.groups, network.groups, strict=True)
    )
    half = rounded_network(network, program, frozenset({"lif1"}))
    assert np.array_equal(run_groups(half, inputs).spikes["lif1"], rounded.spikes["lif1"])


def test_scalings_reach_the_program():
    graph = layered(np.random.default_rng(0))
    plain = compile_any_size(graph, LOIHI2, STEPS).program
    scaled = compile_any_size(graph, LOIHI2, STEPS, scalings={"lif1": CANDIDATES[1]}).program
    assert np.array_equal(scaled.groups[0].scale, 2 * plain.groups[0].scale)
    assert np.array_equal(scaled.groups[1].scale, plain.groups[1].scale)


@pytest.mark.parametrize("delay", [0, 1, STEPS - 1, STEPS, STEPS + 1])
def test_what_arrives_late_is_no_wrap(delay):
    """A spike that arrives in the last step, or only after it, is decay plus input like any other."""
    zero = np.zeros(1, np.int64)
    cell = Group("a", zero + 4095, zero, zero + 1000, zero, zero, 1.0)
    program = Program("loihi2", 1, STEPS, 1e-3, (Connection("input", "a", sp.csr_matrix([[2]]), 0, 1, delay),), (cell,))
    inputs = np.ones((2, STEPS, 1), np.uint8)
    got = run(program, inputs)
    assert np.count_nonzero(got.u["a"]) == 2 * max(STEPS - delay, 0)
    assert "current-wraps" not in [each.kind for each in check_activity(program, inputs, got)]
