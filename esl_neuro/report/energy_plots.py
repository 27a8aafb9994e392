"""Charts of an energy report as files: intervals by scope, parts by target, layers, and break-evens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from esl_neuro.energy.estimate import STATIC_POWER
from esl_neuro.energy.report import EnergyReport
from esl_neuro.energy.uncertainty import Draws, medians_by_layer
from esl_neuro.report.energy_axes import (
    SCOPE_LOOKS,
    energy_label,
    paint_break_even,
    paint_intervals,
    paint_parts,
    part_handles,
    widen,
)
from esl_neuro.report.energy_layout import scaled_energy
from esl_neuro.report.page.data import EnergyRow
from esl_neuro.report.page.energy import by_quantity, curves, every_row, parts_of
from esl_neuro.report.palette import MUTED, series_look
from esl_neuro.report.plots import (
    AXES,
    PRINTED,
    TEXT_PT,
    Layout,
    at_the_right,
    brief,
    check_plot,
    empty_figure,
    legend_columns,
    name_rows,
    save,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HATCHES = ("", "////", "....", "xxxx")
OTHER = "of no layer"  # dynamic energy such as that of the steps of the chip
ROW_MM = 4.2


@dataclass(frozen=True)
class Drawn:
    """What was drawn, and in words what was not.

    Attributes
    ----------
    files : tuple of Path
    left_out : tuple of str
        Charts, or rows of charts, that would show nothing, and why.
    """

    files: tuple[Path, ...]
    left_out: tuple[str, ...]


def draw_energy(report: EnergyReport, folder: Path, kind: str, layout: Layout | None = None) -> Drawn:
    """Draw all charts into a folder, except those that would be empty; a file of an earlier report is then removed.

    Parameters
    ----------
    report : EnergyReport
        The report.
    folder : Path
        An existing folder.
    kind : str
        ``"png"``, ``"pdf"`` or ``"svg"``.
    layout : Layout, optional
        Width and title of each chart.
    """
    files: list[Path] = []
    left_out: list[str] = []
    for name, draw in CHARTS.items():
        path = folder / f"energy-{name}.{kind}"
        path.unlink(missing_ok=True)
        without = draw(report, path, layout or Layout())
        left_out += [f"{path.name}: {without}"] if without else []
        files += [path] if path.exists() else []
    return Drawn(tuple(files), tuple(left_out))


def draw_intervals(report: EnergyReport, path: Path, layout: Layout) -> str:
    """Draw the median and the 5-95 % interval of every estimate, a panel for each scope; return what is left out."""
    panels = every_row(report)
    if not panels:
        return "not drawn, because no estimate has a figure"
    heights = [len(rows) + 0.4 for rows in panels.values()]

    def paint(figure: Figure) -> None:
        every = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (title, rows) in zip(every, panels.items(), strict=True):
            paint_intervals(axes, rows, SCOPE_LOOKS[title], lambda row: f"{brief(row.target)}  {brief(row.model)}")
            axes.set_title(title.partition(":")[0], loc="left", pad=3)
        joined = [row for rows in panels.values() for row in rows]
        widen(every[-1], joined)  # the axis of all panels
        figure.supxlabel(layout.wrap(energy_label(joined, report.samples)), fontsize=TEXT_PT)

    _write(path, layout, 14 + sum(ROW_MM * height + 6 for height in heights), paint)
    return ""


def draw_parts(report: EnergyReport, path: Path, layout: Layout) -> str:
    """Draw dynamic, static and total energy of each target, as in the table; return what is left out."""
    parts = parts_of(report)
    if not parts:
        return "not drawn, because no target has a figure"

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        paint_parts(axes, parts, brief)
        label = energy_label([row for each in parts for row in each.rows], report.samples)
        axes.set_xlabel(layout.wrap(label, AXES))
        figure.legend(handles=part_handles(), loc="outside lower center", ncols=3)

    _write(path, layout, 22 + 10.5 * len(parts), paint)
    return ""


def draw_layers(report: EnergyReport, path: Path, layout: Layout) -> str:
    """Draw how the dynamic energy of each target divides into layers; return what is left out."""
    parts = {each.target: each for each in parts_of(report)}
    draws = Draws()
    shares: dict[str, dict[str, float]] = {}
    without: list[str] = []
    layers = [layer.name for layer in report.counts.layers]
    for estimate in report.headlines:
        medians = medians_by_layer(estimate, draws)
        found = {layer: medians[layer] for layer in layers if medians.get(layer)}
        rest = sum(median for what, median in medians.items() if what not in layers and not _static(what))
        if found and parts[estimate.target].dynamic is not None:
            shares[estimate.target] = {**found, **({OTHER: rest} if rest else {})}
        else:
            without.append(estimate.target)
    named = f"without {', '.join(without)}, whose energy is published for the whole board only" if without else ""
    if not shares:
        return "not drawn, because no target has a dynamic energy"

    columns = legend_columns([*map(brief, layers), OTHER], layout)

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        _stack(axes, shares, [*layers, OTHER])
        for row, target in enumerate(shares):
            at_the_right(axes, row, _amount(parts[target].dynamic))
        name_rows(axes, list(shares))
        axes.set_xlim(0, 100)
        label = "share of the dynamic energy (%); at the right: its median per sample"
        axes.set_xlabel(layout.wrap(label, AXES))
        figure.legend(loc="outside lower center", ncols=columns)

    _write(path, layout, 20 + 7 * len(shares) + 4 * (len(layers) + 1) / columns, paint)
    return named


def _static(what: str) -> bool:
    return what.startswith(STATIC_POWER)


def _stack(axes: Axes, shares: Mapping[str, Mapping[str, float]], names: list[str]) -> None:
    left = [0.0] * len(shares)
    for index, name in enumerate(names):
        wide = [100 * share.get(name, 0.0) / sum(share.values()) for share in shares.values()]
        if any(wide):
            number = index // 6 % len(HATCHES)
            colour, hatch = (MUTED, "") if name == OTHER else (series_look(index).colour, HATCHES[number])
            axes.barh(range(len(wide)), wide, left=left, height=0.62, label=brief(name), color=colour, hatch=hatch)
            left = [start + width for start, width in zip(left, wide, strict=True)]


def _amount(row: EnergyRow | None) -> str:
    assert row is not None
    return ("≥ " if row.lower_bound else "") + " ".join(scaled_energy(row.median_j * 1e12))


def draw_break_even(report: EnergyReport, path: Path, layout: Layout) -> str:
    """Draw chips that need as much as a processor at some firing rate or density; return what is left out."""
    panels = dict(by_quantity(curves(report.break_evens, Draws())))
    if not panels:
        return "not drawn, because no chip and processor meet at a firing rate or a density from 0 to 1"
    stacked = layout.width == "single"
    named = {each.chip for found in panels.values() for each in found}
    shape = (len(panels), 1) if stacked else (1, len(panels))

    def paint(figure: Figure) -> None:
        every = figure.subplots(*shape, sharey=not stacked, squeeze=False).ravel()
        handles: dict[str, Artist] = {}
        for axes, found in zip(every, panels.values(), strict=True):
            paint_break_even(axes, found, brief)
            for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
                handles.setdefault(name, handle)
        for axes in every if stacked else every[:1]:
            axes.set_ylabel("energy per sample:\nmedian and 5-95 %")
        columns = legend_columns(handles, layout)
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=columns)

    _write(path, layout, 62 * shape[0] + 4 * len(named), paint)
    return ""


CHARTS: Mapping[str, Callable[[EnergyReport, Path, Layout], str]] = {
    "intervals": draw_intervals,
    "parts": draw_parts,
    "layers": draw_layers,
    "break-even": draw_break_even,
}


def _write(path: Path, layout: Layout, height_mm: float, paint: Callable[[Figure], None]) -> None:
    check_plot(path)
    from matplotlib import rc_context

    with rc_context(PRINTED):
        figure = empty_figure(layout, height_mm)
        paint(figure)
        save(figure, path)
