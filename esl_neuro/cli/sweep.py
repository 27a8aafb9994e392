"""``esl-neuro sweep``."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection as pipes
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esl_neuro.cli.commands import (
    ExampleCommand,
    OutputPath,
    data_option,
    emit,
    json_option,
    percent,
    print_status,
    runs_option,
)
from esl_neuro.errors import BadInput, CheckFailed, EslNeuroError

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event

    from esl_neuro.training.sweep import Run, SweepPlan

    OnError = Callable[[Run, EslNeuroError], None]
    OnDone = Callable[[Run], None]


@click.command(
    cls=ExampleCommand,
    short_help="Train a family of runs and compare them in one table.",
    examples=(
        ("esl-neuro sweep digits-density", "every run that is not finished, then the table"),
        ("esl-neuro sweep digits-density --list", "the runs and the progress of each"),
        ("esl-neuro sweep digits-density --jobs 2", "two runs at a time"),
        ("esl-neuro sweep digits-density --plot density.svg", "also draw the results"),
        ("esl-neuro sweep ./mine.toml --set training.epochs=1", "a sweep of your own, with a change to every run"),
    ),
)
@click.argument("name", metavar="SWEEP")
@click.option("--set", "overrides", multiple=True, metavar="FIELD=VALUE", help="Change a field in every run.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Runs at a time.")
@click.option(
    "--plot",
    type=OutputPath(),
    help="Draw the results into this .svg, .png or .pdf file.",
)
@click.option("--list", "listing", is_flag=True, help="Print the runs and the progress of each, without training.")
@data_option
@runs_option
@json_option
def sweep(
    name: str, overrides: tuple[str, ...], jobs: int, plot: Path | None, listing: bool, runs: Path, as_json: bool
) -> None:
    """Train every run of SWEEP: a name, or the path of a TOML file.

    Finished runs are kept and interrupted ones are resumed, so the same command continues an interrupted sweep. The
    result is a table with mean and spread over the seeds, saved in summary.json.
    """
    from esl_neuro.training.sweep import load_plan

    plan = load_plan(name, runs, overrides)
    if listing:
        document = list_runs(plan)
        emit(document, render_list(document), as_json)
        return
    plan.refuse_other_recipes()
    if plot is not None:
        from esl_neuro.report.plots import check_plot

        check_plot(plot)
    summary = run_sweep(plan, jobs)
    if plot is not None:
        draw(plan, summary, plot)
    emit(summary, render(summary), as_json)


def list_runs(plan: SweepPlan) -> dict[str, Any]:
    """Return every run of a sweep with its progress."""
    entries = [
        {"folder": str(run.folder.path), "case": run.case.parts, "seed": run.seed, "state": run.state()}
        for run in plan.runs
    ]
    return {"sweep": plan.name, "title": plan.sweep.title, "runs": entries}


def run_sweep(plan: SweepPlan, jobs: int) -> dict[str, Any]:
    """Train every run that is not finished; return the summary, which is also saved in the folder of the sweep.

    Raises
    ------
    EslNeuroError
        If runs failed; raised after all other runs are trained.
    """
    import json

    from esl_neuro.training.run_folder import write_atomically
    from esl_neuro.training.sweep import summarise

    with _locked(plan.folder):
        train_all(plan, jobs)
        summary = summarise(plan)
        write_atomically(plan.summary, json.dumps(summary, indent=2) + "\n")
    return summary


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let only one sweep at a time write into a folder; the system releases the lock when the process ends."""
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock", timeout=0):
            yield
    except Timeout as error:
        raise BadInput(
            f"{folder}: another sweep is running in this folder; wait for it, or give another --runs"
        ) from error


def train_all(plan: SweepPlan, jobs: int) -> None:
    """Train every run that is not finished, ``jobs`` at a time."""
    from esl_neuro.training.sweep import DONE

    todo = [run for run in plan.runs if run.state() != DONE]
    total, done = len(plan.runs), len(plan.runs) - len(todo)
    failures: list[tuple[Run, EslNeuroError]] = []
    if todo and done:
        print_status(f"{plan.folder}: {done} of {total} runs are already done")

    def on_done(run: Run) -> None:
        nonlocal done
        done += 1
        outcome = run.outcome()
        print_status(f"{done}/{total} {run.label}: {percent(outcome['test_accuracy'])}, {outcome['seconds']:.0f} s")

    def on_error(run: Run, error: EslNeuroError) -> None:
        known = any(str(error) == str(other) for _, other in failures)
        print_status(f"{run.label}: failed, {'for the same reason' if known else error}")
        failures.append((run, error))

    try:
        if min(jobs, len(todo)) > 1:
            _train_parallel(todo, min(jobs, len(todo)), on_done, on_error)
        else:
            _train_serial(todo, on_done, on_error)
    except KeyboardInterrupt:
        print_status(
            f"{done} of {total} runs are done, the others are saved in {plan.folder}; continue with the same command"
        )
        raise
    _refuse_failures(failures, total)


