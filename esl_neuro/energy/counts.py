"""Count the operations of a run exactly, in integers and independently of hardware.

A synaptic operation (SOP) is one spike that meets one stored non-zero weight in one time step. There are four counts
for different questions:

==============  =========================================================================================
effective       spikes x non-zero weights that they meet: the work of the network
executed        spikes x stored weights that they meet: what a sparse synapse process executes
executed_dense  spikes x full fan-out: what a dense synapse process executes, which does not skip zeros
bound           stored weights x steps x samples: the largest possible count
==============  =========================================================================================

For other inputs than spikes (graded or analog values, by the declared kind of the signal and not by its values), the
same events are multiply-accumulates (MACs) and not SOPs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esl_neuro.backends.trace import ConnectionCounts, Payloads, RunCounts, Trace
from esl_neuro.compiler.program import INPUT, Connection, Group, IntArray, Program, refuse_unsound
from esl_neuro.energy.core_map import CoreMap, message_fans
from esl_neuro.energy.core_use import CoreUse
from esl_neuro.energy.fans import connection_fans, delayed, distinct_weights, touched_neurons
from esl_neuro.energy.tally import tally
from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.recording import SIGNALS, RecordedLayer

SCHEMA = 3

# Counts of each sample and step, in the order of the report; routes only if counted.
RUNS = (
    "spikes_in",
    "spikes_out",
    "sop_effective",
    "sop_executed",
    "sop_executed_dense",
    "macs_effective",
    "neuron_updates_touched",
    "neuron_updates_idle",
    "weight_words_read",
    "messages",
    "hops_ew",
    "hops_ns",
)
NO_FILTER = 4095  # decay of a synaptic current that lasts one step only and is not a state


@dataclass(frozen=True)
class LayerCounts:
    """Exact counts of the connections from one group to another, and of its neurons, over all samples and steps.

    If several groups feed one group, each has its own operations, and the first one has the counts of the neurons.
    Connections with several delays between two groups count together: their operations are added, and a spike and its
    messages count once.

    Attributes
    ----------
    name, source : str
        The layer and the layer (or ``"input"``) that feeds it.
    signal : str
        Declared kind of the input: ``"spike"``, ``"graded"`` or ``"analog"``.
    inputs, neurons : int
        Source lines and neurons.
    stored, weights, declared : int
        Stored connections, stored weights (those of a convolution once for all positions), and connections of the float
        network.
    spikes_in, spikes_out : int
        Events that arrive from the source layer (before fan-out), and spikes that the layer emits.
    sop_effective, sop_executed, sop_executed_dense, sop_bound : int
        Synaptic operations, see the module; 0 if the input is not spikes.
    macs_effective : int
        Non-zero values x non-zero weights that they meet; 0 if the input is spikes.
    macs_dense : int
        All connections of the dense layer x steps x samples: the multiplications of a dense implementation.
    neuron_updates, neuron_updates_touched, neuron_updates_idle : int
        Neurons x steps x samples, split by whether an effective synaptic event arrived in that step.
    bias_adds : int
        Neurons with a non-zero bias x steps x samples.
    weight_words_read : int
        Stored weights read, one per executed event, for any signal.
    state_reads, state_writes : int
        State variables (membrane potential, and synaptic current where it outlives a step) x steps x samples.
    messages : int or None
        Spikes x destination cores, however many delays their synapses have there; None without a placement.
    hops_ew, hops_ns : int or None
        Mesh hops of all messages; None without a placement of the source.
    runs : mapping of str to int64 array, shape (samples, steps)
        The counts that depend on activity, of each sample and step.
    """

    name: str
    source: str
    signal: str
    inputs: int
    neurons: int
    stored: int
    weights: int
    declared: int
    spikes_in: int
    spikes_out: int
    sop_effective: int
    sop_executed: int
    sop_executed_dense: int
    sop_bound: int
    macs_effective: int
    macs_dense: int
    neuron_updates: int
    neuron_updates_touched: int
    neuron_updates_idle: int
    bias_adds: int
    weight_words_read: int
    state_reads: int
    state_writes: int
    messages: int | None
    hops_ew: int | None
    hops_ns: int | None
    runs: Mapping[str, IntArray] = field(repr=False, compare=False)

    def per_step(self, name: str) -> IntArray:
        """Return one activity-driven count of each step, summed over the samples, int64, shape (steps,)."""
        return np.asarray(self.runs[name].sum(axis=0), dtype=np.int64)

    def each_sample(self, name: str) -> NDArray[np.float64]:
        """Return one count of each sample, shape (samples,); activity-independent counts are divided equally."""
        if name in self.runs:
            return np.asarray(self.runs[name].sum(axis=1), dtype=np.float64)
        samples = len(self.runs["spikes_in"])
        return np.full(samples, (getattr(self, name) or 0) / max(samples, 1))

    @property
    def sop_effective_per_sample(self) -> IntArray:
        """Effective SOPs of each sample, int64, shape (samples,)."""
        return np.asarray(self.runs["sop_effective"].sum(axis=1), dtype=np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Return totals as Python ints (None if not counted), and the activity of every step under ``per_step``."""
        totals = {key: value for key, value in vars(self).items() if key != "runs"}
        return totals | {"per_step": {name: self.per_step(name).tolist() for name in self.runs}}


