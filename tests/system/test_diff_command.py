"""``esl-neuro diff``: two runs side by side."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from esl_neuro.backends.golden import read_trace, write_trace
from system.command_workspace import Workspace


@pytest.fixture
def space(small_run):
    return Workspace(small_run.parents[1])


@pytest.fixture
def golden(space):
    done = space.run("esl-neuro run --samples 5 --trace golden.h5")
    assert done.returncode == 0, done.stderr
    return space.folder / "golden.h5"


@pytest.mark.usefixtures("golden")
def test_a_trace_equals_the_simulator_that_wrote_it(space):
    done = space.run("esl-neuro diff golden.h5 integer --json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["divergence"] is None
    assert document["spikes_compared"] == 5 * 4 * (16 + 10)
    assert document["potentials_compared"] == document["spikes_compared"]


def test_the_place_the_states_and_the_cause_are_printed(space, golden):
    trace = read_trace(golden)
    u = {name: array.copy() for name, array in trace.u.items()}
    u["lif1"][2, 1, 7] += 1
    write_trace(space.folder / "other.h5", replace(trace, u=u, backend="other"), 1e-4)
    done = space.run("esl-neuro diff golden.h5 other.h5")
    assert done.returncode == 1
    assert "latest export" not in done.stderr  # two traces need none, and the latest may be of another network
    assert "first difference (u): layer 'lif1', neuron 7, step 1 of sample 2" in done.stdout
    assert "rounds the decay toward zero" in done.stdout
    assert done.stderr.splitlines()[-1:] == ["esl-neuro: golden.h5 and other.h5 diverge in layer 'lif1', step 1"]


@pytest.mark.usefixtures("golden")
def test_wrong_names_are_refused_in_one_line(space):
    for command, word in (
        ("esl-neuro diff integr integer", "did you mean 'integer'?"),
        ("esl-neuro diff golden.h5 nothing.h5", "'nothing.h5' is neither a trace file nor a simulator"),
        ("esl-neuro diff golden.h5 integer --export nowhere", "not an export"),
    ):
        done = space.run(command)
        assert done.returncode == 2
        assert word in done.stderr
        assert done.stderr.count("esl-neuro:") == 1
