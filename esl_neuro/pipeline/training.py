"""Train a recipe, open what was trained, test it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esl_neuro.data import Dataset, prepare
from esl_neuro.data.inputs import Disturbance
from esl_neuro.data.noise import NOISES
from esl_neuro.errors import BadInput
from esl_neuro.pipeline.choices import RECIPE
from esl_neuro.pipeline.inputs import Samples, evaluation_samples
from esl_neuro.recipes.recipe import Recipe, load_recipe
from esl_neuro.training.run_folder import RunFolder, create_run_folder

if TYPE_CHECKING:
    from torch import nn

    from esl_neuro.training.trainer import EpochMetrics, Trainer

OnBatch = Callable[[int, int, float], None]
OnEpoch = Callable[["EpochMetrics"], None]


@dataclass(frozen=True)
class TrainingRun:
    """A network that was trained, and the folder in which all of it lies.

    Attributes
    ----------
    folder : Path
        The run folder.
    """

    folder: Path

    @property
    def files(self) -> RunFolder:
        """Paths of the run's files."""
        return RunFolder(self.folder)

    @cached_property
    def recipe(self) -> Recipe:
        """What decided the run."""
        return self.files.recipe()

    @cached_property
    def figures(self) -> dict[str, Any]:
        """Final figures: test accuracy, connections, density, spikes per neuron ...

        Raises
        ------
        BadInput
            If the run is not complete.
        """
        path = self.files.result
        if not path.is_file():
            raise BadInput(
                f"{self.folder}: the run is not complete; continue it with resume, or 'esl-neuro train --resume'"
            )
        figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return figures

    @property
    def accuracy(self) -> float:
        """Test accuracy at the best epoch on validation."""
        return float(self.figures["test_accuracy"])

    @cached_property
    def dataset(self) -> Dataset:
        """The data of the recipe, split as in training's evaluation."""
        return prepare(self.recipe.data)

    @cached_property
    def network(self) -> nn.Module:
        """The network at its best epoch on validation, on the CPU."""
        from esl_neuro.training.trainer import load_network

        return load_network(self.files, self.dataset)

    def test_set(self, samples: int | None = None) -> Samples:
        """Return the first test samples (all by default), encoded as the recipe says.

        Raises
        ------
        BadInput
            If there are fewer.
        """
        return evaluation_samples(self.recipe.data, samples, self.dataset)


def train(
    recipe: str | Path | Recipe = RECIPE,
    *,
    seed: int | None = None,
    changes: Sequence[str] = (),
    runs: str | Path = "runs",
    download: bool = False,
    on_batch: OnBatch | None = None,
    on_epoch: OnEpoch | None = None,
) -> TrainingRun:
    """Train a recipe to its end; the connections are sparse from the first step.

    Parameters
    ----------
    recipe : str, Path or Recipe
        A name of ``models/``, the path of a TOML file (such as the ``config.toml`` of an earlier run), or a recipe.
    seed : int, optional
        Instead of the recipe's own.
    changes : sequence of str
        Fields changed, such as ``"training.epochs=5"``; the value in TOML notation.
    runs : str or Path
        Folder in which the run folder is made.
    download : bool
        Whether missing data may be downloaded.
    on_batch : callable, optional
        Called with iteration, total iterations and loss after every batch.
    on_epoch : callable, optional
        Called with the metrics after every epoch.

    Raises
    ------
    BadInput
        If the recipe, a field or the data are wrong; nothing was trained then.
    CheckFailed
        If training diverges.

    Examples
    --------
    >>> train("mlp-digits", seed=0, changes=["training.epochs=5"]).accuracy  # doctest: +SKIP
    """
    return finish(start_training(recipe, seed=seed, changes=changes, runs=runs, download=download), on_batch, on_epoch)


def resume(folder: str | Path, *, on_batch: OnBatch | None = None, on_epoch: OnEpoch | None = None) -> TrainingRun:
    """Continue an interrupted run to its end; on the CPU it ends bit for bit as if it had never stopped.

    Raises
    ------
    BadInput
        If the folder is no run, or the run is complete.
    """
    return finish(resume_training(folder), on_batch, on_epoch)


