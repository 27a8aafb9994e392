"""The divergence microscope names the place and the cause of a difference that was put there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from esl_neuro.backends.divergence import diverge
from esl_neuro.backends.integer import run_integer
from esl_neuro.backends.trace import Trace
from esl_neuro.compiler.program import Connection, Group, Program
from esl_neuro.hardware.arithmetic import HALF_RANGE


def one_neuron(weight=64, vth=100, du=4095, dv=0, steps=6, bias=0, exponent=0):
    def array(value):
        return np.array([value], np.int64)

    group = Group("lif1", array(du), array(dv), array(vth), array(bias), array(0), 1.0)
    weights = sp.csr_matrix(np.array([[weight]], np.int32))
    return Program("loihi2", 1, steps, 1e-4, (Connection("input", "lif1", weights, exponent, 1),), (group,))


def ones(program, samples=1):
    return np.ones((samples, program.steps, program.input_size), np.uint8)


def run(program):
    return run_integer(program, ones(program), record_potentials=True)


def changed(trace, quantity, place, value):
    records = {name: array.copy() for name, array in getattr(trace, quantity).items()}
    records["lif1"][place] = value
    return replace(trace, **{quantity: records})


def test_equal_runs_do_not_diverge():
    program = one_neuron()
    assert diverge(run(program), run(program), program) is None


def test_a_tie_is_told_from_another_threshold():
    program = one_neuron(weight=50, vth=100)  # v = 50, 100: equal to the threshold in step 1, fires in step 2
    strict, at_least = run(program), run(one_neuron(weight=50, vth=99))
    found = diverge(strict, at_least, program)
    assert found is not None
    assert (found.layer, found.sample, found.step, found.neuron) == ("lif1", 0, 1, 0)
    assert (found.first.spike, found.second.spike) == (0, 1)
    assert (found.first.v, found.second.v) == (100 << 6, 0)
    assert "tie" in found.cause
    other = diverge(strict, run(one_neuron(weight=50, vth=40)), program)
    assert other is not None
    assert other.step == 0
    assert "different thresholds" in other.cause


def test_potentials_without_records_are_not_needed():
    program = one_neuron(weight=50, vth=100)
    found = diverge(run_integer(program, ones(program)), run_integer(one_neuron(weight=50, vth=99), ones(program)))
    assert found is not None
    assert (found.quantity, found.first.u, found.first.arriving) == ("spike", None, None)
    assert "record u and v" in found.cause


def test_what_arrives_is_summed_connection_by_connection():
    program = one_neuron(weight=6, exponent=-2)
    late = replace(program.connections[0], delay=2, weight_exp=1)
    program = replace(program, connections=(program.connections[0], late))
    trace = run(one_neuron(weight=6))
    found = diverge(trace, changed(trace, "u", (0, 4, 0), 7), program)
    assert found is not None
    assert found.first.arriving == (6 >> 2) + (6 << 1)


@pytest.mark.parametrize(
    ("quantity", "value", "cause"),
    [
        ("u", lambda u: u + 1, "the decay toward zero"),
        ("u", lambda u: u + 2 * HALF_RANGE, "wraps"),
        ("u", lambda u: u + 9, "check du, weight exponents"),
        ("v", lambda v: v - 1, "the decay toward zero"),
        ("v", lambda v: v + 9, "check dv and biases"),
        ("v", lambda _: HALF_RANGE - 1, "saturates"),
    ],
)
def test_causes_of_states_that_differ(quantity, value, cause):
    program = one_neuron(weight=10, vth=5000)
    trace = run(program)
    place = (0, 3, 0)
    found = diverge(trace, changed(trace, quantity, place, value(getattr(trace, quantity)["lif1"][place])), program)
    assert found is not None
    assert (found.quantity, found.step) == (quantity, 3)
    assert cause in found.cause


def test_a_soft_reset_is_recognised():
    program = one_neuron(weight=60, vth=100)
    trace = run(program)
    place = (0, 1, 0)
    assert trace.spikes["lif1"][place] == 1
    found = diverge(trace, changed(trace, "v", place, 20 << 6), program)
    assert found is not None
    assert "reset to different values" in found.cause


def test_state_left_over_from_the_sample_before_is_recognised():
    program = one_neuron(weight=10, vth=5000)
    trace = run(program)
    found = diverge(trace, changed(trace, "u", (0, 0, 0), 0), program)
    assert found is not None
    assert "initial state" in found.cause


def test_a_shift_in_time_and_silence_come_first():
    program = one_neuron(weight=60, vth=100)
    trace = run_integer(program, ones(program))
    late = np.roll(trace.spikes["lif1"], 2, axis=1)
    late[:, :2] = 0
    found = diverge(trace, replace(trace, backend="other", spikes={"lif1": late}), program)
    assert found is not None
    assert found.cause == "latency: 'lif1' is 2 steps late in other and otherwise equal"
    silent = replace(trace, backend="other", spikes={"lif1": np.zeros_like(late)})
    found = diverge(trace, silent, program)
    assert found is not None
    assert found.cause.startswith("silence: 'lif1' does not fire in other")


def test_runs_of_other_networks_or_inputs_are_refused():
    program = one_neuron()
    trace = run(program)
    with pytest.raises(ValueError, match="their inputs differ"):
        diverge(trace, replace(trace, input_spikes=1 - trace.input_spikes))
    with pytest.raises(ValueError, match="groups and shapes"):
        diverge(trace, Trace("other", trace.input_spikes, {"lif2": trace.spikes["lif1"]}))
