"""What a cell of a reproduction measures of a run, and what is kept beside the run for that."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, PositiveInt, ValidationError

from esl_neuro.energy.estimate import PJ_PER_J
from esl_neuro.energy.processors import flop_price
from esl_neuro.errors import BadInput
from esl_neuro.hardware import load_target
from esl_neuro.pipeline.reproduction_file import Cell
from esl_neuro.pipeline.run_history import LayerUpdate, read_log
from esl_neuro.pipeline.simulation import OnStatus
from esl_neuro.reading.documents import problems, read_json_object
from esl_neuro.registry import Registry
from esl_neuro.storage import write
from esl_neuro.training.sweep import Run

COUNTED_SAMPLES = 100
"""Test samples whose operations are counted for each run."""

Quantity = Callable[[Run, Cell], float]
QUANTITIES: Registry[Quantity] = Registry("quantity")
DRAWN = {"births", "deaths", "connections", "density"}
"""What a frame of a film holds of each layer."""
COUNTED = ("counted_operations", "counted_energy_j")


@QUANTITIES.register
def test_accuracy(run: Run, cell: Cell) -> float:
    """Return the accuracy on the test set, in percent, under the noise of the cell if it has one."""
    outcome = run.outcome()
    accuracy: float = outcome["noise"][cell.noise] if cell.noise is not None else outcome["test_accuracy"]
    return 100 * accuracy


@QUANTITIES.register
def connections(run: Run, _cell: Cell) -> float:
    """Return the number of connections."""
    return float(run.outcome()["connections"])


@QUANTITIES.register
def gpu_energy_j(run: Run, cell: Cell) -> float:
    """Return the energy of one operation for each connection on a V100 at its peak, the arithmetic of the table."""
    gpu = load_target("v100-pcie")
    price_pj = flop_price(gpu.constant("board_power"), gpu.constant("peak_fp32")).nominal
    return connections(run, cell) * price_pj / PJ_PER_J


@QUANTITIES.register
def chip_energy_j(run: Run, cell: Cell) -> float:
    """Return the energy of one operation for each connection at the price inferred from the table."""
    return connections(run, cell) * _chip_price_pj() / PJ_PER_J


@QUANTITIES.register
def counted_operations(run: Run, _cell: Cell) -> float:
    """Return the effective synaptic operations per sample, counted in a simulator."""
    return read_counted(run).operations_per_sample


@QUANTITIES.register
def counted_energy_j(run: Run, _cell: Cell) -> float:
    """Return the energy of the counted operations, at the price inferred from the table."""
    return read_counted(run).operations_per_sample * _chip_price_pj() / PJ_PER_J


@QUANTITIES.register
def layer_density(run: Run, cell: Cell) -> float:
    """Return the density of a layer after its last update, in percent."""
    updates = [update for update in read_log(run.folder.structure, LayerUpdate) if update.layer == cell.layer]
    if not updates:
        raise BadInput(f"{run.folder.structure}: has no layer '{cell.layer}' whose connections changed")
    return 100 * updates[-1].density


def _chip_price_pj() -> float:
    return load_target("truenorth").constant("esl2023_e_sop").interval("pJ").nominal


# What is kept beside a run.


class Counted(BaseModel):
    """Counted operations of a run, kept in its folder."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    backend: str
    samples: PositiveInt
    operations_per_sample: NonNegativeFloat


def counted_file(run: Run) -> Path:
    """Return the file of the counted operations of a run."""
    return run.folder.path / "operations.json"


def read_counted(run: Run) -> Counted:
    """Read the counted operations of a run.

    Raises
    ------
    BadInput
        If the file is missing or damaged.
    """
    path, fix = counted_file(run), "delete it and run the command again"
    try:
        return Counted.model_validate(read_json_object(path, fix))
    except ValidationError as error:
        raise BadInput(f"{path}: damaged ({'; '.join(map(problems, error.errors()))}); {fix}") from error


def count_run(run: Run, on_status: OnStatus = lambda _: None) -> None:
    """Count the operations of a finished run, in Lava if it is installed, unless that was done before."""
    from esl_neuro.backends.lava_session import lava_installed
    from esl_neuro.pipeline.activity import Activity, run_network
    from esl_neuro.pipeline.sweep_energy import exported

    if counted_file(run).is_file():
        return
    where = exported(run, on_status)
    backend = "lava-batched" if lava_installed() else "integer"
    result = run_network(where, Activity(backend, COUNTED_SAMPLES), on_status=on_status)
    result.refuse_difference()
    found = Counted(
        backend=backend,
        samples=result.samples,
        operations_per_sample=float(result.counts.sop_effective_per_sample.mean()),
    )
    write(counted_file(run), json.dumps(found.model_dump(), indent=2) + "\n")


def film(run: Run) -> list[dict[str, Any]]:
    """Return a frame for each update of the connections: iteration, and births, deaths and density of each layer."""
    frames: dict[int, dict[str, Any]] = {}
    for update in read_log(run.folder.structure, LayerUpdate):
        frames.setdefault(update.iteration, {})[update.layer] = update.model_dump(include=DRAWN)
    return [{"iteration": iteration, "layers": layers} for iteration, layers in frames.items()]
