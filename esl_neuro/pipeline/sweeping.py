"""Train the runs of a sweep, one after the other or side by side, and summarise them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from esl_neuro.errors import BadInput, EslNeuroError
from esl_neuro.pipeline.simulation import OnStatus
from esl_neuro.pipeline.workers import Tell, Told, Wanted, Workplace, workers
from esl_neuro.recipes.consent import modules_of
from esl_neuro.storage import cause, refusing, remove_unfinished, write
from esl_neuro.training.epoch_metrics import EpochMetrics
from esl_neuro.training.sweep import DONE, Run, SweepPlan, by_message, summarise

OnError = Callable[[Run, EslNeuroError], None]
OnDone = Callable[[Run], None]
OnNotes = Callable[[Sequence[str]], None]


class TrainingDisplay(Protocol):
    """What a training run tells while it trains."""

    def on_batch(self, iteration: int, iterations: int, loss: float) -> None:
        """Show a batch."""

    def on_epoch(self, metrics: EpochMetrics) -> None:
        """Show an epoch."""


TrainingView = Callable[[str, int], AbstractContextManager[TrainingDisplay]]


class _Hidden:
    def on_batch(self, iteration: int, iterations: int, loss: float) -> None:
        """Show nothing."""

    def on_epoch(self, metrics: EpochMetrics) -> None:
        """Show nothing."""


@contextmanager
def hidden(title: str, epochs: int) -> Iterator[TrainingDisplay]:  # noqa: ARG001 (shared signature)
    """Show nothing of a training run."""
    yield _Hidden()


def run_sweep(
    plan: SweepPlan,
    jobs: int = 1,
    *,
    scheduler: str | None = None,
    on_status: OnStatus = lambda _: None,
    view: TrainingView = hidden,
) -> dict[str, Any]:
    """Train every run that is not finished; return the summary, which is also saved in the folder of the sweep.

    Parameters
    ----------
    plan : SweepPlan
        The runs, from :func:`~esl_neuro.training.sweep.load_plan`.
    jobs : int
        Runs at a time on this machine; more than one run in processes of their own.
    scheduler : str, optional
        Address of a Dask scheduler, or its scheduler file; its workers train the runs.
    on_status : callable
        Receives a line at the end of each run.
    view : callable
        Shows a run while it trains, or the epochs of all runs together if there are several at a time; see
        :class:`TrainingView`.

    Raises
    ------
    BadInput
        If the scheduler cannot be reached, or its workers cannot train the runs.
    EslNeuroError
        If runs failed; raised after all other runs are trained.
    """
    with writing_alone(plan.folder, "sweep"):
        _train_all(plan, Workplace(jobs, scheduler), on_status, view)
        summary = summarise(plan)
        write(plan.summary, json.dumps(summary, indent=2) + "\n")
    return summary


@contextmanager
def writing_alone(folder: Path, what: str) -> Iterator[None]:
    """Let only one sweep or search at a time write into a folder; the system releases the lock when the process ends.

    Raises
    ------
    BadInput
        If another process does.
    """
    lock = FileLock(folder / "lock", timeout=0)
    with refusing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout as error:  # also an error of the system
            raise BadInput(
                f"{folder}: another {what} is running in this folder; wait for it, or give another --runs"
            ) from error
    try:
        remove_unfinished(folder)
        yield
    finally:
        lock.release()


def _train_all(plan: SweepPlan, where: Workplace, on_status: OnStatus, view: TrainingView) -> None:
    """Train every run that is not finished."""
    todo = [run for run in plan.runs if run.state() != DONE]
    total, done = len(plan.runs), len(plan.runs) - len(todo)
    failures: list[tuple[Run, EslNeuroError]] = []
    said: set[str] = set()  # of the data, most of which are those of every run
    if todo and done:
        on_status(f"{plan.folder}: {done} of {total} runs are already done")

    def on_done(run: Run) -> None:
        nonlocal done
        done += 1
        outcome = run.outcome()
        on_status(f"{done}/{total} {run.label}: {100 * outcome['test_accuracy']:.2f} %, {outcome['seconds']:.0f} s")

    def on_notes(notes: Sequence[str]) -> None:
        for note in notes:
            if note not in said:
                on_status(note)
        said.update(notes)

    def on_error(run: Run, error: EslNeuroError) -> None:
        known = any(str(error) == str(other) for _, other in failures)
        on_status(f"{run.label}: failed, {'for the same reason' if known else error}")
        failures.append((run, error))

    try:
        if todo and (where.scheduler is not None or min(where.jobs, len(todo)) > 1):
            _train_elsewhere(plan, todo, where, on_status, view, on_done, on_error, on_notes)
        else:
            _train_here(todo, view, on_done, on_error, on_notes)
    except KeyboardInterrupt:
        on_status(
            f"{done} of {total} runs are done, the others are saved in {plan.folder}; continue with the same command"
        )
        raise
    _refuse_failures(failures, total)


def _refuse_failures(failures: Sequence[tuple[Run, EslNeuroError]], total: int) -> None:
    if failures:
        findings = by_message((run.label, str(error)) for run, error in failures)
        raise type(failures[0][1])(f"{len(failures)} of {total} runs failed: {'; '.join(findings)}")


# One run.


def _train_here(runs: Sequence[Run], view: TrainingView, on_done: OnDone, on_error: OnError, on_notes: OnNotes) -> None:
    for run in runs:
        with view(run.label, run.recipe.training.epochs) as shown:
            error = _attempt(run, shown.on_batch, shown.on_epoch, on_notes)
        on_done(run) if error is None else on_error(run, error)


def _attempt(
    run: Run, on_batch: Callable[..., None], on_epoch: Callable[..., None], on_notes: OnNotes
) -> EslNeuroError | None:
    try:
        _train(run, on_batch, on_epoch, on_notes)
    except EslNeuroError as error:
        return error
    except OSError as error:  # a folder that cannot be written, a disk that is full
        return BadInput(f"{error.filename or run.folder.path}: {cause(error)}")
    return None


def _train(run: Run, on_batch: Callable[..., None], on_epoch: Callable[..., None], on_notes: OnNotes) -> None:
    """Train a run to its end and test it with every noise."""
    import torch

    from esl_neuro.pipeline.training import evaluate

    torch.set_num_threads(run.recipe.training.threads)
    run.train(on_batch, on_epoch, on_notes)
    missing = run.missing_noises()
    if missing:
        tested = evaluate(run.folder.path, missing).noise
        run.add_noise_accuracies({name: entry.accuracy for name, entry in zip(missing, tested, strict=True)})


# Several runs at a time.


def _train_elsewhere(
    plan: SweepPlan,
    runs: Sequence[Run],
    where: Workplace,
    on_status: OnStatus,
    view: TrainingView,
    on_done: OnDone,
    on_error: OnError,
    on_notes: OnNotes,
) -> None:
    """Train in other processes; on any exit, each one saves the state of its run."""
    at_a_time = f"{min(where.jobs, len(runs))} at a time" if where.scheduler is None else f"on {where.scheduler}"
    on_status(f"{plan.folder}: {len(runs)} runs to do, {at_a_time}")
    epochs = sum(run.recipe.training.epochs for run in runs)
    modules = modules_of(run.recipe.to_document() for run in runs)
    with (
        workers(where, len(runs), plan.folder, modules) as ready,
        view(f"{len(runs)} runs, {at_a_time}", epochs) as shown,
        closing(ready.run(_train_there, runs)) as events,
    ):
        if ready.dashboard is not None:
            on_status(f"dashboard: {ready.dashboard}")
        if not ready.count:
            on_status(f"{ready.place} has no workers yet; the runs begin with the first one")
        together = Together(shown, epochs)
        for event in events:
            if not isinstance(event, Told):
                error = event.error or event.result
                on_done(event.argument) if error is None else on_error(event.argument, error)
            elif "notes" in event.message:
                on_notes(event.message["notes"])
            else:
                together.on_epoch(event.message["epoch"])


@dataclass
class Together:
    """Shows the epochs of all runs as those of one."""

    shown: TrainingDisplay
    epochs: int
    done: int = 0

    def on_epoch(self, metrics: dict[str, Any]) -> None:
        """Show an epoch, as the next one."""
        self.done += 1
        self.shown.on_batch(self.done, self.epochs, metrics["loss"])
        self.shown.on_epoch(replace(EpochMetrics(**metrics), epoch=self.done))


def _train_there(run: Run, tell: Tell, wanted: Wanted) -> EslNeuroError | None:
    """Train a run in a worker."""

    def on_batch(*_: object) -> None:
        if not wanted():
            raise KeyboardInterrupt  # the trainer saves the state

    def on_epoch(metrics: EpochMetrics) -> None:
        tell({"epoch": asdict(metrics)})

    return _attempt(run, on_batch, on_epoch, lambda notes: tell({"notes": list(notes)}))
