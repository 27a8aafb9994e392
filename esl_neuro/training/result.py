"""The figures of a complete run, as ``result.json`` holds them. No torch here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, ValidationError

from esl_neuro.errors import BadInput
from esl_neuro.reading.documents import problems, read_json_object
from esl_neuro.storage import write
from esl_neuro.training.cost import Memory, TrainingCost

Share = Annotated[float, Field(ge=0, le=1)]


class EnergyFigures(BaseModel):
    """Energy of a test sample of a run with an energy budget."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    target: str
    budget_nj: NonNegativeFloat
    operations_nj: NonNegativeFloat  # synaptic operations and updates: what the budget limits
    beside_nj: NonNegativeFloat  # steps of the chip and static power
    synaptic_operations: NonNegativeFloat
    within: bool
    multiplier_per_nj: NonNegativeFloat  # loss for one nJ more
    points_per_nj: NonNegativeFloat | None = None  # validation accuracy for one nJ more; absent if unknown
    quiet_layers: list[str]  # below the floor of the rate


class ResourceFigures(BaseModel):
    """Use of one resource of a chip: of one of its cores, that of the fullest core."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    used: NonNegativeInt
    mean: NonNegativeFloat
    limit: NonNegativeFloat | None  # None: not published, and not in the budget
    unit: str


class CoreFigures(BaseModel):
    """What a network uses of the chip of its budget, by the names of the limits in ``hw_targets/``."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    target: str
    resources: dict[str, ResourceFigures]


class TrainingResult(BaseModel):
    """Final results of a run; the test part is used only here, with the best epoch on validation."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    recipe: str
    seed: NonNegativeInt
    test_accuracy: Share
    test_samples: NonNegativeInt
    validation_accuracy: Annotated[float, Field(ge=-1, le=1)]  # -1: none was measured
    best_epoch: NonNegativeInt
    epochs: NonNegativeInt
    connections: NonNegativeInt
    density: Share
    spikes_per_neuron: NonNegativeFloat
    seconds: NonNegativeFloat
    cost: TrainingCost | None = None  # None: not counted, or by an earlier version
    memory: Memory | None = None  # None: not measured
    energy: EnergyFigures | None = None
    cores: CoreFigures | None = None


def write_result(path: Path, result: TrainingResult) -> None:
    """Write the figures of a run that is complete."""
    write(path, json.dumps(result.model_dump(), indent=2) + "\n")


def read_result(path: Path, fix: str) -> TrainingResult:
    """Read the figures of a run that is complete.

    Parameters
    ----------
    path : Path
        ``result.json``.
    fix : str
        What to do if it is damaged, for the error.

    Raises
    ------
    BadInput
        If it is damaged; the message lists all findings.
    """
    try:
        return TrainingResult.model_validate(read_json_object(path, fix))
    except ValidationError as error:
        raise BadInput(f"{path}: damaged ({'; '.join(map(problems, error.errors()))}); {fix}") from error