@dataclass(frozen=True)
class Spread:
    """Variation of a count over samples.

    Attributes
    ----------
    mean, std : float
        Mean and population standard deviation.
    minimum, maximum : int
        Smallest and largest count of a sample.
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
    core_use : mapping of str to CoreUse
        Occupied cores, by the name of the hardware target; empty if the run was not placed on one.
    """

    samples: int
    steps: int
    layers: tuple[LayerCounts, ...]
    core_use: Mapping[str, CoreUse] = field(default_factory=dict)

    def total(self, name: str) -> int:
        """Return the sum of one count over the layers, such as ``total("sop_effective")``; None counts as 0."""
        return sum(getattr(layer, name) or 0 for layer in self.layers)

    def per_sample(self, name: str) -> float:
        """Return the mean of one count per sample, summed over the layers.

        Raises
        ------
        BadInput
            If there are no samples to average over.
        """
        if not self.samples:
            raise BadInput("the run has 0 samples, so there is no mean; run at least 1 sample")
        return self.total(name) / self.samples

    def each_sample(self, name: str) -> NDArray[np.float64]:
        """Return one count of each sample, summed over the layers, shape (samples,)."""
        return np.asarray(np.sum([layer.each_sample(name) for layer in self.layers], axis=0), dtype=np.float64)

    @property
    def placed(self) -> bool:
        """True if messages between cores were counted."""
        return all(layer.messages is not None for layer in self.layers)

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
        """Return plain data for JSON with exact integer counts; ``schema`` is the version of the format."""
        return {
            "schema": SCHEMA,
            "samples": self.samples,
            "steps": self.steps,
            "layers": [layer.to_dict() for layer in self.layers],
            "sop_effective_per_sample": self.sop_effective_per_sample.tolist(),
            "core_use": {name: use.to_dict() for name, use in self.core_use.items()},
        }


def count(
    program: Program, trace: Trace, placement: CoreMap | None = None, signals: Mapping[str, str] | None = None
) -> Counts:
    """Count the operations of a run.

    Parameters
    ----------
    program : Program
        The integer program that ran; its weight matrices are in canonical form (no entry twice).
    trace : Trace
        Input spikes and the spikes of every group. Counts of the simulator are reused.
    placement : CoreMap, optional
        Cores of the neurons; without one, messages and hops are not counted.
    signals : mapping of str to str, optional
        Kind of the signal of each source, by its name (``"input"`` for the input lines). Default: ``"spike"``, or
        ``"graded"`` for a program input of more than one bit.

    Raises
    ------
    BadInput
        If the trace is of another program, or values declared as spikes are neither 0 nor 1.
    """
    spikes: dict[str, Payloads] = {INPUT: trace.input_spikes, **trace.spikes}
    own = dict.fromkeys(spikes, "spike") | {INPUT: "spike" if program.input_bits == 1 else "graded"}
    kinds = own | dict(signals or {})
    refuse_unsound(program)
    _check_matches(program, trace, spikes)
    for name, array in spikes.items():
        if trace.counts is None or kinds[name] != own[name]:  # the simulator has checked its own
            check_signal(name, kinds[name], array)
    layers = tuple(
        layer
        for group in program.groups
        for layer in _count_group(program, group, spikes, kinds, placement, trace.counts)
    )
    return Counts(trace.samples, trace.steps, layers)


def count_recording(layers: Sequence[RecordedLayer]) -> Counts:
    """Count the operations of a network whose layers were recorded as plain arrays.

    Raises
    ------
    BadInput
        If nothing was recorded, samples and steps differ, or values declared as spikes are neither 0 nor 1.
    """
    if not layers:
        raise BadInput("no weighted layer was recorded; run the network while recording")
    shapes = {layer.name: layer.arriving.shape[:2] for layer in layers}
    if len(set(shapes.values())) > 1:
        raise BadInput(f"recorded layers differ in (samples, steps): {shapes}")
    for layer in layers:
        check_signal(layer.source, layer.signal, layer.arriving)
    samples, steps = next(iter(shapes.values()))
    return Counts(int(samples), int(steps), tuple(_recorded(layer) for layer in layers))


