from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from energy.make_counts import COUNTS, LAYER, with_runs
from esl_neuro.energy.breakeven import WITH_ACTIVITY, WITH_CONNECTIONS, break_even, density, firing_rate, scaling
from esl_neuro.energy.counts import Counts
from esl_neuro.energy.prices import PRICE_MODELS
from esl_neuro.energy.uncertainty import Draws
from esl_neuro.hardware import load_target

CHIP_MODELS = {"loihi": "silicon", "cmos45": "arithmetic"}
NOMINAL = Draws(1, only="nothing")  # every constant at its value, every sample once


def estimate(target, model, counts=COUNTS):
    return PRICE_MODELS[model](counts, load_target(target), 1e-3)


def test_rate_and_density_of_the_run():
    assert firing_rate(COUNTS) == pytest.approx(8 / (20 * 2 * 10))
    assert density(COUNTS) == pytest.approx(30 / 80)


def test_at_the_break_even_rate_both_need_the_same():
    chip, processor = estimate("loihi", "silicon"), estimate("titan-black", "per-mac")
    found = break_even(COUNTS, chip, processor, NOMINAL, None)
    factor = round(found.rate_at / found.rate)
    busier = with_runs(
        **{
            name: factor * values if name.startswith(("sop", "spikes")) else values
            for name, values in LAYER.runs.items()
        }
    )
    moved = estimate("loihi", "silicon", busier).energy_pj.nominal
    assert factor > 10
    assert moved == pytest.approx(processor.energy_pj.nominal, rel=1 / factor)


def test_fixed_costs_above_the_processor_never_break_even():
    found = break_even(
        COUNTS, estimate("truenorth", "marginal-static"), estimate("v100-pcie", "peak-2-flop"), NOMINAL, None
    )
    assert (found.rate_at, found.density_at, found.utilisation_at) == (None, None, None)


def test_break_even_utilisation_is_where_the_processor_needs_as_little():
    chip, gpu = estimate("loihi", "silicon"), estimate("v100-pcie", "utilisation")
    found = break_even(COUNTS, chip, gpu, NOMINAL, load_target("v100-pcie").constant("utilisation"))
    share = load_target("v100-pcie").constant("utilisation").model_copy(update={"value": found.utilisation_at})
    assumed = load_target("v100-pcie").constant("utilisation").nominal
    assert gpu.energy_pj.nominal * assumed / share.value == pytest.approx(chip.energy_pj.nominal)


def test_density_moves_operations_and_not_spikes():
    chip, gpu = estimate("loihi", "silicon"), estimate("titan-black", "per-mac")
    found = break_even(COUNTS, chip, gpu, NOMINAL, None)
    factor = found.density_at / found.density
    parts = {term.what: term.energy_pj.nominal for term in chip.terms}
    operations = parts.pop("synaptic operations")
    assert operations * factor + sum(parts.values()) == pytest.approx(gpu.energy_pj.nominal)


def test_a_run_without_spikes_has_a_rate_of_zero():
    silent = dataclasses.replace(LAYER, spikes_in=0)
    assert firing_rate(Counts(2, 10, (silent,))) == 0


def test_multiplications_of_graded_input_grow_like_additions():
    # 100 effective multiplications of values and no spike: twice the activity or the density is twice the energy.
    macs = with_runs(sop_effective=0 * LAYER.runs["sop_effective"], macs_effective=LAYER.runs["sop_effective"])
    chip, processor = estimate("cmos45", "arithmetic", macs), estimate("titan-black", "per-mac")
    found = break_even(macs, chip, processor, NOMINAL, None)
    factor = processor.energy_pj.nominal / chip.energy_pj.nominal
    assert {term.count_unit for term in chip.terms} == {"SOP", "MAC"}
    assert found.rate_at == pytest.approx(found.rate * factor)
    assert found.density_at == pytest.approx(found.density * factor)


def test_decays_of_states_do_not_grow_with_activity():
    with_memory = estimate("cmos45", "with-memory")
    assert not {t.what for t in with_memory.terms if t.count_unit == "MAC"} & {
        "decays of states",
        "additions of states",
    }


def test_a_run_without_lines_steps_or_samples_has_neither_rate_nor_density():
    nothing = dataclasses.replace(LAYER, inputs=0, macs_dense=0)
    for counts in (Counts(2, 10, (nothing,)), Counts(0, 10, (LAYER,)), Counts(2, 10, ())):
        assert (firing_rate(counts), density(counts)) == (0.0, 0.0)


