"""Synapses with delays, several for a pair of neurons: the integers are those of the equations and of Lava."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from backends.graphs import assert_equal, oracle, spikes_of
from backends.random_programs import random_group, random_spikes, random_weights
from esl_neuro.backends.integer import run_integer
from esl_neuro.backends.lava import _Held, _one_of_each_pair, run_lava
from esl_neuro.backends.lava_batched import run_lava_batched
from esl_neuro.compiler.program import INPUT, Connection, Program
from esl_neuro.compiler.timing import timing


def slotted(rng, steps, slots, exponent=0, streaming=0, later=None):
    """Two layers with a connection for every slot, those of the second one ``later``, ``streaming`` steps more."""
    sizes = {INPUT: 9, "a": 8, "b": 5}
    groups = tuple(random_group(rng, name, sizes[name], largest_vth=200) for name in ("a", "b"))
    connections = tuple(
        Connection(
            source, target, random_weights(rng, sizes[target], sizes[source], 0.4), exponent,
            sizes[target] * sizes[source], delay + (streaming if source != INPUT else 0),
        )
        for source, target, delays in ((INPUT, "a", slots), ("a", "b", later or slots))
        for delay in delays
    )  # fmt: skip
    return Program("loihi2", sizes[INPUT], steps, 1e-3, connections, groups)


CASES = {
    "neighbouring slots": (8, [0, 1, 2, 3], 0, 0),
    "shuffled, without slot 0": (9, [5, 1, 3], 0, 0),
    "the longest delays": (66, [63], 0, 0, [0]),
    "slots beyond the last step": (5, [0, 2, 5, 63], 0, 0),
    "sums that are rounded down": (8, [0, 1, 4], -3, 0),
    "streaming": (8, [0, 2, 4], 1, 1),
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("case", CASES)
def test_integers_are_those_of_the_equations(case, seed):
    rng = np.random.default_rng(seed)
    program = slotted(rng, *CASES[case])
    inputs = random_spikes(rng, program, 3)
    expected = oracle(program, inputs)
    assert spikes_of(expected) > 0
    assert_equal(run_integer(program, inputs, True), expected)


@pytest.mark.lava
@pytest.mark.parametrize("case", ["the longest delays", "sums that are rounded down", "streaming"])
def test_lava_computes_the_same_integers(case):
    rng = np.random.default_rng(0)
    program = slotted(rng, *CASES[case])
    inputs = random_spikes(rng, program, 1 if case == "the longest delays" else 2)
    expected = run_integer(program, inputs, True)
    assert spikes_of(expected) > 0
    assert_equal(run_lava(program, inputs, True, timeout_s=120.0), expected)


@pytest.mark.lava
def test_samples_side_by_side_and_one_after_the_other_keep_their_late_spikes_apart():
    rng = np.random.default_rng(1)
    program = slotted(rng, 8, [0, 3, 7])
    inputs = random_spikes(rng, program, 4)
    expected = run_integer(program, inputs, True)
    assert_equal(run_lava(program, inputs, True, timeout_s=120.0, copies=2), expected)
    assert_equal(run_lava_batched(program, inputs, True, timeout_s=120.0, batch=2), expected)


def test_a_connection_to_the_last_step_is_lost_in_all_slots_beyond_it():
    """The program of the short slots alone spikes as the one with slots that no spike survives."""
    rng = np.random.default_rng(3)
    program = slotted(rng, 5, [0, 2, 5, 63])
    short = replace(program, connections=tuple(each for each in program.connections if each.delay < 5))
    inputs = random_spikes(rng, program, 3)
    both = [run_integer(each, inputs, True) for each in (program, short)]
    for name in both[0].spikes:
        assert np.array_equal(both[0].v[name], both[1].v[name])


def test_lava_gets_one_synapse_of_each_pair_at_a_time():
    """Every synapse is in exactly one process, with its delay; as few processes as synapses of one pair."""
    rng = np.random.default_rng(5)
    program = slotted(rng, 8, [0, 1, 2, 6])
    incoming, holds = program.incoming("b"), dict(zip(map(id, program.connections), timing(program).hold, strict=True))
    parts = list(_one_of_each_pair([_Held(each, holds[id(each)], False) for each in incoming], 0))
    pairs = sum((each.matrix != 0).astype(int) for each in incoming)
    assert len(parts) == pairs.max()
    for connection in incoming:
        hold, found = holds[id(connection)], sp.csr_matrix(connection.weights.shape, dtype=np.int64)
        for weights, late in parts:
            own = np.where((late.toarray() == hold) & (weights.toarray() != 0), weights.toarray(), 0)
            found = found + sp.csr_matrix(own)
        assert np.array_equal(found.toarray(), connection.matrix.toarray())
