"""Energy measured from power logs, as opposed to estimates."""

from __future__ import annotations

import contextlib
import csv
import math
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from esl_neuro.energy.estimate import BOARD, CHIP, OPERATIONS
from esl_neuro.errors import BadInput
from esl_neuro.formats import other_version
from esl_neuro.hardware import PROCESSORS, load_target
from esl_neuro.reading.documents import problems, read_json_object, reason
from esl_neuro.reading.limits import refuse_large
from esl_neuro.reading.names import printable
from esl_neuro.resources import resource_names
from esl_neuro.toml_tables import PrintableText, Table

Floats = NDArray[np.float64]

Positive = Annotated[float, Field(gt=0)]

SCHEMA = 2
KNOWN_SCHEMAS = (1, 2)  # 1 had no counts
# Column names of Lava's profiler, nvidia-smi and NVML loggers, in lower case without units.
TIME_COLUMNS = ("time", "timestamp", "time_stamp", "t", "seconds")
POWER_COLUMNS = ("power", "power.draw", "watts", "power.draw.instant", "total_power", "total power")
SCALES = {"ms": 1e-3, "us": 1e-6, "mw": 1e-3, "w": 1.0, "s": 1.0}
CLOCKS = ("%Y/%m/%d %H:%M:%S.%f", "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%d %H:%M:%S")  # nvidia-smi, and Loihi's boards


@dataclass(frozen=True)
class Measurement:
    """Energy of a sample, measured.

    Attributes
    ----------
    target : str
        Hardware that was measured.
    scope : str
        ``"all_in"``, or ``"dynamic"`` if idle power was subtracted.
    energy_j_per_sample : float
        Energy per sample, in J.
    low_j, high_j : float
        5-95 % interval from the scatter of the power samples, in J.
    samples : int
        Inferences during the log.
    duration_s, mean_power_w : float
        Duration of the log, and its mean power after subtraction of idle power.
    idle_w : float
        Subtracted idle power.
    source : str
        File of the log.
    steps, cores : int or None
        Steps of a sample, and occupied cores, where they are known.
    sop, neuron_updates : float or None
        Synaptic operations and neuron updates of a sample, where they are known.
    """

    target: str
    scope: str
    energy_j_per_sample: float
    low_j: float
    high_j: float
    samples: int
    duration_s: float
    mean_power_w: float
    idle_w: float
    source: str
    steps: int | None = None
    cores: int | None = None
    sop: float | None = None
    neuron_updates: float | None = None

    @property
    def level(self) -> str:
        """What it covers, as the level of an estimate: a processor is measured as a board."""
        if self.scope == "dynamic":
            return OPERATIONS
        known = self.target in resource_names("hw_targets") and load_target(self.target).target.kind in PROCESSORS
        return BOARD if known else CHIP

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"schema": SCHEMA, "evidence": "measured", **vars(self)}

    @classmethod
    def load(cls, path: Path) -> Measurement:
        """Read a measurement written from :meth:`to_dict`.

        Raises
        ------
        BadInput
            If the file is not a measurement of this schema.
        """
        fix = "create one with 'esl-neuro energy import LOG --samples N'"
        document = read_json_object(path, fix)
        schema = document.pop("schema", None)
        if document.pop("evidence", None) != "measured":
            raise BadInput(f"{path}: not a measurement (its evidence is not 'measured'); {fix}")
        if schema not in KNOWN_SCHEMAS:
            raise other_version(path, path.parent, "measurement", schema, KNOWN_SCHEMAS, "import the log again")
        try:
            read = MeasurementTable.model_validate(document)
        except ValidationError as error:
            raise BadInput(f"{path}: not a measurement ({'; '.join(map(problems, error.errors()))}); {fix}") from error
        return cls(**read.model_dump())


class MeasurementTable(Table):
    """The file of a measurement."""

    target: PrintableText
    scope: Literal["all_in", "dynamic"]
    energy_j_per_sample: Positive
    low_j: float
    high_j: float
    samples: Annotated[int, Field(ge=1)]
    duration_s: Positive
    mean_power_w: float
    idle_w: float
    source: PrintableText
    steps: Annotated[int, Field(ge=1)] | None = None
    cores: Annotated[int, Field(ge=1)] | None = None
    sop: Annotated[float, Field(ge=0)] | None = None
    neuron_updates: Annotated[float, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _is_an_interval(self) -> MeasurementTable:
        if not self.low_j <= self.high_j:
            raise ValueError(f"low_j ({self.low_j:g}) is above high_j ({self.high_j:g})")
        return self


def read_power_log(path: Path) -> tuple[Floats, Floats]:
    """Read times in s and powers in W from a CSV file with a header.

    Lava's profiler, ``nvidia-smi --query-gpu=timestamp,power.draw --format=csv`` and NVML loggers all have a column of
    time and one of power; units may be in the header (``[W]``, ``_mw``) or after the numbers.

    Raises
    ------
    BadInput
        If a column is missing, a number cannot be read, there are fewer than two rows, or times do not increase.
    """
    try:
        refuse_large(path, "the file has", path.stat().st_size)
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path}: cannot be read: {reason(error)}") from error
    rows = [row for row in rows if any(row)]
    if len(rows) < 3:
        raise BadInput(f"{path}: {max(len(rows) - 1, 0)} rows of power; at least a header and 2 rows are needed")
    header = [cell.lower() for cell in rows[0]]
    time, power = _column(path, header, TIME_COLUMNS), _column(path, header, POWER_COLUMNS)
    times = np.array([_number(path, line, row, time, header) for line, row in enumerate(rows[1:], 2)])
    watts = np.array([_number(path, line, row, power, header) for line, row in enumerate(rows[1:], 2)])
    for name, values in (("time", times), ("power", watts)):
        if not np.isfinite(values).all():
            raise BadInput(f"{path}: line {int(np.argmin(np.isfinite(values))) + 2}: the {name} is not a finite number")
    if np.any(np.diff(times) <= 0):
        line = int(np.argmax(np.diff(times) <= 0)) + 3
        raise BadInput(
            f"{path}: line {line}: times must increase, found {times[line - 2]:g} s after {times[line - 3]:g} s"
        )
    return times, watts


