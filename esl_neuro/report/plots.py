"""Charts of means with their spread, at the widths of journals. matplotlib is imported only when a chart is drawn."""

from __future__ import annotations

import importlib
import math
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esl_neuro.errors import BadInput, MissingDependency, did_you_mean
from esl_neuro.reading.names import printable
from esl_neuro.report.palette import GRID, INK, LINES, MUTED, PAPER, Look, series_look
from esl_neuro.storage import writing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("pdf", "png", "svg")
# Printed widths: one column and both columns of most journals (IEEE 88.9 and 181.9, Nature 89 and 183 mm).
WIDTHS_MM = {"single": 88.0, "double": 180.0}
MM_PER_INCH = 25.4
LONGEST = 26  # characters of a name in a chart
TEXT_PT, SMALL_PT = 7.5, 7.0  # printed size of text
AXES = 0.75  # share of the width that the axes have at least, beside their labels
SHIFT = 0.5  # fraction of the distance to the next name, so that error bars do not overlap
LOG_FROM = 8  # numbers that differ by this factor are drawn on a logarithmic axis, unless they are evenly spaced
MOST_TICKS = 12  # more values than these have no tick each
STYLE: Any = {  # matplotlib types the keys as literals
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.labelcolor": INK,
    "legend.frameon": False,
    "hatch.color": PAPER,
    "text.parse_math": False,  # a name with $ signs is no formula
    "axes.formatter.use_mathtext": False,
    "svg.hashsalt": "esl-neuro",  # equal figures give equal files
}
PRINTED: Any = {
    **STYLE,
    "font.size": TEXT_PT,
    "axes.labelsize": TEXT_PT,
    "axes.titlesize": TEXT_PT,
    "figure.titlesize": TEXT_PT + 0.5,
    "legend.fontsize": SMALL_PT,
    "xtick.labelsize": SMALL_PT,
    "ytick.labelsize": SMALL_PT,
    "axes.linewidth": 0.6,
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "hatch.linewidth": 0.6,
    "pdf.fonttype": 42,  # text that can be edited; journals refuse Type 3
    "savefig.dpi": 300,
}


@dataclass(frozen=True)
class Layout:
    """Width and title of a chart.

    Attributes
    ----------
    width : str
        ``"single"`` or ``"double"``, a key of :data:`WIDTHS_MM`.
    title : str
        Drawn above the chart; by default nothing, because a paper has captions.
    """

    width: str = "double"
    title: str = ""

    @property
    def inches(self) -> float:
        """Printed width."""
        return WIDTHS_MM[self.width] / MM_PER_INCH

    @property
    def characters(self) -> int:
        """Characters of text that fit the width."""
        return int(0.6 * WIDTHS_MM[self.width])

    def wrap(self, text: str, share: float = 1.0) -> str:
        """Break text into lines that fit the width, or a share of it."""
        return "\n".join(textwrap.fill(line, int(share * self.characters)) for line in text.splitlines())


@dataclass(frozen=True)
class Point:
    """A mean and its spread.

    Attributes
    ----------
    place : float or str
        Place on the x axis, or name of the row.
    mean, spread : float
        In the unit of the axis; no spread for a single value.
    runs : int
        Runs (seeds) behind the mean; 0 for what is no mean of runs.
    """

    place: float | str
    mean: float
    spread: float | None = None
    runs: int = 0


def check_plot(path: Path) -> None:
    """Check, before any work, that a chart can be drawn.

    Raises
    ------
    BadInput
        If the suffix of the file is not a chart format, or its folder does not exist.
    MissingDependency
        If matplotlib is not installed.
    """
    suffix = path.suffix.removeprefix(".").lower()
    if suffix not in FORMATS:
        raise BadInput(f"{path}: '{path.suffix}' is not a chart format; {did_you_mean(suffix, FORMATS)}")
    if not path.parent.is_dir():
        raise BadInput(f"{path}: the folder {path.parent} does not exist; create it first")
    try:
        importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise MissingDependency(
            "charts need 'matplotlib', which is not installed; install it: pip install 'esl-neuro[plots]'"
        ) from error


