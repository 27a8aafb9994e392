"""Record a torch network and its spikes as plain arrays, whichever way its weights are masked.

The rooms that count and price do not depend on torch, so this room converts. It records the torch operations with their
actual weights. Zeros written into the weight, ``torch.nn.utils.prune``, ``torch.nn.utils.parametrize``, a layer that
masks in its ``forward`` and a custom module therefore give the same arrays. An operation with weights that is not
understood is an error, never a smaller count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from esl_neuro.errors import BadInput
from esl_neuro.interchange.origins import BIASED, REACHED
from esl_neuro.interchange.products import COUNTABLE, EACH, Connections, in_order
from esl_neuro.interchange.recorder import INPUT, NEURONS, LayerCalls, NeuronCall, NeuronCalls, Recorder
from esl_neuro.recording import RecordedLayer
from esl_neuro.snn.neurons import LIF
from esl_neuro.sparsity.sparse_weights import SparseWeights

Array = NDArray[Any]


def record(
    network: nn.Module,
    inputs: Tensor,
    *,
    signals: Mapping[str, str] | None = None,
    neurons: tuple[type[nn.Module], ...] = (LIF,),
    run: Callable[[nn.Module, Tensor], object] | None = None,
) -> list[RecordedLayer]:
    """Run a network and record every weighted layer.

    Layers whose outputs meet before the same neurons (a residual connection, the recurrent weights of a layer) feed
    these neurons together: the first of them has the counts of the neurons. The neurons are those of the modules given
    as ``neurons``; without such a module, every output of a layer is a neuron.

    Parameters
    ----------
    network : nn.Module
        Any network of linear layers, one- or two-dimensional convolutions, matrix products with weights and one weight
        a neuron, masked in any way. The layers may also process tokens, shape (steps, batch, tokens, features).
    inputs : Tensor, shape (steps, batch, ...)
        Input of the network.
    signals : mapping of str to str, optional
        Kind of the input of a layer, by the name of the layer: ``"spike"`` (default), ``"graded"`` or ``"analog"``.
    neurons : tuple of types
        Modules whose outputs are spikes (the output, or the first of a tuple of outputs).
    run : callable, optional
        ``run(network, inputs)``, if a plain call is not enough, for example a loop over the steps.

    Returns
    -------
    list of RecordedLayer
        In order of the first call. A layer that processes a constant input once is counted once, in the first step.

    Raises
    ------
    BadInput
        If the network multiplies by weights in a way that cannot be counted, multiplies activations by activations
        (attention), a layer with weights was not used, the calls of a layer do not add up to steps and batch, or
        neurons that advance one step per call received all steps at once.
    """
    _refuse_sparse_storage(network)
    steps, batch = int(inputs.shape[0]), int(inputs.shape[1])
    fed = inputs.detach()  # a tensor of our own, so that its origin is not mistaken
    recorder = Recorder(network, fed, neurons)
    hooks = recorder.watch()
    try:
        with torch.no_grad(), recorder:
            (run or _call)(network, fed)
    finally:
        for hook in hooks:
            hook.remove()
    recorder.single_step.refuse()
    _refuse_silent(network, recorder)
    layers = {
        name: _Layer.of(calls, steps, batch) for name, calls in recorder.layers.items() if _weighted(calls, recorder)
    }
    groups = _groups(recorder, layers, steps, batch)
    kinds = dict(signals or {})
    unknown = sorted(set(kinds) - set(layers))
    if unknown:
        raise BadInput(f"signals: {unknown} are not weighted layers; allowed: {', '.join(layers)}")
    _assign(groups, layers)
    return [
        _recorded(layer, groups, _source(layer, groups, layers), kinds.get(name, "spike"))
        for name, layer in layers.items()
    ]


def _call(network: nn.Module, inputs: Tensor) -> object:
    return network(inputs)


def _weighted(calls: LayerCalls, recorder: Recorder) -> bool:
    """Return whether a layer has connections: spikes times a threshold are the reset of a neuron."""
    return calls.operation != EACH or not calls.parameters <= recorder.thresholds


def _refuse_sparse_storage(network: nn.Module) -> None:
    """Reject layers whose products are no functions of torch, so that they would not be counted."""
    stored = [
        f"'{name}' ({type(module).__name__})"
        for name, module in network.named_modules()
        if isinstance(module, SparseWeights)
    ]
    if stored:
        raise BadInput(
            f"layers {', '.join(stored)} store their connections only, and their operations cannot be recorded; export "
            "the network with esl_neuro.to_nir and count the run of its program, or put layers with the weights "
            "to_dense() in their place"
        )


def _refuse_silent(network: nn.Module, recorder: Recorder) -> None:
    """Reject a layer with weights but without a countable operation."""
    used = frozenset().union(recorder.met, *(calls.parameters for calls in recorder.layers.values()))
    for name, module in network.named_modules():
        prefix = f"{name}." if name else ""
        own = [key for key, value in module.named_parameters(recurse=False) if value.ndim >= 2]
        matrices = [key for key in own if prefix + key not in used]
        if matrices and not isinstance(module, LIF):
            raise BadInput(
                f"layer '{name}' ({type(module).__name__}) has the weights {matrices}, but no countable operation "
                f"used them; countable: {COUNTABLE}"
            )


# Layers.


@dataclass
class _Layer:
    """A weighted layer, its values arranged by sample and step.

    Attributes
    ----------
    calls : LayerCalls
        The recorded calls.
    arriving : array, shape (samples, steps, inputs)
        Activations.
    reached, biased : bool array, shape (samples, steps, outputs)
        Outputs that an event reaches, and that have a bias.
    fan_out, fan_out_dense : int64 array, shape (inputs,)
        Connections with a weight, and all.
    once : bool
        Whether it processed a constant input once.
    """

    calls: LayerCalls
    arriving: Array
    reached: Array
    biased: Array
    fan_out: NDArray[np.int64]
    fan_out_dense: NDArray[np.int64]
    once: bool
    hosted: list[_Group] = field(default_factory=list)

    @property
    def outputs(self) -> int:
        return int(self.reached.shape[2])

    @classmethod
    def of(cls, calls: LayerCalls, steps: int, batch: int) -> _Layer:
        arriving, once = in_order(calls.name, calls.inputs, steps, batch)
        marks, _ = in_order(calls.name, calls.marks, steps, batch)
        fans = calls.connections
        lines = arriving.shape[2]

        def wide(fan: Tensor) -> NDArray[np.int64]:
            values = fan.cpu().numpy().astype(np.int64)[:lines]
            return np.tile(values, lines // len(values))

        return cls(
            calls,
            arriving,
            (marks & REACHED) > 0,
            (marks & BIASED) > 0,
            wide(fans.fan_out),
            wide(fans.fan_out_dense),
            once,
        )


# Neurons.


@dataclass
class _Group:
    """Neurons that are updated together, and the layers that feed them.

    Attributes
    ----------
    name : str
        Their module, or their first layer if the module is not known.
    layers : set of str
        The layers.
    neurons, states : int
        Neurons, and state variables of a neuron.
    touched, biased : bool array, shape (samples, steps, neurons)
        Neurons that an event reaches, and that have a bias.
    emitted : int64 array, shape (samples, steps)
        Spikes.
    """

    name: str
    layers: set[str]
    neurons: int
    states: int
    touched: Array
    biased: Array
    emitted: NDArray[np.int64]
    host: str = ""


def _groups(recorder: Recorder, layers: dict[str, _Layer], steps: int, batch: int) -> list[_Group]:
    """Return all neurons of the network."""
    found: list[_Group] = []
    for path, calls in recorder.neuron_calls.items():
        inside = {name for name, layer in layers.items() if layer.calls.neurons == path}
        for members in _joined([set(call.origin.currents) & set(layers) for call in calls.calls]):
            own = [call for call in calls.calls if set(call.origin.currents) & members or not members]
            found.append(_neurons(path, calls, own, members | inside, inside, layers, steps, batch))
    taken = set().union(*(group.layers for group in found))
    free = [name for name in layers if name not in taken]
    meetings = [set(meeting) & set(free) for meeting in recorder.meetings]
    together = _joined([*({name} for name in free), *(each for each in meetings if _alike(each, layers))])
    return found + [_unnamed(sorted(members, key=list(layers).index), layers) for members in together if members]


def _alike(names: Iterable[str], layers: Mapping[str, _Layer]) -> bool:
    return len({layers[name].outputs for name in names}) == 1


def _joined(sets: Sequence[set[str]]) -> list[set[str]]:
    """Join the sets that share a member; empty sets join any other."""
    joined: list[set[str]] = []
    for each in sets:
        sharing = [other for other in joined if other & each]
        joined = [other for other in joined if not other & each] + [each.union(*sharing)]
    filled = [each for each in joined if each]
    return filled or joined[:1]


def _neurons(
    path: str,
    calls: NeuronCalls,
    own: Sequence[NeuronCall],
    members: set[str],
    inside: set[str],
    layers: dict[str, _Layer],
    steps: int,
    batch: int,
) -> _Group:
    """Return the neurons of a module."""
    fired, _ = in_order(path, [call.spikes for call in own], steps, batch)
    neurons = fired.shape[2]
    touched, biased = np.zeros(fired.shape, dtype=bool), np.zeros(fired.shape, dtype=bool)
    if not members:
        members = {path}
        layers[path] = _one_to_one(path, own, steps, batch)
    for name in sorted(members):
        layer = layers[name]
        reached, with_bias = layer.reached, layer.biased
        if name not in inside and name != path:
            marks = [_marks_at(call, name) for call in own]
            if all(each is not None for each in marks):
                arranged, _ = in_order(path, [each for each in marks if each is not None], steps, batch)
                reached, with_bias = (arranged & REACHED) > 0, (arranged & BIASED) > 0
        if reached.shape != fired.shape:
            raise BadInput(
                f"'{path}' ({type(calls.module).__name__}) has {neurons} neurons, but layer '{name}' reaches them "
                f"through {reached.shape[2]} values in a way that cannot be followed; if it contains more than the "
                "neurons, give the type of the neurons alone in 'neurons'"
            )
        if layer.once:
            reached = np.where(np.arange(steps)[None, :, None] == 0, reached, False)
        touched |= reached
        biased |= with_bias
    emitted = fired.sum(2, dtype=np.int64)
    return _Group(path, members, neurons, calls.states, touched, biased, emitted)


def _marks_at(call: NeuronCall, layer: str) -> Tensor | None:
    if layer not in call.origin.currents:
        return torch.zeros(call.signal.shape, dtype=torch.uint8)
    return call.origin.currents[layer]


def _one_to_one(path: str, calls: Sequence[NeuronCall], steps: int, batch: int) -> _Layer:
    """Return the connections of neurons that receive activations without weights between."""
    arriving, once = in_order(path, [call.signal for call in calls], steps, batch)
    reached, ones = arriving != 0, np.ones(arriving.shape[2], dtype=np.int64)
    sources = set().union(*(call.origin.sources for call in calls))
    weight = torch.ones(arriving.shape[2])
    fans = Connections(weight.long(), weight.long(), arriving.shape[2])
    kept = LayerCalls(path, path, EACH, weight, frozenset(), fans, path, sources=sources)
    return _Layer(kept, arriving, reached, np.zeros_like(reached), ones, ones, once)


def _unnamed(names: list[str], layers: Mapping[str, _Layer]) -> _Group:
    """Return the outputs of layers that meet as neurons, because no module of neurons is known."""
    touched = np.logical_or.reduce([layers[name].reached for name in names])
    biased = np.logical_or.reduce([layers[name].biased for name in names])
    emitted = np.zeros(touched.shape[:2], dtype=np.int64)
    return _Group(names[0], set(names), touched.shape[2], 1, touched, biased, emitted)


def _assign(groups: list[_Group], layers: dict[str, _Layer]) -> None:
    """Choose the layer that has the counts of the neurons: the first that has no others yet."""
    for group in groups:
        members = [name for name in layers if name in group.layers]
        group.host = next((name for name in members if not layers[name].hosted), members[-1])
        layers[group.host].hosted.append(group)


def _source(layer: _Layer, groups: Sequence[_Group], layers: Mapping[str, _Layer]) -> str:
    """Return the layer before: the one that has the counts of the neurons whose spikes arrive."""
    hosts: set[str] = set()
    for source in layer.calls.sources:
        path = source.removeprefix(NEURONS)
        by_module = [group.host for group in groups if source != path and group.name == path]
        by_layer = [group.host for group in groups if source == path and source in group.layers]
        hosts.update(by_module or by_layer[:1] or [source])
    names = list(layers)
    ordered = [INPUT] * (INPUT in hosts) + [name for name in names if name in hosts]
    if ordered:
        return " + ".join(ordered)
    before = names.index(layer.calls.name)
    return names[before - 1] if before else INPUT


def _recorded(layer: _Layer, groups: Sequence[_Group], source: str, signal: str) -> RecordedLayer:
    name, hosted = layer.calls.name, layer.hosted
    samples, steps, inputs = layer.arriving.shape
    nothing = np.zeros((samples, steps), dtype=np.int64)
    updated = sum(group.neurons for group in hosted)
    fed = next((group.neurons for group in groups if name in group.layers), layer.outputs)
    return RecordedLayer(
        name=name,
        source=source,
        signal=signal,
        inputs=int(inputs),
        neurons=updated or fed,
        declared=int(layer.fan_out_dense.sum()),
        stored=int(layer.fan_out.sum()),
        weights=int(torch.count_nonzero(layer.calls.weight)),
        arriving=layer.arriving,
        fan_out=layer.fan_out,
        fan_out_dense=layer.fan_out_dense,
        touched=sum((group.touched.sum(2, dtype=np.int64) for group in hosted), nothing),
        emitted=sum((group.emitted for group in hosted), nothing),
        biased=sum(int(group.biased.any((0, 1)).sum()) for group in hosted),
        states=sum(group.states * group.neurons for group in hosted),
        updated=updated,
    )
