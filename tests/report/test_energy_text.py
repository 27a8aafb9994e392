from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from esl_neuro.backends.trace import Trace
from esl_neuro.energy.answer import answer
from esl_neuro.energy.core_map import CoreMap
from esl_neuro.energy.presets import PRESETS
from esl_neuro.energy.prices import price
from esl_neuro.energy.report import energy_report
from esl_neuro.energy.uncertainty import Draws, medians_by_layer
from esl_neuro.errors import BadInput
from esl_neuro.hardware import load_target
from esl_neuro.report.comparison_text import render_preset
from esl_neuro.report.energy_layout import WIDTH, amount, exact, si_energy
from esl_neuro.report.energy_text import (
    render_citation,
    render_energy_report,
    render_explanation,
    render_one_explanation,
)
from esl_neuro.report.tables import table
from report.programs import chain


@pytest.fixture(scope="module")
def report():
    program, random = chain((300, 50, 10), 0.2), np.random.default_rng(1)
    spikes = {g.name: (random.random((3, 4, g.neurons)) < 0.2).astype(np.uint8) for g in program.groups}
    return energy_report(program, Trace("integer", (random.random((3, 4, 300)) < 0.1).astype(np.uint8), spikes))


def rows(text, start):
    return [line.split() for line in text.splitlines() if line.startswith(start)]


def test_everything_fits_the_width(report):
    for text in (render_energy_report(report), render_explanation(report), render_preset(PRESETS["esl2023"]())):
        assert max(map(len, text.splitlines())) <= WIDTH
        assert text.isascii()
        assert not any(line != line.rstrip() for line in text.splitlines())


def test_a_large_network_fits_the_width_too():
    program = chain((3000, 3000), 0.5)
    spikes = np.ones((1, 4, 3000), np.uint8)
    text = render_energy_report(energy_report(program, Trace("integer", spikes, {program.groups[0].name: spikes})))
    assert max(map(len, text.splitlines())) <= WIDTH


def test_report_says_what_ran(report):
    text = render_energy_report(report)
    assert "3 samples x 4 steps on the integer backend, program for loihi2, chips: free running" in " ".join(
        text.split()
    )
    assert f"300 inputs, 60 neurons, {report.stored:,} of 15,500 connections stored" in text
    spread = report.counts.spread()
    assert f"mean {spread.mean:,.1f}" in text
    assert f"min {spread.minimum:,}, max {spread.maximum:,}" in text


def test_report_totals_are_the_counts(report):
    operations, traffic = rows(render_energy_report(report), "total")
    names = ("sop_effective", "sop_executed", "sop_executed_dense", "sop_bound", "macs_dense")
    assert operations == ["total", *(amount(report.counts.per_sample(name)) for name in names)]
    names = ("weight_words_read", "state_reads", "state_writes", "bias_adds")
    assert traffic == ["total", *(amount(report.counts.per_sample(name)) for name in names)]


def test_values_that_are_no_spikes_have_a_column_and_so_has_the_mesh_where_it_is_known():
    program = dataclasses.replace(chain((3000, 3000), 0.5), input_bits=8)
    spikes = np.ones((1, 4, 3000), np.uint8)
    (name,) = (group.name for group in program.groups)
    placement = CoreMap({"input": np.zeros(3000, np.int64), name: np.full(3000, 9)})
    report = energy_report(program, Trace("integer", spikes, {name: spikes}), placement=placement)
    text = render_energy_report(report)
    assert max(map(len, text.splitlines())) <= WIDTH
    operations, traffic = rows(text, "total")
    names = ("sop_effective", "sop_executed", "sop_executed_dense", "sop_bound", "macs_effective", "macs_dense")
    assert operations[1:] == [amount(report.counts.per_sample(name)) for name in names]
    assert traffic[-3:] == ["12,000", "0", "24,000"]  # one core, two tiles away in the same column
    assert "hops N-S" not in render_energy_report(energy_report(program, Trace("integer", spikes, {name: spikes})))


def test_what_it_ran_on_is_said(report):
    assert "Energy report: 3 samples x 4 steps" in render_energy_report(report)
    drawn = dataclasses.replace(report, ran_on="3 samples of random spikes (no real data)", accuracy=0.25)
    assert "no real data" in render_energy_report(drawn)
    assert "accuracy 25.00 %" in render_energy_report(drawn)


