from __future__ import annotations

from esl_neuro.energy.validation import validation
from esl_neuro.report.comparison_text import render_validation
from esl_neuro.report.energy_layout import WIDTH


def test_every_prediction_stands_beside_its_measurement_with_its_residual_and_remark():
    points = validation()
    text = render_validation(points)
    assert max(map(len, text.splitlines())) <= WIDTH
    flat = " ".join(text.split())
    for point in points:
        bound = ">= " if point.lower_bound else ""
        if point.predicted is None:
            assert f"{point.what} {point.measured:.4g} {point.unit}" in flat
        else:
            assert (
                f"{point.measured:.4g} {point.unit} {bound}{point.predicted:.4g} {100 * point.residual:+.1f} %" in flat
            )
        assert " ".join(point.remark.split()) in flat
