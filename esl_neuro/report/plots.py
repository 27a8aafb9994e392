"""Charts of means with their spread. matplotlib is imported only here, and only when a chart is drawn."""

from __future__ import annotations

import importlib
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esl_neuro.errors import BadInput, MissingDependency, did_you_mean
from esl_neuro.storage import writing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("pdf", "png", "svg")
# The palette of Okabe and Ito, which colour-blind readers can distinguish, without yellow, which is faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STYLES = ("-", "--", ":", "-.")
GREY = "#666666"
WIDTH = 7.2  # inches
SHIFT = 0.5  # fraction of the distance to the next name, so that error bars do not overlap
STYLE: Any = {  # matplotlib types the keys as literals
    "font.size": 10,
    "figure.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "legend.frameon": False,
    "text.parse_math": False,  # a name with $ signs is no formula
    "svg.hashsalt": "esl-neuro",  # equal figures give equal files
}


@dataclass(frozen=True)
class Point:
    """A mean and its spread.

    Attributes
    ----------
    place : float or str
        Place on the x axis, or name of the bar.
    mean, spread : float
        In the unit of the axis; no spread for a single value.
    """

    place: float | str
    mean: float
    spread: float | None = None


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


def draw_lines(lines: Mapping[str, Sequence[Point]], title: str, x_label: str, y_label: str, path: Path) -> None:
    """Draw one line per entry, with the spread as error bars.

    Parameters
    ----------
    lines : mapping of str to sequence of Point
        Points by the label of their line. Numbers are drawn to scale; names are drawn side by side, unconnected.
    title, x_label, y_label : str
        Labels, with units.
    path : Path
        File to write; see :func:`check_plot`.
    """
    check_plot(path)
    from matplotlib import rc_context

    with rc_context(STYLE):
        columns = _legend_columns(lines)
        figure, axes = new_figure(title, 4.2 + 0.22 * math.ceil(len(lines) / columns))
        places = _Places([point.place for points in lines.values() for point in points])
        for index, (label, points) in enumerate(lines.items()):
            shift = 0.0 if places.numeric else SHIFT * (index - (len(lines) - 1) / 2) / len(lines)
            _line(axes, places, index, label, points, shift)
        places.label(axes)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        if len(lines) > 1:
            figure.legend(loc="outside lower center", ncols=columns)
        save(figure, path)


def draw_bars(bars: Sequence[Point], title: str, value_label: str, path: Path) -> None:
    """Draw a horizontal bar for each point, from zero, labelled with its value.

    Parameters
    ----------
    bars : sequence of Point
        From top to bottom.
    title, value_label : str
        Labels, with units.
    path : Path
        File to write; see :func:`check_plot`.
    """
    check_plot(path)
    from matplotlib import rc_context

    with rc_context(STYLE):
        figure, axes = new_figure(title, 1.3 + 0.36 * len(bars))
        for row, bar in enumerate(bars):
            _bar(axes, row, bar)
        axes.set_yticks(range(len(bars)), [textwrap.fill(str(bar.place), 44) for bar in bars])
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.set_xlim(left=0)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(value_label)
        save(figure, path)


class _Places:
    """The position of each value on the x axis."""

    def __init__(self, values: Sequence[float | str]) -> None:
        self.numbers = [value for value in values if not isinstance(value, str)]
        self.numeric = len(self.numbers) == len(values)
        self.values: list[float | str] = [*sorted(set(self.numbers))] if self.numeric else list(dict.fromkeys(values))
        low, high = (min(self.numbers), max(self.numbers)) if self.numeric else (0, 0)
        self.logarithmic = low > 0 and high >= 8 * low

    def __getitem__(self, value: float | str) -> float:
        return float(value) if self.numeric else float(self.values.index(value))

    def label(self, axes: Axes) -> None:
        """Put a tick at each value."""
        if self.logarithmic:
            axes.set_xscale("log")
        axes.minorticks_off()
        axes.set_xticks([self[value] for value in self.values], [_text(value) for value in self.values])
        axes.margins(x=0.06)


def _legend_columns(labels: Iterable[str]) -> int:
    return max(1, min(3, 84 // (8 + max(map(len, labels)))))


def _text(value: float | str) -> str:
    return textwrap.fill(value, 20) if isinstance(value, str) else f"{value:g}"


def new_figure(title: str, height: float) -> tuple[Figure, Axes]:
    """Return a figure of the common width with a title, and its axes; ``height`` in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)  # type: ignore[union-attr, call-arg]
    figure.suptitle(textwrap.fill(title, 76), x=0.12 / WIDTH, ha="left")
    return figure, figure.add_subplot()


def _line(axes: Axes, places: _Places, index: int, label: str, points: Sequence[Point], shift: float) -> None:
    ordered = sorted(points, key=lambda point: places[point.place])
    axes.errorbar(
        [places[point.place] + shift for point in ordered],
        [point.mean for point in ordered],
        yerr=[point.spread or 0.0 for point in ordered] if any(point.spread for point in ordered) else None,
        label=textwrap.fill(label, 80),
        color=COLOURS[index % len(COLOURS)],
        marker=MARKERS[index % len(MARKERS)],
        linestyle=STYLES[index // len(COLOURS) % len(STYLES)] if places.numeric else "none",
        markersize=5,
        linewidth=1.6,
        elinewidth=1.0,
        capsize=3,
    )


def _bar(axes: Axes, row: int, bar: Point) -> None:
    axes.barh(row, bar.mean, height=0.62, color=COLOURS[0])
    if bar.spread is not None:
        axes.errorbar(bar.mean, row, xerr=bar.spread, color="black", elinewidth=1.0, capsize=3)
    text = f"{bar.mean:.2f}" if bar.spread is None else f"{bar.mean:.2f} ± {bar.spread:.2f}"
    end = bar.mean + (bar.spread or 0.0)
    axes.annotate(text, (end, row), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9)


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the file's suffix; equal figures give equal bytes."""
    kind = path.suffix.removeprefix(".").lower()
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    with writing(path) as file:
        figure.savefig(file, format=kind, dpi=150, metadata=metadata)