def _refuse_failures(failures: Sequence[tuple[Run, EslNeuroError]], total: int) -> None:
    from esl_neuro.training.sweep import by_message

    if failures:
        findings = by_message((run.label, str(error)) for run, error in failures)
        raise type(failures[0][1])(f"{len(failures)} of {total} runs failed: {'; '.join(findings)}")


# One run.


def _train_serial(runs: Sequence[Run], on_done: OnDone, on_error: OnError) -> None:
    from esl_neuro.cli.progress import training_view

    for run in runs:
        with training_view(run.label, run.recipe.training.epochs) as view:
            error = _attempt(run, view.on_batch, view.on_epoch)
        on_done(run) if error is None else on_error(run, error)


def _attempt(
    run: Run, on_batch: Callable[..., None], on_epoch: Callable[..., None] = lambda _: None
) -> EslNeuroError | None:
    try:
        _train(run, on_batch, on_epoch)
    except EslNeuroError as error:
        return error
    except OSError as error:  # a folder that cannot be written, a disk that is full
        return BadInput(str(error))
    return None


def _train(run: Run, on_batch: Callable[..., None], on_epoch: Callable[..., None]) -> None:
    """Train a run to its end and test it with every noise."""
    import torch

    from esl_neuro.pipeline.training import evaluate

    torch.set_num_threads(run.recipe.training.threads)
    run.train(on_batch, on_epoch)
    missing = run.missing_noises()
    if missing:
        tested = evaluate(run.folder.path, missing).noise
        run.add_noise_accuracies({name: entry.accuracy for name, entry in zip(missing, tested, strict=True)})


# Several runs at a time.


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

    def take(self) -> EslNeuroError | None:
        """Return how the run ended."""
        try:
            answer: EslNeuroError | None = self.pipe.recv()
        except EOFError:
            self.process.join()
            code = self.process.exitcode
            hint = "; the machine may be out of memory: use fewer --jobs" if code == -signal.SIGKILL else ""
            return CheckFailed(f"its process ended with exit code {code}{hint}")
        return answer


def _train_parallel(runs: Sequence[Run], jobs: int, on_done: OnDone, on_error: OnError) -> None:
    """Train in separate processes; on any exit, each one saves the state of its run."""
    waiting = deque(runs)
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    workers: dict[Any, _Worker] = {}
    try:
        while waiting or workers:
            while waiting and len(workers) < jobs:
                worker = _start_worker(context, stop, waiting.popleft())
                workers[worker.pipe] = worker
            for pipe in pipes.wait(list(workers)):
                worker = workers[pipe]
                error = worker.take()
                on_done(worker.run) if error is None else on_error(worker.run, error)
                if waiting and worker.process.is_alive():
                    worker.give(waiting.popleft())
                else:
                    workers.pop(pipe).pipe.close()
    finally:
        stop.set()
        for worker in workers.values():
            worker.pipe.close()
        for worker in workers.values():
            worker.process.join()


def _start_worker(context: Any, stop: Event, run: Run) -> _Worker:
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, stop), daemon=True)
    with _interrupt_held_back():
        process.start()
    theirs.close()
    worker = _Worker(process, ours, run)
    worker.give(run)
    return worker


