"""Laws of the simulator: samples do not know each other, time runs forward, and silence stays silent."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.random_programs import KINDS, random_graph, random_spikes
from esl_neuro.backends.integer import count_integer, run_integer

few = settings(max_examples=4)
SEEDS = st.integers(0, 2**32 - 1)


def records(trace):
    """Everything recorded, by name."""
    return {f"{what} {name}": values for what in ("spikes", "u", "v") for name, values in getattr(trace, what).items()}


@pytest.mark.parametrize("kind", KINDS)
@few
@given(seed=SEEDS)
def test_a_sample_does_not_depend_on_the_others(kind, seed):
    rng = np.random.default_rng(seed)
    program = random_graph(rng, kind)
    spikes = random_spikes(rng, program, 4)
    order = rng.permutation(4)
    together, moved = (records(run_integer(program, given, True, threads=1)) for given in (spikes, spikes[order]))
    alone = records(run_integer(program, spikes[:1], True, threads=1))
    for name, values in together.items():
        assert np.array_equal(moved[name], values[order]), name
        assert np.array_equal(alone[name], values[:1]), name


@pytest.mark.parametrize("kind", KINDS)
@few
@given(seed=SEEDS)
def test_what_comes_later_changes_nothing_before(kind, seed):
    rng = np.random.default_rng(seed)
    program = random_graph(rng, kind, steps=8)
    spikes = random_spikes(rng, program, 2)
    steps = int(rng.integers(1, 8))
    other = spikes.copy()
    other[:, steps:] = random_spikes(rng, program, 2)[:, steps:]
    one, two = (records(run_integer(program, given, True, threads=1)) for given in (spikes, other))
    short = dataclasses.replace(program, steps=steps)
    cut = records(run_integer(short, spikes[:, :steps], True, threads=1))
    for name, values in one.items():
        assert np.array_equal(values[:, :steps], two[name][:, :steps]), name
        assert np.array_equal(values[:, :steps], cut[name]), name


@pytest.mark.parametrize("kind", KINDS)
@few
@given(seed=SEEDS)
def test_silence_stays_silent_without_biases(kind, seed):
    program = random_graph(np.random.default_rng(seed), kind)
    quiet = tuple(dataclasses.replace(group, bias_mant=np.zeros_like(group.bias_mant)) for group in program.groups)
    program = dataclasses.replace(program, groups=quiet)
    silence = np.zeros((1, program.steps, program.input_size), np.uint8)
    assert not any(values.any() for values in records(run_integer(program, silence, True, threads=1)).values())


@pytest.mark.parametrize("kind", KINDS)
@few
@given(seed=SEEDS)
def test_spikes_are_counted_where_they_are_recorded(kind, seed):
    rng = np.random.default_rng(seed)
    program = random_graph(rng, kind)
    spikes = random_spikes(rng, program, 3)
    recorded, counted = run_integer(program, spikes, threads=1), count_integer(program, spikes, threads=1)
    for name, fired in counted.counts.spikes_out.items():
        assert np.array_equal(fired, recorded.spikes[name].sum(axis=2, dtype=np.int64)), name
