"""Published constants: a number with its range, unit, condition, scope and source."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field, PrivateAttr, model_validator

from esl_neuro.errors import BadInput
from esl_neuro.hardware.units import UNITS, convert
from esl_neuro.toml_tables import Table, one_of

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
    "paper_preset",
    "assumption",
    "count",
    "time",
    "board",
)

# From the strongest to the weakest.
EVIDENCE = ("measured", "derived", "fitted", "simulated", "datasheet", "estimated", "assumed", "unstated")


@dataclass(frozen=True)
class Interval:
    """A number with its published or derived range.

    Attributes
    ----------
    low, nominal, high : float
        ``low <= nominal <= high``; all three are equal if no range is known.
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
    """A price needs a constant that is unpublished."""


class Constant(Table):
    """One published (or derived, or missing) number with everything needed to judge it.

    Attributes
    ----------
    quantity : str
        What is measured.
    value, low, high : float or None
        Nominal value and range, in ``unit``; a range may be published without a value.
    unpublished : bool
        True if there is no number; a price that needs it is refused.
    unit : str
        One of :data:`UNITS`.
    node_nm : int or None
        Process node in nanometres.
    condition : str
        Voltage, workload and derivation of the number.
    scope : str or None
        One of :data:`SCOPES`: what the number includes. Numbers of different scope are never added.
    evidence : str
        One of :data:`EVIDENCE`.
    source, verified, confidence : str
        Where it is printed, how that was checked, and how reliable it is.
    cite : list of str
        Keys of ``hw_targets/sources.bib``; empty if ``source`` is enough.
    """

    quantity: str
    value: float | None = Field(default=None, ge=0)
    low: float | None = Field(default=None, ge=0)
    high: float | None = Field(default=None, ge=0)
    unpublished: bool = False
    unit: Annotated[str, AfterValidator(one_of(UNITS))]
    node_nm: int | None = None
    condition: str
    scope: Annotated[str, AfterValidator(one_of(SCOPES))] | None = None
    evidence: Annotated[str, AfterValidator(one_of(EVIDENCE))]
    source: str
    cite: list[str] = Field(default_factory=list)
    verified: str
    confidence: Annotated[str, AfterValidator(one_of(("high", "medium", "low")))]
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
        """The value, or the geometric mean if only a range was published; NaN if neither was."""
        if self.value is not None:
            return self.value
        return math.nan if self.low is None or self.high is None else math.sqrt(self.low * self.high)

    def interval(self, unit: str) -> Interval:
        """Value and range in another unit of the same dimension.

        If only a range was published, its geometric mean is used as the value.

        Raises
        ------
        UnpublishedConstant
            If there is no number.
        BadInput
            If its unit is one of another dimension, as in a chip file that gives an energy in hertz.
        """
        if self.unpublished:
            raise UnpublishedConstant(f"{self.id} ({self.quantity}): {self.condition} ({self.source})")
        value = self.nominal
        low = value if self.low is None else self.low
        high = value if self.high is None else self.high
        # Sorted, because an efficiency is the inverse of an energy.
        try:
            return Interval(*sorted(convert(number, self.unit, unit) for number in (low, value, high)))
        except (ValueError, ZeroDivisionError) as error:
            raise BadInput(f"{self.id} is {self.text} and cannot be used as a number in {unit}: {error}") from error
