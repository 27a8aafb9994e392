from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest

from esl_neuro.backends.trace import Trace
from esl_neuro.energy.measurement import measure
from esl_neuro.energy.report import energy_report
from esl_neuro.energy.uncertainty import Draws, medians_by_layer
from esl_neuro.report import energy_plots
from esl_neuro.report.energy_csv import write_energy_csv
from esl_neuro.report.energy_plots import (
    OTHER,
    draw_break_even,
    draw_energy,
    draw_intervals,
    draw_layers,
    draw_parts,
)
from esl_neuro.report.palette import PARTS, target_look
from esl_neuro.report.plots import Layout, brief
from report.programs import chain

MEASURED = measure(np.array([0.0, 1.0, 2.0]), np.array([0.1, 0.2, 0.1]), 500, "loihi2", "log.csv")
LAYOUT = Layout()


@pytest.fixture(scope="module")
def report():
    program, random = chain((60, 40, 10), 0.2), np.random.default_rng(1)
    spikes = {g.name: (random.random((3, 4, g.neurons)) < 0.2).astype(np.uint8) for g in program.groups}
    trace = Trace("integer", (random.random((3, 4, 60)) < 0.1).astype(np.uint8), spikes)
    return energy_report(program, trace, measurements=[MEASURED])


@pytest.fixture(scope="module")
def meeting(report):
    """The report, as if every chip met the processor at this rate and at no density."""
    return replace(
        report, break_evens=tuple(replace(each, rate_at=0.3, density_at=None) for each in report.break_evens)
    )


@pytest.fixture
def figures(monkeypatch):
    kept = []
    save = energy_plots.save
    monkeypatch.setattr(energy_plots, "save", lambda figure, path: (kept.append(figure), save(figure, path)))
    return kept


def dots(axes):
    """The dot of each interval, with its error bar, from top to bottom."""
    return sorted(axes.containers, key=lambda each: each[0].get_ydata()[0])


def test_every_estimate_is_a_dot_of_its_scope_that_the_axis_shows(report, figures, tmp_path):
    assert draw_intervals(report, tmp_path / "a.png", LAYOUT) == ""
    medians = {f"{e.target}  {e.model}": found.median_pj / 1e12 for e, found in report.rows if found is not None}
    medians["loihi2  measured"] = MEASURED.energy_j_per_sample
    shown = {}
    for axes in figures[0].axes:
        low, high = axes.get_xlim()
        assert axes.get_xscale() == "log"
        for label, dot in zip(axes.get_yticklabels(), dots(axes), strict=True):
            shown[label.get_text()] = dot[0].get_xdata()[0]
            assert low < dot[0].get_xdata()[0] < high
    assert shown == pytest.approx(medians)
    assert "n = 3 samples" in figures[0].get_supxlabel()
    assert "5-95 %" in figures[0].get_supxlabel()


def test_an_interval_is_drawn_beside_its_dot_with_ends_higher_than_the_dot(report, figures, tmp_path):
    draw_parts(report, tmp_path / "a.png", LAYOUT)
    found = report.parts["loihi"]
    (axes,) = figures[0].axes
    near = {part: each for each in axes.containers for part in PARTS if each[0].get_color() == PARTS[part].colour
            and each[0].get_xdata()[0] == pytest.approx(getattr(found, part).median_pj / 1e12)}  # fmt: skip
    assert set(near) == set(PARTS)
    for part, (dot, caps, (bar,)) in near.items():
        energy = getattr(found, part)
        ends = [place[0] for place in bar.get_segments()[0].tolist()]
        assert ends == pytest.approx([energy.low_pj / 1e12, energy.high_pj / 1e12])
        assert all(cap.get_markersize() > 1.5 * dot.get_markersize() for cap in caps)
        assert dot.get_marker() == PARTS[part].marker


def test_layers_divide_the_dynamic_energy_by_medians_and_what_has_no_layers_is_named(report, figures, tmp_path):
    assert "v100-pcie" in draw_layers(report, tmp_path / "a.svg", LAYOUT)
    (axes,) = figures[0].axes
    targets = [label.get_text() for label in axes.get_yticklabels()]
    assert targets == ["truenorth", "loihi", "loihi2", "cmos45"]
    names = [container.get_label() for container in axes.containers]
    widths = np.array([[bar.get_width() for bar in container] for container in axes.containers])
    assert widths.sum(axis=0) == pytest.approx(100)
    chip = next(each for each in report.headlines if each.target == "loihi2")
    medians = {what: found for what, found in medians_by_layer(chip, Draws()).items() if "static" not in what}
    layer = report.counts.layers[0].name
    assert widths[names.index(brief(layer)), 2] == pytest.approx(100 * medians[layer] / sum(medians.values()))
    assert widths[names.index(OTHER), 2] > 0


def test_a_break_even_is_drawn_only_where_there_is_one(report, meeting, tmp_path, figures):
    stale = tmp_path / "energy-break-even.png"
    stale.write_bytes(b"of an earlier report")
    drawn = draw_energy(report, tmp_path, "png")
    assert [path.name for path in drawn.files] == ["energy-intervals.png", "energy-parts.png", "energy-layers.png"]
    assert all(path.stat().st_size > 10_000 for path in drawn.files)
    assert not stale.exists()
    assert any("no chip and processor meet" in words for words in drawn.left_out)
    assert all(figure.get_suptitle() == "" for figure in figures)
    figures.clear()
    assert draw_break_even(meeting, stale, LAYOUT) == ""
    assert len(figures[0].axes) == 1  # no density, no panel


def test_the_lines_pass_through_the_medians_of_this_run_in_the_colour_of_their_chip(meeting, figures, tmp_path):
    draw_break_even(meeting, tmp_path / "a.pdf", LAYOUT)
    (axes,) = figures[0].axes
    medians = {estimate.name: found.median_pj / 1e12 for estimate, found in meeting.rows if found is not None}
    lines = {line.get_label(): line for line in axes.lines}
    for each in meeting.break_evens:
        line = lines[each.chip.name]
        drawn = np.exp(np.interp(np.log(each.rate), np.log(line.get_xdata()), np.log(line.get_ydata())))
        assert drawn == pytest.approx(medians[each.chip.name], rel=0.02)
        assert line.get_color() == target_look(each.chip.target).colour
        assert line.get_marker() == target_look(each.chip.target).marker
        assert lines[each.processor.name].get_ydata()[0] == pytest.approx(medians[each.processor.name])
    named = {name: line for name, line in lines.items() if name in medians}
    styles = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in named.values()}
    assert len(styles) == len(named) == 6


def test_csv_has_a_row_for_each_estimate_and_layer(report, tmp_path):
    estimates, layers = write_energy_csv(report, tmp_path / "energy.csv")
    rows = list(csv.DictReader(estimates.open()))
    assert [row["model"] for row in rows] == ["measured", *(e.model for e in report.estimates)]
    assert float(rows[1]["nominal_j"]) == report.estimates[0].energy_pj.nominal / 1e12
    assert [row["sop_effective"] for row in csv.DictReader(layers.open())] == [
        str(layer.sop_effective) for layer in report.counts.layers
    ]
