"""The charts of a report page, as SVG by matplotlib in the colours of the page.

matplotlib draws with the colours of :data:`PAINTS`; in the SVG each becomes a variable of the page's style sheet, so
one drawing serves the light and the dark page. Text stays text. Spikes, cells and cores are paths, so no
image is embedded.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from esl_neuro.compiler.program import INPUT
from esl_neuro.report.energy_axes import paint_break_even, paint_intervals, paint_parts, part_handles
from esl_neuro.report.page.data import (
    Agreement,
    Core,
    Cores,
    Curve,
    EnergyPart,
    EnergyRow,
    Epoch,
    Histogram,
    LayerStructure,
    Picture,
    Raster,
    Rewiring,
)
from esl_neuro.report.palette import (
    DYNAMIC,
    GRID,
    INK,
    LINES,
    MUTED,
    PAPER,
    SERIES,
    STATIC,
    TARGETS,
    TOTAL,
    Look,
    series_look,
)
from esl_neuro.report.plots import STYLE, brief

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 4.4  # inches at 72 dots: as wide as a phone
DOTS = 72
PAINTS: Mapping[str, str] = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    PAPER: "paper",
    DYNAMIC: "dynamic",
    STATIC: "static",
    TOTAL: "total",
    **{colour: f"series-{number}" for number, colour in enumerate(SERIES, start=1)},
    **{colour: f"target-{number}" for number, colour in enumerate(TARGETS, start=1)},
}
SHOWN_LAYERS = 6  # in one chart; the table has all
LEVELS = 8  # shades of a cell
LOOK: Any = {
    **STYLE,
    "figure.dpi": DOTS,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "axes.unicode_minus": False,
}


def can_draw() -> bool:
    """Return whether matplotlib is installed."""
    from importlib.util import find_spec

    return find_spec("matplotlib") is not None


def drawn(name: str, height: float, paint: Callable[[Figure], None]) -> str:
    """Return a chart as an ``<svg>`` element without a name.

    Parameters
    ----------
    name : str
        Makes the ids in the drawing different from those of other charts.
    height : float
        In inches.
    paint : callable
        Draws on the figure.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({**LOOK, "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the browser has the letters of names that its font lacks
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        paint(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return in_page_colours(buffer.getvalue())


def in_page_colours(svg: str) -> str:
    """Return the ``<svg>`` element of a file, with the variables of the page as colours, and only the ids it needs.

    Text between the tags stays as it is.
    """
    element = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    return re.sub(r"<[^<>]*>", lambda tag: _in_page_colours(tag[0]), element).strip()


def _in_page_colours(tag: str) -> str:
    if tag.startswith("<svg"):
        box = re.search(r'viewBox="[^"]*"', tag)
        assert box is not None
        return f"<svg {box[0]}>"
    tag = re.sub(r'^<g id="[^"]*"', "<g", tag)
    tag = re.sub(r"#[0-9a-fA-F]{6}\b(?=[;\"])", _variable, tag)
    return tag.replace("xlink:href", "href")


def _variable(found: re.Match[str]) -> str:
    names = {colour.lower(): name for colour, name in PAINTS.items()}
    name = names.get(found[0].lower())
    return found[0] if name is None else f"var(--{name})"


def colour_of(layers: Sequence[str], layer: str) -> str:
    """Return the colour of a layer, the same in every chart."""
    return series_look(layers.index(layer)).colour if layer in layers else MUTED


def _axes(figure: Figure, x_label: str, y_label: str) -> Axes:
    axes: Axes = figure.add_subplot()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return axes


def _legend(figure: Figure, columns: int = 3) -> None:
    figure.legend(loc="outside lower center", ncols=columns, fontsize=9, handlelength=2.4, columnspacing=1.4)


# Training.


def accuracy_chart(history: Sequence[Epoch]) -> str:
    """Draw the accuracy on training and validation data against the epoch."""

    def paint(figure: Figure) -> None:
        axes = _axes(figure, "epoch", "accuracy (%)")
        axes.xaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
        epochs = [each.epoch for each in history]
        for label, colour, style, values in (
            ("training", MUTED, "--", [100 * each.train_accuracy for each in history]),
            ("validation", INK, "-", [100 * each.validation_accuracy for each in history]),
        ):
            axes.plot(epochs, values, style, color=colour, label=label, linewidth=1.8, marker=_dot(history))
        _legend(figure)

    return drawn("accuracy", 3.0, paint)


def density_chart(history: Sequence[Epoch]) -> str:
    """Draw the density and the share of connections that were ever active against the epoch."""

    def paint(figure: Figure) -> None:
        axes = _axes(figure, "epoch", "share of all connections (%)")
        axes.xaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
        epochs = [each.epoch for each in history]
        for label, colour, style, values in (
            (
                "ever active",
                MUTED,
                "--",
                [math.nan if each.explored is None else 100 * each.explored for each in history],
            ),
            ("density", INK, "-", [100 * each.density for each in history]),
        ):
            axes.plot(epochs, values, style, color=colour, label=label, linewidth=1.8, marker=_dot(history))
        _legend(figure)

    return drawn("density", 3.0, paint)


def _dot(points: Sequence[Any]) -> str:
    return "o" if len(points) == 1 else ""


def rewiring_chart(rewiring: Sequence[Rewiring], layers: Sequence[str]) -> str:
    """Draw births and deaths of each layer against the iteration."""

    def paint(figure: Figure) -> None:
        axes = _axes(figure, "iteration", "connections per update")
        for each in rewiring[:SHOWN_LAYERS]:
            places = [update.iteration for update in each.updates]
            colour = colour_of(layers, each.layer)
            axes.plot(
                places, [update.births for update in each.updates], color=colour, linewidth=1.8,
                marker=_dot(places), label=f"{brief(each.layer)}, created",
            )  # fmt: skip
            deaths = [update.deaths for update in each.updates]
            axes.plot(
                places, deaths, color=colour, linewidth=1.2, linestyle="none", marker="x", markersize=4,
                label=f"{brief(each.layer)}, removed",
            )  # fmt: skip
        axes.set_ylim(bottom=0)
        _legend(figure, 2)

    return drawn("rewiring", 3.0 + 0.18 * min(len(rewiring), SHOWN_LAYERS), paint)


def degree_chart(rewiring: Sequence[Rewiring], layers: Sequence[str]) -> str:
    """Draw the mean fan-in of each layer against the iteration, with a band from the smallest to the largest."""

    def paint(figure: Figure) -> None:
        axes = _axes(figure, "iteration", "connections of a neuron")
        for number, each in enumerate(rewiring[:SHOWN_LAYERS]):
            known = [(update.iteration, update.fan_in) for update in each.updates if update.fan_in is not None]
            places, spans = [place for place, _ in known], [span for _, span in known]
            colour = colour_of(layers, each.layer)
            low, high = [span.min for span in spans], [span.max for span in spans]
            axes.fill_between(places, low, high, color=colour, alpha=0.18, linewidth=0)
            axes.plot(places, low, color=colour, linewidth=0.8)
            axes.plot(places, high, color=colour, linewidth=0.8)
            axes.plot(
                places, [span.mean for span in spans], color=colour, linewidth=1.8, linestyle=LINES[number % 4],
                marker=_dot(places), label=f"{brief(each.layer)}, mean",
            )  # fmt: skip
        axes.set_ylim(bottom=0)
        _legend(figure, 2)

    return drawn("degrees", 3.0 + 0.18 * (min(len(rewiring), SHOWN_LAYERS) // 2), paint)


def cells_svg(picture: Picture) -> str:
    """Draw a picture of connections as an ``<svg>`` element: the darker a cell, the larger its share of connections.

    One path for each shade, so that a film of many pictures stays small; a sum of shades is no chart of matplotlib.
    """
    rows, columns = len(picture.cells), len(picture.cells[0]) if picture.cells else 0
    shades: dict[int, list[str]] = {}
    for y, row in enumerate(picture.cells):
        for x, cell in enumerate(row):
            if cell:
                shades.setdefault(math.ceil(LEVELS * cell), []).append(f"M{x} {y}h1v1h-1z")
    paths = "".join(
        f'<path fill-opacity="{shade / LEVELS:g}" d="{"".join(places)}"/>' for shade, places in sorted(shades.items())
    )
    return f'<svg viewBox="0 0 {columns} {rows}" preserveAspectRatio="none" class="cells">{paths}</svg>'


def _squares(axes: Axes, places: Iterable[tuple[float, float]], colour: str, alpha: float = 1.0, **more: Any) -> None:
    """Draw unit squares as one path."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    size = more.pop("size", (1.0, 1.0))
    corners: list[tuple[float, float]] = []
    codes: list[Any] = []
    for x, y in places:
        right, below = x + size[0], y + size[1]
        corners += [(x, y), (right, y), (right, below), (x, below), (x, y)]
        codes += [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    if corners:
        axes.add_patch(PathPatch(Path(corners, codes), facecolor=colour, alpha=alpha, linewidth=0, **more))


# Structure and activity.


def histogram_chart(
    name: str,
    structure: Sequence[LayerStructure],
    value: Callable[[LayerStructure], Histogram],
    x_label: str,
) -> str:
    """Draw a distribution of each layer, one row for each layer."""
    shown = structure[:SHOWN_LAYERS]
    layers = [each.layer for each in structure]

    def paint(figure: Figure) -> None:
        panels = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
        for axes, each in zip(panels, shown, strict=True):
            found = value(each)
            colour = colour_of(layers, each.layer)
            total = sum(found.counts) or 1
            axes.stairs(
                [100 * count / total for count in found.counts], found.edges, fill=True, color=colour, alpha=0.75
            )
            axes.axvline(found.mean, color=INK, linewidth=1.1, linestyle="--")
            axes.set_title(brief(each.layer), fontsize=9, loc="left", pad=2)
            axes.set_ylim(bottom=0)
            axes.locator_params(axis="y", nbins=3)
        panels[-1].set_xlabel(x_label)
        figure.supylabel("share (%)", fontsize=10)

    return drawn(name, 0.7 + 1.15 * len(shown), paint)


def raster_chart(raster: Raster, layers: Sequence[str]) -> str:
    """Draw the spikes of one sample: time from left to right, neurons from bottom to top."""

    def paint(figure: Figure) -> None:
        axes = _axes(figure, "time step", "input line" if raster.layer == INPUT else "neuron")
        places = [(step - 0.4, neuron - 0.42) for step, neuron in raster.spikes]
        _squares(axes, places, colour_of(layers, raster.layer), size=(0.8, 0.84))
        axes.set_xlim(-0.6, raster.steps - 0.4)
        axes.set_ylim(-0.6, raster.shown - 0.4)
        axes.xaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
        axes.yaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
        axes.grid(visible=False)

    return drawn(f"raster {raster.layer}", 1.6 + 1.6 * min(1.0, raster.shown / 64), paint)


def agreement_chart(agreement: Agreement, layers: Sequence[str]) -> str:
    """Draw the share of spikes that the integers move, of each layer."""
    rows = [each for each in agreement.layers if each.moved_share is not None]

    def paint(figure: Figure) -> None:
        axes = _axes(figure, "moved spikes (%)", "")
        for row, each in enumerate(rows):
            share = 100 * (each.moved_share or 0.0)
            axes.barh(row, share, height=0.6, color=colour_of(layers, each.layer))
            axes.annotate(f"{share:.2g} %", (share, row), xytext=(4, 0), textcoords="offset points", va="center")
        axes.set_yticks(range(len(rows)), [brief(each.layer) for each in rows])
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.margins(x=0.2)
        axes.set_xlim(left=0)
        axes.grid(visible=False, axis="y")

    return drawn("agreement", 1.0 + 0.34 * len(rows), paint)


# Cores.


def core_chart(cores: Sequence[Core], layers: Sequence[str]) -> str:
    """Draw the cores as a grid in the order of their numbers, each with its layer, and how full it is."""
    columns = max(1, min(16, len(cores)))
    rows = -(-len(cores) // columns)
    side = 1.0

    def paint(figure: Figure) -> None:
        axes: Axes = figure.add_subplot()
        for number, core in enumerate(cores):
            x, y = number % columns, number // columns
            colour = colour_of(layers, core.layers[0] if core.layers else "")
            full = min(1.0, core.share or 0.0)
            _squares(axes, [(x + 0.05, y + 0.05)], colour, 0.22, size=(0.9 * side, 0.9 * side))
            _squares(axes, [(x + 0.05, y + 0.95 - 0.9 * full)], colour, size=(0.9, 0.9 * full))
            if len(cores) <= 256:
                label = "+".join(str(layers.index(each) + 1) for each in core.layers if each in layers)
                axes.text(x + 0.5, y + 0.5, label, ha="center", va="center", fontsize=8 if columns > 8 else 10)
        axes.set_xlim(0, max(columns, 6))
        axes.set_ylim(max(rows, 1), 0)
        axes.set_aspect("equal")
        axes.axis("off")

    return drawn("cores", max(0.9, rows * WIDTH / max(columns, 6)), paint)


def resource_chart(cores: Cores) -> str:
    """Draw the used share of every resource with a published limit."""
    rows = [each for each in cores.resources if each.share is not None]

    def paint(figure: Figure) -> None:
        axes = _axes(figure, "used share of the limit (%)", "")
        for row, each in enumerate(rows):
            share = 100 * (each.share or 0.0)
            axes.barh(row, share, height=0.6, color=MUTED)
            axes.annotate(f"{share:.2g} %", (share, row), xytext=(4, 0), textcoords="offset points", va="center")
        axes.axvline(100, color=INK, linewidth=1.2, linestyle="--")
        axes.set_yticks(range(len(rows)), [brief(each.name.replace("_", " ")) for each in rows])
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(0, max(118.0, 1.18 * max((100 * (each.share or 0) for each in rows), default=0)))
        axes.grid(visible=False, axis="y")

    return drawn("resources", 1.0 + 0.3 * len(rows), paint)


# Energy.


def scope_chart(name: str, rows: Sequence[EnergyRow], look: Look) -> str:
    """Draw the median and the 5-95 % interval of the rows of one scope, on a log axis."""

    def paint(figure: Figure) -> None:
        bound = "\nan arrow: at least this" if any(each.lower_bound for each in rows) else ""
        axes = _axes(figure, f"energy per sample: median and 5-95 %{bound}", "")
        paint_intervals(axes, rows, look, lambda row: f"{brief(row.target)}\n{brief(row.model)}")
        axes.tick_params(axis="y", labelsize=9)

    return drawn(f"energy {name}", 1.0 + 0.42 * len(rows), paint)


def parts_chart(parts: Sequence[EnergyPart]) -> str:
    """Draw dynamic, static and total energy of each target below one another, on a log axis."""

    def paint(figure: Figure) -> None:
        axes = _axes(figure, "energy per sample: median and 5-95 %", "")
        paint_parts(axes, parts, brief)
        figure.legend(handles=part_handles(), loc="outside lower center", ncols=3, fontsize=9)

    return drawn("parts", 1.2 + 0.6 * len(parts), paint)


def break_even_chart(name: str, curves: Sequence[Curve]) -> str:
    """Draw the energy of chips against one quantity, and where they cross the levels of processors."""

    def paint(figure: Figure) -> None:
        axes = _axes(figure, "", "energy per sample: median and 5-95 %")
        paint_break_even(axes, curves, brief)
        _legend(figure, 2)

    lines = {each.chip for each in curves} | {each.processor for each in curves}
    return drawn(f"break-even {name}", 3.4 + 0.09 * len(lines), paint)
