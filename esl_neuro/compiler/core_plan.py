"""How the layers of a network are divided over the cores of one chip, as training chose it and a NIR file notes it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esl_neuro.nirgraph.findings import WARNING, Finding

Parts = tuple[int, int, int]
Cores = tuple[int, ...]

KEY = "cores"
"""Entry of the metadata of a NIR graph."""
MOST_PARTS = 2**31


@dataclass(frozen=True)
class CorePlan:
    """The cores of a network that was trained for them.

    Attributes
    ----------
    target : str
        Name of the chip.
    parts : dict of str to (int, int, int)
        Parts of the rows, of the columns and of the channels of each group, as
        :meth:`~esl_neuro.compiler.tiling.Tiling.even` takes them.
    cores : dict of str to tuple of int
        Core of each part of each group, where parts of several groups share cores; empty where each part has its own.
    """

    target: str
    parts: Mapping[str, Parts]
    cores: Mapping[str, Cores] = field(default_factory=dict)

    def to_document(self) -> dict[str, Any]:
        """Return plain data, for JSON and for the metadata of a NIR graph."""
        parts = {name: list(parts) for name, parts in self.parts.items()}
        shared = {"cores": {name: list(cores) for name, cores in self.cores.items()}} if self.cores else {}
        return {"target": self.target, "parts": parts, **shared}

    @classmethod
    def of_document(cls, document: Any) -> CorePlan:
        """Read what :meth:`to_document` returned, also from a NIR file, where lists are arrays and text is bytes.

        Raises
        ------
        ValueError
            If it is something else.
        """
        entries = document if isinstance(document, Mapping) else {}
        target, parts = entries.get("target"), entries.get("parts")
        if isinstance(target, bytes):
            target = target.decode("utf-8", "replace")
        if not isinstance(target, str) or not isinstance(parts, Mapping):
            raise ValueError("it needs the name of a target and the parts of each group")
        found = {str(name): _three(name, numbers) for name, numbers in parts.items()}
        return cls(target, found, _cores(entries.get("cores", {}), found))


def _cores(entry: Any, parts: Mapping[str, Parts]) -> dict[str, Cores]:
    """Read the cores of all parts of all groups, or of none."""
    if not isinstance(entry, Mapping) or (entry and set(map(str, entry)) != set(parts)):
        raise ValueError("the cores of the parts are not those of the groups that have parts")
    found = {}
    for name, numbers in entry.items():
        array, count = _array(numbers), math.prod(parts[str(name)])
        if array.shape != (count,) or array.dtype.kind not in "iu" or not ((array >= 0) & (array < MOST_PARTS)).all():
            raise ValueError(f"the cores of '{name}' are not {count:,} whole numbers from 0 on, one for each part")
        found[str(name)] = tuple(int(number) for number in array)
    return found


def _array(numbers: Any) -> NDArray[Any]:
    try:
        return np.asarray(numbers)
    except ValueError:
        return np.empty(0)


def _three(name: Any, numbers: Any) -> Parts:
    array = _array(numbers)
    if array.shape != (3,) or array.dtype.kind not in "iu" or not (array > 0).all() or not (array < MOST_PARTS).all():
        raise ValueError(f"the parts of '{name}' are not three whole numbers above 0")
    rows, columns, channels = (int(number) for number in array)
    return rows, columns, channels


def read_core_plan(metadata: Mapping[str, Any]) -> tuple[CorePlan | None, list[Finding]]:
    """Return the plan that the metadata of a graph note, and a warning about one that cannot be read."""
    if KEY not in metadata:
        return None, []
    try:
        return CorePlan.of_document(metadata[KEY]), []
    except ValueError as error:
        return None, [Finding("core-plan", f"metadata '{KEY}'", f"{error}; the compiler chooses the cores", WARNING)]
