"""Charts of an energy report: intervals by target, energy by layer, and the break-even of chip and processor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from esl_neuro.energy.breakeven import WITH_ACTIVITY, WITH_CONNECTIONS, density, firing_rate, scaled
from esl_neuro.energy.estimate import PJ_PER_J, Estimate
from esl_neuro.energy.report import EnergyReport
from esl_neuro.errors import counted
from esl_neuro.report.plots import COLOURS, GREY, STYLE, STYLES, WIDTH, check_plot, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CHIPS = COLOURS[:-1]  # processors are black
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "ooo", "+++")
SCOPE_COLOURS: Mapping[str, str] = {
    "per_term": COLOURS[0],
    "all_in": COLOURS[1],
    "marginal+static": COLOURS[2],
    "marginal": COLOURS[5],
    "dynamic": COLOURS[3],
    "dynamic+static": COLOURS[2],
    "per_term+static": COLOURS[2],
    "board": "#7F3C8D",
    "utilisation": COLOURS[4],
    "peak_tdp": "#7F3C8D",
    "static": GREY,
    "measured_app": "#8C510A",
    "measured": COLOURS[6],
}


def draw_energy(report: EnergyReport, folder: Path, kind: str) -> tuple[Path, ...]:
    """Draw all charts into a folder, except those that would be empty.

    Parameters
    ----------
    report : EnergyReport
        The report.
    folder : Path
        An existing folder.
    kind : str
        ``"png"``, ``"pdf"`` or ``"svg"``.
    """
    paths = [folder / f"energy-{name}.{kind}" for name in ("intervals", "layers", "break-even")]
    draw_intervals(report, paths[0])
    draw_layers(report, paths[1])
    if not report.break_evens:
        return tuple(paths[:2])
    draw_break_even(report, paths[2])
    return tuple(paths)


def draw_intervals(report: EnergyReport, path: Path) -> None:
    """Draw the median and the 5-95 % interval of every estimate on one log axis, coloured by scope."""
    check_plot(path)
    from matplotlib import rc_context
    from matplotlib.lines import Line2D

    rows = [(estimate, found) for estimate, found in report.rows if found is not None and found.median_pj > 0]
    with rc_context(STYLE):
        title = f"Energy per sample: estimates by scope ({counted(report.samples, 'sample')} x {report.steps} steps)"
        figure, axes = new_figure(title, 2.0 + 0.27 * (len(rows) + len(report.measurements)))
        names: list[str] = []
        used: dict[str, str] = {}
        for measurement in report.measurements:
            bounds = (measurement.low_j, measurement.energy_j_per_sample, measurement.high_j)
            _interval(axes, len(names), bounds, SCOPE_COLOURS["measured"], lower=False)
            names.append(f"{measurement.target}  measured")
            used["measured"] = SCOPE_COLOURS["measured"]
        for estimate, found in rows:
            colour = used.setdefault(estimate.scope, SCOPE_COLOURS.get(estimate.scope, GREY))
            quantiles = (found.low_pj / PJ_PER_J, found.median_pj / PJ_PER_J, found.high_pj / PJ_PER_J)
            _interval(axes, len(names), quantiles, colour, estimate.lower_bound)
            names.append(f"{estimate.target}  {estimate.model}")
        axes.set_xscale("log")
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("J per sample\nmedian and 5-95 %; an arrow marks a lower bound")
        handles = [Line2D([], [], color=c, marker="o", label=scope.replace("_", " ")) for scope, c in used.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=4)
        save(figure, path)


def _interval(axes: Axes, row: int, bounds: tuple[float, float, float], colour: str, lower: bool) -> None:
    low, median, high = bounds
    axes.plot([low, high], [row, row], color=colour, linewidth=3, solid_capstyle="butt", alpha=0.55)
    axes.plot([median], [row], color=colour, marker="o", markersize=5.5)
    if lower:
        axes.annotate(
            "", (max(high, median) * 2.2, row), (max(high, median) * 1.12, row),
            arrowprops={"arrowstyle": "->", "color": colour, "linewidth": 1.3},
        )  # fmt: skip


def draw_layers(report: EnergyReport, path: Path) -> None:
    """Draw the fraction of each layer in the representative estimate of each target, as stacked bars."""
    check_plot(path)
    from matplotlib import rc_context

    columns = [estimate for estimate, _ in report.summary if estimate.energy_pj and estimate.energy_pj.nominal > 0]
    layers = [layer.name for layer in report.counts.layers]
    with rc_context(STYLE):
        figure, axes = new_figure("Energy by layer: fraction of each layer, nominal", 1.9 + 0.42 * len(columns))
        shares = [estimate.by_layer_pj() for estimate in columns]
        parts = [*layers, *dict.fromkeys(name for share in shares for name in share if name not in layers)]
        left = np.zeros(len(columns))
        for index, part in enumerate(parts):
            wide = np.array([share.get(part, 0.0) / sum(share.values()) for share in shares])
            axes.barh(
                range(len(columns)), wide, left=left, height=0.62, label=part,
                color=COLOURS[index % len(COLOURS)], hatch=HATCHES[index // len(COLOURS) % len(HATCHES)],
                edgecolor="white", linewidth=0.6,
            )  # fmt: skip
            left += wide
        _totals(axes, columns)
        axes.set_yticks(range(len(columns)), [f"{e.target}  {e.model}" for e in columns])
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(columns) - 0.4, -0.6)
        axes.set_xlim(0, 1)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("fraction of the energy per sample (total at the right)")
        figure.legend(loc="outside lower center", ncols=min(4, max(1, len(parts))))
        save(figure, path)


def _totals(axes: Axes, columns: list[Estimate]) -> None:
    for row, estimate in enumerate(columns):
        assert estimate.energy_pj is not None
        bound = "≥ " if estimate.lower_bound else ""
        text = f"{bound}{estimate.energy_pj.nominal / PJ_PER_J:.1e} J"
        axes.annotate(text, (1, row), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9)


def draw_break_even(report: EnergyReport, path: Path) -> None:
    """Draw energy against firing rate and density, each chip as a line, each processor as a level."""
    check_plot(path)
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    chips = list({meeting.chip.target: meeting.chip for meeting in report.break_evens}.values())
    processors = list({meeting.processor.target: meeting.processor for meeting in report.break_evens}.values())
    now = {"firing rate": firing_rate(report.counts), "density": density(report.counts)}
    units = {"firing rate": WITH_ACTIVITY, "density": WITH_CONNECTIONS}
    labels = {
        "firing rate": "spikes per source line and step",
        "density": "stored fraction of all connections",
    }
    with rc_context(STYLE):
        rows = -(-(len(chips) + len(processors)) // 3)
        figure = Figure(figsize=(WIDTH * 1.25, 3.9 + 0.24 * rows), layout="constrained")
        figure.suptitle("Energy per sample against activity and density, nominal, all else equal", x=0.02, ha="left")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, quantity in zip(panels, now, strict=True):
            _curves(axes, chips, now[quantity], units[quantity])
            _levels(axes, processors, report, quantity)
            axes.axvline(now[quantity], color=GREY, linewidth=1, linestyle=":")
            place = (now[quantity], 0)
            axes.annotate("this run", place, xycoords=("data", "axes fraction"), xytext=(-3, 4), ha="right",
                          textcoords="offset points", fontsize=8.5, color=GREY)  # fmt: skip
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xlabel(labels[quantity])
        panels[0].set_ylabel("J per sample")
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=3)
        save(figure, path)


def _curves(axes: Axes, chips: list[Estimate], now: float, units: frozenset[str]) -> None:
    low = min(1e-3, now / 3) if now > 0 else 1e-3
    places = np.geomspace(low, 1, 60)
    for index, chip in enumerate(chips):
        energies = [scaled(chip, units, place / now if now > 0 else 0.0) / PJ_PER_J for place in places]
        axes.plot(
            places, energies, color=CHIPS[index % len(CHIPS)], label=f"{chip.target} {chip.model}",
            linestyle=STYLES[index % len(STYLES)], linewidth=2.4 - 0.3 * (index % 4),
        )  # fmt: skip


def _levels(axes: Axes, processors: list[Estimate], report: EnergyReport, quantity: str) -> None:
    """Draw each processor as a level in its 5-95 % interval, and where the chips cross it."""
    intervals = {estimate.name: found for estimate, found in report.rows}
    for index, processor in enumerate(processors):
        assert processor.energy_pj is not None
        level = processor.energy_pj.nominal / PJ_PER_J
        axes.axhline(
            level,
            color="black",
            linewidth=1.3,
            linestyle=STYLES[1 + index % 3],
            label=f"{processor.target} {processor.model}",
        )
        found = intervals[processor.name]
        if found is not None and found.low_pj < found.high_pj:
            shade = 0.06 / len(processors)  # so that the bands of many processors are as light as one band
            axes.axhspan(found.low_pj / PJ_PER_J, found.high_pj / PJ_PER_J, color="black", alpha=shade, linewidth=0)
        for meeting in report.break_evens:
            at = meeting.rate_at if quantity == "firing rate" else meeting.density_at
            if meeting.processor is processor and at is not None and 1e-3 <= at <= 1:
                axes.plot([at], [level], marker="o", markersize=6, color="black", markerfacecolor="white")
