"""The two files of a program, checked: whatever reads a program may rely on what is said here.

``program.json`` holds the structure, ``program.safetensors`` the integers. Compiled loops use the integers as indices,
so a wrong one would read or write memory that is not theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, ValidationError, model_validator

from esl_neuro.compiler.core_plan import CorePlan
from esl_neuro.errors import BadInput
from esl_neuro.formats import other_version
from esl_neuro.hardware import Arithmetic
from esl_neuro.hardware.arithmetic import SMALLEST_WEIGHT_BITS
from esl_neuro.reading.documents import problems, read_json_object, reason
from esl_neuro.reading.limits import refuse_large
from esl_neuro.reading.matrices import MATRIX_ARRAYS, matrix_findings
from esl_neuro.reading.names import printable
from esl_neuro.toml_tables import NoPath, PrintableText, Table

Arrays = dict[str, NDArray[Any]]
Form: TypeAlias = "tuple[str, tuple[int | None, ...]]"  # kinds of dtypes, and the shape; None for any length

ANY_LENGTH: tuple[int | None, ...] = (None,)

STRUCTURE, INTEGERS = "program.json", "program.safetensors"
SCHEMA = 2
SCHEMA_SINCE_0_2 = 3  # of a program with a reset by subtraction or a scale for each neuron, which 0.1.0 does not know
Readout = Literal["spikes", "first_spike", "potential"]
READOUTS: tuple[str, ...] = get_args(Readout)
GROUP_ARRAYS = ("du", "dv", "vth", "bias_mant", "bias_exp")
SHOWN = 5  # findings in one message


Count = Annotated[int, Field(ge=0, lt=2**62)]
Size = Annotated[int, Field(ge=1, lt=2**31)]
Lines = Annotated[int, Field(ge=1, le=2**24)]  # a table of them takes 8 bytes each
Pair = Annotated[list[Size], Field(min_length=2, max_length=2)]
Positive = Annotated[float, Field(gt=0)]


class KernelTable(Table):
    """The geometry of a convolution."""

    input_shape: Annotated[list[Size], Field(min_length=3, max_length=3)]
    stride: Pair
    padding: Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=2, max_length=2)]
    dilation: Pair
    groups: Size


class ConnectionTable(Table):
    """A connection without its weights."""

    source: PrintableText
    target: PrintableText
    weight_exp: Annotated[int, Field(ge=-31, le=31)]
    declared: Count
    delay: Annotated[int, Field(ge=0, lt=2**31)]
    kernel: KernelTable | None = None
    weight_bits: Annotated[int, Field(ge=SMALLEST_WEIGHT_BITS, le=31)] | None = None


class GroupTable(Table):
    """A group without its integers; ``scale`` and no ``reset`` in a program of version 0.1.0."""

    name: PrintableText
    neurons: Lines
    reset: Literal["zero", "subtract"] = "zero"
    scale: Positive | None = None


class CorePlanTable(Table):
    """The cores that the program was trained for."""

    target: PrintableText
    parts: dict[PrintableText, Annotated[list[Size], Field(min_length=3, max_length=3)]]
    cores: dict[PrintableText, list[NonNegativeInt]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits(self) -> CorePlanTable:
        CorePlan.of_document(self.model_dump())  # its errors say what is wrong
        return self


class ProgramTable(Table):
    """All of ``program.json``."""

    version: Literal[2, 3] = Field(alias="schema")
    target: NoPath
    input_size: Lines
    steps: Size
    dt_s: Positive
    readout: Readout
    input_bits: Annotated[int, Field(ge=1, le=24)]
    input_scale: Positive
    arithmetic: Arithmetic | None = None
    core_plan: CorePlanTable | None = None
    groups: Annotated[list[GroupTable], Field(min_length=1)]
    connections: Annotated[list[ConnectionTable], Field(min_length=1)]


def read_structure(folder: Path) -> ProgramTable:
    """Read ``program.json``.

    Raises
    ------
    BadInput
        If it is missing, damaged, or of another schema; the message lists all findings.
    """
    for name in (STRUCTURE, INTEGERS):
        if not (folder / name).is_file():
            raise BadInput(f"{folder}: not an export ({name} is missing); create one with 'esl-neuro export'")
    try:
        document = read_json_object(folder / STRUCTURE)
    except BadInput as error:
        raise damaged(folder, [str(error)]) from error
    schema = document.get("schema")
    if schema is not None and schema not in (SCHEMA, SCHEMA_SINCE_0_2):
        raise other_version(folder, folder, "program", schema, (SCHEMA, SCHEMA_SINCE_0_2), "export again")
    try:
        table = ProgramTable.model_validate(document)
    except ValidationError as error:
        raise damaged(folder, [problems(each) for each in error.errors()]) from error
    ends = {"input", *(group.name for group in table.groups)}
    findings = [
        f"connection '{each.source}' -> '{each.target}': group '{end}' does not exist"
        for each in table.connections
        for end in (each.source, each.target)
        if end not in ends or (end == "input" and end == each.target)
    ]
    if len(ends) <= len(table.groups):
        findings.append("the names of the groups are not unique, or one is 'input'")
    if findings:
        raise damaged(folder, findings)
    return table


def read_integers(folder: Path, table: ProgramTable) -> Arrays:
    """Read ``program.safetensors``: every array that the structure needs, of the right type, shape and order.

    Raises
    ------
    BadInput
        If it is damaged or does not fit the structure; the message lists all findings.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = folder / INTEGERS
    try:
        refuse_large(path, "the file has", path.stat().st_size)
        arrays: Arrays = load_file(str(path))
    except BadInput:
        raise
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise damaged(folder, [f"{INTEGERS}: {reason(error)}"]) from error
    findings = [*_array_findings(table, arrays)]
    if findings:
        raise damaged(folder, findings)
    return arrays


