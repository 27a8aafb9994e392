from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from esl_neuro.backends.trace import Trace
from esl_neuro.energy.breakeven import WITH_ACTIVITY, scaling
from esl_neuro.energy.estimate import LEVELS, PJ_PER_J
from esl_neuro.energy.report import energy_report
from esl_neuro.energy.uncertainty import Draws
from esl_neuro.report.page.cost_sections import break_even
from esl_neuro.report.page.cost_sections import energy as energy_section
from esl_neuro.report.page.energy import LOWEST, SCOPES, STATIC, curves, energy
from report.page.pages import page_data
from report.programs import chain

DRAWS = Draws()


@pytest.fixture(scope="module")
def report():
    program, random = chain((60, 40, 10), 0.2), np.random.default_rng(1)
    spikes = {g.name: (random.random((3, 4, g.neurons)) < 0.2).astype(np.uint8) for g in program.groups}
    return energy_report(program, Trace("integer", (random.random((3, 4, 60)) < 0.1).astype(np.uint8), spikes))


def test_no_chart_holds_rows_of_two_scopes(report):
    found = energy(report)
    scope_of = {estimate.name: estimate for estimate in report.estimates}
    assert set(found.scopes) <= set(SCOPES.values())
    for level, title in SCOPES.items():
        for row in found.scopes.get(title, ()):
            estimate = scope_of[f"{row.target}:{row.model}"]
            assert (estimate.scope if level == STATIC else LEVELS[estimate.scope]) == level


def test_rows_and_parts_are_those_of_the_report(report):
    found = energy(report)
    of_report = {f"{estimate.target}:{estimate.model}": each for estimate, each in report.rows if each is not None}
    for rows in found.scopes.values():
        for row in rows:
            distribution = of_report[f"{row.target}:{row.model}"]
            assert row.median_j == distribution.median_pj / PJ_PER_J
            assert (row.low_j, row.high_j) == (distribution.low_pj / PJ_PER_J, distribution.high_pj / PJ_PER_J)
    for part in found.parts:
        expected = [
            None if each is None else each.median_pj / PJ_PER_J for each in vars(report.parts[part.target]).values()
        ]
        assert [each and each.median_j for each in (part.dynamic, part.static, part.total)] == expected
        # The page gives one energy for one model, in whichever of its charts and tables.
        shown = {(row.target, row.model): row.median_j for rows in found.scopes.values() for row in rows}
        whole = part.total or part.dynamic
        assert whole.median_j == shown[part.target, part.model]
    assert [source.constant for source in found.sources] == [constant.id for constant in report.constants]


def test_what_a_row_leaves_out_is_said(report):
    found = energy(report)
    notes = " ".join(energy_section(replace(page_data(), energy=found)).notes)
    for estimate in report.estimates:
        if estimate.unpriced and any(row.model == estimate.model for rows in found.scopes.values() for row in rows):
            assert f"{estimate.unpriced[0].what} per sample" in notes


def test_a_curve_is_drawn_only_where_chip_and_processor_meet(report):
    (meeting, *_) = report.break_evens
    never = replace(meeting, rate_at=None, density_at=1.5)
    assert list(curves([never], DRAWS)) == []
    (curve,) = curves([replace(meeting, rate_at=0.3, density_at=None)], DRAWS)
    assert (curve.quantity, curve.at, curve.now) == ("firing rate", 0.3, meeting.rate)
    assert curve.places[0] <= LOWEST
    assert curve.places[-1] == pytest.approx(1)
    for place, low, median, high in zip(curve.places, curve.chip_low_j, curve.chip_j, curve.chip_high_j, strict=True):
        drawn = scaling(meeting.chip, WITH_ACTIVITY, DRAWS).at(place / meeting.rate) / PJ_PER_J
        assert (low, median, high) == pytest.approx(tuple(np.quantile(drawn, (0.05, 0.5, 0.95))))
    assert curve.processor_low_j < curve.processor_j < curve.processor_high_j


def test_without_a_break_even_there_is_no_chart_and_a_line_says_so():
    data = page_data()
    section = break_even(replace(data, energy=replace(data.energy, curves=())))
    assert section.charts == ()
    assert "there is no break-even" in section.missing[0]
    assert section.tables[0].rows


def test_a_break_even_has_a_chart_that_says_where(report):
    (meeting, *_) = report.break_evens
    found = tuple(curves([replace(meeting, rate_at=0.3, density_at=0.2)], DRAWS))
    data = page_data()
    section = break_even(replace(data, energy=replace(data.energy, curves=found)))
    assert [chart.title for chart in section.charts] == ["Energy against firing rate", "Energy against density"]
    assert "are equal at 0.3." in section.charts[0].text
    assert section.missing == ()
