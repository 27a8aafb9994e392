"""The energies of a report on axes: intervals, parts and break-evens, drawn alike in files and on the page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from esl_neuro.energy.estimate import PJ_PER_J
from esl_neuro.errors import counted
from esl_neuro.report.energy_layout import scaled_energy
from esl_neuro.report.page.data import Curve, EnergyPart, EnergyRow
from esl_neuro.report.page.energy import SCOPES
from esl_neuro.report.palette import INK, LINES, MEASURED, MUTED, PAPER, PARTS, Look, processor_look, target_look
from esl_neuro.report.plots import name_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

FONT_PT = 10.0  # the size of text for which the sizes of lines and markers below are meant
SHORT = 50  # ratio of the ends of an axis below which it has ticks between powers of ten
NARROWEST = 1.02  # ends of an interval that differ by less are one dot
SCOPE_LOOKS = dict(
    zip(SCOPES.values(), (PARTS["dynamic"], PARTS["static"], PARTS["total"], PARTS["total"]), strict=True)
)
LABELS = {"firing rate": "spikes per source line and step", "density": "stored share of all connections"}


def paint_interval(axes: Axes, place: float, row: EnergyRow, look: Look) -> None:
    """Draw the median and the 5-95 % interval of an energy, on a logarithmic axis.

    The ends are higher than the dot, so that a short interval can be seen beside it.
    """
    size = _size()
    varies = row.high_j > NARROWEST * row.low_j
    ends = [[max(0.0, row.median_j - row.low_j)], [max(0.0, row.high_j - row.median_j)]]
    axes.errorbar(
        row.median_j, place, xerr=ends if varies else None, color=look.colour, marker=look.marker,
        markersize=5 * size, elinewidth=1.6 * size, capsize=6 * size, capthick=1.4 * size,
    )  # fmt: skip
    if row.lower_bound:
        start = max(row.high_j, row.median_j)
        axes.annotate(
            "", (start, place), xytext=(22 * size, 0), textcoords="offset points",
            arrowprops={"arrowstyle": "<-", "color": look.colour, "linewidth": 1.2 * size, "shrinkA": 0,
                        "shrinkB": 5 * size, "mutation_scale": 10 * size},
        )  # fmt: skip


def paint_intervals(axes: Axes, rows: Sequence[EnergyRow], look: Look, name: Callable[[EnergyRow], str]) -> None:
    """Draw rows of one scope from top to bottom."""
    for place, row in enumerate(rows):
        paint_interval(axes, place, row, MEASURED if row.measured else look)
    name_rows(axes, [name(row) for row in rows])
    joule_axis(axes.xaxis, axes.set_xscale)
    widen(axes, rows)


def paint_parts(axes: Axes, parts: Sequence[EnergyPart], name: Callable[[str], str]) -> None:
    """Draw dynamic, static and total energy of each target below one another."""
    for place, each in enumerate(parts):
        for offset, (part, look) in zip((-0.25, 0.0, 0.25), PARTS.items(), strict=True):
            row = getattr(each, part)
            if row is not None and row.median_j > 0:
                paint_interval(axes, place + offset, row, look)
    name_rows(axes, [name(each.target) for each in parts])
    for place in range(1, len(parts)):
        axes.axhline(place - 0.5, color=MUTED, linewidth=0.4 * _size())
    joule_axis(axes.xaxis, axes.set_xscale)
    widen(axes, [row for each in parts for row in each.rows])


def part_handles() -> list[Line2D]:
    """Return what the looks of the parts mean, for a legend."""
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=look.colour, marker=look.marker, markersize=5 * _size(), label=part)
        for part, look in PARTS.items()
    ]


def paint_break_even(axes: Axes, curves: Sequence[Curve], name: Callable[[str], str]) -> None:
    """Draw the energy of chips against one quantity, the levels of processors, and where they cross."""
    models: dict[str, list[Curve]] = {}
    for each in {each.chip: each for each in curves}.values():
        models.setdefault(_target(each.chip), []).append(each)
    for number, (chip, found) in enumerate(models.items()):
        _chip(axes, target_look(chip), found, 4 * number, name)
    for each in {each.processor: each for each in curves}.values():
        look = processor_look(_target(each.processor))
        axes.axhspan(each.processor_low_j, each.processor_high_j, color=INK, alpha=0.07, linewidth=0)
        axes.axhline(
            each.processor_j,
            color=look.colour,
            linestyle=look.line,
            linewidth=1.3 * _size(),
            label=name(each.processor),
        )
    for each in curves:
        axes.plot([each.at], [each.processor_j], "o", markersize=7 * _size(), color=INK, markerfacecolor=PAPER)
    axes.axvline(curves[0].now, color=MUTED, linewidth=1.2 * _size(), linestyle=LINES[2], label="this run")
    axes.set_xlabel(LABELS[curves[0].quantity])
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    joule_axis(axes.yaxis, axes.set_yscale)
    axes.minorticks_off()


def _target(name: str) -> str:
    return name.partition(":")[0]


def _chip(axes: Axes, look: Look, curves: Sequence[Curve], first: int, name: Callable[[str], str]) -> None:
    """Draw the models of one chip, a line each in its colour, and the interval of the first, which stands for it."""
    band = curves[0]
    axes.fill_between(band.places, band.chip_low_j, band.chip_high_j, color=look.colour, alpha=0.15, linewidth=0)
    for number, each in enumerate(curves):
        axes.plot(
            each.places, each.chip_j, color=look.colour, linestyle=LINES[number % len(LINES)], marker=look.marker,
            markevery=((first + 5 * number) % 15, 15), markersize=5 * _size(), linewidth=1.8 * _size(),
            label=name(each.chip),
        )  # fmt: skip


def joule_axis(axis: Any, set_scale: Callable[[str], None]) -> None:
    """Make an axis logarithmic, with energies such as ``100 nJ`` at its ticks; near energies have ticks between."""
    from matplotlib.ticker import LogLocator

    class Decades(LogLocator):
        """Powers of ten, and 2 and 5 times them on a short axis."""

        def tick_values(self, vmin: float, vmax: float) -> Any:
            self.set_params(subs=(1.0, 2.0, 5.0) if vmax < SHORT * vmin else (1.0,))
            return super().tick_values(vmin, vmax)

    set_scale("log")
    axis.set_major_locator(Decades(numticks=6))
    axis.set_major_formatter(lambda value_j, _position: " ".join(scaled_energy(value_j * PJ_PER_J)))


def widen(axes: Axes, rows: Iterable[EnergyRow]) -> None:
    """Leave room at both ends of a logarithmic axis, for the arrows of lower bounds too."""
    shown = [row for row in rows if row.median_j > 0]
    low, high = min(row.low_j for row in shown), max(row.high_j for row in shown)
    room = max(2.0, (high / low) ** 0.08)
    axes.set_xlim(low / room, high * room * (3 if any(row.lower_bound for row in shown) else 1))
    axes.minorticks_off()


def energy_label(rows: Iterable[EnergyRow], samples: int) -> str:
    """Say what the dots and bars are: medians, and intervals over constants and samples."""
    bound = "; arrow: at least this" if any(row.lower_bound for row in rows) else ""
    return f"energy per sample (median, 5-95 % over constants and n = {counted(samples, 'sample')}{bound})"


def _size() -> float:
    from matplotlib import rcParams

    size: float = rcParams["font.size"] / FONT_PT
    return size