def damaged(folder: Path, findings: Sequence[str]) -> BadInput:
    """Return the error about a program whose files say something wrong."""
    more = f" and {len(findings) - SHOWN} more" if len(findings) > SHOWN else ""
    return BadInput(f"{folder}: the program is damaged ({'; '.join(findings[:SHOWN])}{more}); export again")


def _array_findings(table: ProgramTable, arrays: Arrays) -> Iterator[str]:
    sizes = {"input": table.input_size, **{group.name: group.neurons for group in table.groups}}
    needed: set[str] = set()
    for group in table.groups:
        expected: dict[str, Form] = dict.fromkeys(GROUP_ARRAYS, ("iu", (group.neurons,)))
        if group.reset == "subtract":
            expected["reset_by"] = ("iu", (group.neurons,))
        if group.scale is None:
            expected["scale"] = ("f", (group.neurons,))
        names = {f"groups/{group.name}/{name}": form for name, form in expected.items()}
        needed |= names.keys()
        yield from _wrong_forms(arrays, names)
        scale = arrays.get(f"groups/{group.name}/scale") if group.scale is None else None
        if scale is not None and scale.dtype.kind == "f" and not (np.isfinite(scale) & (scale > 0)).all():
            yield f"groups/{group.name}/scale has values that are not positive numbers"
    for index, connection in enumerate(table.connections):
        shape = (sizes[connection.target], sizes[connection.source])
        place = f"connections/{index}"
        if connection.kernel is not None:
            names = {f"{place}/weights": ("iu", ANY_LENGTH * 4)}
        else:
            names = {f"{place}/{name}": ("iu", ANY_LENGTH) for name in MATRIX_ARRAYS}
        needed |= names.keys()
        wrong = [*_wrong_forms(arrays, names)]
        yield from wrong
        if not wrong and connection.kernel is None:
            yield from matrix_findings([arrays[name] for name in names], shape, place, ordered=True)
    extra = sorted(arrays.keys() - needed)
    if extra:
        yield f"arrays {', '.join(map(printable, extra[:SHOWN]))} belong to no group and no connection"


def _wrong_forms(arrays: Arrays, expected: Mapping[str, Form]) -> Iterator[str]:
    for name, (kinds, shape) in expected.items():
        if name not in arrays:
            yield f"{name} is missing"
            continue
        array = arrays[name]
        fits = array.ndim == len(shape) and all(
            wanted in (None, size) for wanted, size in zip(shape, array.shape, strict=True)
        )
        if not fits or array.dtype.kind not in kinds:
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            yield f"{name} is {array.dtype} of shape {array.shape}; expected {_KINDS[kinds]} of shape ({wanted})"


_KINDS = {"iu": "integers", "f": "floats"}


def unsound(weights: sp.csr_matrix, where: str) -> list[str]:
    """Find what would make a loop over a sparse matrix leave its arrays; see :func:`matrix_findings`."""
    parts = [np.asarray(getattr(weights, name)) for name in MATRIX_ARRAYS]
    return list(matrix_findings(parts, weights.shape, where))