def test_report_has_one_row_per_estimate(report):
    text = render_energy_report(report)
    for estimate, found in report.rows:
        row = next(r[1:] for r in map(str.split, text.splitlines()) if r[1:3] == [estimate.target, estimate.model])
        assert row[2:4] == [estimate.scope, estimate.evidence]
        assert (">=" in row) == estimate.lower_bound
        if found is None:
            assert row[-1] == "refused"
        else:
            assert f"{found.median_pj * 1e-12:.2E}" in row


def test_each_scope_has_a_table_with_a_line_for_each_target_and_its_interval(report):
    text = render_energy_report(report)
    summary = text[text.index("Operations only") : text.index("Time per sample")]
    lines = [line.split() for line in summary.splitlines()]
    for found_rows in report.levels.values():
        for estimate, found in found_rows:
            (row,) = (line for line in lines if line[:2] == [estimate.target, estimate.model])
            assert row[2] == estimate.evidence
            for quantity in (found.median_pj, found.low_pj, found.high_pj):
                assert f"{quantity * 1e-12:.2E}" in row


def test_report_has_the_energy_of_every_layer(report):
    text = render_energy_report(report)
    part = text[text.index("by layer") : text.index("Every price model")].splitlines()
    layers = [line.split() for line in part if line.startswith("a_layer")]
    assert len(layers) == len(report.counts.layers)
    for index, (layer, row) in enumerate(zip(report.counts.layers, layers, strict=True)):
        # The board of a GPU at batch 1 has no share of a layer: launches have none.
        columns = [medians_by_layer(estimate, Draws()) for estimate, _ in report.summary]
        shares = [column[layer.name] for column in columns if layer.name in column]
        assert row[1:] == [f"{share * 1e-12:.2E}" for share in shares], index


def test_one_row_is_explained_by_number_or_by_name(report):
    text = render_one_explanation(report, "2")
    assert text == render_one_explanation(report, "truenorth:all-in")
    assert "truenorth.e_event_allin = 26 pJ" in text
    assert "loihi" not in text
    assert "5-95 %" in text
    with pytest.raises(BadInput, match=r"'loihi:silcon': no such row.*did you mean 'loihi:silicon'"):
        render_one_explanation(report, "loihi:silcon")
    with pytest.raises(BadInput, match="'0': no such row; use 1 to"):
        render_one_explanation(report, "0")


def test_a_citation_has_exactly_the_constants_used(report):
    text = render_citation(report)
    for constant in report.constants:
        assert constant.id in text
        for key in constant.cite:
            assert text.count(f"{{{key},\n") == 1
    assert "frenkel2019" not in text
    assert "estimated and not measured" in " ".join(text.split("\n% "))


def test_report_has_the_warnings(report):
    text = " ".join(render_energy_report(report).split())
    for warning in report.warnings:
        assert warning in text
    assert "cannot fill a GPU, so the datasheet peak is a lower bound" in text
    assert "not priced:" in text
    assert "spikes and messages have no price of their own" in text


def test_ratios_name_both_scopes(report):
    text = render_energy_report(report)
    for ratio in report.ratios:
        line = next(
            line
            for line in text.splitlines()
            if line.startswith("v100-pcie peak-2-flop (peak_tdp)")
            and f"{ratio.second.target} {ratio.second.model} ({ratio.second.scope})" in line
        )
        assert line.endswith(f"{ratio.relation} {ratio.median:.3g}x")


def test_explanation_lists_every_constant_and_every_product(report):
    text = " ".join(render_explanation(report).split())
    for constant in report.constants:
        for part in (constant.id, constant.quantity, constant.text, constant.condition, constant.source):
            assert " ".join(part.split()) in text
        assert (
            f"scope: {constant.scope}; evidence: {constant.evidence}; checked: {constant.verified}; "
            f"confidence: {constant.confidence}"
        ) in text
    sop = report.counts.per_sample("sop_effective")
    assert f"{exact(sop)} SOP x 26 pJ = {si_energy(sop * 26)} (truenorth.e_event_allin)" in text
    assert "4 step x 64.6 mW x 1 ms = 0.2584 mJ" in text
    assert "loihi2 per-operation (refused): refused, unpublished: loihi2.e_synop" in text


