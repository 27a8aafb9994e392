"""Published figures beside measured ones, as text and as a chart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from esl_neuro.report.energy_layout import bullets, sections, wrap
from esl_neuro.report.plots import Layout, Point, draw_lines
from esl_neuro.report.tables import table

COLUMNS = ("row", "quantity", "published", "from", "measured", "spread", "seeds", "difference", "measured by")
MARKDOWN_COLUMNS = ("row", "quantity", "published", "measured", "seeds", "difference")


def reproduction_text(document: Mapping[str, Any]) -> str:
    """Write the cells as a table, then what was not run and why, what the paper says, and the commands."""
    return sections(
        wrap(document["title"]),
        "\n".join(
            (
                wrap(document["paper"]),
                wrap(f"Scale {document['scale']}: {document['network']}"),
                *_comparable(document),
            )
        ),
        table(COLUMNS, [_row(cell) for cell in document["cells"]], left=2),
        *_paragraphs("Not run", _not_run(document["cells"])),
        *_paragraphs("Not published", _unpublished(document["cells"])),
        *_paragraphs("The paper says", [f"{entry['text']} ({entry['source']})" for entry in document["statements"]]),
        *_paragraphs("Notes", [*document["notes"], *_counted_in(document["cells"])]),
        *_paragraphs("Commands", [_sweep(entry) for entry in document["sweeps"]]),
    )


def reproduction_markdown(document: Mapping[str, Any]) -> str:
    """Write the cells as a table in Markdown, with the reasons of those that were not run below it."""
    rows = [[_escaped(text) for text in _markdown_row(cell)] for cell in document["cells"]]
    lines = [list(MARKDOWN_COLUMNS), ["---"] * len(MARKDOWN_COLUMNS), *rows]
    table_text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    reasons = [f"- {_escaped(f'{rows}: {reason}')}" for reason, rows in _rows_not_run(document["cells"]).items()]
    network = f"Scale {document['scale']}: {document['network']}."
    return "\n\n".join(part for part in (network, table_text, "\n".join(reasons)) if part)


def _markdown_row(cell: Mapping[str, Any]) -> list[str]:
    row, name, published, source, measured, spread, seeds, difference, _ = _row(cell)
    return [
        row,
        name,
        published if source == "-" else f"{published} ({source})",
        f"{measured} ± {spread}" if spread.strip("0.,E+") else measured,
        seeds,
        difference,
    ]


def _rows_not_run(cells: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the rows, joined, by the reason why some of their figures are missing."""
    rows: dict[str, dict[str, None]] = {}
    for cell in cells:
        if cell["measured"] is None:
            rows.setdefault(cell["not_run"], {})[cell["row"]] = None
    return {reason: "; ".join(names) for reason, names in rows.items()}


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _comparable(document: Mapping[str, Any]) -> Iterator[str]:
    if not document["comparable"]:
        yield wrap(
            "Data or network are not the paper's, so the published figures are no target and no difference is given."
        )


def _row(cell: Mapping[str, Any]) -> list[str]:
    published, measured, unit = cell["published"], cell["measured"], cell["unit"]
    return [
        cell["row"],
        quantity(cell["quantity"]),
        "-" if published is None else figure(published["value"], unit),
        "-" if published is None else f"{published['grade']}, {published['source']}",
        "not run" if measured is None else figure(measured["mean"], unit),
        "" if measured is None or measured["stdev"] is None else figure(measured["stdev"], unit, bare=True),
        "" if measured is None else str(len(measured["seeds"])),
        "" if cell["difference"] is None else _difference(cell["difference"], published["value"], unit),
        "" if measured is None else f"{measured['sweep']}: {measured['case']}",
    ]


def _difference(difference: float, published: float, unit: str) -> str:
    """Write a difference; it is 0 if both figures look the same."""
    if figure(published + difference, unit) == figure(published, unit):
        return "0"
    return figure(difference, unit, bare=True, signed=True)


