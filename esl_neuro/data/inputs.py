"""Convert samples of a data set to network input: augment, normalise, encode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esl_neuro.data.datasets import Dataset, Split
from esl_neuro.data.encodings import ENCODINGS, encode, encode_for_evaluation
from esl_neuro.data.noise import NOISES
from esl_neuro.errors import BadInput
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


@dataclass(frozen=True)
class Disturbance:
    """Noise of one kind and level, for robustness tests.

    Attributes
    ----------
    noise : str
        Name of a noise.
    level : float
        Its strength, as that noise defines it.
    seed : int
        Seed of the noise.
    """

    noise: str
    level: float
    seed: int = 0

    def apply(self, target: str, array: NDArray[Any]) -> NDArray[Any]:
        """Apply the noise to an array if it targets this kind of array (``"intensities"`` or ``"spikes"``)."""
        noise = NOISES[self.noise]
        if noise.target != target:
            return array
        return noise(array, self.level, stream(self.seed, f"noise {self.noise}"))


def evaluation_inputs(
    dataset: Dataset, split: Split, encoding: str, steps: int, disturbance: Disturbance | None = None
) -> NDArray[Any]:
    """Return the inputs of a whole part of a data set, the same in every evaluation and every backend.

    The whole part is encoded at once, so that the input of a sample does not depend on the number of samples. Noise on
    intensities is applied before the encoding, noise on spikes after it.

    Returns
    -------
    array, shape (samples, steps, *sample shape)

    Raises
    ------
    BadInput
        If the noise is for spikes and the encoding is graded, or the noise is for intensities and the data are event
        frames.
    """
    values: NDArray[Any] = split.batch()
    if disturbance is None:
        return encode_for_evaluation(encoding, _scaled(dataset, encoding, values), steps)
    _check_target(disturbance, encoding)
    values = disturbance.apply("intensities", values)
    inputs = encode_for_evaluation(encoding, _scaled(dataset, encoding, values), steps)
    return disturbance.apply("spikes", inputs)


def _check_target(disturbance: Disturbance, encoding: str) -> None:
    chosen, target = ENCODINGS[encoding], NOISES[disturbance.noise].target
    if target == "spikes" and chosen.signal != "spikes":
        raise BadInput(f"noise '{disturbance.noise}' applies to spikes, but encoding '{encoding}' gives graded values")
    if target == "intensities" and chosen.timed:
        raise BadInput(
            f"noise '{disturbance.noise}' applies to intensities, but encoding '{encoding}' takes event frames"
        )


def _scaled(dataset: Dataset, encoding: str, values: NDArray[Any]) -> NDArray[Any]:
    # Spike encodings need values in [0, 1]; only graded inputs are normalised.
    return dataset.normalise(values) if ENCODINGS[encoding].signal == "graded" else values
