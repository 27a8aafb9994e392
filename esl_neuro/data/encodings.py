"""Encode samples as network input over time: spikes or graded values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from esl_neuro.errors import BadInput
from esl_neuro.random_streams import stream
from esl_neuro.reading.limits import refuse_large
from esl_neuro.registry import Registry

Values = NDArray[np.float32]
Encoded = NDArray[Any]
Rule = Callable[[Values, int, np.random.Generator], Encoded]
Signal = Literal["spikes", "graded"]


@dataclass(frozen=True)
class Encoding:
    """An encoding rule with the kinds of its input and output.

    Attributes
    ----------
    rule : callable
        ``(values, steps, rng) -> encoded``.
    signal : str
        ``"spikes"``: uint8, 0 or 1; ``"graded"``: float32, any value.
    timed : bool
        True if the samples already have a time axis (the first one) of exactly ``steps`` frames.
    """

    rule: Rule
    signal: Signal
    timed: bool = False

    @property
    def __name__(self) -> str:
        return self.rule.__name__

    def __call__(self, values: Values, steps: int, rng: np.random.Generator) -> Encoded:
        """Apply the rule, without the checks of :func:`encode`."""
        return self.rule(values, steps, rng)


ENCODINGS: Registry[Encoding] = Registry("encoding")


def encoding(signal: Signal, timed: bool = False) -> Callable[[Rule], Encoding]:
    """Register a rule; see :class:`Encoding`."""
    return lambda rule: ENCODINGS.register(Encoding(rule, signal, timed))


def encode(name: str, values: NDArray[Any], steps: int, rng: np.random.Generator) -> Encoded:
    """Encode samples as the input of a network over time.

    Parameters
    ----------
    name : str
        Name of the encoding.
    values : float32 array, shape (samples, *sample shape)
        Intensities in [0, 1], any value for a graded encoding; ``(samples, steps, *sample shape)`` for event frames.
    steps : int
        Time steps per sample.
    rng : numpy.random.Generator
        Used by random encodings only.

    Returns
    -------
    array, shape (samples, steps, *sample shape)
        uint8, 0 or 1, for a spike encoding; float32 for a graded encoding.

    Raises
    ------
    BadInput
        If the encoding is unknown, or does not fit the values.
    """
    chosen = ENCODINGS[name]
    if chosen.timed:
        if values.ndim < 3 or values.shape[1] != steps:
            raise BadInput(f"encoding '{name}': samples of shape {values.shape[1:]}, expected {steps} frames first")
    elif values.dtype.kind != "f":
        raise BadInput(f"encoding '{name}': values are {values.dtype}, expected float32 (Split.batch converts)")
    elif chosen.signal == "spikes" and values.size and not (values.min() >= 0 and values.max() <= 1):
        raise BadInput(f"encoding '{name}': values from {values.min()} to {values.max()}, expected 0 to 1")
    if chosen.signal == "spikes" and not chosen.timed:
        refuse_large(f"encoding '{name}'", f"{len(values):,} samples of {steps:,} steps take", values.size * steps)
    return chosen(values, steps, rng)


def encode_for_evaluation(name: str, values: NDArray[Any], steps: int) -> Encoded:
    """Encode with the random stream that all evaluations in all backends share."""
    return encode(name, values, steps, stream(0, "evaluation"))


@encoding("spikes")
def even_rate(values: Values, steps: int, rng: np.random.Generator) -> NDArray[np.uint8]:  # noqa: ARG001 (shared signature)
    """Deterministic rate code: ``round(value * steps)`` spikes, evenly spaced.

    Spike at step ``t`` where ``floor((t + 1) c / steps + 1/2)`` passes ``floor(t c / steps + 1/2)``, ``c`` being the
    number of spikes. The same image always gives the same spikes.
    """
    counts = np.rint(values * steps).astype(np.int64)[:, None]
    ticks = np.arange(steps + 1, dtype=np.int64).reshape(1, -1, *(1,) * (values.ndim - 1))
    passed = (2 * ticks * counts + steps) // (2 * steps)
    return np.diff(passed, axis=1).astype(np.uint8)


@encoding("spikes")
def bernoulli_rate(values: Values, steps: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Random rate code: an independent spike at every step with probability ``value``."""
    samples, *shape = values.shape
    return (rng.random((samples, steps, *shape), dtype=np.float32) < values[:, None]).astype(np.uint8)


@encoding("spikes")
def latency(values: Values, steps: int, rng: np.random.Generator) -> NDArray[np.uint8]:  # noqa: ARG001 (shared signature)
    """One spike per non-zero value, earlier for larger values: step ``round((1 - value) (steps - 1))``."""
    moments = np.rint((1 - values) * (steps - 1)).astype(np.int64)
    spikes: NDArray[np.uint8] = _spike_once(moments, steps) * (values > 0)[:, None]
    return spikes


@encoding("spikes")
def binary_single_spike(values: Values, steps: int, rng: np.random.Generator) -> NDArray[np.uint8]:  # noqa: ARG001
    """One spike per value: at the first step if ``value > 0.5``, else at the last (Mostafa 2018: times 0 and ln 6).

    Dark values spike too, as in the paper, where every input has a time.

    Raises
    ------
    BadInput
        If there is only one step, in which bright and dark would be equal.
    """
    if steps < 2:
        raise BadInput(f"encoding 'binary_single_spike': steps is {steps}, expected 2 or more")
    return _spike_once(np.where(values > 0.5, 0, steps - 1), steps)


@encoding("graded")
def direct(values: Values, steps: int, rng: np.random.Generator) -> Values:  # noqa: ARG001 (shared signature)
    """Repeat the values at every step; the first layer makes the spikes.

    All steps are read-only views of the same values.
    """
    samples, *shape = values.shape
    return np.broadcast_to(values.astype(np.float32, copy=False)[:, None], (samples, steps, *shape))


@encoding("spikes", timed=True)
def events(values: NDArray[Any], steps: int, rng: np.random.Generator) -> NDArray[np.uint8]:  # noqa: ARG001
    """Return binary event frames unchanged, one per step.

    Raises
    ------
    BadInput
        If a value is neither 0 nor 1.
    """
    spikes: NDArray[np.bool_] = values == 1
    if not (spikes | (values == 0)).all():
        raise BadInput("encoding 'events': frames are not binary; create binary frames or use 'event_counts'")
    return spikes.astype(np.uint8)


@encoding("graded", timed=True)
def event_counts(values: NDArray[Any], steps: int, rng: np.random.Generator) -> Values:  # noqa: ARG001
    """Return event frames unchanged, one per step, with their counts as graded input."""
    return values.astype(np.float32)


def _spike_once(moments: NDArray[np.int64], steps: int) -> NDArray[np.uint8]:
    """Return spikes, shape (samples, steps, ...), given the step of each spike, shape (samples, ...)."""
    ticks = np.arange(steps).reshape(1, -1, *(1,) * (moments.ndim - 1))
    spikes: NDArray[np.uint8] = (ticks == moments[:, None]).astype(np.uint8)
    return spikes
