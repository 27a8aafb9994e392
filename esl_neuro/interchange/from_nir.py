"""Convert a NIR graph to a trainable torch network of this project's layers."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import nir
import numpy as np
from torch import Tensor, nn

from esl_neuro.errors import BadInput
from esl_neuro.interchange.making import Make
from esl_neuro.interchange.plan import CONVOLUTIONS, WEIGHTED, Floats, Plan, diagonal, per_channel, settle
from esl_neuro.nirgraph.batch_axes import read_nodes
from esl_neuro.nirgraph.findings import Finding, errors
from esl_neuro.nirgraph.neuron_nodes import NeuronNode, one_step
from esl_neuro.nirgraph.order import feedback_edges
from esl_neuro.nirgraph.reading import Pass, run_passes
from esl_neuro.nirgraph.reset_notes import warn_of_resets
from esl_neuro.nirgraph.shapes import DiscreteGraph
from esl_neuro.nirgraph.sparse_nodes import SparseAffine
from esl_neuro.nirgraph.structure import Structure, read_structure
from esl_neuro.resets import ZERO
from esl_neuro.snn.layers import Delay, Flatten

SPIKING = (nir.LIF, nir.CubaLIF, nir.IF, nir.Threshold)
FILTERS = (nir.LI, nir.I, nir.CubaLI)
PASSING = (nir.Flatten, nir.SumPool2d, nir.AvgPool2d, nir.Delay)


def name_self_loops(structure: Structure, _dt_s: float) -> tuple[Structure, list[Finding]]:
    """Put a connection of weight one into every edge from neurons to themselves."""
    loops = [name for name, target in structure.edges if name == target and isinstance(structure.nodes[name], SPIKING)]
    nodes, edges = dict(structure.nodes), list(structure.edges)
    for name in loops:
        connection = f"{name}_recurrent"
        while connection in nodes:
            connection += "_"
        nodes[connection] = nir.Scale(np.array(1.0))
        edges.remove((name, name))
        edges += [(name, connection), (connection, name)]
    feedback = feedback_edges(structure.input, edges, structure.held)
    return replace(structure, nodes=nodes, edges=tuple(edges), feedback=feedback), []


PASSES: Mapping[str, Pass] = {"structure": read_structure, "self loops": name_self_loops, "nodes": read_nodes}


def _from_rest(node: NeuronNode) -> NeuronNode:
    """Measure the potentials of neurons from their reset potential, at which they start."""
    return replace(node, leak=node.leak - node.reset, threshold=node.threshold - node.reset, reset=0 * node.reset)


class GraphNetwork(nn.Module):
    """A network that is not a chain: each layer receives the sum of the outputs of its sources.

    Parameters
    ----------
    layers : dict of str to nn.Module
        In order of execution.
    sources : dict of str to list of str
        Sources of each layer; ``input`` is the network's input, the entry ``output`` its output.
    """

    def __init__(self, layers: dict[str, nn.Module], sources: dict[str, list[str]]) -> None:
        super().__init__()
        self._order, self._sources = tuple(layers), sources
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, signal: Tensor) -> Tensor:
        """Map (steps, batch, ...) to (steps, batch, ...)."""
        signals = {"input": signal}
        for name in self._order:
            arriving = functools.reduce(operator.add, [signals[source] for source in self._sources[name]])
            signals[name] = self.get_submodule(name)(arriving)
        return functools.reduce(operator.add, [signals[source] for source in self._sources["output"]])


def from_nir(
    graph: nir.NIRGraph,
    dt_s: float | None = None,
    *,
    reset: str | None = None,
    surrogate: str = "arctan",
    surrogate_width: float = 1.0,
    learn_threshold: bool = True,
) -> nn.Module:
    """Convert a NIR graph to a trainable network.

    Discrete time is forward Euler with ``dt_s``. The gains of the neurons are folded into the preceding weights;
    without weights, a linear connection is inserted unless it would be the identity. Parameters may differ between
    neurons, delays may not. Sum pools become average pools, whose factor is folded into the following weights. A final
    ``I`` node, which sums without leak, is omitted: the caller sums outputs that do not fire over the steps. Neurons
    that feed themselves, at once or through a linear connection, become a
    :class:`~esl_neuro.snn.neurons.RecurrentLIF`; a bias of that connection moves to the one before the neurons.
    Potentials are measured from ``v_reset``.

    A network written by :func:`~esl_neuro.interchange.to_nir` returns with equal spikes. Weights without folded
    factors, or with powers of two only, are restored bit for bit, others within two units in the last place;
    single-precision thresholds are exact, decays to 1e-11. Layers whose connections the graph lists return as
    :class:`~esl_neuro.sparsity.SparseLinear`, with the same connections.

    Parameters
    ----------
    graph : nir.NIRGraph
        Any graph; nested graphs are unpacked.
    dt_s : float, optional
        Time step in seconds. Default: ``dt_s`` of the graph.
    reset : {"zero", "subtract", "subtract_next_step"}, optional
        Reset of all neurons, for a graph whose metadata do not note it; see :mod:`esl_neuro.resets`. Without it, a
        graph that looks like that of a program whose neurons subtract is read as reset to zero, with a ``UserWarning``.
    surrogate : str
        Surrogate gradient of all neurons.
    surrogate_width : float
        Its width, in units of potential.
    learn_threshold : bool
        Whether thresholds are trained.

    Returns
    -------
    nn.Module
        Maps (steps, batch, ...) to (steps, batch, ...), layers named after the nodes; ``nn.Sequential`` if it is a
        chain, a :class:`GraphNetwork` if not.

    Raises
    ------
    BadInput
        If the graph has no time step, or a part that no layer of this project can represent; the message lists all
        findings.
    """
    discrete, findings = run_passes(PASSES, graph, dt_s, reset)
    refuse(map(str, errors(findings)))
    warn_of_resets(findings, stacklevel=2)
    assert isinstance(discrete, DiscreteGraph)
    reader = _Reader(discrete)
    refuse(reader.findings)
    reader.read()
    refuse(reader.plan.findings)
    make = Make(surrogate, surrogate_width, learn_threshold)
    layers, sources = reader.layers(make)
    chain = ["input", *layers, "output"]
    if all(sources[after] == [before] for before, after in itertools.pairwise(chain)):
        network = nn.Sequential()
        for name, layer in layers.items():
            network.add_module(name, layer)
        return network
    return GraphNetwork(layers, sources)


def refuse(findings: Iterable[str]) -> None:
    """Raise all findings at once, if there are any."""
    found = list(findings)
    if found:
        raise BadInput(f"the NIR graph cannot be converted to a network: {'; '.join(found)}")


class _Reader:
    def __init__(self, discrete: DiscreteGraph) -> None:
        neurons = {name: _from_rest(node) for name, node in discrete.neurons.items()}
        discrete = replace(discrete, neurons=neurons)
        self.discrete, self.structure, self.shapes = discrete, discrete.structure, discrete.shapes
        self.components = self.structure.components()
        self.plan = Plan()
        self.feedback: dict[str, str] = {}  # neurons -> recurrent connection
        self.findings = [found for name, node in self.structure.nodes.items() if (found := _unknown(name, node))]
        self.findings += [
            found
            for name, node in self.structure.nodes.items()
            if isinstance(node, (*SPIKING, *FILTERS)) and (found := _odd(name, node, discrete.dt_s))
        ]
        self.findings += [
            f"'{name}' (Delay): delays by {_span(node.delay / discrete.dt_s)} steps; a layer delays all its neurons by "
            "the same whole number of steps"
            for name, node in self.structure.nodes.items()
            if isinstance(node, nir.Delay) and _delay_steps(node, discrete.dt_s) is None
        ]
        self.findings += self._cycles()
        self.findings += [f"'{name}': is one of several outputs; keep one" for name in self.structure.outputs]
        self.findings += [
            f"'{name}' (Flatten): flattens some dimensions only; flatten all of them"
            for name, node in self.structure.nodes.items()
            if isinstance(node, nir.Flatten) and len(self.shapes[name]) != 1
        ]

    def _cycles(self) -> list[str]:
        """Find the recurrent connections of single layers; every other cycle is a finding."""
        findings = []
        for component in self.components:
            if len(component) == 1 and (component[0], component[0]) not in self.structure.edges:
                continue
            neurons = [name for name in component if isinstance(self.structure.nodes[name], SPIKING)]
            others = [name for name in component if name not in neurons]
            if len(neurons) == len(others) == 1 and self._is_feedback(others[0], neurons[0]):
                self.feedback[neurons[0]] = others[0]
            else:
                names = ", ".join(f"'{name}'" for name in component)
                findings.append(
                    f"the cycle of {names} cannot be trained; only neurons that feed themselves "
                    "in one dimension, at once or through one linear connection used for nothing else, are supported"
                )
        return findings

    def _is_feedback(self, connection: str, neurons: str) -> bool:
        node: Any = self.structure.nodes[connection]
        linear = isinstance(node, nir.Linear | nir.Affine | nir.Scale) and len(self.shapes[neurons]) == 1
        own = [edge for edge in self.structure.edges if connection in edge]
        return linear and sorted(own) == sorted([(connection, neurons), (neurons, connection)])

    def read(self) -> None:
        """Fill the plan: nodes in order, and on the edges the remaining factors."""
        leaving: dict[str, float] = {}  # factor still to be applied to the output of a node
        for name in itertools.chain(*self.components):
            node: Any = self.structure.nodes[name]
            shape, gain = self.shapes[name], np.ones(())
            if name in self.discrete.neurons:
                gain = self.discrete.neurons[name].gain.reshape(shape)
            sources = self.structure.before(name)
            factors = {leaving.get(source, 1.0) for source in sources}
            passes = isinstance(node, PASSING) and len(factors) == 1
            leaving[name] = factors.pop() if passes else 1.0
            if isinstance(node, nir.SumPool2d):
                leaving[name] *= float(np.prod(np.broadcast_to(node.kernel_size, 2)))
            self.plan.add(name, self._own(name, node), shape)
            for source in sources:
                self.plan.connect(source, name, 1.0 if passes else leaving.get(source, 1.0) * gain)
        settle(self.plan)
        for name, neurons in self.discrete.neurons.items():
            drive = (neurons.dv * neurons.leak).reshape(self.shapes[name])
            if np.any(drive):
                self._drive(name, drive, f"v_leak differs from v_reset by up to {np.abs(neurons.leak).max():g}")
        for name, connection in self.feedback.items():
            back: Any = self.plan.nodes[connection]
            if np.any(back.bias):  # constant from the first step, like any bias
                self._drive(name, back.bias, f"its recurrent connection '{connection}' has a bias")
                back.bias = np.zeros_like(back.bias)
        self.plan.findings += [
            f"'{name}' (Delay): delays the bias of '{source}', which in NIR is present from the first step; put "
            "the delay before that connection"
            for name, node in self.structure.nodes.items()
            if isinstance(node, nir.Delay) and _delay_steps(node, self.discrete.dt_s) != 0
            for source in self._biases_before(name)
        ]

    def _biases_before(self, name: str) -> list[str]:
        """Return the connections with a bias between the neurons before a node and the node."""
        found = []
        for source, _ in self.plan.into(name):
            node: Any = self.plan.nodes[source]
            if isinstance(node, WEIGHTED) and np.any(node.bias):
                found.append(source)
            if source not in self.discrete.neurons:
                found += self._biases_before(source)
        return found

    def _own(self, name: str, node: Any) -> nir.NIRNode:
        """Return a copy, since folding changes it; a scale becomes a diagonal connection."""
        if isinstance(node, SparseAffine):
            return replace(node, values=np.array(node.values), bias=np.array(node.bias))
        if isinstance(node, nir.Affine):
            return nir.Affine(np.array(node.weight), np.array(node.bias), metadata=dict(node.metadata))
        if isinstance(node, nir.Linear):
            bias = np.zeros(len(node.weight), node.weight.dtype)
            return nir.Affine(np.array(node.weight), bias, metadata=dict(node.metadata))
        if isinstance(node, CONVOLUTIONS):
            copy = type(node)(
                None, np.array(node.weight), node.stride, node.padding, node.dilation, node.groups, np.array(node.bias)
            )
            copy.metadata = dict(node.metadata)
            return copy
        if isinstance(node, nir.Scale):
            connection = diagonal(self.shapes[name], np.asarray(node.scale, dtype=np.float64))
            if connection is not None:
                return connection
            self.plan.findings.append(f"'{name}' (Scale): differs between positions; use one scale per channel")
        return node

    def _drive(self, name: str, drive: Floats, why: str) -> None:
        """Move a constant drive into a bias before the neurons."""
        for source, _ in self.plan.into(name):
            node: Any = self.plan.nodes[source]
            if isinstance(node, WEIGHTED) and len(self.plan.out_of(source)) == 1 and source != self.feedback.get(name):
                rows = per_channel(self.shapes[name], drive) if isinstance(node, CONVOLUTIONS) else drive
                if rows is not None:
                    node.bias = node.bias + rows
                    return
        self._insert_bias(name, drive, why)

    def _insert_bias(self, name: str, drive: Floats, why: str) -> None:
        """Put a connection of weight one with a bias before neurons."""
        shape = self.shapes[name]
        rows = per_channel(shape, drive) if len(shape) > 1 else drive
        source = next(source for source, _ in self.plan.into(name) if source != self.feedback.get(name))
        connection: Any = diagonal(shape, np.ones(()))
        if rows is None or connection is None:
            self.plan.findings.append(
                f"'{name}': {why}, which differs between positions, and no bias before it can absorb it"
            )
            return
        connection.bias = np.array(rows, dtype=np.float64)
        inserted = f"{name}_from_{source}"
        self.plan.add(inserted, connection, shape)
        self.plan.connect(source, inserted)
        self.plan.connect(inserted, name)
        del self.plan.edges[source, name]

    def layers(self, make: Make) -> tuple[dict[str, nn.Module], dict[str, list[str]]]:
        """Return the layers in order of execution, and the sources of each."""
        plan, sources = self.plan, {}
        layers: dict[str, nn.Module] = {}
        silent = {*self.feedback.values(), self.structure.input, self.structure.output}
        first = {self.structure.input: ["input"]}
        for name in self._in_order():
            if name == self.structure.input:
                continue
            before = [s for s, _ in plan.into(name) if s != self.feedback.get(name)]
            before = [end for source in before for end in first[source]]
            if name == self.structure.output:
                sources["output"] = before
                break
            if name in silent or self._is_identity(name):
                first[name] = before
                continue
            layer = self._layer(name, make)
            safe = _layer_name(name, layers)
            layers[safe], sources[safe], first[name] = layer, before, [safe]
        return layers, sources

    def _in_order(self) -> list[str]:
        """Return all nodes, inserted ones before those they feed, the output last."""
        names: list[str] = []
        for name in itertools.chain(*self.components):
            inserted = [s for s, _ in self.plan.into(name) if s not in self.structure.nodes]
            names += [*inserted, name]
        return [*(name for name in names if name != self.structure.output), self.structure.output]

    def _is_identity(self, name: str) -> bool:
        node: Any = self.plan.nodes[name]
        if isinstance(node, nir.I):  # the sum over the steps at the end
            return self.plan.out_of(name) == [self.structure.output]
        if isinstance(node, nir.Delay):
            return _delay_steps(node, self.discrete.dt_s) == 0
        if isinstance(node, SparseAffine):
            factors = node.diagonal
            return factors is not None and not np.any(node.bias) and _all_one(factors)
        if not isinstance(node, WEIGHTED) or np.any(node.bias) or node.weight.shape[0] != node.weight.shape[1]:
            return False
        if isinstance(node, CONVOLUTIONS) and (
            set(node.weight.shape[2:]) != {1} or np.any(np.asarray(node.stride) != 1) or int(node.groups) != 1
        ):
            return False
        matrix = node.weight.reshape(len(node.weight), -1)
        # the diagonal first: another matrix of ones and zeros can be large
        return _all_one(np.diag(matrix)) and bool(np.allclose(matrix, np.eye(len(matrix)), rtol=0, atol=1e-6))

    def _layer(self, name: str, make: Make) -> nn.Module:
        node: Any = self.plan.nodes[name]
        if isinstance(node, SparseAffine):
            return make.sparse(node)
        if isinstance(node, nir.Affine):
            return make.linear(node)
        if isinstance(node, CONVOLUTIONS):
            return make.conv(node)
        if isinstance(node, nir.SumPool2d | nir.AvgPool2d):
            return make.pool(node)
        if isinstance(node, nir.Flatten):
            return Flatten()
        if isinstance(node, nir.Delay):
            return Delay(_delay_steps(node, self.discrete.dt_s) or 1)  # a delay of 0 has become no layer
        neurons, shape = self.discrete.neurons[name], self.shapes[name]
        reset = self.structure.resets.get(name, ZERO)
        if name in self.feedback:
            return make.recurrent(neurons, shape, self.plan.nodes[self.feedback[name]], reset)
        return make.neurons(neurons, shape, reset) if neurons.fires else make.filter(neurons, shape)


def _all_one(factors: Any) -> bool:
    return bool(np.allclose(factors, 1, rtol=0, atol=1e-6))


def _layer_name(node: str, taken: Iterable[str]) -> str:
    """Return the name of a node in a form that torch allows."""
    name = node.replace(".", "_")
    while name in ("input", "output", *taken) or hasattr(nn.Sequential, name):
        name += "_"
    return name


def _unknown(name: str, node: Any) -> str | None:
    known = (nir.Input, nir.Output, nir.Scale, *WEIGHTED, *SPIKING, *FILTERS, *PASSING)
    if isinstance(node, known):
        return None
    nearest = {"Port": "give the graph one input"}
    kind = type(node).__name__
    return f"'{name}' ({kind}) has no layer here; {nearest.get(kind, 'remove it')}"


def _delay_steps(node: Any, dt_s: float) -> int | None:
    """Return the delay in steps, if it is the same whole number for all neurons."""
    steps = np.unique(np.round(np.asarray(node.delay, dtype=np.float64) / dt_s, 6))
    return int(steps[0]) if len(steps) == 1 and steps[0] >= 0 and steps[0].is_integer() else None


def _span(values: Floats) -> str:
    low, high = np.min(values), np.max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _odd(name: str, node: Any, dt_s: float) -> str | None:
    """Describe what a neuron does that no layer supports."""
    reasons = []
    reset = getattr(node, "v_reset", None)
    reset = 0.0 if reset is None else np.asarray(reset)
    threshold = getattr(node, "v_threshold", getattr(node, "threshold", None))
    if threshold is not None and not np.all(threshold - reset > 0):
        lowest = np.min(threshold - reset)
        reasons.append(f"the threshold is {lowest:g} above v_reset; every threshold must be positive above v_reset")
    for parameter in ("tau", "tau_syn", "tau_mem"):
        tau = getattr(node, parameter, None)
        if tau is not None and np.any((np.asarray(tau) < dt_s) & ~one_step(np.asarray(tau), dt_s)):
            reasons.append(f"{parameter} is {np.min(tau):g} s, less than the time step {dt_s:g} s; use a shorter step")
    if isinstance(node, nir.CubaLIF) and np.any(node.v_leak != reset):
        reasons.append("v_leak differs from v_reset, which synapses cannot express; use an LIF")
    if isinstance(node, nir.CubaLI | nir.LI) and np.any(node.v_leak):
        reasons.append("v_leak is not 0; use an LIF, or shift v_threshold by it")
    return f"'{name}' ({type(node).__name__}): {', '.join(reasons)}" if reasons else None
