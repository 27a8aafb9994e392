"""The fit, its table of measurements and the constants of the target say the same."""

from __future__ import annotations

import json

import numpy as np
import pytest

from esl_neuro.energy.chip_fit import CORNERS, Observation, fit, fit_open, observations, own_observation
from esl_neuro.energy.fit_file import fitted_constants, target_text
from esl_neuro.energy.measurement import Measurement
from esl_neuro.energy.measurements import measurements, points
from esl_neuro.energy.pair_programs import Run, plan, rehearse
from esl_neuro.errors import BadInput
from esl_neuro.hardware import load_target


@pytest.fixture(scope="module")
def given():
    return observations(points(measurements("loihi2")))


@pytest.fixture(scope="module")
def found(given):
    return fit(given)


def test_the_target_has_what_the_fit_finds(given, found):
    chip = load_target("loihi2")
    for name, numbers in fitted_constants(found, fit_open(given)).items():
        constant = chip.constant(name)
        assert (constant.value, constant.low, constant.high) == pytest.approx(numbers, rel=0.005), name
        assert constant.evidence == "fitted"
    for corner, prices in CORNERS.items():
        assert tuple(chip.constant(f"{name}_{corner}").nominal for name in ("e_sop", "e_neuron")) == prices


def test_every_workload_left_out(found):
    """The table of docs/silicon.md."""
    assert {each.workload: round(each.ratio, 2) for each in found.left_out} == {
        "necotis-pair": 1.83,
        "pilotnet-lif": 1.08,
        "s4d-torch": 0.74,
        "s4d-slayer": 0.51,
        "cartpole": 0.84,
        "ozu-lif": 1.18,
    }


def test_the_fit_recovers_the_model_that_made_the_readings():
    rng = np.random.default_rng(0)
    made = []
    for number in range(30):
        cores, sop, updates = rng.integers(1, 100), rng.integers(0, 10**6), rng.integers(0, 10**4)
        energy = 20 + 3 * cores + 0.8 * (23.6 * sop + 81 * updates) / 1e3
        made.append(Observation(f"w{number}", energy, 0.01, 0.0, 1, cores, sop, updates))
    values = [each.value for each in fit(made).parameters]
    assert values == pytest.approx([20, 3, 0.8], rel=1e-3)


def test_published_readings_do_not_separate_the_prices_and_the_planned_runs_would(given):
    assert not fit_open(given).separable
    for prices in CORNERS.values():
        free = rehearse(plan(), prices)
        assert free.separable
        assert (free.e_sop.value, free.e_neuron.value) == pytest.approx(prices, rel=0.01)


def test_a_reading_of_ones_own_enters_the_fit_or_is_refused_with_every_reason(given):
    own = Measurement("loihi2", "dynamic", 1.1e-3, 1.0e-3, 1.2e-3, 100, 1.0, 1.0, 0.2, "p.csv", 16, 74, 3.66e7, 2.54e6)
    observation = own_observation(own, "loihi2", 0.25)
    assert observation.energy_nj == pytest.approx(1.1e6 / 16)
    assert observation.sop == pytest.approx(3.66e7 / 16)
    assert fit([*given, observation]).left_out[-1].workload == "own: loihi2"
    bare = Measurement("v100-pcie", "all_in", 1, 1, 1, 1, 1.0, 1.0, 0.0, "p.csv")
    with pytest.raises(BadInput, match=r"is of 'v100-pcie'.*idle power.*no counts"):
        own_observation(bare, "loihi2", 0.25)


def test_a_fit_becomes_a_target(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(target_text("loihi2", "mine", {"e_chip_step": (1.0, 0.5, 2.0)}), encoding="utf-8")
    constant = load_target(str(path)).constant("e_chip_step")
    assert (constant.value, constant.low, constant.high, constant.id) == (1.0, 0.5, 2.0, "mine.e_chip_step")
    with pytest.raises(BadInput, match="no constant 'e_nothing'"):
        target_text("loihi2", "mine", {"e_nothing": (1.0, 1.0, 1.0)})


def test_the_synapses_of_a_convolution_are_those_of_its_kernel_inside_the_image():
    for targets in (6, 25, 62, 250):
        rows, columns = Run("conv", 1.0, targets, 1).image
        inside = sum(
            0 <= y + dy < rows and 0 <= x + dx < columns
            for y in range(rows)
            for x in range(columns)
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
        )
        assert Run("conv", 1.0, targets, 1).synapses == inside


def test_the_fit_is_plain_data(found):
    assert json.loads(json.dumps(found.to_dict()))["leave_one_out"][0]["workload"] == "necotis-pair"
