"""Chips as data: limits, arithmetic and energy constants read from ``hw_targets/*.toml``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.resources import find_resource, read_toml

Number = TypeVar("Number", float, NDArray[np.float64])

KIND = "hw_targets"

# Unit: (what it measures, how many base units it is). The base unit of a dimension has the factor 1.
UNITS: dict[str, tuple[str, float]] = {
    "pJ": ("energy", 1.0),
    "nJ": ("energy", 1e3),
    "uJ": ("energy", 1e6),
    "mJ": ("energy", 1e9),
    "W": ("power", 1.0),
    "mW": ("power", 1e-3),
    "s": ("time", 1.0),
    "us": ("time", 1e-6),
    "ns": ("time", 1e-9),
    "FLOP/s": ("rate of FLOP", 1.0),
    "TFLOPS": ("rate of FLOP", 1e12),
    "OP/s": ("rate of integer OP", 1.0),
    "TOPS": ("rate of integer OP", 1e12),
    "Hz": ("frequency", 1.0),
    "MHz": ("frequency", 1e6),
    "GSOPS/W": ("efficiency", 1.0),
    "pJ/bit": ("energy per bit", 1.0),
    "fJ/bit": ("energy per bit", 1e-3),
    "1": ("number", 1.0),
}

SCOPES = (
    "all_in",
    "marginal",
    "per_term",
    "static",
    "dynamic",
    "upper_bound",
    "peak_tdp",
    "peak",
    "measured_app",
    "proxy",
    "paper_preset",
    "assumption",
    "count",
)

# From the strongest to the weakest.
EVIDENCE = ("measured", "derived", "simulated", "datasheet", "estimated", "assumed", "unstated")

TARGET_KINDS = ("neuromorphic", "gpu", "cpu", "fpga", "process")
PROCESSORS = ("gpu", "cpu")  # kinds that run dense kernels


def convert(value: Number, unit: str, to: str) -> Number:
    """Convert a number or an array between two units of one dimension.

    ``GSOPS/W`` also converts to ``pJ``, energy per operation.

    Raises
    ------
    ValueError
        If the units measure different things.

    Examples
    --------
    >>> convert(13.5, "nJ", "pJ")
    13500.0
    >>> convert(400.0, "GSOPS/W", "pJ")
    2.5
    """
    if (unit, to) == ("GSOPS/W", "pJ"):
        return 1000.0 / value  # 1 GSOPS/W = 1e9 operations per joule = 1000 pJ per operation
    dimension, factor = UNITS[unit]
    wanted, wanted_factor = UNITS[to]
    if dimension != wanted:
        raise ValueError(f"'{unit}' is a unit of {dimension}, '{to}' of {wanted}; give a unit of {wanted}")
    return value if unit == to else value * factor / wanted_factor


@dataclass(frozen=True)
class Interval:
    """A number with its published or derived range.

    Attributes
    ----------
    low, nominal, high : float
        ``low <= nominal <= high``; all three are equal where no range is known.
    """

    low: float
    nominal: float
    high: float

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.low + other.low, self.nominal + other.nominal, self.high + other.high)

    def times(self, factor: float) -> Interval:
        """Multiply by an exact, non-negative number."""
        return Interval(self.low * factor, self.nominal * factor, self.high * factor)


class UnpublishedConstant(Exception):
    """A price was asked of a constant that nobody has published."""


def _one_of(allowed: Iterable[str]) -> Callable[[str], str]:
    def check(value: str) -> str:
        if value not in allowed:
            raise ValueError(did_you_mean(value, allowed))
        return value

    return check


class _Table(BaseModel):
    """A TOML table: no unknown keys, no silent conversion, read only."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Constant(_Table):
    """One published (or derived, or missing) number with everything needed to judge it.

    Attributes
    ----------
    quantity : str
        What is measured.
    value, low, high : float or None
        Nominal value and range, in ``unit``; a range without a value is one that was published so.
    unpublished : bool
        True if there is no number at all: a price that needs it is refused.
    unit : str
        One of :data:`UNITS`.
    node_nm : int or None
        Process node in nanometres.
    condition : str
        Voltage, workload and how the number came about.
    scope : str or None
        One of :data:`SCOPES`: what the number includes. Numbers of different scope are never added.
    evidence : str
        One of :data:`EVIDENCE`.
    source, verified, confidence : str
        Where it is printed, how that was checked, and how far to trust it.
    cite : list of str
        Keys of ``hw_targets/sources.bib``; empty where ``source`` says all there is to say.
    """

    quantity: str
    value: float | None = Field(default=None, ge=0)
    low: float | None = Field(default=None, ge=0)
    high: float | None = Field(default=None, ge=0)
    unpublished: bool = False
    unit: Annotated[str, AfterValidator(_one_of(UNITS))]
    node_nm: int | None = None
    condition: str
    scope: Annotated[str, AfterValidator(_one_of(SCOPES))] | None = None
    evidence: Annotated[str, AfterValidator(_one_of(EVIDENCE))]
    source: str
    cite: list[str] = []
    verified: str
    confidence: Annotated[str, AfterValidator(_one_of(("high", "medium", "low")))]
    _id: str = PrivateAttr(default="")

    @model_validator(mode="after")
    def _is_one_number(self) -> Constant:
        numbers = [number for number in (self.low, self.value, self.high) if number is not None]
        if self.unpublished and numbers:
            raise ValueError(f"unpublished = true, but a number is given ({numbers[0]}); keep one of the two")
        if not self.unpublished and self.value is None and (self.low is None or self.high is None):
            raise ValueError("no number; give 'value', or 'low' and 'high', or 'unpublished = true'")
        if numbers != sorted(numbers):
            raise ValueError(f"low <= value <= high does not hold for {numbers}")
        if self.scope is None and not self.unpublished:
            raise ValueError(f"scope is missing; allowed: {', '.join(SCOPES)}")
        return self

    @property
    def id(self) -> str:
        """Name of the chip and of the constant, as in ``"truenorth.e_event_allin"``."""
        return self._id

    @property
    def text(self) -> str:
        """Nominal value and unit as printed in its source."""
        if self.unpublished:
            return "unpublished"
        number = f"{self.low:g} - {self.high:g}" if self.value is None else f"{self.value:g}"
        return f"{number} {self.unit}".removesuffix(" 1")

    @property
    def nominal(self) -> float:
        """The value, or the geometric mean of the range where only that was published; NaN if neither was."""
        if self.value is not None:
            return self.value
        return math.nan if self.low is None or self.high is None else math.sqrt(self.low * self.high)

    def interval(self, unit: str) -> Interval:
        """Value and range in another unit of the same dimension.

        Where only a range was published, its geometric mean stands for the value.

        Raises
        ------
        UnpublishedConstant
            If there is no number at all.
        """
        if self.unpublished:
            raise UnpublishedConstant(f"{self.id} ({self.quantity}): {self.condition} ({self.source})")
        value = self.nominal
        low = value if self.low is None else self.low
        high = value if self.high is None else self.high
        # Sorted, because an efficiency converts to an energy upside down.
        return Interval(*sorted(convert(number, self.unit, unit) for number in (low, value, high)))


