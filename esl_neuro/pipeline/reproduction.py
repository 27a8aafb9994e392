"""Reproduce a published table or figure: train its sweeps, and put each published figure beside the measured one.

No torch here before a run trains.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from esl_neuro.data.availability import missing_datasets
from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.pipeline.choices import Scale
from esl_neuro.pipeline.reproduction_file import KIND, UNITS, Cell, Reproduction, Setting, parse_reproduction, refuse
from esl_neuro.pipeline.reproduction_quantities import (
    COUNTED,
    QUANTITIES,
    count_run,
    counted_file,
    film,
    read_counted,
)
from esl_neuro.pipeline.simulation import OnStatus
from esl_neuro.pipeline.sweeping import TrainingView, hidden, run_sweep
from esl_neuro.reading.names import is_plain
from esl_neuro.resources import find_resource, read_toml
from esl_neuro.storage import refusing, write
from esl_neuro.training.run_folder import environment
from esl_neuro.training.sweep import DONE, Run, SweepCase, SweepPlan, load_plan

SCHEMA = 1  # of the record


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
    reproduction = parse_reproduction(read_toml(path), name)
    sweeps = reproduction.scales[scale].sweeps
    plans = {sweep: load_plan(sweep, runs, allow_code=allow_code) for sweep in sweeps}
    refuse(name, _misplaced(reproduction, scale, plans))
    return ReproductionPlan(path.stem, scale, reproduction, plans, runs)


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
    plan: ReproductionPlan,
    jobs: int = 1,
    *,
    scheduler: str | None = None,
    on_status: OnStatus = lambda _: None,
    view: TrainingView = hidden,
) -> dict[str, Any]:
    """Train what is not finished, count what is not counted, and return the record, which is also saved.

    Parameters
    ----------
    plan : ReproductionPlan
        From :func:`load_reproduction`.
    jobs, scheduler, on_status, view
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
        run_sweep(sweep, jobs, scheduler=scheduler, on_status=on_status, view=view)
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
