"""Reproduce a published table or figure: train its sweeps, and put each published figure beside the measured one.

A reproduction is a TOML file of ``reproductions/``: the cells of the table or figure, what is published for each and
how surely that is known, and the case of a sweep that measures it, at three scales. No torch here before a run trains.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveInt, ValidationError

from esl_neuro.data.availability import missing_datasets
from esl_neuro.energy.estimate import PJ_PER_J
from esl_neuro.energy.processors import flop_price
from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.hardware import load_target
from esl_neuro.pipeline.simulation import OnStatus
from esl_neuro.pipeline.sweeping import TrainingView, hidden, run_sweep
from esl_neuro.reading.documents import problems, read_json_object, read_text
from esl_neuro.reading.names import is_plain
from esl_neuro.registry import Registry
from esl_neuro.resources import find_resource, read_toml
from esl_neuro.storage import refusing, write
from esl_neuro.toml_tables import PrintableText, Table, explain_finding, validated
from esl_neuro.training.run_folder import environment
from esl_neuro.training.sweep import DONE, Run, SweepCase, SweepPlan, load_plan

SCHEMA = 1  # of the record
KIND = "reproductions"
COUNTED_SAMPLES = 100
"""Test samples whose operations are counted for each run."""

Scale = Literal["smoke", "short", "full"]
Grade = Literal["table", "text", "plot", "second-hand"]
SCALES: tuple[Scale, ...] = get_args(Scale)


# The document.


class Setting(Table):
    """What is trained at one scale."""

    network: PrintableText = Field(description="networks, data and budget, in words")
    comparable: bool = Field(description="whether data and network are those of the published figures")
    sweeps: dict[str, Annotated[float, Field(gt=0)]] = Field(
        min_length=1, description="sweeps, and the minutes of each on two cores, or on a GPU where it needs one"
    )


class Place(Table):
    """The case of a sweep that measures a cell."""

    sweep: str
    case: str


class Cell(Table):
    """One figure of the table or plot."""

    row: PrintableText
    quantity: str = Field(default="test_accuracy", description="what is measured; a name of QUANTITIES")
    noise: str | None = Field(default=None, description="noise of the sweep on the test set")
    layer: str | None = Field(default=None, description="layer, for layer_density")
    line: PrintableText | None = Field(default=None, description="line of the chart")
    x: float | PrintableText | None = Field(default=None, description="place on the x axis; the row by default")
    published: float | None = Field(default=None, description="published figure, in the unit of the quantity")
    grade: Grade | None = Field(default=None, description="how surely the published figure is known")
    source: PrintableText | None = None
    smoke: Place | None = None
    short: Place | None = None
    full: Place | None = None
    not_run: dict[Scale, PrintableText] = Field(
        default={}, description="scales that list the cell without a run: why, and what it would take"
    )

    def place(self, scale: Scale) -> Place | None:
        """Return what measures the cell at a scale."""
        places: dict[Scale, Place | None] = {"smoke": self.smoke, "short": self.short, "full": self.full}
        return places[scale]


class Statement(Table):
    """What a paper says in words."""

    text: PrintableText
    source: PrintableText


class Reproduction(Table):
    """A published table or figure."""

    title: PrintableText
    paper: PrintableText
    unpublished: PrintableText = Field(description="why some published figures are missing")
    drawn: str = Field(default="test_accuracy", description="quantity of the chart")
    x_label: PrintableText = ""
    statements: list[Statement] = Field(default=[])
    notes: list[PrintableText] = Field(default=[])
    scales: dict[Scale, Setting]
    cells: list[Cell] = Field(min_length=1)


# Quantities.

Quantity = Callable[[Run, Cell], float]
QUANTITIES: Registry[Quantity] = Registry("quantity")
UNITS = {
    "test_accuracy": "%",
    "connections": "",
    "gpu_energy_j": "J",
    "chip_energy_j": "J",
    "counted_operations": "SOPs",
    "counted_energy_j": "J",
    "layer_density": "%",
}
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
    updates = [update for update in read_updates(run) if update.layer == cell.layer]
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


class LayerUpdate(BaseModel):
    """One update of a layer's connections, as the history of a run holds it."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, strict=True)

    layer: str
    iteration: PositiveInt
    births: NonNegativeInt
    deaths: NonNegativeInt
    connections: NonNegativeInt
    density: Annotated[float, Field(ge=0, le=1)]


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
    from esl_neuro.pipeline.exports import export_run

    if counted_file(run).is_file():
        return
    exports = sorted(document.parent for document in run.folder.path.glob("*/export.json"))
    if not exports:
        on_status(f"{run.label}: compiling for Loihi 2, to count its operations")
        export_run(run.folder.path, accept_loss=True, any_size=True, allow_code=True)
    backend = "lava-batched" if lava_installed() else "integer"
    where = exports[0] if exports else run.folder.path
    result = run_network(where, Activity(backend, COUNTED_SAMPLES), on_status=on_status)
    result.refuse_difference()
    found = Counted(
        backend=backend,
        samples=result.samples,
        operations_per_sample=float(result.counts.sop_effective_per_sample.mean()),
    )
    write(counted_file(run), json.dumps(found.model_dump(), indent=2) + "\n")


