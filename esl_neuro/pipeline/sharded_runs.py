"""What workers compute of a trained run: which test samples it classifies correctly, by torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from esl_neuro.data import Dataset
from esl_neuro.data.inputs import Disturbance, evaluation_inputs
from esl_neuro.pipeline.shards import Arrays, Elsewhere, divided, once, repeated
from esl_neuro.pipeline.simulation import Progress
from esl_neuro.recipes import Recipe
from esl_neuro.recipes.consent import modules_of
from esl_neuro.storage import write
from esl_neuro.training.run_folder import RunFolder

if TYPE_CHECKING:
    from torch import nn

WEIGHTS = "best.safetensors"


def rightness(
    elsewhere: Elsewhere,
    run: RunFolder,
    recipe: Recipe,
    dataset: Dataset,
    batch: int,
    disturbances: Sequence[Disturbance | None],
) -> NDArray[np.bool_]:
    """Return whether each test sample is classified correctly, shape (disturbances, samples).

    Parameters
    ----------
    elsewhere : Elsewhere
        The workers.
    run, recipe, dataset
        The run, tested at its best epoch, its recipe and its data.
    batch : int
        Samples that one process evaluates together; a shard has as many.
    disturbances : sequence of Disturbance or None
        Kinds of noise, each alone; None for none.
    """

    def store(folder: Path) -> None:
        for path in (run.config, run.path / WEIGHTS):
            write(folder / path.name, path.read_bytes())

    first = np.arange(1)
    train, validation, test = (part.select(first) for part in (dataset.train, dataset.validation, dataset.test))
    described = replace(dataset, train=train, validation=validation, test=test, augment=None)
    test_of_run = RunTest(recipe.data.steps, described)
    given = _shards(recipe, dataset, batch, disturbances)
    found = elsewhere.compute(test_of_run, given, {"right": (np.bool_, ())}, store, modules_of([recipe.to_document()]))
    return found["right"].reshape(len(disturbances), len(dataset.test))


def _shards(
    recipe: Recipe, dataset: Dataset, batch: int, disturbances: Iterable[Disturbance | None]
) -> Iterator[Arrays]:
    data, test = recipe.data, dataset.test
    for disturbance in disturbances:
        inputs = evaluation_inputs(dataset, test, data.encoding, data.steps, disturbance)
        yield from divided({"inputs": once(inputs), "labels": test.labels}, batch)


@dataclass(frozen=True)
class RunTest:
    """Tests a run on the samples of a shard.

    Attributes
    ----------
    steps : int
        Time steps of a sample.
    dataset : Dataset
        One sample of each part, which tell the shape.
    """

    steps: int
    dataset: Dataset = field(repr=False)

    def __call__(self, folder: Path, given: Arrays, threads: int, progress: Progress) -> Arrays:  # noqa: ARG002
        """Return which samples are classified correctly."""
        import torch

        from esl_neuro.training.evaluation import classes

        torch.set_num_threads(threads)
        found = classes(self._network(folder), repeated(given["inputs"], self.steps))
        return {"right": found == given["labels"]}

    def _network(self, folder: Path) -> nn.Module:
        """Load the network once for all shards that a worker computes."""
        from esl_neuro.training.evaluation import load_network

        if folder not in _loaded:
            _loaded.clear()
            _loaded[folder] = load_network(RunFolder(folder, allow_code=True), self.dataset)  # the command has consent
        return _loaded[folder]


_loaded: dict[Path, nn.Module] = {}
"""The network that this worker loaded last, by its folder, in whose name is a digest."""
