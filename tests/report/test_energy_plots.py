from __future__ import annotations

import csv

import numpy as np
import pytest

from esl_neuro.backends.trace import Trace
from esl_neuro.energy.measurement import measure
from esl_neuro.energy.report import energy_report
from esl_neuro.report import energy_plots
from esl_neuro.report.energy_csv import write_energy_csv
from esl_neuro.report.energy_plots import draw_break_even, draw_energy, draw_intervals, draw_layers
from report.programs import chain

MEASURED = measure(np.array([0.0, 1.0, 2.0]), np.array([0.1, 0.2, 0.1]), 500, "loihi2", "log.csv")


@pytest.fixture(scope="module")
def report():
    program, random = chain((60, 40, 10), 0.2), np.random.default_rng(1)
    spikes = {g.name: (random.random((3, 4, g.neurons)) < 0.2).astype(np.uint8) for g in program.groups}
    trace = Trace("integer", (random.random((3, 4, 60)) < 0.1).astype(np.uint8), spikes)
    return energy_report(program, trace, measurements=[MEASURED])


@pytest.fixture
def figures(monkeypatch):
    kept = []
    save = energy_plots.save
    monkeypatch.setattr(energy_plots, "save", lambda figure, path: (kept.append(figure), save(figure, path)))
    return kept


def test_intervals_are_on_a_log_axis_with_a_row_for_each_estimate(report, figures, tmp_path):
    draw_intervals(report, tmp_path / "a.png")
    (axes,) = figures[0].axes
    assert axes.get_xscale() == "log"
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names[0] == "loihi2  measured"
    assert names[1:] == [f"{e.target}  {e.model}" for e, found in report.rows if found is not None]
    medians = [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 1]
    assert medians[1:] == pytest.approx([found.median_pj / 1e12 for _, found in report.rows if found is not None])


def test_layers_stack_to_one(report, figures, tmp_path):
    draw_layers(report, tmp_path / "a.svg")
    (axes,) = figures[0].axes
    ends: dict[float, float] = {}
    for bar in axes.patches:
        ends[bar.get_y()] = max(ends.get(bar.get_y(), 0.0), bar.get_x() + bar.get_width())
    assert list(ends.values()) == pytest.approx([1.0] * len(report.summary))


def test_the_lines_pass_through_the_estimates_of_this_run(report, figures, tmp_path):
    draw_break_even(report, tmp_path / "a.pdf")
    meeting = report.break_evens[1]
    for axes, now in zip(figures[0].axes, (meeting.rate, meeting.density), strict=True):
        lines = {line.get_label(): line for line in axes.lines}
        line = lines[f"{meeting.chip.target} {meeting.chip.model}"]
        drawn = np.exp(np.interp(np.log(now), np.log(line.get_xdata()), np.log(line.get_ydata())))
        assert drawn == pytest.approx(meeting.chip.energy_pj.nominal / 1e12, rel=0.02)


def test_all_charts_go_into_a_folder(report, tmp_path):
    paths = draw_energy(report, tmp_path, "png")
    assert [path.name for path in paths] == ["energy-intervals.png", "energy-layers.png", "energy-break-even.png"]
    assert all(path.stat().st_size > 10_000 for path in paths)


def test_csv_has_a_row_for_each_estimate_and_layer(report, tmp_path):
    estimates, layers = write_energy_csv(report, tmp_path / "energy.csv")
    rows = list(csv.DictReader(estimates.open()))
    assert [row["model"] for row in rows] == ["measured", *(e.model for e in report.estimates)]
    assert float(rows[1]["nominal_j"]) == report.estimates[0].energy_pj.nominal / 1e12
    assert [row["sop_effective"] for row in csv.DictReader(layers.open())] == [
        str(layer.sop_effective) for layer in report.counts.layers
    ]
