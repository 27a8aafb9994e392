"""The TOML file of a reproduction: the cells of a published table or figure, and the sweep that measures each.

Each cell says what is published and how surely that is known, and which case of a sweep measures it at each scale.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.pipeline.choices import SCALES, Scale
from esl_neuro.toml_tables import PrintableText, Table, explain_finding, validated

KIND = "reproductions"
Grade = Literal["table", "text", "plot", "second-hand"]
UNITS = {
    "test_accuracy": "%",
    "connections": "",
    "gpu_energy_j": "J",
    "chip_energy_j": "J",
    "counted_operations": "SOPs",
    "counted_energy_j": "J",
    "layer_density": "%",
}
"""What a cell can measure, and the unit of its figure."""


class Setting(Table):
    """What is trained at one scale."""

    network: PrintableText = Field(description="networks, data and budget, in words")
    comparable: bool = Field(description="whether data and network are those of the published figures")
    sweeps: dict[str, Annotated[float, Field(gt=0)]] = Field(
        min_length=1, description="sweeps, and the minutes of each on two cores, or on a GPU where it needs one"
    )


class Place(Table):
    """The case of a sweep that measures a cell."""

    sweep: str
    case: str


class Cell(Table):
    """One figure of the table or plot."""

    row: PrintableText
    quantity: str = Field(default="test_accuracy", description="what is measured; a name of UNITS")
    noise: str | None = Field(default=None, description="noise of the sweep on the test set")
    layer: str | None = Field(default=None, description="layer, for layer_density")
    line: PrintableText | None = Field(default=None, description="line of the chart")
    x: float | PrintableText | None = Field(default=None, description="place on the x axis; the row by default")
    published: float | None = Field(default=None, description="published figure, in the unit of the quantity")
    grade: Grade | None = Field(default=None, description="how surely the published figure is known")
    source: PrintableText | None = None
    smoke: Place | None = None
    short: Place | None = None
    full: Place | None = None
    not_run: dict[Scale, PrintableText] = Field(
        default={}, description="scales that list the cell without a run: why, and what it would take"
    )

    def place(self, scale: Scale) -> Place | None:
        """Return what measures the cell at a scale."""
        places: dict[Scale, Place | None] = {"smoke": self.smoke, "short": self.short, "full": self.full}
        return places[scale]


class Statement(Table):
    """What a paper says in words."""

    text: PrintableText
    source: PrintableText


class Reproduction(Table):
    """A published table or figure."""

    title: PrintableText
    paper: PrintableText
    unpublished: PrintableText = Field(description="why some published figures are missing")
    drawn: str = Field(default="test_accuracy", description="quantity of the chart")
    x_label: PrintableText = ""
    statements: list[Statement] = Field(default=[])
    notes: list[PrintableText] = Field(default=[])
    scales: dict[Scale, Setting]
    cells: list[Cell] = Field(min_length=1)


def parse_reproduction(document: dict[str, Any], origin: str) -> Reproduction:
    """Check a document and return the reproduction; see :func:`load_reproduction`."""
    reproduction = validated(Reproduction, document, origin, _explain)
    refuse(origin, _findings(reproduction))
    return reproduction


def _explain(finding: Any) -> str:
    place = [str(part) for part in finding["loc"]]
    tables: dict[str, type[Table]] = {"cells": Cell, "scales": Setting, "statements": Statement}
    known = tables.get(place[0], Reproduction) if len(place) > 1 else Reproduction
    if len(place) > 3 and place[2] in SCALES:
        known = Place
    return explain_finding(finding, place, known.model_fields)


def refuse(origin: str, findings: Iterator[str]) -> None:
    """Reject a reproduction with all findings, if there are any."""
    found = list(findings)
    if found:
        raise BadInput(f"{origin}: {'; '.join(found)}")


def _findings(reproduction: Reproduction) -> Iterator[str]:
    """Find errors other than the types of the fields."""
    for scale in SCALES:
        if scale not in reproduction.scales:
            yield f"scales.{scale}: is missing; add it"
    for index, cell in enumerate(reproduction.cells):
        where = f"cells.{index} ('{cell.row}')"
        if cell.quantity not in UNITS:
            yield f"{where}: quantity '{cell.quantity}' is unknown; {did_you_mean(cell.quantity, UNITS)}"
        if (cell.published is None) != (cell.grade is None) or (cell.published is None) != (cell.source is None):
            yield f"{where}: published, grade and source belong together; give all three or none"
        if (cell.quantity == "layer_density") != (cell.layer is not None):
            yield f"{where}: layer belongs to the quantity layer_density; give both or neither"
        for scale in SCALES:
            place = cell.place(scale)
            if place is not None and scale in cell.not_run:
                yield f"{where}: {scale} and not_run.{scale} contradict each other; give one of them"
            if place is None and scale not in cell.not_run and cell.published is not None:
                yield f"{where}: give {scale} (a sweep and a case), or not_run.{scale} (why, and what it would take)"
            setting = reproduction.scales.get(scale)
            if place is not None and setting is not None and place.sweep not in setting.sweeps:
                yield f"{where}: {scale}.sweep '{place.sweep}' is not in scales.{scale}.sweeps; add it there"
