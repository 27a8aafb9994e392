"""Schedules: every connection takes a step, and paths that meet are made equally long."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from esl_neuro.compiler.program import Connection, Group, Program
from esl_neuro.compiler.timing import TooFast, timing


def program(*edges, groups=None):
    """Groups of one neuron, ``edges`` being (source, target, delay)."""
    names = groups or list(dict.fromkeys(target for _, target, _ in edges))
    one = np.ones(1, np.int64)
    return Program(
        "loihi2",
        1,
        5,
        1e-3,
        tuple(Connection(source, target, sp.csr_matrix([[2]]), 0, 1, delay) for source, target, delay in edges),
        tuple(Group(name, one, one, one, one, one, 1.0) for name in names),
    )


def test_a_chain_has_a_step_a_connection_and_holds_nothing():
    plan = timing(program(("input", "a", 0), ("a", "b", 0), ("b", "c", 0)))
    assert plan.latency == {"input": 0, "a": 1, "b": 2, "c": 3}
    assert plan.hold == (0, 0, 0)
    assert (plan.flush, plan.depth) == (0, 3)


def test_the_shorter_of_two_paths_that_meet_is_held_back():
    plan = timing(program(("input", "a", 0), ("a", "b", 0), ("b", "c", 0), ("a", "c", 0), ("input", "c", 0)))
    assert plan.hold == (0, 0, 0, 1, 2)


def test_a_loop_of_one_connection_and_one_step_holds_nothing_and_flushes_a_step():
    plan = timing(program(("input", "a", 0), ("a", "a", 1)))
    assert (plan.hold, plan.flush) == ((0, 0), 1)


def test_a_delay_pays_for_the_step_that_its_connection_takes():
    plan = timing(program(("input", "a", 0), ("input", "b", 3), ("a", "b", 0)))
    assert (plan.latency["b"], plan.hold, plan.flush) == (2, (0, 4, 0), 3)


def test_a_loop_that_is_faster_than_the_chip_is_named():
    with pytest.raises(TooFast) as caught:
        timing(program(("input", "a", 0), ("a", "b", 0), ("b", "a", 1)))
    assert set(caught.value.groups) == {"a", "b"}
    assert timing(program(("input", "a", 0), ("a", "b", 0), ("b", "a", 2))).hold == (0, 0, 0)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), size=st.integers(1, 6))
def test_spikes_arrive_on_time_on_every_connection(data, size):
    names = [f"g{k}" for k in range(size)]
    ends = st.tuples(st.sampled_from(["input", *names]), st.sampled_from(names), st.integers(0, 3))
    made = program(*data.draw(st.lists(ends, min_size=1, max_size=12)), groups=names)
    try:
        plan = timing(made)
    except TooFast as error:
        cycle = error.groups
        fastest = [
            min((c.delay for c in made.connections if (c.source, c.target) == ends), default=None)
            for ends in zip(cycle, (*cycle[1:], cycle[0]), strict=True)
        ]
        assert None not in fastest
        assert len(cycle) > sum(fastest)
        return
    for connection, hold in zip(made.connections, plan.hold, strict=True):
        assert hold >= 0
        assert plan.latency[connection.source] + 1 + hold == plan.latency[connection.target] + connection.delay
