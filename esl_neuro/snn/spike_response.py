"""Neurons in continuous time whose potential is a sum of kernels, one for each input spike, computed event by event.

With the kernel of the tempotron (Gütig and Sompolinsky, Nature Neuroscience 2006) and ``t_i`` the input spikes::

    V(t) = sum_i w_i sum_{t_i < t} K(t - t_i)
    K(s) = V0 (exp(-s / tau) - exp(-s / tau_s)),  s > 0;   V0 such that the largest K is 1

A spike sets V to zero and leaves the synaptic current as it is, like the CUBA-LIF neuron of a chip. Between two events
V is a difference of two exponentials, which has at most one maximum and one crossing of the threshold from below, so
one loop over the events gives the exact maximum and the spike times up to rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from esl_neuro.compiled import compiled_for_threads
from esl_neuro.errors import BadInput

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

MOST_SPIKES = 10_000  # of one neuron and pattern


@dataclass(frozen=True)
class Kernel:
    """The potential after one input spike of weight 1.

    Attributes
    ----------
    tau_ms : float
        Time constant of the membrane; 15 ms as in the tempotron paper.
    tau_s_ms : float
        Time constant of the synapse, below ``tau_ms``; a quarter of it.

    Raises
    ------
    BadInput
        If the constants are not positive, or not in this order.
    """

    tau_ms: float = 15.0
    tau_s_ms: float = 3.75

    def __post_init__(self) -> None:
        if not 0 < self.tau_s_ms < self.tau_ms < math.inf:
            raise BadInput(
                f"kernel: tau_s_ms is {self.tau_s_ms} and tau_ms is {self.tau_ms}; expected 0 < tau_s_ms < tau_ms"
            )

    @property
    def peak_ms(self) -> float:
        """Time of the maximum, ``tau tau_s ln(tau / tau_s) / (tau - tau_s)``."""
        ratio = self.tau_ms / self.tau_s_ms
        return self.tau_ms * math.log(ratio) / (ratio - 1)

    @property
    def v0(self) -> float:
        """Factor that makes the maximum 1; 2.1165 for ``tau = 4 tau_s``."""
        return 1 / (math.exp(-self.peak_ms / self.tau_ms) - math.exp(-self.peak_ms / self.tau_s_ms))

    def __call__(self, elapsed_ms: ArrayLike) -> Floats:
        """Return ``K(s)``, which is 0 for ``s <= 0``."""
        elapsed = np.maximum(np.asarray(elapsed_ms, np.float64), 0.0)
        values: Floats = self.v0 * (np.exp(-elapsed / self.tau_ms) - np.exp(-elapsed / self.tau_s_ms))
        return values


@dataclass(frozen=True)
class Pattern:
    """Input spikes in order of time.

    Attributes
    ----------
    times_ms : float64 array, shape (spikes,)
        Times, finite, from 0.
    lines : int64 array, shape (spikes,)
        Input line of each spike.
    """

    times_ms: Floats
    lines: Integers

    @classmethod
    def of(cls, times_ms: ArrayLike, lines: ArrayLike) -> Pattern:
        """Sort spikes by time.

        Raises
        ------
        BadInput
            If times and lines do not fit each other, or a time is negative or not finite.
        """
        times, places = np.asarray(times_ms, np.float64), np.asarray(lines, np.int64)
        if times.ndim != 1 or times.shape != places.shape:
            raise BadInput(
                f"pattern: times have the shape {times.shape}, lines {places.shape}; expected equal, one axis"
            )
        if not (np.isfinite(times).all() and (times >= 0).all() and (places >= 0).all()):
            raise BadInput("pattern: times must be finite and, like lines, not negative")
        order = np.argsort(times, kind="stable")
        return cls(times[order], places[order])


@dataclass(frozen=True)
class Maxima:
    """Largest potential of each neuron without threshold, and its time; 0 at time 0 if it is never positive.

    Attributes
    ----------
    potentials, times_ms : float64 array, shape (neurons,)
    """

    potentials: Floats
    times_ms: Floats


def maxima(weights: Floats, pattern: Pattern, kernel: Kernel, end_ms: float) -> Maxima:
    """Return the largest potential of each neuron up to a time, for neurons that never fire.

    Parameters
    ----------
    weights : float64 array, shape (neurons, lines)
    pattern : Pattern
    kernel : Kernel
    end_ms : float
        End of the pattern; later input spikes are an error.
    """
    _, potentials, times, _ = _walk(weights, pattern, kernel, math.inf, end_ms)
    return Maxima(potentials, times)


def output_spikes(
    weights: Floats, pattern: Pattern, kernel: Kernel, threshold: float, end_ms: float
) -> tuple[Floats, ...]:
    """Return the times at which each neuron exceeds its threshold, in ms; the parameters are those of :func:`maxima`.

    Raises
    ------
    BadInput
        If the threshold is not positive, or a neuron fires more than 10,000 times.
    """
    if not 0 < threshold < math.inf:
        raise BadInput(f"threshold is {threshold}; expected a positive number")
    times, _, _, counts = _walk(weights, pattern, kernel, threshold, end_ms)
    if (counts > MOST_SPIKES).any():
        raise BadInput(f"a neuron fires more than {MOST_SPIKES:,} times in {end_ms} ms; lower the weights")
    return tuple(row[:count].copy() for row, count in zip(times, counts, strict=True))


def eligibility(pattern: Pattern, instants_ms: ArrayLike, lines: int, kernel: Kernel) -> Floats:
    """Return ``sum_t sum_{t_i < t} K(t - t_i)`` of each line over some instants t, shape (lines,)."""
    instants = np.atleast_1d(np.asarray(instants_ms, np.float64))
    values = kernel(instants[None] - pattern.times_ms[:, None]).sum(1)
    sums: Floats = np.bincount(pattern.lines, weights=values, minlength=lines).astype(np.float64)
    return sums


def _walk(
    weights: Floats, pattern: Pattern, kernel: Kernel, threshold: float, end_ms: float
) -> tuple[Floats, Floats, Floats, Integers]:
    neurons, lines = weights.shape
    if pattern.lines.size and pattern.lines.max() >= lines:
        raise BadInput(f"pattern: a spike is on line {pattern.lines.max()}, the layer has {lines} lines")
    if not (math.isfinite(end_ms) and pattern.times_ms.max(initial=0.0) <= end_ms):
        raise BadInput(f"end_ms is {end_ms}; expected at least the last input spike, {pattern.times_ms.max(initial=0)}")
    if not np.isfinite(weights).all():
        raise BadInput("weights: not all are finite")
    times = np.zeros((neurons, MOST_SPIKES if threshold < math.inf else 1))
    highest, when, counts = np.zeros(neurons), np.zeros(neurons), np.zeros(neurons, np.int64)
    _events(
        np.ascontiguousarray(weights, np.float64),
        pattern.times_ms,
        pattern.lines,
        (kernel.tau_ms, kernel.tau_s_ms, kernel.v0, threshold, end_ms),
        times,
        highest,
        when,
        counts,
    )
    return times, highest, when, counts


@compiled_for_threads
def _events(
    weights: Floats,
    arrivals: Floats,
    lines: Integers,
    constants: tuple[float, float, float, float, float],
    times: Floats,
    highest: Floats,
    when: Floats,
    counts: Integers,
) -> None:
    """Fill the spike times, maxima and their times of every neuron, from event to event."""
    tau, tau_s, v0, threshold, end = constants
    for neuron in range(weights.shape[0]):
        slow, fast, now = 0.0, 0.0, 0.0  # V(now + s) = slow exp(-s / tau) - fast exp(-s / tau_s)
        for event in range(arrivals.size + 1):
            until = arrivals[event] if event < arrivals.size else end
            while True:
                length = until - now
                # The maximum of V until the event: where its slope is zero, if it falls from there, or at an end.
                peak = length
                if slow > 0 and fast > 0:
                    peak = min(max(math.log(fast * tau / (slow * tau_s)) / (1 / tau_s - 1 / tau), 0.0), length)
                elif slow - fast > slow * math.exp(-length / tau) - fast * math.exp(-length / tau_s):
                    peak = 0.0
                value = slow * math.exp(-peak / tau) - fast * math.exp(-peak / tau_s)
                if value > highest[neuron]:
                    highest[neuron], when[neuron] = value, now + peak
                if value <= threshold or counts[neuron] > times.shape[1]:
                    break
                low, high = 0.0, peak
                for _ in range(60):
                    middle = (low + high) / 2
                    if slow * math.exp(-middle / tau) - fast * math.exp(-middle / tau_s) > threshold:
                        high = middle
                    else:
                        low = middle
                if counts[neuron] < times.shape[1]:
                    times[neuron, counts[neuron]] = now + high
                counts[neuron] += 1
                fast *= math.exp(-high / tau_s)
                slow = fast  # V = 0
                now += high
            slow, fast = slow * math.exp(-(until - now) / tau), fast * math.exp(-(until - now) / tau_s)
            now = until
            if event < arrivals.size:
                slow += weights[neuron, lines[event]] * v0
                fast += weights[neuron, lines[event]] * v0
