"""From intensities in [0, 1] to input spikes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from esl_neuro.random_streams import stream
from esl_neuro.registry import Registry

Values = NDArray[np.float32]
Spikes = NDArray[np.uint8]
Encoding = Callable[[Values, int, np.random.Generator], Spikes]

ENCODINGS: Registry[Encoding] = Registry("encoding")


def encode(name: str, values: Values, steps: int, rng: np.random.Generator) -> Spikes:
    """Encode intensities as spikes.

    Parameters
    ----------
    name : str
        Name of the encoding.
    values : float32 array, shape (samples, features)
        Intensities in [0, 1].
    steps : int
        Time steps per sample.
    rng : numpy.random.Generator
        Used by random encodings only.

    Returns
    -------
    uint8 array, shape (samples, steps, features)
        0 or 1.
    """
    return ENCODINGS[name](values, steps, rng)


@ENCODINGS.register
def even_rate(values: Values, steps: int, rng: np.random.Generator) -> Spikes:  # noqa: ARG001 (shared signature)
    """Deterministic rate code: ``round(value * steps)`` spikes, evenly spaced.

    Spike at step ``t`` where ``floor((t + 1) c / steps + 1/2)`` passes ``floor(t c / steps + 1/2)``, ``c`` being the
    number of spikes: the same image always gives the same spikes.
    """
    counts = np.rint(values * steps).astype(np.int64)[:, None, :]
    ticks = np.arange(steps + 1, dtype=np.int64)[None, :, None]
    passed = (2 * ticks * counts + steps) // (2 * steps)
    return np.diff(passed, axis=1).astype(np.uint8)


@ENCODINGS.register
def bernoulli_rate(values: Values, steps: int, rng: np.random.Generator) -> Spikes:
    """Random rate code: an independent spike at every step with probability ``value``."""
    samples, features = values.shape
    return (rng.random((samples, steps, features), dtype=np.float32) < values[:, None, :]).astype(np.uint8)


@ENCODINGS.register
def latency(values: Values, steps: int, rng: np.random.Generator) -> Spikes:  # noqa: ARG001 (shared signature)
    """One spike per non-zero value, the earlier the larger: step ``round((1 - value) (steps - 1))``."""
    spikes = np.zeros((values.shape[0], steps, values.shape[1]), dtype=np.uint8)
    sample, feature = np.nonzero(values > 0)
    spikes[sample, np.rint((1 - values[sample, feature]) * (steps - 1)).astype(int), feature] = 1
    return spikes


def encode_for_evaluation(name: str, values: Values, steps: int) -> Spikes:
    """Encode with the one random stream that every evaluation, in every backend, shares."""
    return encode(name, values, steps, stream(0, "evaluation"))