def read_updates(run: Run) -> list[LayerUpdate]:
    """Read the history of a run's connections, in the order of the iterations.

    Raises
    ------
    BadInput
        If a line is damaged.
    """
    path = run.folder.structure
    if not path.exists():
        return []
    return [_update(path, number, line) for number, line in enumerate(read_text(path).splitlines(), start=1)]


def _update(path: Path, number: int, line: str) -> LayerUpdate:
    try:
        return LayerUpdate.model_validate_json(line)
    except ValidationError as error:
        raise BadInput(f"{path}: line {number} is damaged ({problems(error.errors()[0])}); train again") from error


def film(run: Run) -> list[dict[str, Any]]:
    """Return a frame for each update of the connections: iteration, and births, deaths and density of each layer."""
    frames: dict[int, dict[str, Any]] = {}
    for update in read_updates(run):
        frames.setdefault(update.iteration, {})[update.layer] = update.model_dump(exclude={"layer", "iteration"})
    return [{"iteration": iteration, "layers": layers} for iteration, layers in frames.items()]


# Planning.


@dataclass(frozen=True)
class ReproductionPlan:
    """A published table or figure, and the sweeps that measure it at one scale.

    Attributes
    ----------
    name : str
        Name of its file, such as ``table1``.
    scale : str
        Name of the scale.
    reproduction : Reproduction
        The document.
    plans : dict of str to SweepPlan
        The planned sweeps by name.
    runs : Path
        Folder of all runs.
    """

    name: str
    scale: Scale
    reproduction: Reproduction
    plans: dict[str, SweepPlan]
    runs: Path

    @property
    def setting(self) -> Setting:
        """What is trained at this scale."""
        return self.reproduction.scales[self.scale]

    @property
    def record(self) -> Path:
        """File of the result."""
        return self.runs / "reproduce" / f"{self.name}-{self.scale}.json"

    @property
    def film(self) -> Path:
        """File with the density of each layer after each update, where the experiment is about that."""
        return self.runs / "reproduce" / f"{self.name}-{self.scale}.film.json"

    @property
    def cells(self) -> list[tuple[Cell, list[Run]]]:
        """Each cell of this scale with the runs that measure it; no runs if it is listed with a reason instead."""
        shown = [cell for cell in self.reproduction.cells if cell.place(self.scale) or self.scale in cell.not_run]
        return [(cell, self._runs(cell)) for cell in shown]

    @property
    def waiting(self) -> list[Run]:
        """Runs that are not finished."""
        return [run for plan in self.plans.values() for run in plan.runs if run.state() != DONE]

    def _runs(self, cell: Cell) -> list[Run]:
        place = cell.place(self.scale)
        return [] if place is None else [run for run in self.plans[place.sweep].runs if run.case.label == place.case]

    def refuse_obstacles(self) -> None:
        """Reject, before anything runs, what would stop a run later: data that are missing, no GPU, folders of others.

        Raises
        ------
        BadInput
            With all findings.
        """
        for plan in self.plans.values():
            plan.refuse_other_recipes()
        found = obstacles(self)
        if found:
            raise BadInput(f"{self.name} at scale {self.scale} cannot run here: {'; '.join(found)}")


def load_reproduction(name: str, scale: Scale, runs: Path, *, allow_code: bool = False) -> ReproductionPlan:
    """Read a reproduction and plan its sweeps.

    Parameters
    ----------
    name : str
        A name of ``reproductions/``, or the path of a TOML file.
    scale : {"smoke", "short", "full"}
        Seconds on the embedded digits; a budget for two cores; networks, data and epochs of the paper.
    runs : Path
        Folder of all runs.
    allow_code : bool
        As in :func:`~esl_neuro.training.sweep.load_plan`.

    Raises
    ------
    BadInput
        If the document, a sweep or a recipe is invalid; the message lists all findings.
    """
    path = find_resource(KIND, name)
    if not is_plain(path.stem):
        raise BadInput(f"{path}: its name is also that of a file; use letters, digits, '.', '-' and '_'")
    reproduction = parse_reproduction(read_toml(path), str(path))
    sweeps = reproduction.scales[scale].sweeps
    plans = {sweep: load_plan(sweep, runs, allow_code=allow_code) for sweep in sweeps}
    _refuse(str(path), _misplaced(reproduction, scale, plans))
    return ReproductionPlan(path.stem, scale, reproduction, plans, runs)