def test_rate_and_density_of_several_layers_are_those_of_all_lines_and_connections():
    wide = dataclasses.replace(LAYER, inputs=60, spikes_in=0, stored=10, macs_dense=3200)
    both = Counts(2, 10, (LAYER, wide))
    assert firing_rate(both) == pytest.approx(8 / (80 * 20))
    assert density(both) == pytest.approx(40 / 240)


def test_a_break_even_names_both_sides_and_says_which_are_bounds():
    chip, gpu = estimate("loihi", "silicon"), estimate("v100-pcie", "utilisation")
    found = break_even(COUNTS, chip, gpu, NOMINAL, None)
    assert (found.chip, found.processor, found.probability) == (chip, gpu, 1.0)
    document = found.to_dict()
    assert document == {
        "chip": chip.name,
        "processor": gpu.name,
        "chip_lower_bound": chip.lower_bound,
        "processor_lower_bound": gpu.lower_bound,
        "rate": found.rate,
        "density": found.density,
        "rate_at": found.rate_at,
        "density_at": found.density_at,
        "utilisation_at": found.utilisation_at,
        "probability": 1.0,
    }


def test_a_chip_that_needs_nothing_is_met_at_no_rate_and_at_no_utilisation():
    """Nothing grows with activity, and any utilisation costs more."""
    silent = with_runs(**{name: 0 * values for name, values in LAYER.runs.items()})
    chip, gpu = estimate("cmos45", "arithmetic", silent), estimate("v100-pcie", "utilisation", COUNTS)
    assert chip.energy_pj.nominal == 0
    found = break_even(silent, chip, gpu, NOMINAL, load_target("v100-pcie").constant("utilisation"))
    assert (found.rate_at, found.density_at, found.utilisation_at) == (None, None, 0.0)


def test_what_little_grows_is_scaled_all_the_same():
    """A chip whose growing part is below one pJ has a break-even like any other."""
    chip, processor = estimate("loihi", "silicon"), estimate("titan-black", "per-mac")
    rare = tuple(
        dataclasses.replace(term, count=1e-6 * term.count) if term.count_unit in WITH_ACTIVITY else term
        for term in chip.terms
    )
    small = dataclasses.replace(chip, terms=rare)
    assert 0 < scaling(small, WITH_ACTIVITY, NOMINAL).growing_pj[0] < 1
    found, less = (break_even(COUNTS, each, processor, NOMINAL, None) for each in (chip, small))
    assert less.rate_at == pytest.approx(1e6 * found.rate_at)


def test_a_processor_that_needs_what_the_chip_always_needs_is_met_at_no_rate():
    chip = estimate("loihi", "silicon")
    divided = scaling(chip, WITH_ACTIVITY, NOMINAL)
    assert min(divided.growing_pj[0], divided.fixed_pj[0]) > 0
    always = dataclasses.replace(chip, terms=tuple(term for term in chip.terms if term.count_unit not in WITH_ACTIVITY))
    assert always.energy_pj.nominal == pytest.approx(divided.fixed_pj[0])
    assert break_even(COUNTS, chip, always, NOMINAL, None).rate_at is None


def test_scaling_multiplies_the_terms_of_the_units_and_keeps_the_others():
    chip = estimate("loihi", "silicon")
    found = scaling(chip, WITH_ACTIVITY, NOMINAL)
    growing, fixed = found.growing_pj[0], found.fixed_pj[0]
    assert [found.at(factor)[0] for factor in (0, 1, 3)] == pytest.approx(
        [fixed, chip.energy_pj.nominal, 3 * growing + fixed]
    )


@pytest.mark.parametrize("target", ["loihi", "cmos45"])
def test_a_break_even_is_where_the_medians_are_equal_whatever_the_nominal_values_are(target):
    chip, processor, draws = estimate(target, CHIP_MODELS[target]), estimate("jetson-xavier-nx", "utilisation"), Draws()
    assumed = load_target("jetson-xavier-nx").constant("utilisation")
    found = break_even(COUNTS, chip, processor, draws, assumed)
    level = np.median(processor.sample(draws))
    assert level != pytest.approx(processor.energy_pj.nominal, rel=0.01)
    for units, now, at in (
        (WITH_ACTIVITY, found.rate, found.rate_at),
        (WITH_CONNECTIONS, found.density, found.density_at),
    ):
        assert np.median(scaling(chip, units, draws).at(at / now)) == pytest.approx(level)
    at_peak = np.median(processor.sample(draws) * draws.of(assumed))
    assert at_peak / found.utilisation_at == pytest.approx(np.median(chip.sample(draws)))
    assert found.probability == np.mean(chip.sample(draws) < processor.sample(draws))
