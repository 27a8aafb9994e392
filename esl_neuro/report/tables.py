"""Tables in plain text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from esl_neuro.report.width import terminal_width

GAP = 2
RULED = 2  # lines above the first row: the headings and their rule
SHORTEST_TEXT = 24  # columns into which a text is wrapped at least


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Align a table; the first ``left`` columns to the left, the others to the right.

    On a terminal that is too narrow, a text in the last column is wrapped; columns that do not fit follow below, beside
    the columns that name the rows.
    """
    limit = terminal_width()
    lines: list[Sequence[str]] = [headers, *rows]
    if limit is not None:
        lines = list(_wrapped(lines, left, limit))
    widths = _widths(lines)
    blocks = [list(range(len(headers)))] if limit is None else _blocks(widths, limit, _naming(lines[1:], widths, limit))
    return "\n\n".join(_block(lines, widths, left, block) for block in blocks)


def si(number: float) -> str:
    """Write a large number with the prefix of its unit."""
    for prefix, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {prefix}"
    return f"{number:.0f} "


def annotated(text: str, notes: Sequence[str]) -> str:
    """Put a note below each row of a table, where it has one."""
    lines = text.splitlines()
    for index in reversed(range(len(notes))):
        if notes[index]:
            lines.insert(RULED + index + 1, notes[index])
    return "\n".join(lines)


def table_width(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> int:
    """Return the columns that a table takes in one piece."""
    widths = _widths([headers, *rows])
    return sum(widths) + GAP * (len(widths) - 1)


def _widths(lines: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]


def _wrapped(lines: Sequence[Sequence[str]], left: int, limit: int) -> Iterator[Sequence[str]]:
    """Wrap the last column where it is text and the table is too wide; the other cells stay empty in added lines."""
    widths = _widths(lines)
    last = len(widths) - 1
    room = max(limit - sum(widths[:-1]) - GAP * last, SHORTEST_TEXT)
    for line in lines:
        parts = textwrap.wrap(line[last], room, break_on_hyphens=False) if left > last else [line[last]]
        yield [*line[:last], parts[0] if parts else ""]
        for part in parts[1:]:
            yield [*[""] * last, part]


def _naming(rows: Sequence[Sequence[str]], widths: Sequence[int], limit: int) -> int:
    """Return how many of the first columns tell the rows apart, as far as they leave half of the width."""
    for columns in range(1, len(widths)):
        if sum(widths[: columns + 1]) + GAP * columns > limit // 2:
            return columns
        if len({tuple(row[:columns]) for row in rows}) == len(rows):
            return columns
    return 1


def _blocks(widths: Sequence[int], limit: int, naming: int) -> list[list[int]]:
    """Divide the columns into blocks of at most ``limit`` columns of text, each with those that name the rows."""
    names = list(range(naming))
    blocks, taken = [[*names]], sum(widths[:naming]) + GAP * (naming - 1)
    used = taken
    for column in range(naming, len(widths)):
        needed = GAP + widths[column]
        if used + needed > limit and blocks[-1] != names:
            blocks.append([*names])
            used = taken
        blocks[-1].append(column)
        used += needed
    return blocks


def _block(lines: Sequence[Sequence[str]], widths: Sequence[int], left: int, columns: Sequence[int]) -> str:
    rule = ["-" * width for width in widths]
    return "\n".join(_row(line, widths, left, columns) for line in (lines[0], rule, *lines[1:]))


def _row(cells: Sequence[str], widths: Sequence[int], left: int, columns: Sequence[int]) -> str:
    padded = [
        cells[column].ljust(widths[column]) if column < left else cells[column].rjust(widths[column])
        for column in columns
    ]
    return (" " * GAP).join(padded).rstrip()