def parse_reproduction(document: dict[str, Any], origin: str) -> Reproduction:
    """Check a document and return the reproduction; see :func:`load_reproduction`."""
    reproduction = validated(Reproduction, document, origin, _explain)
    _refuse(origin, _findings(reproduction))
    return reproduction


def _explain(finding: Any) -> str:
    place = [str(part) for part in finding["loc"]]
    tables: dict[str, type[Table]] = {"cells": Cell, "scales": Setting, "statements": Statement}
    known = tables.get(place[0], Reproduction) if len(place) > 1 else Reproduction
    if len(place) > 3 and place[2] in SCALES:
        known = Place
    return explain_finding(finding, place, known.model_fields)


def _refuse(origin: str, findings: Iterator[str]) -> None:
    found = list(findings)
    if found:
        raise BadInput(f"{origin}: {'; '.join(found)}")


def _findings(reproduction: Reproduction) -> Iterator[str]:
    """Find errors other than the types of the fields."""
    for scale in SCALES:
        if scale not in reproduction.scales:
            yield f"scales.{scale}: is missing; add it"
    for index, cell in enumerate(reproduction.cells):
        where = f"cells.{index} ('{cell.row}')"
        if cell.quantity not in QUANTITIES.names():
            yield f"{where}: quantity '{cell.quantity}' is unknown; {did_you_mean(cell.quantity, QUANTITIES.names())}"
        if (cell.published is None) != (cell.grade is None) or (cell.published is None) != (cell.source is None):
            yield f"{where}: published, grade and source belong together; give all three or none"
        if (cell.quantity == "layer_density") != (cell.layer is not None):
            yield f"{where}: layer belongs to the quantity layer_density; give both or neither"
        for scale in SCALES:
            place = cell.place(scale)
            if place is not None and scale in cell.not_run:
                yield f"{where}: {scale} and not_run.{scale} contradict each other; give one of them"
            if place is None and scale not in cell.not_run and cell.published is not None:
                yield f"{where}: give {scale} (a sweep and a case), or not_run.{scale} (why, and what it would take)"
            setting = reproduction.scales.get(scale)
            if place is not None and setting is not None and place.sweep not in setting.sweeps:
                yield f"{where}: {scale}.sweep '{place.sweep}' is not in scales.{scale}.sweeps; add it there"


def _misplaced(reproduction: Reproduction, scale: Scale, plans: Mapping[str, SweepPlan]) -> Iterator[str]:
    """Find cases and noises that the sweeps do not have."""
    for index, cell in enumerate(reproduction.cells):
        place = cell.place(scale)
        if place is None:
            continue
        plan = plans[place.sweep]
        labels = [case.label for case in plan.cases]
        if place.case not in labels:
            yield (
                f"cells.{index} ('{cell.row}'): sweep '{place.sweep}' has no case '{place.case}'; "
                f"{did_you_mean(place.case, labels)}"
            )
        if cell.noise is not None and cell.noise not in plan.sweep.noise:
            yield (
                f"cells.{index} ('{cell.row}'): sweep '{place.sweep}' has no noise '{cell.noise}'; "
                f"{did_you_mean(cell.noise, plan.sweep.noise)}"
            )


def obstacles(plan: ReproductionPlan) -> list[str]:
    """Return what would stop a run that is not finished: data sets that are missing, and a GPU."""
    waiting = plan.waiting
    found = list(missing_datasets(run.recipe.data.name for run in waiting).values())
    if any(run.recipe.training.device == "cuda" for run in waiting) and not _has_gpu():
        found.append(
            "no GPU is visible to torch, and these networks need one: run it on a machine with CUDA, or train single "
            "cases with 'esl-neuro sweep NAME --set training.device=cpu', which takes days"
        )
    return found


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


# Running.


