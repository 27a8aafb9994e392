"""Accuracy against energy of the cases of a sweep, a panel for each target, with the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from esl_neuro.energy.estimate import PJ_PER_J
from esl_neuro.energy.pareto import PricedCase, by_target, front
from esl_neuro.energy.parts import Energy
from esl_neuro.errors import counted
from esl_neuro.report.energy_axes import joule_axis
from esl_neuro.report.palette import MUTED, PAPER, series_look
from esl_neuro.report.plots import (
    PRINTED,
    SMALL_PT,
    TEXT_PT,
    Layout,
    Point,
    brief,
    check_plot,
    empty_figure,
    legend_columns,
    save,
    spread_in_words,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

SIDE_BY_SIDE = 3  # panels of a wide figure
NAME = 40  # characters of a case in the legend


def draw_pareto(cases: Sequence[PricedCase], path: Path, layout: Layout | None = None) -> None:
    """Draw accuracy against energy; cases on the Pareto front are filled and joined, others hollow.

    Parameters
    ----------
    cases : sequence of PricedCase
        Those without a figure are left out.
    path : Path
        File to write; see :func:`~esl_neuro.report.plots.check_plot`.
    layout : Layout, optional
        Width and title.
    """
    check_plot(path)
    from matplotlib import rc_context

    layout = layout or Layout()
    panels = by_target(each for each in cases if each.energy is not None)
    lines = list(dict.fromkeys(each.line for each in cases))
    columns = 1 if layout.width == "single" else min(len(panels), SIDE_BY_SIDE)
    rows = -(-len(panels) // columns)
    with rc_context(PRINTED):
        across = legend_columns([brief(line, NAME) for line in lines], layout)
        figure = empty_figure(layout, 58 * rows + 10 + 4 * (len(lines) + 1) / across)
        every = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
        handles: dict[str, Artist] = {}
        for axes, (target, found) in zip(every, panels.items(), strict=False):
            _panel(axes, found, lines)
            axes.set_xlabel(f"energy per sample on {target} ({found[0].covers})")
            for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
                handles.setdefault(name, handle)
        for axes in every[len(panels) :]:
            axes.remove()
        figure.supylabel("test accuracy of the integers (%)", fontsize=TEXT_PT)
        figure.legend(
            list(handles.values()), list(handles), loc="outside lower center", ncols=across,
            title=layout.wrap(_said([each for found in panels.values() for each in found])), title_fontsize=SMALL_PT,
        )  # fmt: skip
        save(figure, path)


def _said(cases: Sequence[PricedCase]) -> str:
    """Say what the dots and the bars are."""
    spread = spread_in_words([Point(0, each.accuracy, each.accuracy_stdev, each.seeds) for each in cases])
    bound = "; arrow: at least this" if any(_energy(each).lower_bound for each in cases) else ""
    over = f"constants and n = {counted(cases[0].samples, 'sample')}"
    return f"accuracy: {spread}; energy: median, 5-95 % over {over}{bound}"


def _panel(axes: Axes, cases: Sequence[PricedCase], lines: Sequence[str]) -> None:
    best = front(cases)
    joined = [(_energy(each).median_pj / PJ_PER_J, 100 * each.accuracy) for each in best]
    axes.plot(*zip(*joined, strict=True), color=MUTED, linewidth=1.0, drawstyle="steps-post", label="Pareto front")
    for each in cases:
        look, energy = series_look(lines.index(each.line)), _energy(each)
        at = (energy.median_pj / PJ_PER_J, 100 * each.accuracy)
        below, above = energy.median_pj - energy.low_pj, energy.high_pj - energy.median_pj
        axes.errorbar(
            *at,
            xerr=[[max(0.0, below) / PJ_PER_J], [max(0.0, above) / PJ_PER_J]],
            yerr=None if each.accuracy_stdev is None else 100 * each.accuracy_stdev,
            color=look.colour, marker=look.marker, markersize=4.2, elinewidth=0.8, capsize=3.2, capthick=0.8,
            markerfacecolor=look.colour if each in best else PAPER, label=brief(each.line, NAME) or None,
        )  # fmt: skip
        if each.place:
            axes.annotate(each.place, at, xytext=(4, 4), textcoords="offset points")
        if energy.lower_bound:
            axes.annotate(
                "", (energy.high_pj / PJ_PER_J, at[1]), xytext=(14, 0), textcoords="offset points",
                arrowprops={"arrowstyle": "<-", "color": look.colour, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 3,
                            "mutation_scale": 7},
            )  # fmt: skip
    joule_axis(axes.xaxis, axes.set_xscale)
    axes.minorticks_off()
    axes.margins(x=0.18, y=0.1)


def _energy(case: PricedCase) -> Energy:
    assert case.energy is not None
    return case.energy
