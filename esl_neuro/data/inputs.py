"""From samples of a data set to the input of a network: augment, normalise, encode."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from esl_neuro.data.datasets import Dataset, Split
from esl_neuro.data.encodings import ENCODINGS, encode, encode_for_evaluation
from esl_neuro.random_streams import stream


def training_inputs(
    dataset: Dataset, indices: NDArray[np.int64], encoding: str, steps: int, seed: int, epoch: int, batch: int
) -> NDArray[Any]:
    """Return the inputs of a training batch; everything random depends on seed, epoch and batch alone.

    Returns
    -------
    array, shape (samples, steps, *sample shape)
    """
    values: NDArray[Any] = dataset.train.batch(indices)
    if dataset.augment is not None:
        values = dataset.augment(values, stream(seed, "augment", epoch, batch))
    return encode(encoding, _scaled(dataset, encoding, values), steps, stream(seed, "encoding", epoch, batch))


def evaluation_inputs(dataset: Dataset, split: Split, encoding: str, steps: int) -> NDArray[Any]:
    """Return the inputs of a whole part of a data set, the same in every evaluation and every backend.

    The whole part is encoded at once, so that a sample's input does not depend on how many are asked for.

    Returns
    -------
    array, shape (samples, steps, *sample shape)
    """
    return encode_for_evaluation(encoding, _scaled(dataset, encoding, split.batch()), steps)


def _scaled(dataset: Dataset, encoding: str, values: NDArray[Any]) -> NDArray[Any]:
    # What becomes spikes has to stay in [0, 1]; only graded inputs take the channel statistics.
    return dataset.normalise(values) if ENCODINGS[encoding].signal == "graded" else values
