"""The answer comes first: one screen with energy, interval, latency and the paper's question."""

from __future__ import annotations

import csv
import dataclasses
import re

import numpy as np
import pytest

from esl_neuro.backends.trace import Trace
from esl_neuro.energy.answer import answer
from esl_neuro.energy.report import energy_report
from esl_neuro.energy.uncertainty import Draws
from esl_neuro.nirgraph.findings import Finding
from esl_neuro.report.answer_table import COLUMNS, answer_csv, answer_latex, answer_markdown
from esl_neuro.report.answer_text import render_answer
from report.programs import chain

TARGETS = ("truenorth", "loihi", "loihi2", "cmos45", "v100-pcie")


def made(targets=TARGETS, tick_s=None, samples=3, fires=0.2, **more):
    program, random = chain((300, 50, 10), 0.2), np.random.default_rng(1)
    spikes = {g.name: (random.random((samples, 4, g.neurons)) < fires).astype(np.uint8) for g in program.groups}
    arriving = (random.random((samples, 4, 300)) < 0.1).astype(np.uint8)
    return energy_report(program, Trace("integer", arriving, spikes), targets, tick_s, network="runs/a/loihi2", **more)


@pytest.fixture(scope="module")
def report():
    return made(accuracy=0.9)


@pytest.fixture(scope="module")
def found(report):
    return answer(report)


def test_each_target_has_a_row_with_the_median_of_its_first_whole_price(report, found):
    assert [row.target for row in found.rows] == list(TARGETS)
    medians = {estimate.name: distribution.median_pj for estimate, distribution in report.rows if distribution}
    for row in found.rows:
        assert row.whole.median_pj == pytest.approx(medians[f"{row.target}:{row.model}"])
        assert row.whole.low_pj <= row.whole.median_pj <= row.whole.high_pj


def test_dynamic_and_static_are_the_parts_of_the_same_draws(report, found):
    for row in found.rows:
        (estimate,) = (each for each in report.estimates if each.name == f"{row.target}:{row.model}")
        for part, wanted in ((row.dynamic, False), (row.static, True)):
            if part is not None and row.total is not None:
                terms = [term for term in estimate.terms if term.what.startswith("static power") is wanted]
                drawn = sum(term.sample(Draws()) for term in terms)
                assert (part.low_pj, part.median_pj, part.high_pj) == pytest.approx(
                    tuple(np.quantile(drawn, (0.05, 0.5, 0.95)))
                )


def test_a_board_has_a_total_only_and_a_process_operations_only(found):
    parts = {row.target: (row.dynamic is None, row.static is None, row.total is None) for row in found.rows}
    assert parts["v100-pcie"] == (True, True, False)
    assert parts["cmos45"] == (False, True, True)
    assert parts["loihi2"] == (False, False, False)


def test_time_is_that_of_the_stated_step_beside_the_shortest_one():
    free, sensed = ({row.target: row for row in answer(made(tick_s=tick)).rows} for tick in (None, 1e-3))
    assert sensed["loihi2"].samples_per_s == pytest.approx(250)
    assert sensed["loihi2"].shortest_step_s == free["loihi2"].shortest_step_s < 1e-5
    assert free["loihi2"].samples_per_s == pytest.approx(1 / (4 * free["loihi2"].shortest_step_s))
    assert free["truenorth"].shortest_step_s == pytest.approx(1e-3)
    assert "not published" in render_answer(answer(made(("odin",), 1e-3)), made(("odin",), 1e-3))


def test_the_row_of_a_chip_priced_as_another_one_says_so(found, report):
    (row,) = (row for row in found.rows if row.target == "loihi2")
    assert [words for words, _ in row.readings] == ["priced as Loihi 1", "priced by updates"]
    assert row.readings[0][1] < row.dynamic.median_pj < row.readings[1][1]
    lines = render_answer(found, report).splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("loihi2"))
    assert "priced as Loihi 1" in lines[at + 1]
    assert "priced as Loihi 1" in answer_latex(found, report)
    assert "priced as Loihi 1" in answer_markdown(found)


def test_the_question_compares_totals_with_common_draws(report, found):
    duel = found.duel
    assert (duel.chip.target, duel.chip.level, duel.against.processor.level) == ("loihi2", "chip", "board")
    drawn = duel.against.processor.sample(Draws()) / duel.chip.sample(Draws())
    assert duel.against.ratio == pytest.approx(np.median(drawn))
    assert duel.against.probability == pytest.approx(np.mean(drawn > 1))
    assert duel.leading == "v100-pcie.t_kernel"
    text = " ".join(render_answer(found, report).split())
    assert re.search(r"Sparse .* on loihi2 against dense on v100-pcie, total against total .*P\(less\)", text)
    assert "at the datasheet peak of the GPU" in text


def test_without_a_gpu_nothing_is_compared():
    report = made(("loihi2", "cmos45"))
    assert answer(report).duel is None
    assert "nothing to compare" in render_answer(answer(report), report)


def test_the_first_line_names_network_accuracy_and_run(report, found):
    first = render_answer(found, report).splitlines()[0]
    assert first.startswith("runs/a/loihi2: accuracy 90.00 %, 3 samples x 4 steps (integer)")
    unknown = dataclasses.replace(report, accuracy=None)
    assert "no labels, so no accuracy" in render_answer(found, unknown)


def test_what_must_be_known_is_said_only_where_there_is_something(found):
    assert [line.split(":")[0] for line in found.known] == ["lower bounds ('>')", "assumed"]
    silent = answer(made(fires=0.0)).known
    assert "no layer ever spikes" in silent[0]
    wrapped = answer(made(findings=[Finding("current-wraps", "layer 'lif1'", "too far")])).known
    assert wrapped[0].startswith("WARNING: currents wrap in layer 'lif1'")
    slow = answer(made(tick_s=1e-9)).known
    assert any("loihi2: the chip cannot keep a step of 1e-09 s" in line for line in slow)
    assert answer(made(("cmos45",), 1e-3)).known == ()


def test_a_target_without_a_price_says_why():
    report = made(("akida", "loihi2"))
    row = answer(report).rows[0]
    assert (row.total, row.dynamic) == (None, None)
    assert row.refusal.split(":")[0] in " ".join(render_answer(answer(report), report).split())


@pytest.mark.parametrize("width", [80, 100, 200])
def test_it_is_one_screen_at_any_width(report, found, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    lines = render_answer(found, report).splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) <= 22
    shown = next(line for line in lines if line.startswith("target"))
    assert ("varies most with" in shown) == (width == 200)
    assert all(column.heading in shown for column in COLUMNS if not column.gives_way)


def test_tables_hold_the_same_figures(report, found):
    rows = list(csv.DictReader(answer_csv(found).splitlines()))
    for row, read in zip(found.rows, rows, strict=True):
        for part in ("dynamic", "static", "total"):
            energy = getattr(row, part)
            read_j = read[f"{part}_median_j"]
            assert (read_j == "") if energy is None else float(read_j) == pytest.approx(energy.median_pj / 1e12)
    lines = answer_markdown(found).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == len(found.rows) + 2
    cells = [line.count("&") for line in answer_latex(found, report).splitlines() if line.endswith(r"\\")]
    assert set(cells) == {7, 0}
