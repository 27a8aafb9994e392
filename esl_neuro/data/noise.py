"""Noise for robustness evaluation, on intensities before encoding or on spikes.

The papers' noise protocol is not public. These definitions are our own, and published figures must state this. Level 0
is always the identity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from esl_neuro.errors import BadInput
from esl_neuro.registry import Registry

Rule = Callable[[NDArray[Any], float, np.random.Generator], NDArray[Any]]
Target = Literal["intensities", "spikes"]


@dataclass(frozen=True)
class Noise:
    """A noise rule and its target.

    Attributes
    ----------
    rule : callable
        ``(array, level, rng) -> array`` of the same shape and type.
    target : str
        ``"intensities"``: float array in [0, 1], shape (samples, ...); ``"spikes"``: array of 0 and 1, shape
        (samples, steps, ...).
    """

    rule: Rule
    target: Target

    @property
    def __name__(self) -> str:
        return self.rule.__name__

    def __call__(self, array: NDArray[Any], level: float, rng: np.random.Generator) -> NDArray[Any]:
        """Return a disturbed copy."""
        return self.rule(array, level, rng)


NOISES: Registry[Noise] = Registry("noise")


def noise(target: Target) -> Callable[[Rule], Noise]:
    """Register a rule; see :class:`Noise`."""
    return lambda rule: NOISES.register(Noise(rule, target))


@noise("intensities")
def salt_and_pepper(values: NDArray[Any], level: float, rng: np.random.Generator) -> NDArray[Any]:
    """Each value becomes 0 or 1, equally likely, with probability ``level`` (our definition)."""
    _check_probability("salt_and_pepper", level)
    extreme = rng.integers(0, 2, values.shape).astype(values.dtype)
    return np.where(rng.random(values.shape, dtype=np.float32) < level, extreme, values)


@noise("intensities")
def gaussian(values: NDArray[Any], level: float, rng: np.random.Generator) -> NDArray[Any]:
    """Add normal noise of standard deviation ``level`` and clip to [0, 1] (our definition)."""
    if not 0 <= level < np.inf:
        raise BadInput(f"noise 'gaussian': level is {level}, expected a standard deviation of 0 or more")
    disturbed: NDArray[Any] = np.clip(values + level * rng.standard_normal(values.shape), 0, 1).astype(values.dtype)
    return disturbed


@noise("spikes")
def spike_drop(spikes: NDArray[Any], level: float, rng: np.random.Generator) -> NDArray[Any]:
    """Each spike is lost with probability ``level`` (our definition)."""
    _check_probability("spike_drop", level)
    return np.where(rng.random(spikes.shape, dtype=np.float32) < level, np.zeros((), spikes.dtype), spikes)


@noise("spikes")
def spurious_spikes(spikes: NDArray[Any], level: float, rng: np.random.Generator) -> NDArray[Any]:
    """Add a spike at each silent place and step with probability ``level`` (our definition)."""
    _check_probability("spurious_spikes", level)
    return np.where(rng.random(spikes.shape, dtype=np.float32) < level, np.ones((), spikes.dtype), spikes)


@noise("spikes")
def jitter(spikes: NDArray[Any], level: float, rng: np.random.Generator) -> NDArray[Any]:
    """Each spike moves by a whole number of steps, uniform from ``-level`` to ``level`` (our definition).

    A spike that would leave the sample stays at its first or last step; coinciding spikes of one line become one.
    """
    if not 0 <= level < 2**31 or not float(level).is_integer():
        raise BadInput(f"noise 'jitter': level is {level}, expected a whole number of steps of 0 or more")
    sample, step, *place = np.nonzero(spikes)
    moved = step + rng.integers(-int(level), int(level) + 1, step.size)
    jittered = np.zeros_like(spikes)
    target = (sample, np.clip(moved, 0, spikes.shape[1] - 1), *place)
    jittered[target] = 1
    return jittered


def _check_probability(name: str, level: float) -> None:
    if not 0 <= level <= 1:
        raise BadInput(f"noise '{name}': level is {level}, expected a probability from 0 to 1")
