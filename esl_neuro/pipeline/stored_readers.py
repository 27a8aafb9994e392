"""Keep the verdicts of independent NIR readers in an export, and read them again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from esl_neuro.errors import BadInput
from esl_neuro.formats import other_version
from esl_neuro.interchange.readers import Verdict
from esl_neuro.pipeline.export_folder import GRAPH
from esl_neuro.reading.documents import problems, read_json_object
from esl_neuro.storage import write

SCHEMA = 1
NAME = "readers.json"
AGAIN = "verify again: esl-neuro verify"
LONGEST = 10_000  # of a text in the file
MOST_READERS = 100


class StoredVerdict(BaseModel):
    """The verdict of a reader, as the file holds it; see :class:`~esl_neuro.interchange.readers.Verdict`."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    reader: str = Field(max_length=LONGEST)
    version: str = Field(max_length=LONGEST)
    status: Literal["equal", "different", "refused", "absent", "broken"]
    reason: str = Field("", max_length=LONGEST)
    compared: NonNegativeInt = 0
    spikes: NonNegativeInt = 0
    differing: NonNegativeInt = 0


class StoredReaders(BaseModel):
    """The verdicts on the graph of an export.

    Attributes
    ----------
    graph_sha256 : str
        Of the ``model.nir`` that the readers ran.
    readers : tuple of StoredVerdict
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    graph_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    readers: tuple[StoredVerdict, ...] = Field(max_length=MOST_READERS)


def store_readers(export: Path, verdicts: Sequence[Verdict]) -> None:
    """Write the verdicts of readers that ran into an export; those of other readers on the same graph stay.

    Raises
    ------
    BadInput
        If the export cannot be written.
    """
    digest = _digest(export)
    names = [field for field in StoredVerdict.model_fields if field != "reason"]
    found = {
        each.reader: StoredVerdict(reason=each.reason[:LONGEST], **{name: getattr(each, name) for name in names})
        for each in verdicts
        if each.status != "absent"
    }
    if not found:
        return
    try:
        earlier = stored_readers(export)
    except BadInput:  # damaged, or of another version
        earlier = None
    kept = {} if earlier is None else {each.reader: each for each in earlier.readers}
    together = StoredReaders(graph_sha256=digest, readers=tuple((kept | found).values()))
    write(export / NAME, json.dumps({"schema": SCHEMA, **together.model_dump()}, indent=2) + "\n")


def stored_readers(export: Path) -> StoredReaders | None:
    """Return the verdicts that an export keeps; None if there are none, or they are of another graph.

    Raises
    ------
    BadInput
        If the file is damaged, or of another version.
    """
    path = export / NAME
    if not path.is_file():
        return None
    document = read_json_object(path, AGAIN)
    schema = document.get("schema")
    if schema != SCHEMA:
        raise other_version(path, export, "readers", schema, (SCHEMA,), AGAIN)
    try:
        stored = StoredReaders.model_validate(document)
    except ValidationError as error:
        raise BadInput(f"{path}: damaged ({'; '.join(map(problems, error.errors()[:5]))}); {AGAIN}") from error
    return stored if stored.graph_sha256 == _digest(export) else None


def _digest(export: Path) -> str:
    return hashlib.sha256((export / GRAPH).read_bytes()).hexdigest()
