"""Read the result that ``esl-neuro run`` leaves in an export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

from esl_neuro.errors import BadInput
from esl_neuro.formats import other_version
from esl_neuro.pipeline.simulation import SCHEMA, RunResult
from esl_neuro.reading.documents import problems, read_json_object

LAVA_RUNS = ("lava", "lava-batched")


class StoredParity(BaseModel):
    """The comparison of every spike with the integer simulator."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    values_compared: NonNegativeInt
    equal: bool
    first_difference: str | None


class StoredRun(BaseModel):
    """The result of a run in a simulator, as its file holds it."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, strict=True)

    backend: str
    samples: PositiveInt
    steps: PositiveInt
    accuracy: Annotated[float, Field(ge=0, le=1)] | None
    spikes: dict[str, NonNegativeInt]
    parity: StoredParity | None = None


def stored_lava_run(export: Path) -> StoredRun | None:
    """Return the last run in Lava that an export keeps; None if there is none.

    Raises
    ------
    BadInput
        If its file is damaged, or of another version.
    """
    files = [path for name in LAVA_RUNS if (path := export / f"run-{name}.json").is_file()]
    if not files:
        return None
    path = max(files, key=lambda each: each.stat().st_mtime_ns)
    fix = "run again: esl-neuro run --backend lava"
    document = read_json_object(path, fix)
    schema = document.get("schema", SCHEMA)  # 0.1.0 did not state it
    if schema != SCHEMA:
        raise other_version(path, export, "run", schema, (SCHEMA,), fix)
    try:
        return StoredRun.model_validate(document)
    except ValidationError as error:
        raise BadInput(f"{path}: damaged ({'; '.join(map(problems, error.errors()))}); {fix}") from error


def is_of_the_same_program(stored: StoredRun, result: RunResult) -> bool | None:
    """Return whether a stored run has the spikes of each layer that another run has on the same first samples.

    An export that is made again keeps the file of an earlier run. None if the other run has fewer samples.
    """
    if stored.samples > result.samples:
        return None
    trace = result.trace
    found = {name: int(fired[: stored.samples].sum(dtype="int64")) for name, fired in trace.spikes.items()}
    return stored.steps == result.steps and stored.spikes == found
