"""Published measurements of a chip: workloads and readings from ``hw_targets/measurements/*.toml``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.hardware.units import UNITS, convert
from esl_neuro.reading.names import printable
from esl_neuro.resources import read_toml, resource_folder
from esl_neuro.toml_tables import PrintableText, Table, explain_finding, one_of, validated

FOLDER = "measurements"
SCHEMA = 1
QUANTITIES = (
    "dynamic energy",
    "total energy",
    "board energy",
    "dynamic power",
    "static power",
    "total power",
    "board power",
    "step time",
)
USES = ("fit", "check", "outside", "unpredicted")
READ = ("file", "plot", "secondary", "own")

Count = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Use = Annotated[str, AfterValidator(one_of(USES))]


class Reading(Table):
    """One measured number.

    Attributes
    ----------
    id : str
        Name within its workload.
    quantity : str
        One of :data:`QUANTITIES`. An energy is that of all steps of the workload.
    value, sd : float
        The number, and the published scatter (one standard deviation), in ``unit``.
    unit : str
        One of :data:`~esl_neuro.hardware.UNITS`.
    suspect : bool
        True if its source gives reason to doubt it; a suspect reading is never fitted.
    board, use : str, optional
        As of the workload, if they differ from it.
    cores, sop, neuron_updates : float, optional
        Counts of this reading, if they differ from those of the workload.
    """

    id: PrintableText
    quantity: Annotated[str, AfterValidator(one_of(QUANTITIES))]
    value: float
    sd: Positive | None = None
    unit: Annotated[str, AfterValidator(one_of(UNITS))]
    suspect: bool = False
    board: PrintableText | None = None
    use: Use | None = None
    cores: Annotated[int, Field(ge=1)] | None = None
    sop: Count | None = None
    neuron_updates: Count | None = None


class Workload(Table):
    """What ran, and what was measured.

    Attributes
    ----------
    id, title, source, counts : str
        Name, description, where it is published, and how its counts are known.
    read : str
        One of :data:`READ`.
    board, revision : str
        Board and revision of the chip.
    chips, steps : int
        Chips, and steps that an energy covers.
    cores : int or None
        Occupied cores.
    sop, neuron_updates, spikes, messages, busiest_core_sop : float or None
        Counts of one step.
    step_time_us : float or None
        Measured duration of a step.
    repetitions : int
        Runs behind the scatter ``sd`` of a reading.
    error_fraction, error_nj, common_fraction, common_nj : float
        Errors of a reading, and of all readings together: a fraction, or nJ a step.
    fit_rise : bool
        True if only the rise of its total power with the neurons is fitted, not its level.
    use : str
        One of :data:`USES`.
    why : str
        What a reader must know about it.
    readings : list of Reading
    """

    id: PrintableText
    title: PrintableText
    source: PrintableText
    read: Annotated[str, AfterValidator(one_of(READ))]
    board: PrintableText
    revision: PrintableText
    chips: Annotated[int, Field(ge=1)]
    steps: Annotated[int, Field(ge=1)]
    cores: Annotated[int, Field(ge=1)] | None = None
    sop: Count | None = None
    neuron_updates: Count | None = None
    spikes: Count | None = None
    messages: Count | None = None
    busiest_core_sop: Count | None = None
    step_time_us: Positive | None = None
    counts: PrintableText
    repetitions: Annotated[int, Field(ge=1)] = 1
    error_fraction: Count = 0.0
    error_nj: Count = 0.0
    common_fraction: Count = 0.0
    common_nj: Count = 0.0
    fit_rise: bool = False
    use: Use
    why: PrintableText
    readings: list[Reading]


class Measurements(Table):
    """All published measurements of one chip.

    Attributes
    ----------
    schema_version : int
        Version of the format, ``schema`` in the file.
    chip : str
        Name of the hardware target.
    repeatability : float
        Scatter of the instrument on one and the same program, as a fraction.
    repeatability_source : str
        Where that is seen.
    workload : list of Workload
    """

    schema_version: int = Field(alias="schema", ge=SCHEMA, le=SCHEMA)
    chip: PrintableText
    repeatability: Positive
    repeatability_source: PrintableText
    workload: list[Workload]


@dataclass(frozen=True)
class Point:
    """A reading with the counts of its step.

    Attributes
    ----------
    workload : Workload
    reading : Reading
    """

    workload: Workload
    reading: Reading

    @property
    def name(self) -> str:
        """Names of workload and reading."""
        return f"{self.workload.id} {self.reading.id}"

    @property
    def use(self) -> str:
        """What it is used for, see :data:`USES`."""
        return self.reading.use or self.workload.use

    @property
    def fitted(self) -> bool:
        """Whether the energy model is fitted to it."""
        energy = "total power" if self.workload.fit_rise else "dynamic energy"
        return self.use == "fit" and not self.reading.suspect and self.reading.quantity == energy

    @property
    def cores(self) -> int:
        """Occupied cores."""
        return self.reading.cores or self.workload.cores or 0

    @property
    def sop(self) -> float:
        """Synaptic operations of a step."""
        return _first(self.reading.sop, self.workload.sop)

    @property
    def neuron_updates(self) -> float:
        """Neuron updates of a step."""
        return _first(self.reading.neuron_updates, self.workload.neuron_updates)

    @property
    def step_nj(self) -> float:
        """Measured energy of one step, in nJ."""
        if self.reading.quantity.endswith("energy"):
            return convert(self.reading.value, self.reading.unit, "nJ") / self.workload.steps
        return convert(self.reading.value, self.reading.unit, "W") * (self.workload.step_time_us or 0.0) * 1e3

    @property
    def scatter_nj(self) -> float:
        """Error of its own, of one step, in nJ."""
        found = self.reading.sd
        own = 0.0
        if found is not None:
            own = convert(found, self.reading.unit, "nJ") / self.workload.steps / self.workload.repetitions**0.5
        return float(max(own, self.workload.error_nj, self.workload.error_fraction * abs(self.step_nj)))


def _first(*values: float | None) -> float:
    return next((value for value in values if value is not None), 0.0)


def measurements(chip: str) -> Measurements:
    """Return the published measurements of a chip.

    Raises
    ------
    BadInput
        If none are collected, or the file is invalid.
    """
    folder = resource_folder("hw_targets") / FOLDER
    known = sorted(each.stem for each in folder.glob("*.toml"))
    if chip not in known:
        raise BadInput(f"no measurements of '{printable(chip)}' are collected; {did_you_mean(chip, known)}")
    return read_measurements(folder / f"{chip}.toml")


def read_measurements(path: Path) -> Measurements:
    """Read a table of measurements.

    Raises
    ------
    BadInput
        If the file is invalid; the message lists all findings.
    """
    return validated(Measurements, read_toml(path), str(path), _explain)


def points(table: Measurements) -> Iterator[Point]:
    """Yield every reading with its workload."""
    for workload in table.workload:
        for reading in workload.readings:
            yield Point(workload, reading)


def _explain(finding: Any) -> str:
    place = [str(part) for part in finding["loc"]]
    table = Reading if "readings" in place[:-1] else Workload if "workload" in place[:-1] else Measurements
    return explain_finding(finding, place, table.model_fields)
