"""Read what a run has recorded of its training: epochs, changes of its connections, pictures of its connections."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from esl_neuro.errors import BadInput
from esl_neuro.reading.documents import problems, read_text

Share = Annotated[float, Field(ge=0, le=1)]
Sizes = Annotated[list[PositiveInt], Field(min_length=1, max_length=200)]
Line = TypeVar("Line", bound="Recorded")


class Recorded(BaseModel):
    """A line of a log; what a later version adds is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, strict=True)


class EpochLine(Recorded):
    """One epoch, as ``metrics.jsonl`` holds it."""

    epoch: PositiveInt
    loss: float
    train_accuracy: Share
    validation_accuracy: Annotated[float, Field(ge=-1, le=1)]  # -1: none was measured
    spikes_per_neuron: NonNegativeFloat
    density: Share
    connections: NonNegativeInt
    explored: Share | None = None


class DegreesLine(Recorded):
    """Connections of a neuron."""

    min: NonNegativeInt
    mean: NonNegativeFloat
    max: NonNegativeInt
    std: NonNegativeFloat


class LayerUpdate(Recorded):
    """One update of a layer's connections, as ``structure.jsonl`` holds it."""

    layer: str
    iteration: PositiveInt
    births: NonNegativeInt
    deaths: NonNegativeInt
    connections: NonNegativeInt
    density: Share
    explored: Share | None = None
    fan_in: DegreesLine | None = None


class PictureLine(Recorded):
    """The connections of a layer at one moment, as ``connections.jsonl`` holds them: counts in blocks."""

    layer: str
    iteration: NonNegativeInt
    rows: Sizes
    columns: Sizes
    counts: list[list[NonNegativeInt]]

    @model_validator(mode="after")
    def _fits(self) -> PictureLine:
        """Reject counts of another shape than the blocks, or above the connections that a block can have."""
        counts = self.counts
        if len(counts) != len(self.rows) or any(len(row) != len(self.columns) for row in counts):
            raise ValueError(f"counts must have {len(self.rows)} rows of {len(self.columns)} blocks")
        if any(found > high * wide for row, high in zip(counts, self.rows, strict=True)
               for found, wide in zip(row, self.columns, strict=True)):  # fmt: skip
            raise ValueError("a block holds more connections than are possible in it")
        return self


def read_log(path: Path, kind: type[Line]) -> list[Line]:
    """Read a log of a run, one line after the other; nothing if the file does not exist.

    Parameters
    ----------
    path : Path
        ``metrics.jsonl``, ``structure.jsonl`` or ``connections.jsonl``.
    kind : type
        What a line of it holds: :class:`EpochLine`, :class:`LayerUpdate` or :class:`PictureLine`.

    Raises
    ------
    BadInput
        If a line is damaged.
    """
    if not path.exists():
        return []
    return [_line(path, number, line, kind) for number, line in enumerate(read_text(path).splitlines(), start=1)]


def _line(path: Path, number: int, line: str, kind: type[Line]) -> Line:
    try:
        return kind.model_validate_json(line)
    except ValidationError as error:
        raise BadInput(f"{path}: line {number} is damaged ({problems(error.errors()[0])}); train again") from error
