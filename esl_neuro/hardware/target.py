"""Chips and processors as data: limits, arithmetic and energy constants from ``hw_targets/*.toml``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.hardware.arithmetic import Arithmetic
from esl_neuro.hardware.constants import EVIDENCE, Constant
from esl_neuro.resources import find_resource, read_toml, resource_names
from esl_neuro.toml_tables import ChipName, Table, explain_finding, one_of, validated

KIND = "hw_targets"

TARGET_KINDS = ("neuromorphic", "gpu", "cpu", "fpga", "process")
PROCESSORS = ("gpu", "cpu")  # kinds that run dense kernels


class Limit(Table):
    """One limit of a chip.

    Attributes
    ----------
    value : int, float or None
        The limit, in ``unit``; None if ``unknown`` is true.
    unknown : bool
        True if the manufacturer has not published it.
    unit, source, evidence : str
        What is counted, where it is printed, and the grade (one of :data:`EVIDENCE`).
    """

    value: int | float | None = Field(default=None, ge=0)
    unknown: bool = False
    unit: str
    source: str
    evidence: Annotated[str, AfterValidator(one_of(EVIDENCE))]

    @model_validator(mode="after")
    def _is_known_or_not(self) -> Limit:
        if self.unknown == (self.value is not None):
            raise ValueError("give either 'value' or 'unknown = true'")
        return self


class TargetInfo(Table):
    """The ``[target]`` table.

    Attributes
    ----------
    name, title : str
        Short name, as in constant ids, and full name.
    kind : str
        One of :data:`TARGET_KINDS`; a ``"process"`` is a technology without a chip.
    process : str
        Process node in the manufacturer's terms.
    year : int
        Year of publication.
    source : str
        Where the chip is described.
    price_models : list of str
        Names of :data:`esl_neuro.energy.prices.PRICE_MODELS` that price this chip, the representative one first.
    note : str or None
        Note for the reader of any figure of this target.
    """

    name: ChipName
    title: str
    kind: Annotated[str, AfterValidator(one_of(TARGET_KINDS))]
    process: str
    year: int
    source: str
    price_models: list[str] = Field(default_factory=list)
    note: str | None = None


class HardwareTarget(Table):
    """Everything known about one chip or processor: one file of ``hw_targets/``.

    Attributes
    ----------
    target : TargetInfo
        Identification of the target.
    limits : dict of str to Limit
        What fits, such as ``neurons_per_core``.
    arithmetic : Arithmetic or None
        Integer formats; None if no compiler needs them.
    constants : dict of str to Constant
        Energy, power and rate figures.
    """

    target: TargetInfo
    limits: dict[str, Limit] = Field(default_factory=dict)
    arithmetic: Arithmetic | None = None
    constants: dict[str, Constant] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_room(self) -> HardwareTarget:
        empty = [
            key for key, limit in self.limits.items() if limit.value == 0 and key.endswith(("_per_chip", "_per_core"))
        ]
        if empty:
            raise ValueError(f"limits: {', '.join(empty)} must be above 0")
        return self

    def model_post_init(self, _context: Any) -> None:
        """Give each constant its full id."""
        for key, constant in self.constants.items():
            constant._id = f"{self.target.name}.{key}"

    @property
    def name(self) -> str:
        """Short name of the target."""
        return self.target.name

    def with_limits(self, values: Mapping[str, float | None], source: str) -> HardwareTarget:
        """Return the same chip with other limits; None removes one."""
        limits = {name: limit for name, limit in self.limits.items() if name not in values}
        for name, value in values.items():
            if value is not None:
                before = self.limits.get(name)
                unit = before.unit if before is not None else name.partition("_per_")[0]
                limits[name] = Limit(value=value, unit=unit, source=source, evidence="assumed")
        return self.model_copy(update={"limits": limits})

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
    """Read a hardware target by name, or from a user's own TOML file.

    Raises
    ------
    BadInput
        If there is no such file, or it is invalid; the message lists all findings.
    """
    path = find_resource(KIND, name_or_path)
    document = read_toml(path)
    return validated(HardwareTarget, document, str(path), _explain)


def as_target(target: HardwareTarget | str | Path) -> HardwareTarget:
    """Return a target as it is, or read it by its name or path.

    Raises
    ------
    BadInput
        As :func:`load_target`.
    """
    return target if isinstance(target, HardwareTarget) else load_target(str(target))


def arithmetic_of(target: HardwareTarget) -> Arithmetic:
    """Return the integer formats of a target.

    Raises
    ------
    BadInput
        If it declares none.
    """
    if target.arithmetic is None:
        able = [name for name in resource_names(KIND) if load_target(name).arithmetic is not None]
        raise BadInput(
            f"hardware target '{target.name}' has no [arithmetic]; allowed: {', '.join(able)}, "
            "or a TOML file of your own that has one"
        )
    return target.arithmetic


_TABLES: dict[str, type[Table]] = {
    "target": TargetInfo,
    "limits": Limit,
    "arithmetic": Arithmetic,
    "constants": Constant,
}


def _explain(finding: Any) -> str:
    # A field of int or float is a union, whose parts pydantic adds to the place.
    place = [str(part) for part in finding["loc"] if part not in ("int", "float")]
    table = _TABLES.get(place[0], HardwareTarget) if len(place) > 1 else HardwareTarget
    return explain_finding(finding, place, table.model_fields)
