"""The part of a search that workers do: train a trial to an epoch or to its end, and measure its network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from esl_neuro.errors import BadInput, EslNeuroError, MissingDependency
from esl_neuro.hardware import HardwareTarget, load_target
from esl_neuro.pipeline.workers import Tell, Wanted
from esl_neuro.training.epoch_metrics import EpochMetrics
from esl_neuro.training.result import read_result
from esl_neuro.training.search import Trial
from esl_neuro.training.sweep import AGAIN, Run
from esl_neuro.training.trials import Measure


@dataclass(frozen=True)
class Task:
    """The next part of a trial.

    Attributes
    ----------
    trial : Trial
        The trial.
    epoch : int or None
        Epoch to train to; None for the end.
    target : str
        Whose prices the energy has.
    """

    trial: Trial
    epoch: int | None
    target: str


@dataclass(frozen=True)
class Impossible:
    """Why a trial cannot be trained, or its network cannot be compiled or priced."""

    reason: str


def advance(task: Task, tell: Tell, wanted: Wanted) -> Measure | Impossible:
    """Train the runs of a trial to the next epoch at which it is compared, or to their end, and measure them.

    What is done already is not done again. Errors of the trial are returned; those of the machine, such as a full
    disk, are raised.

    Raises
    ------
    EslNeuroError
        If the machine cannot go on.
    KeyboardInterrupt
        If the task is no longer wanted, with its state saved.
    """

    def on_batch(*_: object) -> None:
        if not wanted():
            raise KeyboardInterrupt  # the trainer saves the state

    def on_epoch(metrics: EpochMetrics) -> None:
        tell({"epoch": asdict(metrics)})

    target = load_target(task.target)
    try:
        measures = []
        for run in task.trial.runs:
            connections = _trained(run, task.epoch, on_batch, on_epoch)
            measures.append(measured(run, connections, target))
    except MissingDependency:
        raise
    except EslNeuroError as error:
        if isinstance(error.__cause__, OSError):
            raise
        return Impossible(str(error))
    return Measure.mean_of(measures)


def _trained(run: Run, epoch: int | None, on_batch: Callable[..., None], on_epoch: Callable[..., None]) -> int:
    """Train a run to an epoch or to its end, and return its connections."""
    import torch

    torch.set_num_threads(run.recipe.training.threads)
    if epoch is not None and not run.folder.result.exists():
        return run.train_to(epoch, on_batch, on_epoch)
    run.train(on_batch, on_epoch)
    return read_result(run.folder.result, AGAIN).connections


def measured(run: Run, connections: int, target: HardwareTarget) -> Measure:
    """Compile the best network of a run so far, and measure its integers on the validation part.

    The test part is not used.

    Raises
    ------
    BadInput
        If it cannot be compiled or priced.
    """
    from esl_neuro.energy.core_use import core_uses
    from esl_neuro.energy.estimate import headline
    from esl_neuro.energy.prices import price
    from esl_neuro.pipeline.compilation import compile
    from esl_neuro.pipeline.simulation import count_program
    from esl_neuro.pipeline.training import load_run

    source = load_run(run.folder.path, allow_code=True)  # it has been imported to train it
    compiled = compile(source, any_size=True, accept_loss=True)
    samples, arriving = compiled.payloads(source.validation_set(len(source.dataset.validation)))
    result = count_program(compiled.program, arriving, samples.name, samples.labels)
    uses = core_uses(result.program, result.trace, [target], None)
    estimates = price(replace(result.counts, core_use=uses), target, None)
    shown = headline(estimates)
    energy = None if shown is None else shown.energy_pj
    if energy is None or result.accuracy is None:
        refusal = next((each.refusal for each in estimates if each.refusal), "its validation part has no labels")
        raise BadInput(f"{run.folder.path}: no figure on {target.name}: {refusal}")
    return Measure(result.accuracy, float(energy.nominal), float(connections))