def load_run(folder: str | Path) -> TrainingRun:
    """Open a run folder.

    Raises
    ------
    BadInput
        If it is none.
    """
    run = TrainingRun(Path(folder))
    run.recipe  # noqa: B018 (reads it, so that a folder that is no run is told so here)
    return run


# A run in progress, for those who watch it.


def recipe_of(recipe: str | Path | Recipe, seed: int | None, changes: Sequence[str]) -> Recipe:
    """Return a recipe with a seed and changes.

    Raises
    ------
    BadInput
        If there is no such recipe, a field is wrong, or a recipe that was read already shall be changed.
    """
    if not isinstance(recipe, Recipe):
        return load_recipe(str(recipe), (*changes, *(() if seed is None else (f"training.seed={seed}",))))
    if changes:
        raise BadInput("changes apply to the name or file of a recipe; this one was read already: use model_copy")
    if seed is None:
        return recipe
    return recipe.model_copy(update={"training": recipe.training.model_copy(update={"seed": seed})})


def start_training(
    recipe: str | Path | Recipe,
    *,
    seed: int | None = None,
    changes: Sequence[str] = (),
    runs: str | Path = "runs",
    download: bool = False,
) -> Trainer:
    """Begin a run and make its folder, without training yet; see :func:`train`."""
    loaded = recipe_of(recipe, seed, changes)
    from esl_neuro.training.trainer import Trainer  # torch takes seconds to load: only for what may run

    return Trainer.start(loaded, partial(create_run_folder, Path(runs), loaded), download=download)


def resume_training(folder: str | Path) -> Trainer:
    """Take an interrupted run up where it was, without training yet; see :func:`resume`."""
    from esl_neuro.training.trainer import Trainer

    return Trainer.resume(RunFolder(Path(folder)))


def finish(trainer: Trainer, on_batch: OnBatch | None = None, on_epoch: OnEpoch | None = None) -> TrainingRun:
    """Train a run that was begun to its end."""
    trainer.run(on_batch or _ignore, on_epoch or _ignore)
    return load_run(trainer.folder.path)


def _ignore(*_: object) -> None:
    """Do nothing."""


# Tests with noise.


@dataclass(frozen=True)
class NoisyAccuracy:
    """Test accuracy with one kind of noise.

    Attributes
    ----------
    name : str
        The noise.
    level : float
        Its strength, as the noise defines it.
    accuracy : float
    """

    name: str
    level: float
    accuracy: float


@dataclass(frozen=True)
class Evaluation:
    """Test accuracy of a run, undisturbed and with each noise alone.

    Attributes
    ----------
    samples : int
        Test samples.
    accuracy : float
        Undisturbed.
    noise_seed : int
        Seed of the noise.
    noise : tuple of NoisyAccuracy
        One for each noise.
    """

    samples: int
    accuracy: float
    noise_seed: int
    noise: tuple[NoisyAccuracy, ...]


def evaluate(run: TrainingRun | str | Path, noises: Sequence[str] = (), noise_seed: int = 0) -> Evaluation:
    """Test a run at its best epoch.

    Parameters
    ----------
    run : TrainingRun or path
        The run.
    noises : sequence of str
        Kinds of noise with their levels, each tested alone: ``"salt_and_pepper=0.1"``.
    noise_seed : int
        Seed of the noise.

    Raises
    ------
    BadInput
        If there is no such run or noise, or a level cannot be read.
    """
    source = run if isinstance(run, TrainingRun) else load_run(run)
    recipe = source.recipe
    disturbances = [Disturbance(*_noise(text), noise_seed) for text in noises]
    for disturbance in disturbances:
        NOISES[disturbance.noise]
    dataset = source.dataset
    from esl_neuro.training.trainer import accuracy

    def tested(disturbance: Disturbance | None = None) -> float:
        return accuracy(source.network, dataset, dataset.test, recipe.data, disturbance)

    return Evaluation(
        len(dataset.test),
        tested(),
        noise_seed,
        tuple(NoisyAccuracy(each.noise, each.level, tested(each)) for each in disturbances),
    )


def _noise(text: str) -> tuple[str, float]:
    name, separator, level = text.partition("=")
    try:
        return name, float(level if separator else "")
    except ValueError as error:
        raise BadInput(f"noise {text}: cannot be read; write name=level, such as salt_and_pepper=0.1") from error
