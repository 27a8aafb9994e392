"""Count operations of a run exactly: integers in, integers out, no hardware.

A synaptic operation (SOP) is one spike that meets one stored non-zero weight in one time step. Three counts are kept
apart because they answer different questions:

=============  =========================================================================================
effective      spikes x non-zero weights that they meet: what the network did
executed       spikes x stored weights that they meet: what a sparse synapse process executes;
               spikes x full fan-out for a dense one, which does not skip zeros
bound          stored weights x steps x samples: what it could at most have been
=============  =========================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp

from esl_neuro.backends.trace import Payloads, Trace
from esl_neuro.compiler.program import INPUT, Connection, Group, IntArray, Program
from esl_neuro.errors import BadInput

# Rows (sample x step) of spikes per sparse product: bounds the memory, does not change the result.
_ROWS_PER_BLOCK = 4096


@dataclass(frozen=True)
class LayerCounts:
    """Exact counts of one layer, summed over samples and steps unless the name says otherwise.

    Attributes
    ----------
    name, source : str
        The layer and the layer (or ``"input"``) that feeds it.
    inputs, neurons : int
        Source lines and neurons.
    stored, declared : int
        Stored connections, and connections of the float network.
    spikes_in, spikes_out : int
        Spikes that arrive from the source layer (before fan-out), and spikes that the layer emits.
    sop_effective, sop_executed, sop_executed_dense, sop_bound : int
        Synaptic operations, see the module.
    neuron_updates, neuron_updates_touched, neuron_updates_idle : int
        Neurons x steps x samples, split by whether an effective synaptic event arrived in that step.
    bias_adds : int
        Neurons with a non-zero bias x steps x samples.
    macs_dense : int
        Inputs x neurons x steps x samples: what a dense implementation multiplies.
    sop_effective_per_sample : int64 array, shape (samples,)
        ``sop_effective`` of each sample.
    """

    name: str
    source: str
    inputs: int
    neurons: int
    stored: int
    declared: int
    spikes_in: int
    spikes_out: int
    sop_effective: int
    sop_executed: int
    sop_executed_dense: int
    sop_bound: int
    neuron_updates: int
    neuron_updates_touched: int
    neuron_updates_idle: int
    bias_adds: int
    macs_dense: int
    sop_effective_per_sample: IntArray = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Every count as a Python int; the per-sample counts stay in :meth:`Counts.to_dict`."""
        return {key: value for key, value in vars(self).items() if key != "sop_effective_per_sample"}


@dataclass(frozen=True)
class Spread:
    """How a count varies over samples.

    Attributes
    ----------
    mean, std : float
        Mean and population standard deviation.
    minimum, maximum : int
        Smallest and largest sample.
    """

    mean: float
    std: float
    minimum: int
    maximum: int


