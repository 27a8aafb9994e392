from __future__ import annotations

import json

import pytest

from esl_neuro.energy.validation import validation, workload


@pytest.fixture(scope="module")
def points():
    return validation()


def of(points, text):
    return [point for point in points if text in point.what]


def test_the_truenorth_sweep_is_predicted_within_half_a_percent(points):
    sweep = of(points, "0.8 V")
    assert [point.measured for point in sweep] == [68, 71, 94]
    assert all(abs(point.residual) < 0.005 for point in sweep)
    assert all(point.fitted for point in sweep)


def test_merolla_and_akopyan_are_predicted_within_their_voltages(points):
    assert [round(point.residual, 3) for point in of(points, "Merolla")] == [-0.031, -0.018]
    workload_point, peak = of(points, "Akopyan")
    assert workload_point.residual == pytest.approx(0.088, abs=1e-3)
    assert peak.residual == pytest.approx(0.358, abs=1e-3)


def test_the_operations_of_the_keyword_spotter_are_what_it_needs_above_waiting(points):
    silicon, table2 = of(points, "above waiting")
    assert silicon.measured == table2.measured == 0.047
    assert silicon.predicted > silicon.measured  # a bound on the operations is one on the energy
    assert table2.predicted < table2.measured  # simulated minima, published as such
    assert abs(silicon.residual) < 0.3
    assert abs(table2.residual) < 0.15


def test_most_of_what_it_needs_above_idle_is_in_no_model(points):
    assert all(point.high < point.measured / 4 for point in of(points, "above idle"))
    assert {point.measured for point in of(points, "above idle")} == {0.27}


def test_pilotnet_lies_in_the_interval_of_the_proxy(points):
    dynamic, total = of(points, "dynamic (proxy)")[0], of(points, "total (proxy)")[0]
    assert (dynamic.measured, total.measured) == (1.093544, 1.661103)
    for point in (dynamic, total):
        assert point.low < point.measured < point.high
        assert not point.fitted
    assert dynamic.residual == pytest.approx(-0.277, abs=1e-3)
    assert total.residual == pytest.approx(-0.182, abs=1e-3)


def test_every_residual_is_published(points):
    document = json.loads(json.dumps([point.to_dict() for point in points]))
    assert all(entry["residual"] == entry["predicted"] / entry["measured"] - 1 for entry in document)
    assert all(point.remark for point in points)


def test_a_workload_is_priced_by_its_totals():
    counts = workload(1000, 100, 40, steps=4)
    assert (counts.per_sample("sop_effective"), counts.per_sample("sop_executed")) == (1000, 1000)
    assert (counts.per_sample("neuron_updates_touched"), counts.per_sample("neuron_updates_idle")) == (40, 60)