def draw_lines(
    lines: Mapping[str, Sequence[Point]],
    x_label: str,
    y_label: str,
    path: Path,
    layout: Layout | None = None,
    published: Mapping[str, str] | None = None,
) -> None:
    """Draw one line per entry, with the spread as error bars; the y label says what they are and of how many runs.

    Parameters
    ----------
    lines : mapping of str to sequence of Point
        Points by the label of their line. Numbers are drawn to scale; names are drawn side by side, unconnected.
    x_label, y_label : str
        Labels, with units.
    path : Path
        File to write; see :func:`check_plot`.
    layout : Layout, optional
        Width and title.
    published : mapping of str to str, optional
        Lines of published figures, with the measured line of the same thing, whose colour they take. They are dashed,
        with hollow markers.
    """
    check_plot(path)
    from matplotlib import rc_context

    layout, published = layout or Layout(), published or {}
    with rc_context(PRINTED):
        columns = legend_columns(lines, layout)
        figure, axes = new_figure(layout, 72 + 4.2 * math.ceil(len(lines) / columns))
        places = _Places([point.place for points in lines.values() for point in points])
        looks = line_looks(lines, published)
        for index, (label, points) in enumerate(lines.items()):
            shift = 0.0 if places.numeric else SHIFT * (index - (len(lines) - 1) / 2) / len(lines)
            _line(axes, places, looks[label], label, points, shift, hollow=label in published)
        places.label(axes)
        axes.set_xlabel(layout.wrap(x_label, AXES))
        spread = spread_in_words(point for points in lines.values() for point in points)
        whose = "measured: " if spread and published else ""
        axes.set_ylabel(f"{y_label}\n{whose}{spread}".rstrip())
        if len(lines) > 1:
            figure.legend(loc="outside lower center", ncols=columns)
        save(figure, path)


