"""The trials of a search, kept in its folder: the one door to Optuna.

Optuna proposes the trials and holds what became of them, in a journal of its own format, ``study.journal``, which other
programs for Optuna read as well (``JournalFileBackend``). Whoever changes it holds the lock of the folder. A line is
written whole or is left out when the journal is read again, and each line is one step: a trial that was proposed, a
figure that was measured, an end.

Each proposal is drawn with a seed of its own, from the seed of the search and the number of the trial. So it depends
on the trials before it alone, and a study that is continued proposes what it would have proposed without a break.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from esl_neuro.errors import BadInput
from esl_neuro.random_streams import stream
from esl_neuro.reading.documents import read_text, reason
from esl_neuro.storage import append, flush, write
from esl_neuro.training.search import Dimension, SearchPlan
from esl_neuro.training.sweep import changes, some, to_toml
from esl_neuro.training.trials import DONE, REFUSED, STARTED, STOPPED, Measure, TrialRecord

JOURNAL = "study.journal"
NAME = "search"
IDENTITY, MEASURE, REASON, REACHED = "identity", "measure", "reason", "reached after "
STATES = {
    TrialState.COMPLETE: DONE,
    TrialState.PRUNED: STOPPED,
    TrialState.FAIL: REFUSED,
    TrialState.RUNNING: STARTED,
}
AGAIN = "use another folder with --runs, or delete this one and search again"


class Study:
    """What became of the trials of a search, and what to try next.

    Parameters
    ----------
    plan : SearchPlan
        The search.
    alone : bool
        Whether this process holds the lock of the folder; else it only reads.

    Raises
    ------
    BadInput
        If the folder holds another search, or the journal is damaged.
    """

    def __init__(self, plan: SearchPlan, *, alone: bool) -> None:
        self.plan = plan
        self.space = {field: _distribution(each, plan.is_whole(field)) for field, each in plan.search.space.items()}
        self.directions = [
            StudyDirection.MAXIMIZE if name == "accuracy" else StudyDirection.MINIMIZE
            for name in plan.search.objectives
        ]
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path = plan.folder / JOURNAL
        journal = _Journal(path, alone)
        try:
            self._storage = JournalStorage(journal)
            known = optuna.get_all_study_names(self._storage) == [NAME]
            if not known and journal.lines:
                raise ValueError(f"it has no study '{NAME}'")
            make = optuna.load_study if known else partial(optuna.create_study, directions=self.directions)
            self._study = make(study_name=NAME, storage=self._storage, sampler=TPESampler())
            stored = self._study.user_attrs.get(IDENTITY)
            self.records()  # so that a trial that cannot be read is found here
        except BadInput:
            raise
        except Exception as error:  # whatever Optuna finds in a journal that was changed
            raise BadInput(f"{path}: damaged ({type(error).__name__}: {reason(error)}); {AGAIN}") from error
        asked = json.loads(json.dumps(plan.identity()))
        if stored is None:
            self._study.set_user_attr(IDENTITY, asked)
        elif stored != asked:
            raise BadInput(
                f"{plan.folder}: holds another search: {some([*changes(stored, asked).values()], '; ')}; {AGAIN}"
            )

    def records(self) -> list[TrialRecord]:
        """Return all trials, in the order of their numbers."""
        return [self._record(each) for each in self._trials()]

    def propose(self) -> int:
        """Begin the next trial, and return its number.

        It is drawn from what is known of the others, also of those that have not ended, by multi-objective TPE (Ozaki
        et al., JAIR 73, 2022); at random as long as few have ended. A refused trial counts as a stopped one, so that
        the sampler leaves the part of the space in which nothing can be trained.
        """
        number = len(self._trials())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # of earlier versions of Optuna
            sampler = TPESampler(
                seed=int(stream(self.plan.search.sampler_seed, "search", number).integers(2**31)),
                n_startup_trials=self.plan.search.random,
                multivariate=True,
                constant_liar=True,
            )
        drawn_from = optuna.create_study(directions=self.directions, sampler=sampler)
        drawn_from.add_trials([_as_stopped(each) if each.state == TrialState.FAIL else each for each in self._trials()])
        drawn = drawn_from.ask(self.space).params
        # In one step, with all values: a command that is killed leaves no half of a trial.
        self._study.add_trial(create_trial(state=TrialState.RUNNING, params=drawn, distributions=self.space))
        return number

    def note_reached(self, number: int, epoch: int, measure: Measure) -> None:
        """Keep what was measured of a trial after an epoch."""
        self._note(number, f"{REACHED}{epoch}", asdict(measure))

    def finish(self, number: int, measure: Measure) -> None:
        """Keep what was measured of a trial at its end."""
        self._note(number, MEASURE, asdict(measure))
        self._study.tell(number, [measure.value(name) for name in self.plan.search.objectives])

    def stop(self, number: int, reason: str) -> None:
        """Keep that a trial was stopped."""
        self._note(number, REASON, reason)
        self._study.tell(number, state=TrialState.PRUNED)

    def refuse(self, number: int, reason: str) -> None:
        """Keep that a trial cannot be trained."""
        self._note(number, REASON, reason)
        self._study.tell(number, state=TrialState.FAIL)

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _note(self, number: int, name: str, value: Any) -> None:
        study = self._storage.get_study_id_from_name(NAME)
        self._storage.set_trial_user_attr(
            self._storage.get_trial_id_from_study_id_trial_number(study, number), name, value
        )

    def _record(self, trial: FrozenTrial) -> TrialRecord:
        notes = trial.user_attrs
        return TrialRecord(
            trial.number,
            STATES[trial.state],
            {field: _value(each, trial.params[field]) for field, each in self.plan.search.space.items()},
            {
                int(name.removeprefix(REACHED)): Measure(**figures)
                for name, figures in notes.items()
                if name.startswith(REACHED)
            },
            Measure(**notes[MEASURE]) if trial.state == TrialState.COMPLETE else None,
            notes.get(REASON, ""),
        )


def _distribution(dimension: Dimension, whole: bool) -> BaseDistribution:
    if dimension.choices is not None:
        return CategoricalDistribution([to_toml(each) for each in dimension.choices])
    low, high, step = dimension.low, dimension.high, dimension.step
    assert low is not None
    assert high is not None
    if whole:
        return IntDistribution(int(low), int(high), log=dimension.log, step=int(step or 1))
    return FloatDistribution(low, high, log=dimension.log, step=step)


def _value(dimension: Dimension, drawn: Any) -> Any:
    """Return the value of a field from what Optuna drew."""
    if dimension.choices is not None:
        return {to_toml(each): each for each in dimension.choices}[drawn]
    return dimension.value(drawn)


def _as_stopped(trial: FrozenTrial) -> FrozenTrial:
    return create_trial(state=TrialState.PRUNED, params=trial.params, distributions=trial.distributions)


class _Journal(BaseJournalBackend):
    """The journal of one process, which alone writes it, or reads it once."""

    def __init__(self, path: Path, alone: bool) -> None:
        self.path, self.alone = path, alone
        text = read_text(path, AGAIN) if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if alone and whole != text:  # its process was killed while it wrote
            write(path, whole)
        self.lines = [_read_line(path, number, line) for number, line in enumerate(whole.splitlines(), start=1)]

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        return self.lines[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        for each in logs:
            if self.alone:
                append(self.path, json.dumps(each, separators=(",", ":")))
            self.lines.append(json.loads(json.dumps(each)))
        if self.alone:
            flush(self.path)


def _read_line(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: line {number} is damaged ({reason(error)}); {AGAIN}") from error
    if not isinstance(entry, dict):
        raise BadInput(f"{path}: line {number} is damaged (it is no table); {AGAIN}")
    return entry