class Limit(_Table):
    """One limit of a chip.

    Attributes
    ----------
    value : int, float or None
        The limit, in ``unit``; None where ``unknown`` is true.
    unknown : bool
        True if the maker has not published it.
    unit, source, evidence : str
        What is counted, where it is printed, and the grade (one of :data:`EVIDENCE`).
    """

    value: int | float | None = Field(default=None, ge=0)
    unknown: bool = False
    unit: str
    source: str
    evidence: Annotated[str, AfterValidator(_one_of(EVIDENCE))]

    @model_validator(mode="after")
    def _is_known_or_not(self) -> Limit:
        if self.unknown == (self.value is not None):
            raise ValueError("give either 'value' or 'unknown = true'")
        return self


class Arithmetic(_Table):
    """Integer formats of the neuron model of a chip; ``*_bits`` include the sign where there is one."""

    weight_min: int
    weight_max: int
    weight_step: int = Field(gt=0)
    decay_bits: int = Field(gt=0)
    threshold_bits: int = Field(gt=0)
    bias_mantissa_bits: int = Field(gt=0)
    bias_exponent_bits: int = Field(gt=0)
    potential_bits: int = Field(gt=0)
    source: str


class TargetInfo(_Table):
    """The ``[target]`` table.

    Attributes
    ----------
    name, title : str
        Short name, as in constant ids, and full name.
    kind : str
        One of :data:`TARGET_KINDS`; a ``"process"`` is a technology without a chip.
    process : str
        Process node, as the maker names it.
    year : int
        Year of publication.
    source : str
        Where the chip is described.
    price_models : list of str
        Names of :data:`esl_neuro.energy.prices.PRICE_MODELS` that price this chip, the one that represents it first.
    proxy : str or None
        Another target that stands in where this one has no published prices.
    note : str or None
        What a reader of any figure of this target must know.
    """

    name: str
    title: str
    kind: Annotated[str, AfterValidator(_one_of(TARGET_KINDS))]
    process: str
    year: int
    source: str
    price_models: list[str] = []
    proxy: str | None = None
    note: str | None = None