@contextmanager
def _interrupt_held_back() -> Iterator[None]:
    """Start a process with Ctrl-C blocked; a Ctrl-C in the meantime is raised in this process afterwards."""
    # Starting the resource tracker unblocks the signal, so it is started before.
    resource_tracker.ensure_running()
    held: list[int] = []
    # The child inherits the mask. In this process other threads would still receive the signal, so a handler holds it.
    handler = signal.signal(signal.SIGINT, lambda number, _: held.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
        if held:
            signal.raise_signal(signal.SIGINT)


def _work(pipe: pipes.Connection, stop: Event) -> None:
    """Train the runs that arrive through the pipe; the parent handles Ctrl-C and sets ``stop``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    parent = multiprocessing.parent_process()

    def on_batch(*_: object) -> None:
        if stop.is_set() or parent is None or not parent.is_alive():
            signal.raise_signal(signal.SIGINT)  # the trainer saves the state

    try:
        while not stop.is_set():
            pipe.send(_attempt(pipe.recv(), on_batch))
    except (KeyboardInterrupt, EOFError, BrokenPipeError):
        return


# Results as text.


def render_list(document: dict[str, Any]) -> str:
    """Write the runs as a table."""
    from esl_neuro.report.tables import table

    runs = document["runs"]
    headings = list(runs[0]["case"])
    rows = [
        (*(run["case"][name] for name in headings), str(run["seed"]), run["state"], Path(run["folder"]).name)
        for run in runs
    ]
    columns = (*headings, "seed", "state", "folder")
    counts = {state: sum(run["state"] == state for run in runs) for state in dict.fromkeys(r["state"] for r in runs)}
    total = ", ".join(f"{count} {state}" for state, count in counts.items())
    return f"{document['title']}\n\n{table(columns, rows, left=len(columns))}\n\n{len(rows)} runs: {total}"


def render(summary: dict[str, Any]) -> str:
    """Write one row per case: means over the seeds, and the spread of the accuracy."""
    from esl_neuro.report.tables import table

    cases = summary["cases"]
    headings, noises = list(cases[0]["case"]), list(cases[0]["noise"])
    density = "density" if "density" not in headings else "actual density"
    columns = [
        *headings,
        "test accuracy",
        "spread",
        "validation",
        "seeds",
        density,
        "connections",
        "spikes/neuron",
        "time",
    ]
    for noise in noises:
        columns += [noise, "spread"]
    rows = [_row(case, headings, noises) for case in cases]
    note = f"means of {_seeds(summary)}; spread: sample standard deviation, in points"
    return f"{summary['title']}\n\n{table(columns, rows, left=len(headings))}\n\n{note}"


def _row(case: dict[str, Any], headings: Sequence[str], noises: Sequence[str]) -> list[str]:
    row = [case["case"][name] for name in headings]
    row += _accuracy(case["test_accuracy"])
    row += [
        percent(case["validation_accuracy"]),
        str(len(case["runs"])),
        f"{case['density']:.3f}",
        f"{case['connections']:,.0f}",
        f"{case['spikes_per_neuron']:.2f}",
        f"{case['seconds']:.0f} s",
    ]
    for noise in noises:
        row += _accuracy(case["noise"][noise])
    return row


def _accuracy(figure: dict[str, float | None]) -> list[str]:
    spread = figure["stdev"]
    return [percent(figure["mean"] or 0.0), "" if spread is None else f"{100 * spread:.2f}"]


def _seeds(summary: dict[str, Any]) -> str:
    seeds = summary["seeds"]
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"


# Charts.


def draw(plan: SweepPlan, summary: dict[str, Any], path: Path) -> None:
    """Draw the test accuracy: lines over the axis ``plot_x``, or one bar per case."""
    from esl_neuro.report.plots import draw_bars, draw_lines
    from esl_neuro.training.sweep import label

    values, title = "test accuracy (%)", summary["title"]
    if plan.sweep.plot_x is None:
        bars = [
            _point(label(case.parts, ", "), entry) for case, entry in zip(plan.cases, summary["cases"], strict=True)
        ]
        draw_bars(bars, title, values, path)
    else:
        heading = plan.headings[plan.sweep.plot_x]
        draw_lines(_lines(plan, summary, heading), title, heading, values, path)


def _lines(plan: SweepPlan, summary: dict[str, Any], heading: str) -> dict[str, list[Any]]:
    """Return the points of each line, by the label of the line."""
    from esl_neuro.training.sweep import label

    lines: dict[str, list[Any]] = {}
    for case, entry in zip(plan.cases, summary["cases"], strict=True):
        value = case.varied[plan.sweep.plot_x or ""]
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        others = {name: text for name, text in case.parts.items() if name != heading}
        lines.setdefault(label(others, ", "), []).append(_point(value if number else case.parts[heading], entry))
    return lines


def _point(place: float | str, entry: dict[str, Any]) -> Any:
    from esl_neuro.report.plots import Point

    figure = entry["test_accuracy"]
    spread = figure["stdev"]
    return Point(place, 100 * figure["mean"], None if spread is None else 100 * spread)