def check_signal(name: str, kind: str, values: NDArray[Any]) -> None:
    """Check the values of a signal against its declared kind.

    Raises
    ------
    BadInput
        If the kind is unknown, or values declared as spikes are neither 0 nor 1.
    """
    if kind not in SIGNALS:
        raise BadInput(f"signal of '{name}' is declared '{kind}'; {did_you_mean(kind, SIGNALS)}")
    if kind == "spike" and values.size and not _binary(values):
        raise BadInput(
            f"spikes of '{name}' contain {values.max():g}; only 0 and 1 count as spikes (declare the signal "
            "'graded' or 'analog')"
        )


def _binary(values: NDArray[Any]) -> bool:
    if values.dtype.kind in "bu":
        return bool(values.max() <= 1)
    return bool(np.all((values == 0) | (values == 1)))


def _check_matches(program: Program, trace: Trace, spikes: dict[str, Payloads]) -> None:
    names = [group.name for group in program.groups]
    if list(trace.spikes) != names:
        raise BadInput(f"the trace has layers {list(trace.spikes)}, the program {names}; run this program again")
    sizes = {INPUT: program.input_size, **{group.name: group.neurons for group in program.groups}}
    for name, array in spikes.items():
        expected = (trace.samples, trace.steps, sizes[name])
        if array.shape != expected:
            raise BadInput(f"spikes of '{name}' have shape {array.shape}; the program needs {expected}")


def _count_group(
    program: Program,
    group: Group,
    spikes: Mapping[str, Payloads],
    kinds: Mapping[str, str],
    placement: CoreMap | None,
    ran: RunCounts | None,
) -> Iterator[LayerCounts]:
    """Count what arrives from each source of a group; the first one has the counts of the neurons."""
    incoming = program.incoming(group.name)
    counted = [None] * len(incoming) if ran is None else [c for c in ran.connections if c.target == group.name]
    arrivals = [delayed(spikes[connection.source], connection.delay) for connection in incoming]
    emitted = spikes[group.name].sum(axis=2, dtype=np.int64) if ran is None else ran.spikes_out[group.name]
    reached = _touched(incoming, arrivals, counted) if incoming else np.zeros_like(emitted)
    updates = _Updates.of(group, reached, emitted)
    for index, source in enumerate(dict.fromkeys(each.source for each in incoming)):
        places = [at for at, each in enumerate(incoming) if each.source == source]
        places.sort(key=lambda at: incoming[at].delay)
        delays = [incoming[at] for at in places]
        fans = [connection_fans(each) for each in delays]
        sizes = _Sizes(
            inputs=arrivals[places[0]].shape[2],
            neurons=group.neurons,
            stored=sum(each.stored for each in delays),
            weights=sum(distinct_weights(each) for each in delays),
            declared=sum(each.declared for each in delays),
            dense=sum(int(each[:, 2].sum()) for each in fans),
        )
        if placement is not None:
            routes = message_fans([each.weights for each in delays], source, group.name, placement)
            fans = [np.concatenate(each, axis=1) for each in zip(fans, routes, strict=True)]
        sums = [_sums(arrivals[at], fan, counted[at]) for at, fan in zip(places, fans, strict=True)]
        # A spike counts once, when it arrives over the shortest delay; every synapse counts.
        events = _Events(sums[0][0], *np.sum([each[1:] for each in sums], axis=0))
        if placement is None or source not in placement.core_of:
            events = events.without_hops()
        name = f"{group.name} from {source}" if index else group.name
        yield _layer_counts(name, source, kinds[source], sizes, events, updates.counted_before() if index else updates)


def _touched(
    incoming: Sequence[Connection], arrivals: Sequence[NDArray[Any]], counted: Sequence[ConnectionCounts | None]
) -> IntArray:
    """Count the neurons reached, shape (samples, steps); a neuron reached by two connections counts once."""
    if len(counted) == 1 and counted[0] is not None:
        return counted[0].neuron_updates_touched
    samples, steps, _ = arrivals[0].shape
    rows = [arriving.reshape(samples * steps, arriving.shape[2]) for arriving in arrivals]
    return touched_neurons(incoming, rows).reshape(samples, steps)


def _sums(arriving: NDArray[Any], fans: IntArray, counted: ConnectionCounts | None = None) -> IntArray:
    """Count events, and sum each of their fan-outs; the first fan-out is the effective one.

    If the simulator has counted the events and their effective fan-out, only different, non-uniform fan-outs are
    summed.

    Parameters
    ----------
    arriving : array, shape (samples, steps, sources)
    fans : int64 array, shape (sources, kinds)

    Returns
    -------
    int64 array, shape (1 + kinds, samples, steps)
    """
    samples, steps, sources = arriving.shape
    kinds = fans.shape[1]
    if counted is None:
        sums = tally(arriving.reshape(samples * steps, sources), fans.astype(np.int64))
        return np.ascontiguousarray(sums.T).reshape(1 + kinds, samples, steps)
    result = np.empty((1 + kinds, samples, steps), dtype=np.int64)
    result[0] = counted.spikes_in
    for kind, fan in enumerate(fans.T, start=1):
        if np.array_equal(fan, fans[:, 0]):
            result[kind] = counted.sop_effective
        elif (fan == fan[0]).all():
            result[kind] = counted.spikes_in * fan[0]
        else:
            result[kind] = _sums(arriving, fan[:, None])[1]
    return result


