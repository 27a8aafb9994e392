from __future__ import annotations

import json

import pytest

from energy.make_counts import COUNTS
from esl_neuro.energy.literature import LABEL, LITERATURE, literature
from esl_neuro.errors import BadInput
from esl_neuro.report.comparison_text import render_literature


def energies(name):
    return {estimate.model: estimate.energy_pj.nominal for estimate in literature(name, COUNTS).estimates}


def test_hu2018():
    # 80 connections once, 50 effective SOPs.
    assert energies("hu2018") == pytest.approx({"ann": 80 * 12.5, "snn": 50 * 0.077})


def test_horowitz_ac_mac():
    assert energies("horowitz-ac-mac") == pytest.approx({"ann": 80 * 4.6, "snn": 50 * 0.9})


def test_kerasspiking_prices_zeros_a_hop_each_and_every_neuron_as_active():
    # 16 spikes x fan-out per sample, 40 neuron updates.
    assert energies("kerasspiking") == pytest.approx(
        {"loihi": 16 * (23.6 + 3.5) + 40 * 81, "gpu": 80 * 300, "cpu": 80 * 8600}
    )


@pytest.mark.parametrize("name", LITERATURE)
def test_it_is_labelled_as_a_reproduction(name):
    result = literature(name, COUNTS)
    document = json.loads(json.dumps(result.to_dict()))
    assert document["label"] == LABEL == "for reproduction of the literature only, not an estimate of ours"
    assert LABEL in render_literature(result)
    assert all(estimate.scope == "paper_preset" for estimate in result.estimates)
    assert result.caveats


def test_an_unknown_one_gets_the_nearest_name():
    with pytest.raises(BadInput, match="did you mean 'hu2018'"):
        literature("hu2019", COUNTS)
