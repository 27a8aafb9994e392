"""Draw the results of a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from esl_neuro.report.plots import Layout, Point, draw_dots, draw_lines
from esl_neuro.training.sweep import SweepPlan, label, place_of


def draw_sweep(plan: SweepPlan, summary: Mapping[str, Any], path: Path, layout: Layout | None = None) -> None:
    """Draw the test accuracy: lines over the axis ``plot_x``, or a row per case."""
    values = "test accuracy (%)"
    if plan.sweep.plot_x is None:
        rows = [
            _point(label(case.parts, ", "), entry) for case, entry in zip(plan.cases, summary["cases"], strict=True)
        ]
        draw_dots(rows, values, path, layout)
    else:
        heading = plan.headings[plan.sweep.plot_x]
        draw_lines(_lines(plan, summary), heading, values, path, layout)


def _lines(plan: SweepPlan, summary: Mapping[str, Any]) -> dict[str, list[Point]]:
    """Return the points of each line, by the label of the line."""
    lines: dict[str, list[Point]] = {}
    for case, entry in zip(plan.cases, summary["cases"], strict=True):
        value = case.varied[plan.sweep.plot_x or ""]
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        line, place = place_of(plan, case)
        lines.setdefault(line, []).append(_point(value if number else place, entry))
    return lines


def _point(place: float | str, entry: dict[str, Any]) -> Point:
    figure = entry["test_accuracy"]
    spread = figure["stdev"]
    return Point(place, 100 * figure["mean"], None if spread is None else 100 * spread, len(entry["runs"]))
