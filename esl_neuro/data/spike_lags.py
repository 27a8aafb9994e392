"""A generated data set whose classes differ only in the lags between the spikes of pairs of lines."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from esl_neuro.data.datasets import DATASETS, Dataset, Request, Split, stratified_parts
from esl_neuro.errors import BadInput
from esl_neuro.random_streams import stream

CLASSES, PAIRS, SAMPLES = 8, 16, 3000
SHORTEST, LONGEST = 4, 12  # lags, in steps
PRESENT = 0.75  # share of the pairs that spike in a sample
NOISE = 0.01  # probability of a further spike in each step and line


@DATASETS.register
def spike_lags(request: Request) -> Dataset:
    """Spikes of 32 lines in 8 classes, generated: which line fires when says nothing, the lags in 16 pairs say all.

    The second line of pair p spikes ``lag[class, p]`` steps after the first one, 4 to 12 steps later or earlier, and
    the first one at any step; steps beyond the last one begin again. So each line of each class fires equally often at
    every step. A pair is missing in a quarter of the samples, and one step of a line in a hundred has a further spike.

    Test 20 %, validation 10 %, training 70 %, stratified, the same for every run and seed.

    Raises
    ------
    BadInput
        If a sample has fewer steps than two of the longest lags.
    """
    steps = request.frames.steps
    if steps < 2 * LONGEST:
        raise BadInput(
            f"data set 'spike_lags': {steps} steps are too few for lags of up to {LONGEST} steps, which begin again "
            f"at the first step; set data.steps to {2 * LONGEST} or more"
        )
    values, labels = generate(steps)
    parts = stratified_parts(labels, (0.2, 0.1), 0)
    test, validation, train = (Split(values[part], labels[part]) for part in parts)
    return Dataset("spike_lags", CLASSES, train, validation, test, steps=steps)


def generate(steps: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return spikes, uint8, shape (samples, steps, lines), and classes, shape (samples,); always the same ones."""
    rng = stream(0, "spike lags")
    lags = rng.integers(SHORTEST, LONGEST + 1, (CLASSES, PAIRS)) * rng.choice([-1, 1], (CLASSES, PAIRS))
    labels = np.arange(SAMPLES, dtype=np.int64) % CLASSES
    spikes = (rng.random((SAMPLES, steps, 2 * PAIRS)) < NOISE).astype(np.uint8)
    first = rng.integers(0, steps, (SAMPLES, PAIRS))
    sample, pair = np.nonzero(rng.random((SAMPLES, PAIRS)) < PRESENT)
    spikes[sample, first[sample, pair], 2 * pair] = 1
    spikes[sample, (first + lags[labels])[sample, pair] % steps, 2 * pair + 1] = 1
    return spikes, labels
