"""Laws of counts and energies: sums over samples and layers, more work is never cheaper, units scale."""

from __future__ import annotations

import dataclasses
import re
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.random_programs import KINDS, random_graph, random_spikes
from energy.make_counts import LAYER, SAMPLES, STEPS
from esl_neuro.backends.integer import count_integer
from esl_neuro.energy.counts import Counts, LayerCounts, count
from esl_neuro.energy.prices import price
from esl_neuro.hardware import HardwareTarget
from esl_neuro.hardware import load_target as read_target

load_target = cache(read_target)
few = settings(max_examples=6)
TARGETS = ("loihi", "truenorth", "cmos45", "v100-pcie", "speck", "spinnaker", "titan-black")
TOTALS = [
    field.name
    for field in dataclasses.fields(LayerCounts)
    if field.name not in ("name", "source", "signal", "inputs", "neurons", "stored", "weights", "declared", "runs")
]
SIZES = ("inputs", "neurons", "stored", "weights", "declared")
# What depends on activity, and the totals that do not.
ACTIVE = tuple(LAYER.runs)
ENERGIES = {"pJ", "nJ", "uJ", "mJ"}


@few
@given(st.sampled_from(KINDS), st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 3))
def test_counts_of_two_sets_of_samples_add_up(kind, seed, first, second):
    rng = np.random.default_rng(seed)
    program = random_graph(rng, kind)
    spikes = random_spikes(rng, program, first + second)
    parts = (spikes, spikes[:first], spikes[first:])
    whole, one, two = (count(program, count_integer(program, part, threads=1)) for part in parts)
    for layer, *halves in zip(whole.layers, one.layers, two.layers, strict=True):
        for name in TOTALS:
            values = [getattr(half, name) for half in halves]
            assert getattr(layer, name) == (None if None in values else sum(values)), name
        for name in SIZES:
            assert {getattr(layer, name)} == {getattr(half, name) for half in halves}
        for name, values in layer.runs.items():
            assert np.array_equal(values, np.concatenate([half.runs[name] for half in halves]))


def layer_of(rng: np.random.Generator, name: str) -> LayerCounts:
    """A layer with random counts that no other limits."""
    runs = {key: rng.integers(0, 500, (SAMPLES, STEPS)) for key in ACTIVE} | {
        "macs_effective": np.zeros((SAMPLES, STEPS), np.int64)
    }
    totals = {key: int(values.sum()) for key, values in runs.items()}
    return dataclasses.replace(LAYER, name=name, runs=runs, **totals)


def nominal(counts: Counts, target: HardwareTarget) -> dict[str, tuple[float, float, float]]:
    """Low, nominal and high energy of each model, in pJ per sample."""
    return {
        each.model: (each.energy_pj.low, each.energy_pj.nominal, each.energy_pj.high)
        for each in price(counts, target, 1e-3)
        if each.energy_pj is not None
    }


@pytest.mark.parametrize("target", TARGETS)
@few
@given(seed=st.integers(0, 2**32 - 1))
def test_energies_of_layers_add_up(target, seed):
    """All but what a chip or a board draws for each step, whatever its layers do."""
    rng, chip = np.random.default_rng(seed), load_target(target)
    layers = tuple(layer_of(rng, f"fc{number}") for number in range(3))
    whole = nominal(Counts(SAMPLES, STEPS, layers), chip)
    parts = [nominal(Counts(SAMPLES, STEPS, (layer,)), chip) for layer in layers]
    for model, energies in whole.items():
        if not re.search("static|chip|board|batch|fitted", model):
            sums = np.sum([part[model] for part in parts], axis=0)
            assert energies == pytest.approx(tuple(sums), rel=1e-9), model