def draw_dots(rows: Sequence[Point], value_label: str, path: Path, layout: Layout | None = None) -> None:
    """Draw a row for each point, a dot with its spread, on an axis that shows their differences.

    Parameters
    ----------
    rows : sequence of Point
        From top to bottom.
    value_label : str
        Label, with units; what the error bars are is added.
    path : Path
        File to write; see :func:`check_plot`.
    layout : Layout, optional
        Width and title.
    """
    check_plot(path)
    from matplotlib import rc_context

    layout = layout or Layout()
    with rc_context(PRINTED):
        figure, axes = new_figure(layout, 14 + 5.5 * len(rows))
        for row, point in enumerate(rows):
            _dot(axes, row, point)
        name_rows(axes, [textwrap.fill(str(point.place), layout.characters // 3) for point in rows])
        axes.margins(x=0.08)
        label = f"{value_label}\n{spread_in_words(rows)}".rstrip()
        figure.supxlabel(layout.wrap(label), fontsize=TEXT_PT)
        save(figure, path)


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Put a name at each row of a chart of rows, from top to bottom."""
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")


def spread_in_words(points: Iterable[Point]) -> str:
    """Say what the dots and their error bars are, and of how many runs.

    Examples
    --------
    >>> spread_in_words([Point("a", 1.0, 0.1, 3), Point("b", 1.0, 0.2, 3)])
    'mean ± standard deviation, n = 3 seeds'
    >>> spread_in_words([Point("a", 1.0, None, 1)])
    'n = 1 seed'
    """
    runs = sorted({point.runs for point in points if point.runs})
    if not runs:
        return ""
    if runs == [1]:
        return "n = 1 seed"
    number = str(runs[0]) if len(runs) == 1 else f"{runs[0]} to {runs[-1]}"
    return f"mean ± standard deviation, n = {number} seeds"


def logarithmic_x(axes: Axes) -> None:
    """Make the x axis logarithmic, with ticks at 1, 2 and 5 of each decade, written as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _text(value)))
    axes.minorticks_off()


class _Places:
    """The position of each value on the x axis."""

    def __init__(self, values: Sequence[float | str]) -> None:
        self.numbers = [value for value in values if not isinstance(value, str)]
        self.numeric = len(self.numbers) == len(values)
        self.values: list[float | str] = [*sorted(set(self.numbers))] if self.numeric else list(dict.fromkeys(values))
        low, high = (min(self.numbers), max(self.numbers)) if self.numeric else (0, 0)
        steps = {round(after - before, 9) for before, after in pairwise(sorted(set(self.numbers)))}
        self.logarithmic = low > 0 and high >= LOG_FROM * low and len(steps) > 1

    def __getitem__(self, value: float | str) -> float:
        return float(value) if self.numeric else float(self.values.index(value))

    def label(self, axes: Axes) -> None:
        """Put a tick at each value, or at round numbers where the values are many."""
        if self.logarithmic:
            logarithmic_x(axes)
        axes.minorticks_off()
        if not self.numeric or len(self.values) <= MOST_TICKS:
            axes.set_xticks([self[value] for value in self.values], [_text(value) for value in self.values])
        axes.margins(x=0.06)


def line_looks(labels: Collection[str], published: Mapping[str, str]) -> dict[str, Look]:
    """Return the look of each line; a published one takes the colour of the measured line of the same thing."""
    own = [label for label in labels if published.get(label) not in labels]
    looks = {label: series_look(index) for index, label in enumerate(own)}
    looks |= {label: looks[partner] for label, partner in published.items() if partner in looks}
    return {label: replace(look, line=LINES[1]) if label in published else look for label, look in looks.items()}


def legend_columns(labels: Iterable[str], layout: Layout) -> int:
    """Return the columns of a legend that fit the width."""
    return max(1, min(4, layout.characters // (9 + max(map(len, labels)))))


def brief(name: str, longest: int = LONGEST) -> str:
    """Shorten a name to what a chart has place for, in the middle: names often differ at their end only."""
    name, half = printable(name), longest // 2
    return name if len(name) <= longest else f"{name[: half - 1]}…{name[-half:]}"


def _text(value: float | str) -> str:
    return textwrap.fill(value, 20) if isinstance(value, str) else f"{value:g}"


def empty_figure(layout: Layout, height_mm: float) -> Figure:
    """Return a figure of the printed width, with a title if one is given."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(layout.inches, height_mm / MM_PER_INCH), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.04, h_pad=0.04)  # type: ignore[union-attr, call-arg]
    if layout.title:
        figure.suptitle(layout.wrap(layout.title), x=0.04 / layout.inches, ha="left")
    return figure


def new_figure(layout: Layout, height_mm: float) -> tuple[Figure, Axes]:
    """Return a figure of the printed width, and its axes."""
    figure = empty_figure(layout, height_mm)
    return figure, figure.add_subplot()


def _line(
    axes: Axes, places: _Places, look: Look, label: str, points: Sequence[Point], shift: float, *, hollow: bool
) -> None:
    ordered = sorted(points, key=lambda point: places[point.place])
    axes.errorbar(
        [places[point.place] + shift for point in ordered],
        [point.mean for point in ordered],
        yerr=[point.spread or 0.0 for point in ordered] if any(point.spread for point in ordered) else None,
        label=textwrap.fill(label, 80),
        color=look.colour,
        marker=look.marker,
        markerfacecolor=PAPER if hollow else look.colour,
        linestyle=look.line if places.numeric else "none",
        markersize=3.6,
        markevery=math.ceil(len(ordered) / MOST_TICKS),
        linewidth=1.2,
        elinewidth=0.8,
        capsize=3,
        capthick=0.8,
    )


def _dot(axes: Axes, row: int, point: Point) -> None:
    look = series_look(row)
    axes.errorbar(
        point.mean, row, xerr=point.spread, color=look.colour, marker=look.marker, markersize=3.6, elinewidth=1.0,
        capsize=3.5, capthick=1.0,
    )  # fmt: skip
    text = f"{point.mean:.2f}" if point.spread is None else f"{point.mean:.2f} ± {point.spread:.2f}"
    at_the_right(axes, row, text)


def at_the_right(axes: Axes, row: int, text: str) -> None:
    """Write a figure beside the axes, at a row."""
    axes.annotate(
        text, (1, row), xycoords=axes.get_yaxis_transform(), xytext=(3, 0), textcoords="offset points", va="center",
        annotation_clip=False,
    )  # fmt: skip


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the file's suffix; equal figures give equal bytes."""
    kind = path.suffix.removeprefix(".").lower()
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    with writing(path) as file:
        figure.savefig(file, format=kind, metadata=metadata)