class HardwareTarget(_Table):
    """Everything known about one chip or processor: one file of ``hw_targets/``.

    Attributes
    ----------
    target : TargetInfo
        Who it is.
    limits : dict of str to Limit
        What fits, such as ``neurons_per_core``.
    arithmetic : Arithmetic or None
        Integer formats; None where no compiler needs them.
    constants : dict of str to Constant
        Energy, power and rate figures.
    """

    target: TargetInfo
    limits: dict[str, Limit] = {}
    arithmetic: Arithmetic | None = None
    constants: dict[str, Constant] = {}

    def model_post_init(self, _context: Any) -> None:
        """Give each constant its full id."""
        for key, constant in self.constants.items():
            constant._id = f"{self.target.name}.{key}"

    @property
    def name(self) -> str:
        """Short name of the target."""
        return self.target.name

    def constant(self, key: str) -> Constant:
        """Return a constant by its name.

        Raises
        ------
        BadInput
            If the file of the target has no such constant.
        """
        if key not in self.constants:
            raise BadInput(
                f"hardware target '{self.name}': constant '{key}' is missing; {did_you_mean(key, self.constants)}"
            )
        return self.constants[key]


def load_target(name_or_path: str) -> HardwareTarget:
    """Read a hardware target by name, or from the user's own TOML file.

    Raises
    ------
    BadInput
        If there is no such file, or if anything in it is wrong; the message has every finding at once.
    """
    path = find_resource(KIND, name_or_path)
    document = read_toml(path)
    try:
        return HardwareTarget.model_validate(document)
    except ValidationError as error:
        findings = "; ".join(_finding(item) for item in error.errors())
        raise BadInput(f"{path}: {findings}") from error


def as_target(target: HardwareTarget | str | Path) -> HardwareTarget:
    """Return a target as it is, or read it by its name or path.

    Raises
    ------
    BadInput
        As :func:`load_target`.
    """
    return target if isinstance(target, HardwareTarget) else load_target(str(target))


_TABLES: dict[str, type[BaseModel]] = {
    "target": TargetInfo,
    "limits": Limit,
    "arithmetic": Arithmetic,
    "constants": Constant,
}


def _finding(item: Any) -> str:
    """One finding of pydantic in the words of the file: field, value, what is allowed."""
    location = [str(part) for part in item["loc"]]
    field = ".".join(part for part in location if part not in ("int", "float"))
    if item["type"] == "extra_forbidden":
        table = _TABLES[location[0]] if len(location) > 1 else HardwareTarget
        return f"{field}: unknown key; {did_you_mean(location[-1], table.model_fields)}"
    if item["type"] == "missing":
        return f"{field}: missing, add it"
    reason = item["msg"].removeprefix("Value error, ")
    value = "" if isinstance(item["input"], dict) else f" is {item['input']!r}"
    return f"{field}{value}: {reason}"