def test_preset_shows_label_figures_and_derivation():
    text = render_preset(PRESETS["esl2023"]())
    assert "reproduction of a published figure, not an estimate of ours" in text
    for figure in ("1.13E-05", "7.95E-06", "1.84E-06", "1.29E-06"):
        assert any(row.count(figure) == 2 and row[-1] == "equal" for row in map(str.split, text.splitlines()))
    assert "636,010 x 12.5 pJ = 7.9501E-06 J" in text
    assert "Reading 'simple' gives 3 of the 4 printed figures" in text
    assert "off by one unit in the last digit" in text
    assert "\n7. " in text


@pytest.mark.parametrize(
    ("energy_pj", "text"),
    [
        (0.0, "0 pJ"),
        (26.0, "26 pJ"),
        (321_000.0, "0.321 uJ"),
        (1.292e9, "1.292 mJ"),
        (9.9e10, "99 mJ"),
        (2.5e12, "2.5 J"),
    ],
)
def test_si_energy(energy_pj, text):
    assert si_energy(energy_pj) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (1234.5, "1,234.5"), (187_895.2, "187,895"), (12_704_000, "1.270E+07")]
)
def test_amount(number, text):
    assert amount(number) == text


def test_the_layers_of_a_price_without_ranges_have_their_exact_share():
    from energy.make_counts import COUNTS

    (estimate, *_) = price(COUNTS, load_target("cmos45"), None)
    nominal = estimate.by_layer_pj()
    assert medians_by_layer(estimate, Draws(only="nothing")) == pytest.approx(nominal)


def test_what_prices_are_those_of_another_chip_stands_below_the_row(report):
    lines = render_energy_report(report).splitlines()
    below = {
        lines[at].split()[0]: lines[at + 1].strip() for at in range(len(lines) - 1) if "fitted-synapse" in lines[at]
    }
    assert below["loihi2"] == "priced as Loihi 1"


