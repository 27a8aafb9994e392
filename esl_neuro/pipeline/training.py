"""Train a recipe, load a run, test it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from esl_neuro.data import Dataset, prepare
from esl_neuro.data.datasets import Split
from esl_neuro.data.inputs import Disturbance, evaluation_inputs
from esl_neuro.data.noise import NOISES
from esl_neuro.errors import BadInput, counted
from esl_neuro.pipeline.choices import RECIPE
from esl_neuro.pipeline.inputs import Samples, evaluation_samples
from esl_neuro.pipeline.workers import HERE, Workplace
from esl_neuro.recipes.recipe import Recipe, load_recipe
from esl_neuro.training.result import TrainingResult, read_result
from esl_neuro.training.run_folder import RunFolder, create_run_folder, folder_of_launch

if TYPE_CHECKING:
    from torch import nn

    from esl_neuro.pipeline.simulation import OnStatus, Progress
    from esl_neuro.training.epoch_metrics import EpochMetrics
    from esl_neuro.training.trainer import Trainer

OnBatch = Callable[[int, int, float], None]
OnEpoch = Callable[["EpochMetrics"], None]


@dataclass(frozen=True)
class TrainingRun:
    """A trained network and its run folder.

    Attributes
    ----------
    folder : Path
        The run folder.
    allow_code : bool
        Consent to the code that its recipe names, if the folder is outside the current one.
    """

    folder: Path
    allow_code: bool = False

    @property
    def files(self) -> RunFolder:
        """Paths of the run's files."""
        return RunFolder(self.folder, self.allow_code)

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe of the run."""
        return self.files.recipe()

    @cached_property
    def figures(self) -> TrainingResult:
        """Final figures: test accuracy, connections, density, spikes per neuron and more.

        Raises
        ------
        BadInput
            If the run is not complete, or its figures are damaged.
        """
        path = self.files.result
        if not path.is_file():
            raise BadInput(
                f"{self.folder}: the run is not complete; continue it with resume or 'esl-neuro train --resume'"
            )
        return read_result(path, "train again")

    @property
    def accuracy(self) -> float:
        """Test accuracy at the epoch with the best validation accuracy."""
        return self.figures.test_accuracy

    @cached_property
    def dataset(self) -> Dataset:
        """The data set of the recipe, with the split used in training."""
        return prepare(self.recipe.data, self.recipe.training.seed)

    @cached_property
    def network(self) -> nn.Module:
        """The network at the epoch with the best validation accuracy, on the CPU."""
        from esl_neuro.training.evaluation import load_network

        return load_network(self.files, self.dataset)

    def test_set(self, samples: int | None = None) -> Samples:
        """Return the first test samples (all by default), with the encoding of the recipe.

        Raises
        ------
        BadInput
            If there are fewer samples.
        """
        return evaluation_samples(self.recipe.data, samples, self.dataset)

    def training_set(self, most: int) -> Samples:
        """Return the first training samples, at most that many, with the encoding of an evaluation."""
        return self._encoded(self._first("train", most), "training")

    def validation_set(self, most: int) -> Samples:
        """Return the first validation samples, at most that many, with the encoding of an evaluation."""
        return self._encoded(self._first("validation", most), "validation")

    def validation_accuracy(self, most: int) -> float:
        """Accuracy of the float network on :meth:`validation_set`."""
        from esl_neuro.training.evaluation import accuracy

        return accuracy(self.network, self.dataset, self._first("validation", most), self.recipe.data)

    def _first(self, part: str, most: int) -> Split:
        split: Split = getattr(self.dataset, part)
        return split.select(np.arange(min(most, len(split))))

    def _encoded(self, split: Split, name: str) -> Samples:
        data = self.recipe.data
        values = evaluation_inputs(self.dataset, split, data.encoding, data.steps)
        return Samples(values, split.labels, counted(len(values), f"{name} sample"))


def train(
    recipe: str | Path | Recipe = RECIPE,
    *,
    seed: int | None = None,
    changes: Sequence[str] = (),
    runs: str | Path = "runs",
    download: bool = False,
    allow_code: bool = False,
    on_batch: OnBatch | None = None,
    on_epoch: OnEpoch | None = None,
) -> TrainingRun:
    """Train a recipe to its end; the connections are sparse from the first step.

    Parameters
    ----------
    recipe : str, Path or Recipe
        A name of ``models/``, the path of a TOML file (such as the ``config.toml`` of an earlier run), or a recipe.
    seed : int, optional
        Replaces the seed of the recipe.
    changes : sequence of str
        Changes to fields, such as ``"training.epochs=5"``, with the value in TOML notation.
    runs : str or Path
        Folder in which the run folder is created.
    download : bool
        Whether missing data may be downloaded.
    allow_code : bool
        Consent to the code of a recipe outside the current folder, ``module:function``.
    on_batch : callable, optional
        Called with iteration, total iterations and loss after every batch.
    on_epoch : callable, optional
        Called with the metrics after every epoch.

    Raises
    ------
    BadInput
        If the recipe, a field or the data are invalid; raised before training starts.
    CheckFailed
        If training diverges.

    Examples
    --------
    >>> train("mlp-digits", seed=0, changes=["training.epochs=5"]).accuracy  # doctest: +SKIP
    """
    loaded = recipe_of(recipe, seed, changes, allow_code=allow_code)
    trainer = finished_before(loaded, runs) or start_training(loaded, runs=runs, download=download)
    return trainer if isinstance(trainer, TrainingRun) else finish(trainer, on_batch, on_epoch)


def resume(
    folder: str | Path,
    *,
    allow_code: bool = False,
    on_batch: OnBatch | None = None,
    on_epoch: OnEpoch | None = None,
) -> TrainingRun:
    """Continue an interrupted run to its end; on the CPU the result equals that of an uninterrupted run bit for bit.

    Raises
    ------
    BadInput
        If the folder is not a run, the run is complete, or its recipe names code without consent (``allow_code``).
    """
    return finish(resume_training(folder, allow_code=allow_code), on_batch, on_epoch)


def load_run(folder: str | Path, *, allow_code: bool = False) -> TrainingRun:
    """Load a run folder.

    Parameters
    ----------
    folder : str or Path
        The folder.
    allow_code : bool
        Consent to the code that the recipe of a run outside the current folder names, ``module:function``.

    Raises
    ------
    BadInput
        If the folder is not a run, or its recipe names code without consent.
    """
    run = TrainingRun(Path(folder), allow_code)
    run.recipe  # noqa: B018 (reads the recipe, to raise the error here if the folder is not a run)
    return run


# A run in progress, for callers that show it.


def recipe_of(
    recipe: str | Path | Recipe, seed: int | None, changes: Sequence[str], *, allow_code: bool = False
) -> Recipe:
    """Return a recipe with a seed and changes.

    Raises
    ------
    BadInput
        If the recipe is unknown, a field is invalid, or changes are given for a recipe that is already loaded.
    """
    if not isinstance(recipe, Recipe):
        seeded = () if seed is None else (f"training.seed={seed}",)
        return load_recipe(str(recipe), (*changes, *seeded), allow_code=allow_code)
    if changes:
        raise BadInput("changes apply to the name or file of a recipe, but this one is already loaded; use model_copy")
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
    allow_code: bool = False,
) -> Trainer:
    """Create a run and its folder, without training it; see :func:`train`.

    Processes that torchrun started train the run together. If it has restarted them, they continue their run.
    """
    loaded = recipe_of(recipe, seed, changes, allow_code=allow_code)
    from esl_neuro.training.ranks import join_ranks  # torch takes seconds to load: after the recipe is valid
    from esl_neuro.training.trainer import Trainer

    ranks, begun = join_ranks(loaded.training.device), folder_of_launch(Path(runs), loaded)
    if begun is not None and begun.last.exists():
        return Trainer.resume(begun, ranks)
    make = partial(create_run_folder, Path(runs)) if begun is None else begun.begin_again
    return Trainer.start(loaded, partial(make, loaded), download=download, ranks=ranks)


def finished_before(recipe: Recipe, runs: str | Path) -> TrainingRun | None:
    """Return the finished run of a recipe, if torchrun has restarted the processes that trained it; else None."""
    begun = folder_of_launch(Path(runs), recipe)
    return TrainingRun(begun.path, allow_code=True) if begun is not None and begun.result.exists() else None


def resume_training(folder: str | Path, *, allow_code: bool = False) -> Trainer:
    """Load the state of an interrupted run, without training it; see :func:`resume`."""
    files = load_run(folder, allow_code=allow_code).files  # a folder that is no run is reported before torch loads
    from esl_neuro.training.ranks import join_ranks
    from esl_neuro.training.trainer import Trainer

    return Trainer.resume(files, join_ranks(files.recipe().training.device))


def finish(trainer: Trainer, on_batch: OnBatch | None = None, on_epoch: OnEpoch | None = None) -> TrainingRun:
    """Train a created or resumed run to its end."""
    trainer.run(on_batch or _ignore, on_epoch or _ignore)
    return load_run(trainer.folder.path, allow_code=True)  # it has run


def _ignore(*_: object) -> None:
    """Do nothing."""


# Tests with noise.


@dataclass(frozen=True)
class NoisyAccuracy:
    """Test accuracy with one kind of noise.

    Attributes
    ----------
    name : str
        Name of the noise.
    level : float
        Its level, in the unit of the noise.
    accuracy : float
    """

    name: str
    level: float
    accuracy: float


@dataclass(frozen=True)
class Evaluation:
    """Test accuracy of a run, without noise and with each kind of noise alone.

    Attributes
    ----------
    samples : int
        Number of test samples.
    accuracy : float
        Accuracy without noise.
    noise_seed : int
        Seed of the noise.
    noise : tuple of NoisyAccuracy
        One entry for each kind of noise.
    """

    samples: int
    accuracy: float
    noise_seed: int
    noise: tuple[NoisyAccuracy, ...]


def evaluate(
    run: TrainingRun | str | Path,
    noises: Sequence[str] = (),
    noise_seed: int = 0,
    *,
    where: Workplace = HERE,
    on_status: OnStatus = lambda _: None,
    progress: Progress | None = None,
) -> Evaluation:
    """Test a run at its best epoch.

    Parameters
    ----------
    run : TrainingRun or path
        The run or its folder.
    noises : sequence of str
        Kinds of noise with their levels, each tested alone, such as ``"salt_and_pepper=0.1"``.
    noise_seed : int
        Seed of the noise.
    where : Workplace
        Where the samples are tested: in this process, or in shards in several.
    on_status : callable
        Called with a message before each long operation in several processes.
    progress : callable, optional
        Called with the number of tested samples and of all samples, in several processes.

    Raises
    ------
    BadInput
        If the run or a noise is unknown, or a level is not a number; and as in
        :meth:`~esl_neuro.pipeline.shards.Elsewhere.compute`.
    """
    source = run if isinstance(run, TrainingRun) else load_run(run)
    disturbances = [Disturbance(*_noise(text), noise_seed) for text in noises]
    for disturbance in disturbances:
        NOISES[disturbance.noise]
    samples = len(source.dataset.test)
    if where.elsewhere:
        clean, *noisy = _accuracies_elsewhere(source, [None, *disturbances], where, on_status, progress)
    else:
        clean, *noisy = _accuracies(source, [None, *disturbances])
    tested = zip(disturbances, noisy, strict=True)
    return Evaluation(
        samples, clean, noise_seed, tuple(NoisyAccuracy(each.noise, each.level, found) for each, found in tested)
    )


def _accuracies(run: TrainingRun, disturbances: Sequence[Disturbance | None]) -> list[float]:
    """Return the test accuracy with each kind of noise."""
    from esl_neuro.training.evaluation import accuracy

    dataset = run.dataset
    return [accuracy(run.network, dataset, dataset.test, run.recipe.data, each) for each in disturbances]


def _accuracies_elsewhere(
    run: TrainingRun,
    disturbances: Sequence[Disturbance | None],
    where: Workplace,
    on_status: OnStatus,
    progress: Progress | None,
) -> list[float]:
    """Return the test accuracies, by workers if there are several shards."""
    from esl_neuro.pipeline.sharded_runs import rightness
    from esl_neuro.pipeline.shards import Elsewhere
    from esl_neuro.training.evaluation import evaluation_batch

    elsewhere, samples = Elsewhere(where, run.folder, on_status, progress), len(run.dataset.test)
    batch = evaluation_batch(run.network, run.recipe.data.steps)
    if not elsewhere.pays(len(disturbances) * -(-samples // batch)):
        return _accuracies(run, disturbances)
    right = rightness(elsewhere, run.files, run.recipe, run.dataset, batch, disturbances)
    return [int(each.sum()) / samples for each in right]


def _noise(text: str) -> tuple[str, float]:
    name, separator, level = text.partition("=")
    try:
        return name, float(level if separator else "")
    except ValueError as error:
        raise BadInput(
            f"noise '{text}' is not of the form name=level; write for example salt_and_pepper=0.1"
        ) from error
