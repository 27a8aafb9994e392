"""Numbers, paragraphs and sections of the energy texts, as wide as the terminal, or 100 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from esl_neuro.energy.estimate import PJ_PER_J
from esl_neuro.report.width import PAPER, text_width

WIDTH = PAPER
NAME_WIDTH = 14


def joules(energy_pj: float) -> str:
    """Format an energy in J with three digits."""
    return f"{energy_pj / PJ_PER_J:.2E}"


def amount(number: float) -> str:
    """Format a count in at most nine characters, for a table."""
    if number >= 1e7:
        return f"{number:.3E}"
    return f"{number:,.0f}" if number >= 1e5 else exact(number)


def exact(number: float) -> str:
    """Format a count in full, with one decimal if it is not whole."""
    return f"{number:,.0f}" if number == int(number) else f"{number:,.1f}"


def si_energy(energy_pj: float) -> str:
    """Format an energy with the SI prefix that leaves one to three digits before the point.

    Examples
    --------
    >>> si_energy(321_000.0)
    '0.321 uJ'
    """
    for prefix, size in (("J", 1e12), ("mJ", 1e9), ("uJ", 1e6), ("nJ", 1e3)):
        if energy_pj >= 0.1 * size:
            return f"{energy_pj / size:,.4g} {prefix}"
    return f"{energy_pj:.4g} pJ"


def scaled_energy(energy_pj: float, like_pj: float | None = None) -> tuple[str, str]:
    """Return an energy as a number of three digits and its unit, or in the unit of another energy.

    Examples
    --------
    >>> scaled_energy(923_000.0), scaled_energy(8_160_000.0, 923_000.0)
    (('923', 'nJ'), ('8,160', 'nJ'))
    """
    unit, size = next(
        ((unit, size) for unit, size in _UNITS if (energy_pj if like_pj is None else like_pj) >= size), ("pJ", 1.0)
    )
    number = energy_pj / size
    return (f"{number:,.0f}" if number >= 999.5 else f"{number:.3g}"), unit


_UNITS = (("J", 1e12), ("mJ", 1e9), ("uJ", 1e6), ("nJ", 1e3))


def sections(*parts: str) -> str:
    """Join parts with an empty line between them."""
    return "\n\n".join(parts) + "\n"


def wrap(text: str, first: str = "", rest: str = "") -> str:
    """Wrap a paragraph to the width of a report."""
    return textwrap.fill(text, text_width(), initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)


def bullets(lines: Iterable[str]) -> str:
    """Format lines as a bulleted list."""
    return "\n".join(wrap(line, "- ", "  ") for line in lines)


def numbered(lines: Iterable[str]) -> str:
    """Format lines as a numbered list."""
    return "\n".join(wrap(line, f"{number}. ", "   ") for number, line in enumerate(lines, start=1))


def short(name: str) -> str:
    """Shorten a name to the width of a column."""
    return name if len(name) <= NAME_WIDTH else name[: NAME_WIDTH - 2] + ".."