def reproduce(
    plan: ReproductionPlan, jobs: int = 1, *, on_status: OnStatus = lambda _: None, view: TrainingView = hidden
) -> dict[str, Any]:
    """Train what is not finished, count what is not counted, and return the record, which is also saved.

    Parameters
    ----------
    plan : ReproductionPlan
        From :func:`load_reproduction`.
    jobs, on_status, view
        As in :func:`~esl_neuro.pipeline.sweeping.run_sweep`.

    Raises
    ------
    EslNeuroError
        If something is missing, before anything runs; or if runs failed, after all others are trained.
    """
    plan.refuse_obstacles()
    for name, sweep in plan.plans.items():
        on_status(
            f"sweep {name}: {len(sweep.runs)} runs, an estimated {plan.setting.sweeps[name]:g} minutes if none is done"
        )
        run_sweep(sweep, jobs, on_status=on_status, view=view)
    counted = {id(run): run for cell, runs in plan.cells if cell.quantity in COUNTED for run in runs}
    for run in counted.values():
        count_run(run, on_status)
    document = describe(plan)
    with refusing(plan.record.parent):
        plan.record.parent.mkdir(parents=True, exist_ok=True)
    write(plan.record, json.dumps(document, indent=2) + "\n")
    if document["densities"]:
        write(plan.film, json.dumps(document["densities"], indent=2) + "\n")
    return document


# Describing.


def describe(plan: ReproductionPlan) -> dict[str, Any]:
    """Return every cell with what is published and what is measured so far; nothing runs."""
    reproduction = plan.reproduction
    return {
        "schema": SCHEMA,
        "experiment": plan.name,
        "title": reproduction.title,
        "paper": reproduction.paper,
        "scale": plan.scale,
        "network": plan.setting.network,
        "comparable": plan.setting.comparable,
        "command": f"esl-neuro reproduce {plan.name} --scale {plan.scale}",
        "drawn": reproduction.drawn,
        "x_label": reproduction.x_label,
        "sweeps": [_sweep(name, sweep, plan.setting.sweeps[name]) for name, sweep in plan.plans.items()],
        "cells": [_cell(plan, cell, runs) for cell, runs in plan.cells],
        "densities": _densities(plan),
        "statements": [statement.model_dump() for statement in reproduction.statements],
        "notes": list(reproduction.notes),
        "environment": {key: value for key, value in environment().items() if key != "command"},
    }


def _sweep(name: str, sweep: SweepPlan, minutes: float) -> dict[str, Any]:
    return {
        "sweep": name,
        "command": f"esl-neuro sweep {name}",
        "minutes": minutes,
        "runs": len(sweep.runs),
        "done": sum(run.state() == DONE for run in sweep.runs),
    }


def _cell(plan: ReproductionPlan, cell: Cell, runs: list[Run]) -> dict[str, Any]:
    measured, reason = _measured(plan, cell, runs)
    comparable = plan.setting.comparable and measured is not None and cell.published is not None
    return {
        "row": cell.row,
        "quantity": cell.quantity + ("" if cell.noise is None else f" {cell.noise}"),
        "unit": UNITS[cell.quantity],
        "line": cell.line,
        "x": cell.x,
        "published": None
        if cell.published is None
        else {"value": cell.published, "grade": cell.grade, "source": cell.source},
        "unpublished": plan.reproduction.unpublished if cell.published is None else None,
        "measured": measured,
        "not_run": reason,
        "difference": measured["mean"] - cell.published if comparable and measured and cell.published else None,
    }


def _measured(plan: ReproductionPlan, cell: Cell, runs: list[Run]) -> tuple[dict[str, Any] | None, str | None]:
    """Return the measured figures of a cell, or the reason why there are none."""
    place = cell.place(plan.scale)
    if place is None:
        return None, cell.not_run[plan.scale]
    command = f"esl-neuro sweep {place.sweep}"
    done = [run for run in runs if run.state() == DONE]
    if len(done) < len(runs):
        return (
            None,
            f"{len(done)} of {len(runs)} seeds are trained; "
            f"'esl-neuro reproduce {plan.name} --scale {plan.scale}' trains the rest",
        )
    if cell.quantity in COUNTED and not all(counted_file(run).is_file() for run in runs):
        return None, f"not counted yet; 'esl-neuro reproduce {plan.name} --scale {plan.scale}' counts"
    values = [QUANTITIES[cell.quantity](run, cell) for run in runs]
    backends = sorted({read_counted(run).backend for run in runs}) if cell.quantity in COUNTED else None
    return {
        "mean": mean(values),
        "stdev": stdev(values) if len(values) > 1 else None,
        "values": values,
        "seeds": [run.seed for run in runs],
        "sweep": place.sweep,
        "case": place.case,
        "command": command,
        "counted_in": backends,
    }, None


def _densities(plan: ReproductionPlan) -> dict[str, Any]:
    """Return the film of each case that a cell about layers measures, of its first seed."""
    films: dict[str, Any] = {}
    for cell, runs in plan.cells:
        if cell.quantity == "layer_density" and runs and runs[0].state() == DONE:
            case: SweepCase = runs[0].case
            films.setdefault(case.label, film(runs[0]))
    return films
