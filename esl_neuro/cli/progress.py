"""Progress on standard error: bars on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from esl_neuro.cli.commands import percent, print_status
from esl_neuro.cli.working import hidden
from esl_neuro.launch import launch

if TYPE_CHECKING:
    from esl_neuro.pipeline.sweeping import TrainingDisplay
    from esl_neuro.pipeline.workers import Workplace
    from esl_neuro.training.epoch_metrics import EpochMetrics

PLAIN_LINES = 8


def describe(metrics: EpochMetrics) -> str:
    """Write the metrics of an epoch as one line."""
    energy = "" if metrics.energy is None else f"  {metrics.energy['operations_nj']:,.4g} nJ"
    return (
        f"validation {percent(metrics.validation_accuracy)}  density {metrics.density:.3f}  "
        f"spikes/neuron {metrics.spikes_per_neuron:.2f}{energy}"
    )


@contextmanager
def training_view(title: str, epochs: int) -> Iterator[TrainingDisplay]:
    """Show a training run during a ``with`` block; of several processes, the first shows it."""
    if not (sys.stderr.isatty() and launch().first):
        yield _PlainView(title, epochs)
        return
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    # The figures are on a separate line, so that they fit on a terminal of 80 columns.
    bar, figures = _bar(), Text()
    with hidden(), Live(Group(bar, figures), console=Console(stderr=True), refresh_per_second=8):
        yield _BarView(bar, bar.add_task(title, total=None), figures)


@contextmanager
def lava_bar(backend: str | None = "lava") -> Iterator[Any]:
    """Yield a callable ``(done, total)`` that shows the progress of Lava; other simulators are fast and show none."""
    if backend == "integer" or not sys.stderr.isatty():
        yield None
        return
    with _counting_bar("Lava") as progress:
        yield progress


@contextmanager
def sample_bar(backend: str | None, where: Workplace) -> Iterator[Any]:
    """Yield a callable ``(done, total)`` that shows the progress of workers, or of Lava in this process."""
    if where.elsewhere and sys.stderr.isatty():
        with _counting_bar("samples") as progress:
            yield progress
    else:
        with lava_bar(backend) as progress:
            yield progress


@contextmanager
def _counting_bar(title: str) -> Iterator[Any]:
    with hidden(), _bar() as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


class _BarView:
    def __init__(self, bar: Any, task: Any, figures: Any) -> None:
        self.bar, self.task, self.figures, self.epoch = bar, task, figures, ""

    def on_batch(self, iteration: int, iterations: int, loss: float) -> None:
        self.bar.update(self.task, completed=iteration, total=iterations)
        self.figures.plain = f"loss {loss:.3f}  {self.epoch}"

    def on_epoch(self, metrics: EpochMetrics) -> None:
        self.epoch = describe(metrics)


class _PlainView:
    def __init__(self, title: str, epochs: int) -> None:
        self.title, self.every, self.epochs = title, max(1, epochs // PLAIN_LINES), epochs
        self.begun = False

    def on_batch(self, iteration: int, iterations: int, loss: float) -> None:  # noqa: ARG002 (shared signature)
        """Print that training has begun; after that, a line per epoch is enough."""
        if not self.begun:
            self.begun = True
            print_status(f"{self.title}: training, {self.epochs} epochs")

    def on_epoch(self, metrics: EpochMetrics) -> None:
        if metrics.epoch % self.every == 0 or metrics.epoch == self.epochs:
            print_status(
                f"{self.title}: epoch {metrics.epoch}/{self.epochs}  loss {metrics.loss:.3f}  {describe(metrics)}"
            )
