"""What a section of a report page is made of: tables, charts with their words, figures of the summary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from esl_neuro.reading.names import printable
from esl_neuro.report.page import charts
from esl_neuro.report.page.data import ReportData


@dataclass(frozen=True)
class Table:
    """A table; the first ``left`` columns hold words."""

    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1


@dataclass(frozen=True)
class Frame:
    """One picture of a film."""

    caption: str
    svg: Markup


@dataclass(frozen=True)
class Chart:
    """A chart with its description in words and its numbers.

    Attributes
    ----------
    title, text : str
        Heading, and what the chart shows, for those who do not see it too.
    svg : Markup
        Empty if nothing draws it.
    table : Table or None
        The same as numbers.
    frames : tuple of Frame
        For a film.
    """

    title: str
    text: str
    svg: Markup = Markup("")  # noqa: RUF009 (immutable)
    table: Table | None = None
    frames: tuple[Frame, ...] = ()


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes
    ----------
    key, title : str
        Anchor and heading.
    text : tuple of str
        Paragraphs.
    charts : tuple of Chart
    tables : tuple of Table
    missing : tuple of str
        What is not there, and what would give it.
    """

    key: str
    title: str
    text: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fact:
    """One figure of the summary: name, value, and what it means; ``good`` is None where it is no verdict."""

    name: str
    value: str
    note: str
    good: bool | None = None


def chart(title: str, text: str, draw: Callable[[], str], table: Table | None = None) -> Chart:
    """Return a chart; without matplotlib its numbers only."""
    svg = named(draw(), f"{title}. {text}") if charts.can_draw() else Markup("")
    return Chart(title, text, svg, table)


def named(svg: str, name: str) -> Markup:
    """Give an ``<svg>`` element its role and its name."""
    return Markup('<svg role="img" aria-label="{}"').format(printable(name)) + Markup(svg.removeprefix("<svg"))


def layer_names(data: ReportData) -> list[str]:
    """Return the names by which layers get their colours."""
    trained = [each.layer for each in data.rewiring]
    return list(dict.fromkeys([*(each.layer for each in data.structure), *trained]))


def not_all(shown: Sequence[object]) -> str:
    """Say how many of some layers a chart shows, if not all."""
    number = charts.SHOWN_LAYERS
    return f" The chart shows the first {number} of {len(shown)} layers." if len(shown) > number else ""


def words(name: str) -> str:
    """Return the name of a resource in words."""
    return name.replace("_", " ")


def percent(share: float) -> str:
    """Format a share.

    Examples
    --------
    >>> percent(0.94986)
    '94.99 %'
    """
    return f"{100 * share:.2f} %"
