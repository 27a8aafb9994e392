"""The trace of a run, and the comparison of two traces."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from esl_neuro.compiler.program import IntArray

Spikes = NDArray[np.uint8]
Payloads: TypeAlias = "NDArray[np.uint8] | NDArray[np.int32]"
Potentials = NDArray[np.int64]


@dataclass(frozen=True)
class ConnectionCounts:
    """Exact counts of the events at the synapses between two groups.

    Attributes
    ----------
    source, target : str
        Names of the groups, as in the program.
    spikes_in : int64 array, shape (samples, steps)
        Arriving spikes (or non-zero payloads), before fan-out, in the step in which they arrive.
    sop_effective : int64 array, shape (samples, steps)
        Spikes x non-zero weights of their source.
    neuron_updates_touched, neuron_updates_idle : int64 array, shape (samples, steps)
        Neurons of the target that at least one of these spikes reaches, and the others.
    """

    source: str
    target: str
    spikes_in: IntArray
    sop_effective: IntArray
    neuron_updates_touched: IntArray
    neuron_updates_idle: IntArray


@dataclass(frozen=True)
class RunCounts:
    """Counts of a run.

    Attributes
    ----------
    connections : tuple of ConnectionCounts
        In the order of the program.
    spikes_out : dict of str to int64 array, shape (samples, steps)
        Spikes that each group emits.
    """

    connections: tuple[ConnectionCounts, ...]
    spikes_out: dict[str, IntArray]


@dataclass(frozen=True)
class Trace:
    """Every spike of a run, with the latency of the layers removed.

    Attributes
    ----------
    backend : str
        ``"integer"``, ``"lava"``, ``"lava-batched"`` or ``"netx"``.
    input_spikes : uint8 or int32 array, shape (samples, steps, input lines)
        Input: 0 or 1, or the payloads of graded spikes.
    spikes : dict of str to uint8 array, shape (samples, steps, neurons)
        Spikes of each group, in order from input to output. Step ``t`` of every layer belongs to input step ``t``.
    u, v : dict of str to int64 array, shape (samples, steps, neurons)
        Synaptic current and membrane potential after each step (after the reset), if recorded.
    potential : int64 array, shape (samples, output neurons), optional
        Membrane potential of the output after the last step, for programs whose readout is the potential.
    readout : str
        What determines the class, see :class:`~esl_neuro.compiler.program.Program`.
    counts : RunCounts, optional
        Counts of the run.
    """

    backend: str
    input_spikes: Payloads
    spikes: dict[str, Spikes]
    u: dict[str, Potentials] = field(default_factory=dict)
    v: dict[str, Potentials] = field(default_factory=dict)
    potential: Potentials | None = None
    readout: str = "spikes"
    counts: RunCounts | None = None

    @property
    def samples(self) -> int:
        """Number of samples."""
        return int(self.input_spikes.shape[0])

    @property
    def steps(self) -> int:
        """Time steps per sample."""
        return int(self.input_spikes.shape[1])

    @property
    def output_spikes(self) -> Spikes:
        """Spikes of the last group, shape (samples, steps, neurons)."""
        return next(reversed(self.spikes.values()))

    def predictions(self) -> NDArray[np.int64]:
        """Class of each sample; ties go to the lowest index.

        The class is the output neuron with the highest potential after the last step, with the first spike, or with the
        most spikes, depending on the readout of the program. A spike resets the potential in its step, so a chip cannot
        rank neurons that fire first in the same step by their potential.
        """
        return np.asarray(self.scores().argmax(axis=1), dtype=np.int64)

    def ties(self) -> NDArray[np.bool_]:
        """Return the samples in which several outputs tie and the lowest index is the class."""
        scores = self.scores()
        return np.asarray((scores == scores.max(axis=1, keepdims=True)).sum(axis=1) > 1)

    def scores(self) -> NDArray[np.int64]:
        """Return the score of each output neuron, shape (samples, output neurons); the highest is the class."""
        if self.potential is not None:
            return self.potential
        if self.readout == "first_spike":
            spikes = self.output_spikes
            return np.asarray(np.where(spikes.any(axis=1), -spikes.argmax(axis=1), -self.steps), dtype=np.int64)
        return np.asarray(self.output_spikes.sum(axis=1, dtype=np.int64))


@dataclass(frozen=True)
class Difference:
    """The first difference of two traces."""

    layer: str
    sample: int
    step: int
    neuron: int
    first: int
    second: int

    def describe(self, first_name: str, second_name: str) -> str:
        """Describe the difference in one sentence."""
        return (
            f"layer '{self.layer}', neuron {self.neuron}, step {self.step} of sample {self.sample}: "
            f"{first_name} has {self.first}, {second_name} has {self.second}"
        )


def first_difference(first: Trace, second: Trace) -> Difference | None:
    """Compare every spike of two traces with ``==``.

    Returns
    -------
    Difference or None
        The first sample that differs, its earliest step, the layer closest to the input, and the lowest neuron. None if
        all spikes are equal.

    Raises
    ------
    ValueError
        If the traces have different layers or shapes.
    """
    shapes = [{name: spikes.shape for name, spikes in trace.spikes.items()} for trace in (first, second)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"traces cannot be compared: layers and shapes are {shapes[0]} and {shapes[1]}")
    found: list[tuple[int, int, int, int, str]] = []
    for depth, (name, spikes) in enumerate(first.spikes.items()):
        places = np.argwhere(spikes != second.spikes[name])
        if places.size:
            sample, step, neuron = (int(index) for index in places[0])
            found.append((sample, step, depth, neuron, name))
    if not found:
        return None
    sample, step, _, neuron, name = min(found)
    at = (sample, step, neuron)
    return Difference(name, sample, step, neuron, int(first.spikes[name][at]), int(second.spikes[name][at]))
