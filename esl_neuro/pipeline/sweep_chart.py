"""Draw the results of a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from esl_neuro.report.plots import Point, draw_bars, draw_lines
from esl_neuro.training.sweep import SweepPlan, label


def draw_sweep(plan: SweepPlan, summary: Mapping[str, Any], path: Path) -> None:
    """Draw the test accuracy: lines over the axis ``plot_x``, or one bar per case."""
    values, title = "test accuracy (%)", summary["title"]
    if plan.sweep.plot_x is None:
        bars = [
            _point(label(case.parts, ", "), entry) for case, entry in zip(plan.cases, summary["cases"], strict=True)
        ]
        draw_bars(bars, title, values, path)
    else:
        heading = plan.headings[plan.sweep.plot_x]
        draw_lines(_lines(plan, summary, heading), title, heading, values, path)


def _lines(plan: SweepPlan, summary: Mapping[str, Any], heading: str) -> dict[str, list[Point]]:
    """Return the points of each line, by the label of the line."""
    lines: dict[str, list[Point]] = {}
    for case, entry in zip(plan.cases, summary["cases"], strict=True):
        value = case.varied[plan.sweep.plot_x or ""]
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        others = {name: text for name, text in case.parts.items() if name != heading}
        lines.setdefault(label(others, ", "), []).append(_point(value if number else case.parts[heading], entry))
    return lines


def _point(place: float | str, entry: dict[str, Any]) -> Point:
    figure = entry["test_accuracy"]
    spread = figure["stdev"]
    return Point(place, 100 * figure["mean"], None if spread is None else 100 * spread)
