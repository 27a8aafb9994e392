"""Simulate a NIR graph node by node in double precision, as the reference for other programs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any

import nir
import numpy as np
from numpy.typing import ArrayLike

from esl_neuro.errors import BadInput
from esl_neuro.nirgraph.linear_maps import Floats, apply
from esl_neuro.nirgraph.linear_nodes import LinearNode
from esl_neuro.nirgraph.neuron_nodes import NeuronNode
from esl_neuro.nirgraph.reading import discretise
from esl_neuro.nirgraph.shapes import DiscreteGraph


@dataclass(frozen=True)
class Simulation:
    """Signals of one run.

    Attributes
    ----------
    outputs : float64 array, shape (samples, steps, ...)
        Input of the output node: spikes, or potentials of a readout that does not fire.
    spikes : dict of str to float64 array, shape (samples, steps, ...)
        Spikes of each node that fires.
    potentials : dict of str to float64 array, shape (samples, steps, ...)
        Potential of each neuron node before the reset, as compared with the threshold.
    """

    outputs: Floats
    spikes: dict[str, Floats]
    potentials: dict[str, Floats]


def simulate(
    graph: nir.NIRGraph | DiscreteGraph, inputs: ArrayLike, dt_s: float | None = None, reset: str | None = None
) -> Simulation:
    """Run a graph.

    Forward Euler, a spike when the potential is strictly above the threshold, then a reset to ``v_reset`` or, if the
    metadata note it, by subtraction: a potential that is still above the threshold spikes again in the next step.
    Neurons start at ``v_reset``. A ``Delay`` of ``k`` steps gives ``y[t] = x[t - k]``, in a loop as elsewhere; a loop
    without one takes one step. Before the first step there is no input and nothing fires, but biases are present at all
    times. So biases are constant, also after a delay or in a loop.

    Parameters
    ----------
    graph : nir.NIRGraph or DiscreteGraph
        Any NIR graph, including nested graphs and loops.
    inputs : array, shape (samples, steps, ...)
        Input signal, in the declared shape or flat.
    dt_s : float, optional
        Time step in seconds. Default: ``dt_s`` of the graph.
    reset : {"zero", "subtract", "subtract_next_step"}, optional
        Reset of all neurons, for a graph whose metadata do not note it; see :mod:`~esl_neuro.resets`.

    Raises
    ------
    BadInput
        If there is no time step, the graph is inconsistent, or the inputs do not have the shape of its input.
    """
    discrete = graph if isinstance(graph, DiscreteGraph) else discretise(graph, dt_s, reset)
    arrays = np.asarray(inputs, dtype=np.float64)
    shape = discrete.shapes[discrete.structure.input]
    if arrays.ndim < 3 or 0 in arrays.shape or math.prod(arrays.shape[2:]) != math.prod(shape):
        raise BadInput(f"the inputs have shape {arrays.shape}; expected (samples, steps, {', '.join(map(str, shape))})")
    return _Run(discrete, arrays.reshape(*arrays.shape[:2], -1)).result()


NO_LAGS: list[tuple[int, Any]] = [(0, slice(None))]


class _Run:
    """One run. Internally signals have shape (elements, steps, samples) and begin with the steps before the first."""

    def __init__(self, discrete: DiscreteGraph, inputs: Floats) -> None:
        self.discrete, self.structure = discrete, discrete.structure
        self.samples, self.steps = inputs.shape[:2]
        self.lags = {name: _lags(node, self.steps) for name, node in discrete.linear.items()}
        self.before = 1 + max(steps for lags in self.lags.values() for steps, _ in lags)
        self.sources: dict[str, list[str]] = {name: self.structure.before(name) for name in self.structure.nodes}
        self.signals: dict[str, Floats] = {}
        self.potentials: dict[str, Floats] = {}
        self.states: dict[str, tuple[Floats, Floats]] = {}
        for component in self.structure.components():
            self._rest(component)
            if component == (self.structure.input,):
                self.signals[self.structure.input][:, self.before :] = inputs.transpose(2, 1, 0)
            elif len(component) > 1 or component[0] in self.sources[component[0]]:
                for step in range(self.steps):
                    for name in component:
                        self._advance(name, step, step + 1)
            else:
                self._advance(component[0], 0, self.steps)

    def _rest(self, component: tuple[str, ...]) -> None:
        """Fill in the outputs before the first step: biases for linear nodes, zero for neurons."""
        shape = (self.before + self.steps, self.samples)
        for name in component:
            self.signals[name] = np.zeros((self.discrete.size(name), *shape))
            if name in self.discrete.neurons:
                neurons = self.discrete.neurons[name]
                self.potentials[name] = np.zeros((neurons.du.size, self.steps, self.samples))
                v = np.repeat(neurons.reset[:, None], self.samples, axis=1)
                self.states[name] = (np.zeros_like(v), v)
        linear = {name for name in component if name in self.discrete.linear and name != self.structure.input}
        needs = {name: [source for source in self.sources[name] if source in linear] for name in linear}
        for name in TopologicalSorter(needs).static_order():
            arriving = sum(self.signals[source][:, :1, 0] for source in self.sources[name])
            self.signals[name][:, : self.before] = _through(self.discrete.linear[name], np.asarray(arriving))[:, None]

    def _advance(self, name: str, start: int, stop: int) -> None:
        """Compute a node from step ``start`` to before ``stop``."""
        arriving = self._arriving(name, start, stop)
        now = slice(self.before + start, self.before + stop)
        if name in self.discrete.linear:
            flat = arriving.reshape(len(arriving), -1)
            self.signals[name][:, now] = _through(self.discrete.linear[name], flat).reshape(-1, *arriving.shape[1:])
            return
        neurons = self.discrete.neurons[name]
        for step in range(start, stop):
            v, given = _step(neurons, self.states[name], arriving[:, step - start])
            self.potentials[name][:, step] = v
            self.signals[name][:, self.before + step] = given

    def _arriving(self, name: str, start: int, stop: int) -> Floats:
        """Sum the inputs of a node with their delays; a feedback edge delivers the previous step."""
        total = np.zeros((math.prod(self.discrete.arriving[name]), stop - start, self.samples))
        for source in self.sources[name]:
            for steps, elements in self.lags.get(name, NO_LAGS):
                first = self.before - steps - ((source, name) in self.structure.feedback)
                total[elements] += self.signals[source][elements, first + start : first + stop]
        return total

    def result(self) -> Simulation:
        """Return all signals as (samples, steps, ...)."""
        firing = [name for name, neurons in self.discrete.neurons.items() if neurons.fires]
        now = {name: signal[:, self.before :] for name, signal in self.signals.items()}
        return Simulation(
            self._outside(self.structure.output, now[self.structure.output]),
            {name: self._outside(name, now[name]) for name in firing},
            {name: self._outside(name, values) for name, values in self.potentials.items()},
        )

    def _outside(self, name: str, values: Floats) -> Floats:
        return np.asarray(values.transpose(2, 1, 0).reshape(self.samples, self.steps, *self.discrete.shapes[name]))


def _lags(node: LinearNode, steps: int) -> list[tuple[int, Any]]:
    """Return the distinct delays of a node with their elements; delays are limited to the length of the run."""
    if node.delay is None:
        return NO_LAGS
    late = np.minimum(node.delay, steps)
    return [(int(lag), np.flatnonzero(late == lag)) for lag in np.unique(late)]


def _through(node: LinearNode, signal: Floats) -> Floats:
    """Apply a linear node without its delay to signals of shape (elements, columns)."""
    mapped = apply(node.weights, signal)
    return mapped if node.bias is None else mapped + node.bias[:, None]


def _step(neurons: NeuronNode, state: tuple[Floats, Floats], arriving: Floats) -> tuple[Floats, Floats]:
    """Advance ``state`` (u and v) by one step; return the potential before the reset, and the output."""
    du, dv, gain, leak, threshold, reset = (
        parameter[:, None]
        for parameter in (neurons.du, neurons.dv, neurons.gain, neurons.leak, neurons.threshold, neurons.reset)
    )
    u, v = state
    u[:] = (1 - du) * u + gain * arriving
    charged = (1 - dv) * v + dv * leak + u
    fired = charged > threshold
    v[:] = np.where(fired, reset if neurons.reset_by is None else charged - neurons.reset_by[:, None], charged)
    return charged, fired.astype(np.float64) if neurons.fires else charged