@pytest.mark.parametrize("width", [80, 100, 200])
def test_a_text_is_as_wide_as_the_terminal(report, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    for text in (render_energy_report(report), render_explanation(report)):
        longest = max(len(line) for line in text.splitlines() if "http" not in line)
        assert width - 20 < longest <= width


def test_a_table_that_is_too_wide_continues_below_beside_its_names(monkeypatch):
    headers, rows = ("name", "first", "second", "third"), [("a", "1" * 20, "2" * 20, "3"), ("b", "4", "5", "6" * 20)]
    whole = table(headers, rows)
    monkeypatch.setenv("COLUMNS", "50")
    text = table(headers, rows)
    assert max(map(len, text.splitlines())) <= 50
    first, second = text.split("\n\n")
    assert first.splitlines()[0].split()[:2] == ["name", "first"]
    assert second.splitlines()[0].split()[0] == "name"
    assert sorted(set(text.split())) == sorted(set(whole.split()))


def test_a_long_text_in_the_last_column_is_wrapped_between_words(monkeypatch):
    words = ["the", "threshold", "of", "this", "layer", "is", "below", "one", "step", "of", "its", "weights"]
    monkeypatch.setenv("COLUMNS", "50")
    text = table(("place", "finding"), [("lif1", " ".join(words))], left=2)
    assert max(map(len, text.splitlines())) <= 50
    assert [word for word in text.split() if word in words] == words


def test_table_aligns_columns():
    assert table(("a", "number"), [("x", "1"), ("long", "22")]).splitlines() == [
        "a     number",
        "----  ------",
        "x          1",
        "long      22",
    ]


def test_a_report_in_a_notebook_is_ten_lines(report):
    assert repr(report).startswith("EnergyReport(3 samples x 4 steps, integer; ")
    assert len(repr(report)) < 200
    lines = str(report).splitlines()
    assert len(lines) == 4 + len(report.summary)
    assert lines[0] == "3 samples x 4 steps (integer)"
    assert lines[1].startswith(f"{report.counts.per_sample('sop_effective'):,.0f} synaptic operations per sample, ")
    assert lines[1].endswith(f"{report.stored:,} of {report.dense:,} connections")
    for line, (estimate, found) in zip(lines[3:], report.summary, strict=False):
        assert line.split()[0] == estimate.target
        if found is None:
            assert estimate.refusal in line
        else:
            assert f"{found.median_pj / 1e3:.4g} nJ" in line
            assert (">= " in line) == estimate.lower_bound
            assert f"({found.low_pj / 1e3:.4g} - {found.high_pj / 1e3:.4g})" in line
            assert line.endswith(estimate.scope)


def test_the_first_line_names_the_network_and_the_first_lines_warn_of_silence(report):
    program, random = chain((300, 50, 10), 0.2), np.random.default_rng(1)
    arriving = (random.random((3, 4, 300)) < 0.1).astype(np.uint8)
    first, last = (group.name for group in program.groups)
    fired, silent = np.ones((3, 4, 50), np.uint8), np.zeros((3, 4, 10), np.uint8)

    def lines(hidden, readout="spikes"):
        trace = Trace("integer", arriving, {first: hidden, last: silent})
        found = energy_report(dataclasses.replace(program, readout=readout), trace, network="runs/a/loihi2")
        return render_energy_report(found).split("\n\n")[0]

    assert lines(fired).startswith("Energy report of runs/a/loihi2: ")
    assert f"WARNING: never spiking: '{last}'" in lines(fired)
    assert "WARNING: no layer ever spikes" in lines(0 * fired)
    assert "WARNING" not in lines(fired, readout="potential")  # such a readout never spikes
    assert "WARNING" not in render_energy_report(report)


def test_operations_and_static_power_are_the_parts_of_a_chip(report):
    for target in ("loihi", "loihi2", "truenorth"):
        found = report.parts[target]
        for part in (found.dynamic, found.static, found.total):
            assert 0 < part.low_pj <= part.median_pj <= part.high_pj
        assert max(found.dynamic.median_pj, found.static.median_pj) < found.total.median_pj
    assert (
        report.parts["v100-pcie"].dynamic is report.parts["v100-pcie"].static is None
    )  # its price includes everything
    assert report.parts["cmos45"].static is report.parts["cmos45"].total is None


def test_no_two_figures_of_one_report_differ_by_their_statistic(report):
    """The table, the scopes, the modes, the parts and the data give one energy for one model: the median."""
    rows = {row.target: row for row in answer(report).rows}
    medians = {estimate.name: found.median_pj for estimate, found in report.rows if found is not None}
    for target, found in report.parts.items():
        row = rows[target]
        assert (row.dynamic, row.static, row.total) == (found.dynamic, found.static, found.total)
        assert row.whole.median_pj == medians[f"{target}:{row.model}"]
    assert all(
        found.median_pj == medians[each.name]
        for m in report.modes
        if m.asked == report.pace
        for each, found in m.energies
    )
    document = report.to_dict()
    for parts in document["parts_median_pj_per_sample"]:
        total = rows[parts["target"]].total
        assert parts["total"] == (None if total is None else total.median_pj)
    for mode in document["modes"]:
        if mode["asked"] == report.pace and rows[mode["target"]].latency_s:
            assert mode["latency_median_s"] == rows[mode["target"]].latency_s
    text = " ".join(render_energy_report(report).split())
    assert "Energies, ratios, break-evens and savings are medians of the draws" in text
    assert text.count("nominal") == 1  # of --explain, which is not printed here
    assert "every constant at its nominal value" in render_explanation(report)


def test_whole_chips_meet_boards_and_operations_meet_neither(report):
    assert {meeting.chip.level for meeting in report.break_evens} == {"chip"}
    assert {meeting.processor.level for meeting in report.break_evens} == {"board"}
    assert {ratio.second.level for ratio in report.ratios} == {"chip", "board"}
    levels = [{estimate.level for estimate, _ in rows} for rows in report.levels.values()]
    assert all(len(each) <= 1 for each in levels)


def test_both_paces_stand_beside_the_gpu_for_both_pairs_of_prices(report):
    found = {(m.target, m.asked, e.reading) for m in report.modes for e, _ in m.energies if m.target == "loihi2"}
    assert found == {
        ("loihi2", pace, reading) for pace in ("free running", "1 ms a step") for reading in ("", "synapse", "neuron")
    }
    assert all(m.against[0] for m in report.modes if m.target == "loihi2")


def test_what_sparsity_saves_is_said_for_both_pairs_of_prices(report):
    saved = {(each.estimate.reading, each.estimate.level): each.energy for each in report.savings}
    assert saved["synapse", "operations"] > saved["neuron", "operations"]
    assert saved["synapse", "operations"] > saved["synapse", "chip"]
