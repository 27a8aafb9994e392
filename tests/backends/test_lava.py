"""The real Lava simulator gives the same spikes, currents and potentials as the integer simulator."""

from __future__ import annotations

import gc
import logging
import os

import numpy as np
import pytest

from backends.random_programs import random_exponents, random_program, random_spikes, side_by_side
from esl_neuro.backends.integer import run_integer
from esl_neuro.backends.lava import run_lava
from esl_neuro.backends.trace import first_difference
from esl_neuro.hardware.arithmetic import HALF_RANGE

pytestmark = pytest.mark.lava

TIMEOUT_S = 120.0
NETWORKS = 4


def assert_same(program, spikes, **options):
    ours = run_integer(program, spikes, record_potentials=True)
    lavas = run_lava(program, spikes, record_potentials=True, timeout_s=TIMEOUT_S, **options)
    assert lavas.backend == "lava"
    assert first_difference(ours, lavas) is None
    for name in ours.spikes:
        assert lavas.u[name].dtype == lavas.v[name].dtype == np.int64
        assert (ours.u[name] == lavas.u[name]).all()
        assert (ours.v[name] == lavas.v[name]).all()
    return ours


@pytest.mark.parametrize("seed", range(13))
def test_random_networks(seed):
    """13 times 4 networks; the networks of one seed run side by side, which saves Lava's start."""
    rng = np.random.default_rng(seed)
    extreme = seed % 3 == 0
    depth = int(rng.integers(1, 4))
    common = {"depth": depth, "steps": int(rng.integers(3, 13)), "exponents": random_exponents(rng, depth, extreme)}
    program = side_by_side([random_program(rng, extreme=extreme, **common) for _ in range(NETWORKS)])
    trace = assert_same(program, random_spikes(rng, program, samples=5), copies=int(rng.integers(1, 4)))
    # Silence would prove nothing: some hundred spikes, and in the extreme networks states at the ends of their range.
    assert sum(int(spikes.sum()) for spikes in trace.spikes.values()) >= 100
    if extreme:
        assert max(np.abs(u).max() for u in trace.u.values()) > 0.9 * HALF_RANGE
        assert max(np.abs(v).max() for v in trace.v.values()) > 0.9 * HALF_RANGE


def smallest(rng, steps=1, sizes=(1, 1)):
    while True:
        program = random_program(rng, depth=len(sizes) - 1, steps=steps, widest=max(sizes))
        if [program.input_size, *(group.neurons for group in program.groups)] == list(sizes):
            return program


def test_one_neuron_one_step_one_sample():
    rng = np.random.default_rng(0)
    program = smallest(rng)
    program.groups[0].vth[:] = 0
    program.groups[0].bias_mant[:] = 1
    assert assert_same(program, np.ones((1, 1, 1), np.uint8)).output_spikes.shape == (1, 1, 1)


def test_one_step_per_sample_resets_in_every_step():
    rng = np.random.default_rng(1)
    program = random_program(rng, depth=2, steps=1)
    assert_same(program, random_spikes(rng, program, samples=9, rate=0.6), copies=1)


def test_no_spikes_and_no_weights():
    rng = np.random.default_rng(2)
    program = random_program(rng, depth=2, steps=4)
    for connection in program.connections:
        connection.weights.data[:] = 0  # stored zeros, which Lava would stumble over
    assert_same(program, np.zeros((2, 4, program.input_size), np.uint8))
    assert_same(program, np.ones((2, 4, program.input_size), np.uint8), copies=1)


def test_copies_do_not_change_the_result_and_progress_is_told():
    rng = np.random.default_rng(3)
    program = random_program(rng, depth=2, steps=6)
    spikes = np.asfortranarray(random_spikes(rng, program, samples=14)[::2])
    expected = run_integer(program, spikes)
    told = []
    for copies in (1, 3, None):
        trace = run_lava(program, spikes, copies=copies, timeout_s=TIMEOUT_S, progress=lambda *now: told.append(now))
        assert first_difference(expected, trace) is None
        assert (trace.u, trace.v) == ({}, {})
    assert told[-1] == (7, 7)
    assert all(0 < done <= total == 7 for done, total in told)


def left_behind():
    gc.collect()
    networks = [thing for thing in gc.get_objects() if type(thing).__name__ == "SpikeSource"]
    return len(networks), len(os.listdir("/proc/self/fd"))


def test_nothing_stays_behind():
    """No memory, no open file; but Lava holds on to the last network whose potentials were recorded."""
    rng = np.random.default_rng(5)
    program = random_program(rng, depth=2)
    spikes = random_spikes(rng, program, samples=2)
    run_lava(program, spikes, record_potentials=True, timeout_s=TIMEOUT_S)
    before = left_behind()
    for record_potentials in (False, True):
        run_lava(program, spikes, record_potentials, timeout_s=TIMEOUT_S)
        assert left_behind() == before


def test_nothing_is_printed_and_root_logger_is_left_alone(capfd):
    before = logging.getLogger().handlers[:]
    rng = np.random.default_rng(4)
    program = random_program(rng, depth=1)
    run_lava(program, random_spikes(rng, program, samples=2), timeout_s=TIMEOUT_S)
    assert capfd.readouterr().out == ""
    assert logging.getLogger().handlers == before
