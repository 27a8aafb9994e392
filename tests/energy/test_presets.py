from __future__ import annotations

import json

import pytest

from esl_neuro.energy import presets
from esl_neuro.energy.presets import PRESETS, PRINTED_J, SIMPLE_TOLERANCE, Figure, esl2023
from esl_neuro.hardware import load_target

PAPER = {
    ("dense", "GPU"): "1.13E-05",
    ("dense", "neuromorphic"): "7.95E-06",
    ("sparse", "GPU"): "1.84E-06",
    ("sparse", "neuromorphic"): "1.29E-06",
}


@pytest.fixture(scope="module")
def result():
    return PRESETS["esl2023"]()


def reading(result, name):
    return next(r for r in result.readings if r.name == name)


@pytest.mark.parametrize("name", ["exact", "five-times-peak"])
def test_all_four_printed_figures(result, name):
    found = reading(result, name)
    assert {(f.network, f.chip): f"{f.energy_j:.2E}" for f in found.figures} == PAPER
    assert found.reproduces_all


def test_the_simple_reading_misses_one_by_one_unit(result):
    found = reading(result, "simple")
    texts = {(f.network, f.chip): f.text for f in found.figures}
    assert texts == PAPER | {("dense", "neuromorphic"): "7.94E-06"}
    remarks = [f.remark for f in found.figures]
    assert remarks.count("equal") == 3
    assert "off by one unit in the last digit (-0.13 %)" in remarks
    assert all(abs(f.relative_error) <= SIMPLE_TOLERANCE for f in found.figures)
    assert (found.equal, found.reproduces_all) == (3, False)


def test_the_figures_come_from_the_constants(monkeypatch):
    """Change a constant and the figures follow: nothing is typed in."""
    original = load_target

    def doubled(name):
        target = original(name)
        if name != "truenorth":
            return target
        constant = target.constants["esl2023_e_sop"].model_copy(update={"value": 25.0, "high": 25.0})
        return target.model_copy(update={"constants": {**target.constants, "esl2023_e_sop": constant}})

    before = {(f.network, f.chip): f.energy_j for f in reading(esl2023(), "exact").figures}
    monkeypatch.setattr(presets, "load_target", doubled)
    after = {(f.network, f.chip): f.energy_j for f in reading(esl2023(), "exact").figures}
    for key, energy_j in after.items():
        assert energy_j == pytest.approx(before[key] * (2 if key[1] == "neuromorphic" else 1))


def test_connections(result):
    text = " ".join(result.connections)
    assert all(number in text for number in ("635,200", "636,010", "95,040", "103,040", "103,000", "16.2 %"))


def test_other_published_prices(result):
    found = {a.constant.id: (f"{a.dense_j:.2E}", f"{a.sparse_j:.2E}") for a in result.alternatives}
    assert found == {
        "truenorth.e_event_allin": ("1.65E-05", "2.68E-06"),
        "truenorth.eff_typ": ("1.38E-05", "2.24E-06"),
        "truenorth.eff_peak": ("1.59E-06", "2.58E-07"),
        "loihi.e_synop_min": ("1.50E-05", "2.43E-06"),
        "loihi.e_synop_sparse": ("2.13E-05", "3.46E-06"),
        "odin.e_event_allin": ("8.07E-06", "1.31E-06"),
        "darwin3.e_sop_marginal": ("3.47E-06", "5.63E-07"),
        "cmos45.add_fp32": ("5.72E-07", "9.27E-08"),
        "rolls.e_synop": ("4.89E-08", "7.93E-09"),
    }


def test_caveats_have_their_numbers(result):
    assert len(result.caveats) == 7
    text = " ".join(result.caveats)
    for number in ("1.43x", "8.80x", "2.27E-05", "1.25E-02", "6.46E-04", "784 against 256"):
        assert number in text


def test_it_says_what_it_is(result):
    assert result.label == "reproduction of a published figure, not an estimate of ours"
    assert PRINTED_J == PAPER
    document = json.loads(json.dumps(result.to_dict()))
    assert document["label"] == result.label
    assert {r["name"]: r["reproduces_all"] for r in document["readings"]} == {
        "exact": True,
        "simple": False,
        "five-times-peak": True,
    }


@pytest.mark.parametrize(
    ("energy_j", "remark"),
    [
        (7.95e-6, "equal"),
        (7.9549e-6, "equal"),
        (7.96e-6, "off by one unit in the last digit (+0.13 %)"),
        (8.05e-6, "off by 10 units in the last digit (+1.26 %)"),
    ],
)
def test_remark(energy_j, remark):
    assert Figure("dense", "neuromorphic", energy_j, "7.95E-06", "").remark == remark