def _column(path: Path, header: list[str], names: tuple[str, ...]) -> int:
    bare = [re.sub(r"\s*[\[(].*|_(ms|us|s|w|mw)$", "", cell) for cell in header]
    for name in names:
        if name in bare:
            return bare.index(name)
    raise BadInput(f"{path}: no column {' or '.join(names)} in the header {header!s:.200}")


def _number(path: Path, line: int, row: list[str], column: int, header: list[str]) -> float:
    text = row[column] if column < len(row) else ""
    match = re.fullmatch(r"([-+0-9.eE]+)\s*([a-zA-Z]*)", text)
    try:
        if match:
            return float(match[1]) * SCALES[match[2].lower() or _unit(header[column])]
        return clock(text)
    except (ValueError, KeyError) as error:
        shown = printable(f"{text:.60}")
        raise BadInput(f"{path}: line {line}: '{shown}' is not a number with a unit of s, ms, us, W or mW") from error


def clock(text: str) -> float:
    """Return the seconds of a date and time, or of a plain number of seconds.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if re.fullmatch(r"[-+0-9.eE]+", text):
        return float(text)
    for form in CLOCKS:
        with contextlib.suppress(ValueError):
            return datetime.strptime(text.replace("_", " ").replace("T", " "), form).timestamp()
    raise ValueError(f"'{text}' is not a time")


def window(times_s: Floats, watts: Floats, start_s: float | None, end_s: float | None) -> tuple[Floats, Floats]:
    """Select the readings between two times, inclusive.

    Raises
    ------
    BadInput
        If fewer than two readings remain.
    """
    low = -np.inf if start_s is None else start_s
    high = np.inf if end_s is None else end_s
    inside = (times_s >= low) & (times_s <= high)
    readings = int(inside.sum())
    if readings < 2:
        noun = "power reading" if readings == 1 else "power readings"
        raise BadInput(f"the window contains {readings} {noun}; at least 2 are needed")
    return times_s[inside], watts[inside]


def _unit(name: str) -> str:
    found = re.search(r"\[(\w+)\]|\((\w+)\)|_(ms|us|s|w|mw)$", name)
    unit = next((part for part in found.groups() if part), "s") if found else "s"
    return unit if unit in SCALES else "s"


def measure(
    times_s: Floats,
    watts: Floats,
    samples: int,
    target: str,
    source: str,
    idle_w: float = 0.0,
    duration_s: float | None = None,
) -> Measurement:
    """Integrate a power log (trapezoidal rule) and divide by the inferences that it covers.

    ``E = integral (P - P_idle) dt / samples``; the interval is that of the mean power, from 2,000 resamples of blocks
    of its readings. With ``duration_s``, the mean power of the readings is multiplied by that duration, because the
    load begins and ends between readings.

    Raises
    ------
    BadInput
        If there are no inferences, or the energy above idle power is not positive, so below the noise.
    """
    for name, value in (("idle_w", idle_w), ("duration_s", duration_s or 0.0)):
        if not math.isfinite(value):
            raise BadInput(f"{name} is {value}; give a finite number")
    if samples < 1:
        raise BadInput(f"samples is {samples}; give the number of inferences that the log covers, at least 1")
    covered = float(times_s[-1] - times_s[0])
    duration = covered if duration_s is None else duration_s
    above = watts - idle_w
    energy = float(np.sum((above[1:] + above[:-1]) / 2 * np.diff(times_s))) * duration / covered
    if energy <= 0:
        raise BadInput(
            f"{source}: {energy:.3g} J remain after subtraction of {idle_w:g} W idle power, below the noise of the "
            "subtraction; report the total (without --idle-w)"
        )
    blocks = np.array([block.mean() for block in np.array_split(above, min(20, len(above)))])
    drawn = np.random.default_rng(0).choice(blocks, (2000, len(blocks))).mean(axis=1) / above.mean()
    low, high = np.quantile(drawn, (0.05, 0.95)) * energy / samples
    scope = "dynamic" if idle_w else "all_in"
    return Measurement(
        target, scope, energy / samples, float(low), float(high), samples, duration, energy / duration, idle_w, source
    )
