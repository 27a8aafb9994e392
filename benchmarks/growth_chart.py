"""The chart of benchmarks/growth.py: time and memory, each against what grows, for training and the integers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esl_neuro.report.palette import series_look
from esl_neuro.report.plots import PRINTED, Layout, check_plot, empty_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUBJECTS = {"training": "training, a step", "integers": "integers, a sample"}
SIZES = {"connections": "live connections", "width": "neurons of a layer", "steps": "steps", "rate": "rate of spikes"}
QUANTITIES = {"processor_ms": "processor time (ms)", "peak_mb": "peak memory (MB)"}
HEIGHT_MM = 104


def draw_growth(record: Mapping[str, Any], path: Path) -> None:
    """Draw the curves of a record: a row for time and one for memory, a column for each size, both axes logarithmic."""
    check_plot(path)
    from matplotlib import rc_context

    with rc_context(PRINTED):
        figure = empty_figure(Layout(), HEIGHT_MM)
        panels = figure.subplots(len(QUANTITIES), len(SIZES), sharex="col", sharey="row")
        for row, (quantity, unit) in zip(panels, QUANTITIES.items(), strict=True):
            row[0].set_ylabel(unit)
            for axes, size in zip(row, SIZES, strict=True):
                _panel(axes, record["curves"], quantity, size)
        for axes, label in zip(panels[-1], SIZES.values(), strict=True):
            axes.set_xlabel(label)
        handles, names = panels[0][0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names))
        save(figure, path)


def _panel(axes: Axes, curves: Mapping[str, Any], quantity: str, size: str) -> None:
    from matplotlib.ticker import FuncFormatter

    places: set[float] = set()
    for number, (subject, label) in enumerate(SUBJECTS.items()):
        points = curves[f"{subject} by {size}"]["points"]
        look = series_look(number)
        axes.loglog(
            [point[size] for point in points], [point[quantity] for point in points], color=look.colour,
            marker=look.marker, linestyle=look.line, markersize=3.6, linewidth=1.2, label=label,
        )  # fmt: skip
        places |= {point[size] for point in points}
    axes.set_xticks(sorted(places), [short(place) for place in sorted(places)])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.minorticks_off()
    axes.margins(x=0.12, y=0.08)


def short(number: float) -> str:
    """Write a size as a tick shows it.

    Examples
    --------
    >>> [short(number) for number in (0.05, 16, 4096, 131072, 2097152)]
    ['0.05', '16', '4k', '131k', '2.1M']
    """
    for factor, unit in ((1e6, "M"), (1e3, "k")):
        if number >= factor:
            return f"{number / factor:.{0 if number >= 10 * factor or unit == 'k' else 1}f}{unit}"
    return f"{number:g}"
