"""Search the fields of a recipe for accuracy, energy and connections, with trials one after the other or side by side.

This process alone asks and tells the study; workers train. A task is the way of a trial to the next epoch at which it
is compared with others, or to its end, so that a trial is stopped at an epoch and not somewhere behind it.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from statistics import mean
from typing import Any

from esl_neuro.errors import BadInput
from esl_neuro.hardware import load_target
from esl_neuro.pipeline.simulation import OnStatus
from esl_neuro.pipeline.study import Study
from esl_neuro.pipeline.sweeping import Together, TrainingView, hidden, writing_alone
from esl_neuro.pipeline.trial import Impossible, Task, advance
from esl_neuro.pipeline.workers import Told, WorkersKilled, Workplace, workers
from esl_neuro.recipes.consent import code_of
from esl_neuro.storage import write
from esl_neuro.training.search import SearchPlan, Trial, texts
from esl_neuro.training.sweep import by_message
from esl_neuro.training.trials import DONE, REFUSED, STARTED, STOPPED, Measure, TrialRecord, beaten, ranks

SCHEMA = 1  # of the summary


def run_search(
    plan: SearchPlan,
    jobs: int = 1,
    *,
    scheduler: str | None = None,
    on_status: OnStatus = lambda _: None,
    view: TrainingView = hidden,
) -> dict[str, Any]:
    """Run the trials that have not ended; return the summary, which is also saved in the folder of the search.

    With one trial at a time, the result depends on the plan alone, also if the search was interrupted. With several,
    it depends on the order in which they end, because each is drawn from what is known of the others.

    Parameters
    ----------
    plan : SearchPlan
        What to search, from :func:`~esl_neuro.training.search.load_search`.
    jobs : int
        Trials at a time on this machine; more than one run in processes of their own.
    scheduler : str, optional
        Address of a Dask scheduler, or its scheduler file; its workers train, one trial each.
    on_status : callable
        Receives a line at the end of each trial.
    view : callable
        Shows the epochs of all trials together; see :class:`~esl_neuro.pipeline.sweeping.TrainingView`.

    Raises
    ------
    BadInput
        If the target has no price, the data are missing, the folder holds another search or another process writes it,
        or the scheduler cannot be reached.
    EslNeuroError
        If no trial could be trained.
    """
    covered(plan.search.target)
    for note in _notes_on_data(plan):
        on_status(note)
    with writing_alone(plan.folder, "search"):
        search = _Search(plan, Study(plan, alone=True), on_status)
        search.prepare()
        try:
            _work(search, Workplace(jobs, scheduler), view)
        except KeyboardInterrupt:
            on_status(
                f"{search.ended} of {plan.search.trials} trials have ended, the others are saved in {plan.folder}; "
                "continue with the same command"
            )
            raise
        summary = summarise(plan, search.study.records(), on_status)
        write(plan.summary, json.dumps(summary, indent=2) + "\n")
    return summary


def covered(target: str) -> str:
    """Return what the energy on a target covers: operations, a chip or a board.

    Raises
    ------
    BadInput
        If it has none, or is unknown.
    """
    from esl_neuro.energy.estimate import headline
    from esl_neuro.energy.prices import price
    from esl_neuro.energy.target_check import PROBE

    found = load_target(target)
    estimates = price(PROBE, found, None)
    shown = headline(estimates)
    if shown is None:
        refusal = next((each.refusal for each in estimates if each.refusal), "no operation has a price")
        raise BadInput(f"target: {target} has no figure ({refusal}); choose another one")
    return shown.level or ""


def _notes_on_data(plan: SearchPlan) -> Sequence[str]:
    """Load the data once, so that missing ones are reported before anything is trained."""
    from esl_neuro.data import prepare

    recipe = plan.first
    dataset = prepare(recipe.data, recipe.training.seed)
    if not len(dataset.validation):
        raise BadInput(
            f"data set '{dataset.name}' has no validation samples, by which trials are compared; at least ten per "
            "class are needed to split off a validation part"
        )
    return dataset.notes


@dataclass
class _Search:
    """The trials of a search, as they are asked for and end."""

    plan: SearchPlan
    study: Study
    on_status: OnStatus
    waiting: deque[Trial] = field(default_factory=deque)

    @property
    def ended(self) -> int:
        return sum(each.state != STARTED for each in self.study.records())

    def prepare(self) -> None:
        """Take up the trials that have not ended.

        Raises
        ------
        BadInput
            If their runs, or that of the first trial, are of another recipe or on other data.
        """
        records = self.study.records()
        begun = [trial for each in records if each.state == STARTED if (trial := self._planned(each)) is not None]
        self.waiting.extend(begun)
        first = [self.plan.trial(0, each.values) for each in records[:1] if each.state in (DONE, STOPPED)]
        found = [finding for trial in (*first, *begun) for run in trial.runs for finding in run.differences()]
        if found:
            raise BadInput(f"{self.plan.folder}: {found[0]}; use another folder with --runs, or delete this one")
        if records and self.remaining:
            self.on_status(f"{self.plan.folder}: {self.ended} of {self.plan.search.trials} trials have ended")

    @property
    def remaining(self) -> int:
        return len(self.waiting) + max(0, self.plan.search.trials - len(self.study.records()))

    def more(self) -> Task | None:
        """Return what is to be done next; None if nothing is."""
        while self.waiting or len(self.study.records()) < self.plan.search.trials:
            trial = self.waiting.popleft() if self.waiting else self._planned(self._proposed())
            if trial is not None and (task := self._next_of(trial)) is not None:
                return task
        return None

    def _proposed(self) -> TrialRecord:
        number = self.study.propose()
        return self.study.records()[number]

    def _planned(self, record: TrialRecord) -> Trial | None:
        """Return a trial; None if its values do not go together."""
        try:
            return self.plan.trial(record.number, record.values)
        except BadInput as error:
            self._refuse(record.number, str(error))
            return None

    def _next_of(self, trial: Trial) -> Task | None:
        """Return the next part of a trial; None if it is stopped, because others beat it."""
        search, records = self.plan.search, self.study.records()
        reached = max(records[trial.number].reached, default=0)
        if reached and (why := beaten(trial.number, reached, records, search.objectives)) is not None:
            self.study.stop(trial.number, why)
            self._tell(trial.number, f"stopped: {why}")
            return None
        further = [epoch for epoch in sorted(search.stop_after) if reached < epoch < trial.epochs]
        return Task(trial, next(iter(further), None), search.target)

    def hear(self, task: Task, outcome: Measure | Impossible) -> None:
        """Keep how a task ended."""
        number = task.trial.number
        if isinstance(outcome, Impossible):
            self._refuse(number, outcome.reason)
        elif task.epoch is not None:
            self.study.note_reached(number, task.epoch, outcome)
            self.waiting.appendleft(task.trial)
        else:
            self.study.finish(number, outcome)
            self._tell(number, in_words(outcome, self.plan.search.target))

    def _refuse(self, number: int, why: str) -> None:
        self.study.refuse(number, why)
        self._tell(number, f"refused: {why}")

    def _tell(self, number: int, words: str) -> None:
        self.on_status(f"{self.ended}/{self.plan.search.trials} trial {number}: {words}")


def in_words(measure: Measure, target: str) -> str:
    """Write what was measured of a network."""
    from esl_neuro.report.energy_layout import scaled_energy

    energy = " ".join(scaled_energy(measure.energy_pj))
    return f"{100 * measure.accuracy:.2f} %, {energy} on {target}, {measure.connections:,.0f} connections"


# Here, or in workers.


def _work(search: _Search, where: Workplace, view: TrainingView) -> None:
    count = search.remaining
    if not count:
        return
    elsewhere = where.scheduler is not None or min(where.jobs, count) > 1
    at_a_time = f", {min(where.jobs, count)} at a time" if where.scheduler is None else f" on {where.scheduler}"
    title = f"{search.plan.name}, {count} trials{at_a_time if elsewhere else ''}"
    epochs = count * search.plan.first.training.epochs
    with view(title, epochs) as shown:
        together = Together(shown, epochs)
        if elsewhere:
            _work_elsewhere(search, where, count, together)
        else:
            _work_here(search, together)


def _work_here(search: _Search, together: Together) -> None:
    while (task := search.more()) is not None:
        search.hear(task, advance(task, lambda message: together.on_epoch(message["epoch"]), lambda: True))


def _work_elsewhere(search: _Search, where: Workplace, count: int, together: Together) -> None:
    modules = sorted({code.partition(":")[0] for _, code in code_of(search.plan.first.to_document())})
    with (
        workers(where, count, search.plan.folder, modules) as ready,
        closing(ready.serve(advance, search.more)) as events,
    ):
        if ready.dashboard is not None:
            search.on_status(f"dashboard: {ready.dashboard}")
        if not ready.count:
            search.on_status(f"{ready.place} has no workers yet; the trials begin with the first one")
        for event in events:
            if isinstance(event, Told):
                together.on_epoch(event.message["epoch"])
            elif isinstance(event.error, WorkersKilled):
                search.hear(event.argument, Impossible(str(event.error)))
            elif event.error is not None:
                raise event.error
            else:
                search.hear(event.argument, event.result)


# The result.


def summarise(plan: SearchPlan, records: Sequence[TrialRecord], on_status: OnStatus = lambda _: None) -> dict[str, Any]:
    """Return every trial with its rank; networks of the Pareto set are exported, and tested there for the first time.

    Raises
    ------
    EslNeuroError
        If no trial ended, because none could be trained.
    """
    refused = [(f"trial {each.number}", each.reason) for each in records if each.state == REFUSED]
    if len(refused) == len(records):
        raise BadInput(f"{plan.name}: no trial could be trained: {'; '.join(by_message(refused))}")
    covers = covered(plan.search.target)
    done = {each.number: each.measure for each in records if each.measure is not None}
    found = ranks(done, plan.search.objectives)
    return {
        "schema": SCHEMA,
        "search": plan.name,
        "title": plan.search.title,
        "objectives": list(plan.search.objectives),
        "target": plan.search.target,
        "covers": covers,
        "seeds": list(plan.search.seeds),
        "states": {state: sum(each.state == state for each in records) for state in (DONE, STOPPED, REFUSED, STARTED)},
        "trials": [_entry(plan, each, found.get(each.number), on_status) for each in records],
    }


def _entry(plan: SearchPlan, record: TrialRecord, rank: int | None, on_status: OnStatus) -> dict[str, Any]:
    folders = [plan.folder / f"trial-{record.number:03d}-seed{seed}" for seed in plan.search.seeds]
    return {
        "trial": record.number,
        "state": record.state,
        "rank": rank,
        "values": dict(record.values),
        "shown": texts(plan, record.values),
        "validation_accuracy": None if record.measure is None else record.measure.accuracy,
        "test_accuracy": _tested(plan, record, on_status) if rank == 1 else None,
        "energy_pj": None if record.measure is None else record.measure.energy_pj,
        "connections": None if record.measure is None else record.measure.connections,
        "reached": {str(epoch): asdict(each) for epoch, each in record.reached.items()},
        "reason": record.reason,
        "runs": [str(folder) for folder in folders if folder.exists()],
    }


def _tested(plan: SearchPlan, record: TrialRecord, on_status: OnStatus) -> float:
    """Return the test accuracy of the integers, mean over the seeds."""
    from esl_neuro.pipeline.export_folder import read_export
    from esl_neuro.pipeline.sweep_energy import exported

    runs = plan.trial(record.number, record.values).runs
    accuracies = [read_export(exported(run, on_status)).contents.accuracy for run in runs]
    return mean(each.integer for each in accuracies if each is not None)


def list_trials(plan: SearchPlan) -> dict[str, Any]:
    """Return the trials that there are, and how many are to come, without training or writing anything."""
    from esl_neuro.pipeline.study import JOURNAL

    records = Study(plan, alone=False).records() if (plan.folder / JOURNAL).exists() else []
    return {
        "search": plan.name,
        "title": plan.search.title,
        "objectives": list(plan.search.objectives),
        "space": {field: str(each) for field, each in plan.search.space.items()},
        "trials": [
            {
                "trial": each.number,
                "state": each.state,
                "values": dict(each.values),
                "shown": texts(plan, each.values),
                "reason": each.reason,
            }
            for each in records
        ],
        "to_come": max(0, plan.search.trials - len(records)),
    }