def _recorded(layer: RecordedLayer) -> LayerCounts:
    sums = _sums(layer.arriving, np.stack([layer.fan_out, layer.fan_out, layer.fan_out_dense], axis=1))
    sizes = _Sizes(
        inputs=layer.arriving.shape[2],
        neurons=layer.neurons,
        stored=layer.stored,
        weights=layer.weights,
        declared=layer.declared,
        dense=int(layer.fan_out_dense.sum()),
    )
    updates = _Updates(layer.updated, layer.biased, layer.states, layer.touched, layer.emitted)
    return _layer_counts(layer.name, layer.source, layer.signal, sizes, _Events(*sums), updates)


@dataclass(frozen=True)
class _Sizes:
    """Lines, neurons and connections of a layer, see :class:`LayerCounts`; ``dense`` is of the dense layer."""

    inputs: int
    neurons: int
    stored: int
    weights: int
    declared: int
    dense: int


@dataclass(frozen=True)
class _Updates:
    """Updates of the neurons of a layer, and the events and spikes of each step.

    Attributes
    ----------
    neurons, biased, states : int
        Neurons that are updated, neurons with a bias, and state variables; all 0 if another connection has them.
    touched, emitted : int64 array, shape (samples, steps)
        Neurons that an event reaches, and spikes.
    """

    neurons: int
    biased: int
    states: int
    touched: IntArray
    emitted: IntArray

    @classmethod
    def of(cls, group: Group, touched: IntArray, emitted: IntArray) -> _Updates:
        biased, filtered = int(np.count_nonzero(group.bias_mant)), int(np.count_nonzero(group.du != NO_FILTER))
        return cls(group.neurons, biased, group.neurons + filtered, touched, emitted)

    def counted_before(self) -> _Updates:
        """Return zero updates, because another connection of the group has the counts of its neurons."""
        return _Updates(0, 0, 0, np.zeros_like(self.touched), np.zeros_like(self.emitted))


@dataclass(frozen=True)
class _Events:
    """Arriving events and the sums of their fan-outs, int64, shape (samples, steps); None if not counted."""

    events: IntArray
    effective: IntArray
    executed: IntArray
    executed_dense: IntArray
    messages: IntArray | None = None
    hops_ew: IntArray | None = None
    hops_ns: IntArray | None = None

    def without_hops(self) -> _Events:
        """Remove the hops, for a source without a place on the chip."""
        return replace(self, hops_ew=None, hops_ns=None)

    def operations(self, signal: str) -> dict[str, IntArray]:
        """Return the counts of each sample and step: SOPs for spikes, else MACs."""
        nothing = np.zeros_like(self.events)
        spiking = signal == "spike"
        counted = {
            "spikes_in": self.events,
            "sop_effective": self.effective if spiking else nothing,
            "sop_executed": self.executed if spiking else nothing,
            "sop_executed_dense": self.executed_dense if spiking else nothing,
            "macs_effective": nothing if spiking else self.effective,
            "weight_words_read": self.executed,
        }
        routes = {"messages": self.messages, "hops_ew": self.hops_ew, "hops_ns": self.hops_ns}
        return counted | {name: values for name, values in routes.items() if values is not None}


def _layer_counts(
    name: str, source: str, signal: str, sizes: _Sizes, events: _Events, updates: _Updates
) -> LayerCounts:
    """Combine the activity-driven and the constant counts of a layer."""
    steps = events.events.size  # of all samples
    runs = events.operations(signal) | {
        "spikes_out": updates.emitted,
        "neuron_updates_touched": updates.touched,
        "neuron_updates_idle": updates.neurons - updates.touched,
    }
    runs = {key: runs[key] for key in RUNS if key in runs}
    totals = {key: int(values.sum()) for key, values in runs.items()}
    return LayerCounts(
        name=name,
        source=source,
        signal=signal,
        inputs=sizes.inputs,
        neurons=sizes.neurons,
        stored=sizes.stored,
        weights=sizes.weights,
        declared=sizes.declared,
        sop_bound=sizes.stored * steps if signal == "spike" else 0,
        macs_dense=sizes.dense * steps,
        neuron_updates=updates.neurons * steps,
        bias_adds=updates.biased * steps,
        state_reads=updates.states * steps,
        state_writes=updates.states * steps,
        messages=totals.pop("messages", None),
        hops_ew=totals.pop("hops_ew", None),
        hops_ns=totals.pop("hops_ns", None),
        runs=runs,
        **totals,
    )