@pytest.mark.parametrize("target", TARGETS)
@few
@given(seed=st.integers(0, 2**32 - 1), name=st.sampled_from(TOTALS), more=st.integers(1, 10**6))
def test_more_of_anything_never_needs_less_energy(target, seed, name, more):
    chip, layer = load_target(target), layer_of(np.random.default_rng(seed), "fc")
    changed = {name: (getattr(layer, name) or 0) + more}
    if name in ACTIVE:
        values = layer.runs[name].copy()
        values[0, 0] += more
        changed["runs"] = layer.runs | {name: values}
    if name in ("messages", "hops_ew", "hops_ns"):  # known all three or not at all
        layer = dataclasses.replace(layer, messages=5, hops_ew=5, hops_ns=5)
        changed = {name: 5 + more}
    less, much = (
        nominal(Counts(SAMPLES, STEPS, (each,)), chip) for each in (layer, dataclasses.replace(layer, **changed))
    )
    for model in less.keys() & much.keys():
        assert all(one <= two * (1 + 1e-12) for one, two in zip(less[model], much[model], strict=True)), model


def with_constants(target: HardwareTarget, change) -> HardwareTarget:
    """A target whose energies per operation are changed."""
    constants = {
        key: constant.model_copy(
            update={
                bound: change(key, getattr(constant, bound))
                for bound in ("value", "low", "high")
                if getattr(constant, bound) is not None
            }
        )
        if constant.unit in ENERGIES
        else constant
        for key, constant in target.constants.items()
    }
    return target.model_copy(update={"constants": constants})


@pytest.mark.parametrize("target", TARGETS)
@few
@given(seed=st.integers(0, 2**32 - 1), factor=st.sampled_from([0.5, 2.0, 1000.0]))
def test_energy_is_proportional_to_the_energies_of_the_operations(target, seed, factor):
    """A constant in another unit, or a term that forgets one, would break this."""
    chip, counts = load_target(target), Counts(SAMPLES, STEPS, (layer_of(np.random.default_rng(seed), "fc"),))
    before, after = nominal(counts, chip), nominal(counts, with_constants(chip, lambda _, value: factor * value))
    of_energies = [
        each.model
        for each in price(counts, chip, 1e-3)
        if each.energy_pj is not None and all(constant.unit in ENERGIES for constant in each.constants)
    ]
    assert of_energies or target not in ("loihi", "truenorth", "cmos45")
    for model in of_energies:
        assert after[model] == pytest.approx(tuple(factor * energy for energy in before[model]), rel=1e-9), model


@pytest.mark.parametrize("target", TARGETS)
@few
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_a_dearer_operation_never_makes_a_run_cheaper(target, data, seed):
    chip, counts = load_target(target), Counts(SAMPLES, STEPS, (layer_of(np.random.default_rng(seed), "fc"),))
    keys = [key for key, constant in chip.constants.items() if constant.unit in ENERGIES]
    if keys:
        dearer = data.draw(st.sampled_from(keys))
        after = nominal(counts, with_constants(chip, lambda key, value: value * (1.5 if key == dearer else 1.0)))
        for model, energies in nominal(counts, chip).items():
            assert all(one <= two * (1 + 1e-12) for one, two in zip(energies, after[model], strict=True)), model


@pytest.mark.parametrize("target", TARGETS)
def test_the_mean_per_sample_does_not_depend_on_how_often_a_sample_is_repeated(target):
    layer = layer_of(np.random.default_rng(0), "fc")
    twice = dataclasses.replace(
        layer,
        runs={name: np.concatenate([values, values]) for name, values in layer.runs.items()},
        **{name: None if getattr(layer, name) is None else 2 * getattr(layer, name) for name in TOTALS},
    )
    chip = load_target(target)
    once, doubled = nominal(Counts(SAMPLES, STEPS, (layer,)), chip), nominal(Counts(2 * SAMPLES, STEPS, (twice,)), chip)
    assert once.keys() == doubled.keys()
    for model, energies in once.items():
        assert doubled[model] == pytest.approx(energies, rel=1e-12), model
