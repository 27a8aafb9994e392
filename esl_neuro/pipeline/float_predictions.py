"""The classes that the equations of a NIR graph give, with the readout of its compiled program."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from esl_neuro.nirgraph.reading import discretise
from esl_neuro.nirgraph.simulation import Simulation, simulate
from esl_neuro.pipeline.compiled_network import CompiledNetwork
from esl_neuro.pipeline.inputs import Samples, spread
from esl_neuro.pipeline.shards import shard_size


def float_predictions(compiled: CompiledNetwork, samples: Samples) -> NDArray[np.int64]:
    """Return the class of each sample by the equations of the graph, with the readout of the program.

    As many samples are simulated at a time as a shard has: the last bits of the sums may depend on that.
    """
    chunk = shard_size(compiled.program.synapses, compiled.steps)
    discrete = discretise(compiled.graph, compiled.program.dt_s)
    values = spread(samples.values, compiled.steps, compiled.input_steps if samples.steps != compiled.steps else None)
    parts = []
    for first in range(0, len(values), chunk):
        simulation = simulate(discrete, values[first : first + chunk])
        parts.append(_scores(simulation, compiled).argmax(axis=1))
    return np.concatenate(parts).astype(np.int64)


def _scores(simulation: Simulation, compiled: CompiledNetwork) -> Any:
    """Return the score of each class, shape (samples, classes), as a trace of the program has them."""
    name, readout = compiled.program.output.name, compiled.program.readout
    if name not in simulation.potentials:  # a group that sums a signal of the graph over the steps
        return _flat(simulation.outputs).sum(axis=1)
    if readout == "potential":
        return _flat(simulation.potentials[name])[:, -1]
    spikes = _flat(simulation.spikes[name])
    if readout == "first_spike":
        return np.where(spikes.any(axis=1), -spikes.argmax(axis=1), -spikes.shape[1])
    return spikes.sum(axis=1)


def _flat(signal: NDArray[Any]) -> NDArray[Any]:
    return signal.reshape(*signal.shape[:2], -1)
