"""What colours, markers and lines mean, the same in every chart, in files and on the page.

A colour belongs to one kind of thing: a part of the energy, a target, or a layer or case in its order. Markers and
lines repeat what the colours say, for readers who cannot distinguish them and for print without colour. Each set of
colours stays apart for the common kinds of colour blindness (tests/report/test_palette.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

INK, MUTED, GRID, PAPER = "#101112", "#606162", "#d0d1d2", "#fcfdfe"
# Parts of an energy. Total: of a whole chip or board.
DYNAMIC, STATIC, TOTAL = "#0a7a6a", "#a0781e", "#4a3a9a"
# Layers, or the cases of a sweep, in their order: Okabe and Ito, without yellow, which is faint on white, and black.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", ":", "-.")
# Chips, in the order of CHIPS. Processors are ink.
TARGETS = ("#7a1f4f", "#0f6a2d", "#d8677a", "#98982f", "#8a5fd0")
CHIPS = (
    *("loihi2", "loihi", "truenorth", "cmos45", "spinnaker"),
    *("akida", "xylo", "darwin3", "stratix10", "spinnaker2-prototype"),
    *("speck", "tianjic", "odin", "rolls"),
)
CHIP_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "d", "*", "H")
OWN_MARKERS = ("1", "2", "3", "4", "+", "x")


@dataclass(frozen=True)
class Look:
    """How a thing is drawn: the colour of its marker and line, and both as matplotlib names them."""

    colour: str
    marker: str
    line: str = "-"


PARTS = {"dynamic": Look(DYNAMIC, "o"), "static": Look(STATIC, "s"), "total": Look(TOTAL, "D")}
MEASURED = Look(INK, "X")


def target_look(name: str) -> Look:
    """Return the look of a chip or a process: fixed for those that come with the project, by name for others."""
    if name in CHIPS:
        at = CHIPS.index(name)
        return Look(TARGETS[at % len(TARGETS)], CHIP_MARKERS[at])
    number = crc32(name.encode())
    return Look(TARGETS[number % len(TARGETS)], OWN_MARKERS[number // len(TARGETS) % len(OWN_MARKERS)])


def processor_look(name: str) -> Look:
    """Return the look of a processor, a level in ink: its line and its marker depend on its name only."""
    number = crc32(name.encode())
    return Look(INK, MARKERS[number // 3 % len(MARKERS)], LINES[1 + number % 3])


def series_look(index: int) -> Look:
    """Return the look of a layer or a case by its place in the order."""
    line = LINES[index // len(SERIES) % len(LINES)]
    return Look(SERIES[index % len(SERIES)], MARKERS[index % len(MARKERS)], line)