@dataclass(frozen=True)
class Counts:
    """Exact counts of a run.

    Attributes
    ----------
    samples, steps : int
        Samples, and time steps per sample.
    layers : tuple of LayerCounts
        From input to output.
    """

    samples: int
    steps: int
    layers: tuple[LayerCounts, ...]

    def total(self, name: str) -> int:
        """Sum of one count over the layers, such as ``total("sop_effective")``."""
        return sum(getattr(layer, name) for layer in self.layers)

    def per_sample(self, name: str) -> float:
        """Mean of one count per sample, summed over the layers.

        Raises
        ------
        BadInput
            If there are no samples to average over.
        """
        if not self.samples:
            raise BadInput("the run has 0 samples, so there is nothing to average; run at least 1")
        return self.total(name) / self.samples

    @property
    def sop_effective_per_sample(self) -> IntArray:
        """Effective SOPs of each sample over all layers, int64, shape (samples,)."""
        per_layer = [layer.sop_effective_per_sample for layer in self.layers]
        return np.sum(per_layer, axis=0, dtype=np.int64) if per_layer else np.zeros(self.samples, dtype=np.int64)

    def spread(self) -> Spread:
        """Spread of the effective SOPs over the samples (at least one sample)."""
        values = self.sop_effective_per_sample
        return Spread(float(values.mean()), float(values.std()), int(values.min()), int(values.max()))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, all counts exact integers."""
        return {
            "samples": self.samples,
            "steps": self.steps,
            "layers": [layer.to_dict() for layer in self.layers],
            "sop_effective_per_sample": self.sop_effective_per_sample.tolist(),
        }


def count(program: Program, trace: Trace) -> Counts:
    """Count the operations of a run.

    Parameters
    ----------
    program : Program
        The integer program that ran; its weight matrices are in canonical form (no entry twice).
    trace : Trace
        Input spikes and the spikes of every group.

    Raises
    ------
    BadInput
        If the trace is not one of this program, or a spike is neither 0 nor 1.
    """
    spikes: dict[str, Payloads] = {INPUT: trace.input_spikes, **trace.spikes}
    _check_matches(program, trace, spikes)
    layers = tuple(
        _count_layer(connection, group, spikes[connection.source], spikes[group.name])
        for connection, group in program.layers()
    )
    return Counts(trace.samples, trace.steps, layers)


def _check_matches(program: Program, trace: Trace, spikes: dict[str, Payloads]) -> None:
    names = [group.name for group in program.groups]
    if list(trace.spikes) != names:
        raise BadInput(f"the trace has layers {list(trace.spikes)}, the program {names}; run this program again")
    sizes = {INPUT: program.input_size, **{group.name: group.neurons for group in program.groups}}
    for name, array in spikes.items():
        expected = (trace.samples, trace.steps, sizes[name])
        if array.shape != expected:
            raise BadInput(f"spikes of '{name}' have shape {array.shape}, the program needs {expected}")
        if array.size and array.max() > 1:
            raise BadInput(f"spikes of '{name}' contain {array.max()}; only 0 and 1 can be counted as spikes")


def _count_layer(connection: Connection, group: Group, arriving: Payloads, emitted: Payloads) -> LayerCounts:
    samples, steps, inputs = arriving.shape
    runs = samples * steps
    events = arriving.sum(axis=1, dtype=np.int64)
    pattern = nonzero_pattern(connection.matrix)
    effective = events @ fan_out(pattern)
    touched = touched_updates(arriving.reshape(runs, inputs), pattern)
    return LayerCounts(
        name=group.name,
        source=connection.source,
        inputs=inputs,
        neurons=group.neurons,
        stored=connection.stored,
        declared=connection.declared,
        spikes_in=int(events.sum()),
        spikes_out=int(emitted.sum(dtype=np.int64)),
        sop_effective=int(effective.sum()),
        sop_executed=int((events @ fan_out(connection.matrix)).sum()),
        sop_executed_dense=int(events.sum()) * group.neurons,
        sop_bound=connection.stored * runs,
        neuron_updates=group.neurons * runs,
        neuron_updates_touched=touched,
        neuron_updates_idle=group.neurons * runs - touched,
        bias_adds=int(np.count_nonzero(group.bias_mant)) * runs,
        macs_dense=inputs * group.neurons * runs,
        sop_effective_per_sample=effective,
    )


def nonzero_pattern(weights: sp.csr_matrix) -> sp.csr_matrix:
    """Where the weights are not zero, as int64 ones; stored zeros are dropped. Shape (targets, sources)."""
    pattern = sp.csr_matrix(weights, copy=True)
    pattern.eliminate_zeros()
    pattern.data = np.ones(pattern.nnz, dtype=np.int64)
    return pattern


def fan_out(weights: sp.csr_matrix) -> IntArray:
    """Count the stored weights of each source, int64, shape (sources,)."""
    return np.bincount(weights.indices[: weights.nnz], minlength=weights.shape[1]).astype(np.int64)


def touched_updates(spikes: Payloads, pattern: sp.csr_matrix) -> int:
    """Count pairs of a row and a neuron that at least one spike of the row reaches.

    Parameters
    ----------
    spikes : uint8 array, shape (rows, sources)
        One row per sample and step.
    pattern : scipy.sparse.csr_matrix of int64, shape (targets, sources)
        Ones where there is a weight, so that no sum can cancel.
    """
    receivers = pattern.T.tocsr()
    return sum(
        int((sp.csr_matrix(spikes[start : start + _ROWS_PER_BLOCK], dtype=np.int64) @ receivers).nnz)
        for start in range(0, spikes.shape[0], _ROWS_PER_BLOCK)
    )
