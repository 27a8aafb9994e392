"""Build the groups of neurons and the connections between them, in the form of the chip."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import scipy.sparse as sp

from esl_neuro.compiler.folding import FoldedGraph, Signal
from esl_neuro.compiler.network import FloatConnection, FloatGroup, FloatNetwork
from esl_neuro.compiler.program import INPUT
from esl_neuro.nirgraph.findings import Finding
from esl_neuro.nirgraph.kernel import Kernel
from esl_neuro.nirgraph.linear_maps import Map, as_matrix, scale_outputs
from esl_neuro.nirgraph.neuron_nodes import NeuronNode
from esl_neuro.nirgraph.order import first_ready

Grouped = tuple[FloatGroup, list[FloatConnection]]


def group(folded: FoldedGraph, dt_s: float) -> tuple[FloatNetwork, list[Finding]]:
    """Make a group of each neuron node, of an output that does not fire, and of constant inputs."""
    structure, lines = folded.discrete.structure, folded.lines
    constant = _unused("bias", structure.nodes)
    parts = [
        _group(name, node, folded.arriving[name], lines, constant) for name, node in folded.discrete.neurons.items()
    ]
    output = _output(folded)
    if output not in folded.discrete.neurons:
        signal = folded.arriving[structure.output]
        parts.append(_group(output, _accumulator(signal.size), signal, lines, constant))
    if any(connection.source == constant for _, incoming in parts for connection in incoming):
        parts.insert(0, _always_on(constant, lines[INPUT]))
    groups = {each.name: each for each, _ in parts}
    connections = [connection for _, incoming in parts for connection in incoming]
    order = first_ready(_needs(groups, connections), output)
    findings = [] if order else [_output_feeds(output)]
    rank = {name: index for index, name in enumerate(order or groups)}
    return FloatNetwork(
        folded.discrete.shapes[structure.input],
        dt_s,
        tuple(groups[name] for name in rank),
        tuple(sorted(connections, key=lambda connection: rank[connection.target])),
    ), findings


def _unused(name: str, taken: Collection[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _group(name: str, node: NeuronNode, signal: Signal, lines: Mapping[str, int], constant: str) -> Grouped:
    """Fold the gain of the neurons into their inputs, and measure potentials from the reset potential.

    A constant that enters a synaptic filter builds up over time; the bias of the chip enters the potential and does
    not. A neuron that fires at every step reproduces such a constant exactly.
    """
    connections = [
        FloatConnection(source, name, _stored(scale_outputs(linear, node.gain, lines[source]), lines[source]), delay)
        for (source, delay), linear in signal.terms.items()
    ]
    constants = node.gain * (0 if signal.bias is None else signal.bias)
    filtered = np.where(node.du < 1, constants, 0)
    if filtered.any():
        connections.append(FloatConnection(constant, name, _stored(sp.csr_matrix(filtered[:, None]), 1)))
    drive = node.dv * (node.leak - node.reset)
    neurons = FloatGroup(
        name, drive + constants - filtered, node.du, node.dv, node.threshold - node.reset, node.reset_by
    )
    return neurons, connections


def _stored(linear: Map, size: int) -> sp.csr_matrix | Kernel:
    if isinstance(linear, Kernel):
        return linear
    matrix = sp.csr_matrix(as_matrix(linear, size), copy=True)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def _accumulator(size: int) -> NeuronNode:
    one, zero = np.ones(size), np.zeros(size)
    return NeuronNode(one, zero, one, zero, np.full(size, np.inf), zero)


def _always_on(name: str, lines: int) -> Grouped:
    one = np.ones(1)
    silent = FloatConnection(INPUT, name, sp.csr_matrix((1, lines)))
    return FloatGroup(name, bias=one, du=one, dv=one, threshold=np.full(1, 0.5)), [silent]


def _output(folded: FoldedGraph) -> str:
    """Name the readout group: the one whose signal reaches the output unchanged, else a new accumulator."""
    structure, neurons = folded.discrete.structure, folded.discrete.neurons
    signal = folded.arriving[structure.output]
    if signal.bias is None and len(signal.terms) == 1:
        ((source, delay), linear) = next(iter(signal.terms.items()))
        if delay == 0 and linear is None and source in neurons:
            return source
    sources = structure.before(structure.output)
    alone = len(sources) == 1 and sources[0] not in neurons and sources[0] != structure.input
    return sources[0] if alone else structure.output


def _needs(groups: Collection[str], connections: Collection[FloatConnection]) -> dict[str, list[str]]:
    """Return the groups that must be computed before each group because they feed it without delay."""
    needs: dict[str, list[str]] = {name: [] for name in groups}
    for connection in connections:
        if connection.delay == 0 and connection.source != INPUT:
            needs[connection.target].append(connection.source)
    return needs


def _output_feeds(output: str) -> Finding:
    return Finding(
        "output-order",
        f"node '{output}'",
        "is the output and feeds groups that feed it in the same step; add a Delay of one step after it "
        "and remove one step from the way back",
    )