def quantity(name: str) -> str:
    """Return the name of a quantity in words; the unit stands at the figures.

    Examples
    --------
    >>> quantity("gpu_energy_j"), quantity("test_accuracy gaussian=0.2")
    ('gpu energy', 'test accuracy gaussian=0.2')
    """
    kind, _, noise = name.partition(" ")
    return " ".join((*kind.removesuffix("_j").split("_"), *noise.split()))


def figure(value: float, unit: str, *, bare: bool = False, signed: bool = False) -> str:
    """Write a figure with the digits that its unit needs.

    Examples
    --------
    >>> figure(96.58, "%"), figure(1.13e-05, "J"), figure(103040.0, "")
    ('96.58 %', '1.13E-05 J', '103,040')
    """
    sign = "+" if signed else ""
    if unit == "%":
        text = f"{value:{sign}.2f}"
    elif unit == "J":
        text = f"{value:{sign}.2E}"
    else:
        text = f"{value:{sign},.0f}"
    return text if bare or not unit else f"{text} {unit}"


def _not_run(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the reasons, each with the rows that it concerns."""
    rows: dict[str, list[str]] = {}
    for cell in cells:
        if cell["measured"] is None:
            rows.setdefault(cell["not_run"], []).append(f"{cell['row']} ({quantity(cell['quantity'])})")
    return [f"{'; '.join(names)}: {reason}" for reason, names in rows.items()]


def _unpublished(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(cell["unpublished"] for cell in cells if cell["published"] is None))


def _counted_in(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    backends = sorted({each for cell in cells for each in (cell["measured"] or {}).get("counted_in") or ()})
    return [f"operations were counted in: {', '.join(backends)}"] if backends else []


def _sweep(entry: Mapping[str, Any]) -> str:
    return (
        f"{entry['command']} ({entry['done']} of {entry['runs']} runs done, estimated {entry['minutes']:g} min in all)"
    )


def _paragraphs(heading: str, entries: Sequence[str]) -> Iterator[str]:
    if entries:
        yield f"{heading}:\n" + bullets(entries)


def draw_reproduction(document: Mapping[str, Any], path: Path, layout: Layout | None = None) -> None:
    """Draw published and measured figures, or the density of each layer over training.

    Parameters
    ----------
    document : mapping
        Record of a reproduction.
    path : Path
        File to write; see :func:`~esl_neuro.report.plots.check_plot`.
    layout : Layout, optional
        Width and title.
    """
    if document["densities"]:
        (frames, *_) = document["densities"].values()
        draw_lines(density_lines(frames), "iteration", "density of the layer (%)", path, layout)
        return
    label = {"test_accuracy": "test accuracy (%)", "layer_density": "density of the layer (%)"}
    name = document["drawn"]
    lines = figure_lines(document["cells"], name)
    published = {line: line.replace("published", "measured", 1) for line in lines if line.startswith("published")}
    other = "" if document["comparable"] else "\nmeasured: not the paper's data or network"
    draw_lines(lines, document["x_label"] + other, label.get(name, name), path, layout, published)


def figure_lines(cells: Sequence[Mapping[str, Any]], drawn: str) -> dict[str, list[Point]]:
    """Return the points of each line: published first, then measured."""
    lines: dict[str, list[Point]] = {}
    for kind in ("published", "measured"):
        for cell in cells:
            if cell["quantity"].split(" ")[0] != drawn or cell[kind] is None:
                continue
            place = cell["row"] if cell["x"] is None else cell["x"]
            name = kind if cell["line"] is None else f"{kind}, {cell['line']}"
            values = cell[kind]
            runs = len(values.get("seeds", ()))
            point = Point(place, values.get("mean", values.get("value")), values.get("stdev"), runs)
            lines.setdefault(name, []).append(point)
    return lines


def density_lines(frames: Sequence[Mapping[str, Any]]) -> dict[str, list[Point]]:
    """Return the density of each layer in percent after every update, over the iterations."""
    lines: dict[str, list[Point]] = {}
    for frame in frames:
        for layer, entry in frame["layers"].items():
            lines.setdefault(layer, []).append(Point(float(frame["iteration"]), 100 * entry["density"]))
    return lines
