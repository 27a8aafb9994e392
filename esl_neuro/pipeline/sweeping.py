"""Train the runs of a sweep, one after the other or side by side, and summarise them."""

from __future__ import annotations

import json
import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import connection as pipes
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from filelock import FileLock, Timeout

from esl_neuro.errors import BadInput, CheckFailed, EslNeuroError
from esl_neuro.interruption import SIGNALS, held_back
from esl_neuro.pipeline.simulation import OnStatus
from esl_neuro.storage import cause, refusing, remove_unfinished, write
from esl_neuro.training.sweep import DONE, Run, SweepPlan, by_message, summarise

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event

    from esl_neuro.training.trainer import EpochMetrics

SAVING_S = 1.0  # of the two seconds in which a signal ends a sweep

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
    plan: SweepPlan, jobs: int = 1, *, on_status: OnStatus = lambda _: None, view: TrainingView = hidden
) -> dict[str, Any]:
    """Train every run that is not finished; return the summary, which is also saved in the folder of the sweep.

    Parameters
    ----------
    plan : SweepPlan
        The runs, from :func:`~esl_neuro.training.sweep.load_plan`.
    jobs : int
        Runs at a time; more than one run in processes of their own.
    on_status : callable
        Receives a line at the end of each run.
    view : callable
        Shows a run while it trains, or the epochs of all runs together if there are several at a time; see
        :class:`TrainingView`.

    Raises
    ------
    EslNeuroError
        If runs failed; raised after all other runs are trained.
    """
    with _locked(plan.folder):
        _train_all(plan, jobs, on_status, view)
        summary = summarise(plan)
        write(plan.summary, json.dumps(summary, indent=2) + "\n")
    return summary


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let only one sweep at a time write into a folder; the system releases the lock when the process ends."""
    lock = FileLock(folder / "lock", timeout=0)
    with refusing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout as error:  # also an error of the system
            raise BadInput(
                f"{folder}: another sweep is running in this folder; wait for it, or give another --runs"
            ) from error
    try:
        remove_unfinished(folder)
        yield
    finally:
        lock.release()


def _train_all(plan: SweepPlan, jobs: int, on_status: OnStatus, view: TrainingView) -> None:
    """Train every run that is not finished, ``jobs`` at a time."""
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
        if min(jobs, len(todo)) > 1:
            on_status(f"{plan.folder}: {len(todo)} runs to do, {min(jobs, len(todo))} at a time")
            _train_parallel(todo, min(jobs, len(todo)), view, on_done, on_error, on_notes)
        else:
            _train_serial(todo, view, on_done, on_error, on_notes)
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


def _train_serial(
    runs: Sequence[Run], view: TrainingView, on_done: OnDone, on_error: OnError, on_notes: OnNotes
) -> None:
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


@dataclass(frozen=True)
class Notes:
    """What a user should know of the data of a run."""

    lines: tuple[str, ...]


@dataclass
class _Worker:
    """A process that trains the runs it receives through its pipe, one after the other."""

    process: Any
    pipe: pipes.Connection
    run: Run

    def give(self, run: Run) -> None:
        self.run = run
        with suppress(BrokenPipeError):  # the process has ended; take() reports it
            self.pipe.send(run)

    def take(self) -> EslNeuroError | EpochMetrics | Notes | None:
        """Return the notes on its data, the metrics of an epoch, or how the run ended: with an error, or None."""
        try:
            answer: EslNeuroError | EpochMetrics | Notes | None = self.pipe.recv()
        except EOFError:
            self.process.join()
            code = self.process.exitcode
            hint = "; the machine may be out of memory: use fewer --jobs" if code == -signal.SIGKILL else ""
            return CheckFailed(f"its process ended with exit code {code}{hint}")
        return answer


def _train_parallel(
    runs: Sequence[Run], jobs: int, view: TrainingView, on_done: OnDone, on_error: OnError, on_notes: OnNotes
) -> None:
    """Train in separate processes; on any exit, each one saves the state of its run."""
    epochs = sum(run.recipe.training.epochs for run in runs)
    with view(f"{len(runs)} runs, {jobs} at a time", epochs) as shown:
        _train_shown(runs, jobs, _Together(shown, epochs), on_done, on_error, on_notes)


@dataclass
class _Together:
    """Shows the epochs of all runs as those of one."""

    shown: TrainingDisplay
    epochs: int
    done: int = 0

    def on_epoch(self, metrics: EpochMetrics) -> None:
        self.done += 1
        self.shown.on_batch(self.done, self.epochs, metrics.loss)
        self.shown.on_epoch(replace(metrics, epoch=self.done))


def _train_shown(
    runs: Sequence[Run], jobs: int, shown: _Together, on_done: OnDone, on_error: OnError, on_notes: OnNotes
) -> None:
    waiting = deque(runs)
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    workers: dict[Any, _Worker] = {}
    try:
        while waiting or workers:
            while waiting and len(workers) < jobs:
                with held_back():  # a signal finds each process that was started among the workers
                    worker = _start_worker(context, stop, waiting.popleft())
                    workers[worker.pipe] = worker
            for pipe in pipes.wait(list(workers)):
                worker = workers[pipe]
                told = worker.take()
                if isinstance(told, Notes):
                    on_notes(told.lines)
                    continue
                if told is not None and not isinstance(told, EslNeuroError):
                    shown.on_epoch(told)
                    continue
                on_done(worker.run) if told is None else on_error(worker.run, told)
                if waiting and worker.process.is_alive():
                    worker.give(waiting.popleft())
                else:
                    workers.pop(pipe).pipe.close()
    finally:
        stop.set()
        for worker in workers.values():
            worker.pipe.close()
        _end(workers.values())


def _end(workers: Iterable[_Worker]) -> None:
    """Wait until every process has saved its run; end what is still computing, whose last epoch is saved."""
    deadline = time.monotonic() + SAVING_S
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def _start_worker(context: Any, stop: Event, run: Run) -> _Worker:
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, stop), daemon=True)
    with _blocked():
        process.start()
    theirs.close()
    worker = _Worker(process, ours, run)
    worker.give(run)
    return worker


@contextmanager
def _blocked() -> Iterator[None]:
    """Start a process with the signals blocked: they are for its parent."""
    # Starting the resource tracker unblocks the signals, so it is started before.
    resource_tracker.ensure_running()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _work(pipe: pipes.Connection, stop: Event) -> None:
    """Train the runs that arrive through the pipe; the parent handles the signals and sets ``stop``."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    parent = multiprocessing.parent_process()

    def on_batch(*_: object) -> None:
        if stop.is_set() or parent is None or not parent.is_alive():
            signal.raise_signal(signal.SIGINT)  # the trainer saves the state

    def on_epoch(metrics: EpochMetrics) -> None:
        with suppress(OSError):  # the parent has ended; on_batch sees it
            pipe.send(metrics)

    def on_notes(notes: Sequence[str]) -> None:
        with suppress(OSError):
            pipe.send(Notes(tuple(notes)))

    try:
        while not stop.is_set():
            pipe.send(_attempt(pipe.recv(), on_batch, on_epoch, on_notes))
    except (KeyboardInterrupt, EOFError, BrokenPipeError):
        return
