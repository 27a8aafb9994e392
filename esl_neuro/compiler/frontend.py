"""Read a NIR graph as a chain of discrete layers in floating point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from esl_neuro.compiler.findings import Finding, refuse_unsupported
from esl_neuro.compiler.program import INPUT
from esl_neuro.errors import BadInput

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FloatLayer:
    """A connection and its neurons, in discrete time.

    ``u[t] = (1 - du) u[t-1] + W s[t]``; ``v[t] = (1 - dv) v[t-1] + u[t] + bias``; spike when ``v > threshold``, then
    ``v = 0``. All gains of the NIR nodes are folded into ``W`` and ``bias``.

    Attributes
    ----------
    name : str
        Name of the neuron node.
    weights : float64 array, shape (neurons, sources)
    bias, du, dv, threshold : float64 array, shape (neurons,)
    """

    name: str
    weights: Floats
    bias: Floats
    du: Floats
    dv: Floats
    threshold: Floats


@dataclass(frozen=True)
class _Neurons:
    """A NIR neuron node after forward Euler: decays, input gain, constant drive."""

    du: Floats
    dv: Floats
    gain: Floats
    drive: Floats


def read_graph(path: Path) -> nir.NIRGraph:
    """Read a NIR file.

    Raises
    ------
    BadInput
        If there is no such file, or it is no NIR file.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such file")
    try:
        return nir.read(path)
    except Exception as error:  # the reader raises whatever HDF5 or a node constructor raises
        raise BadInput(f"{path}: not a readable NIR file: {error}") from error


def discretise(graph: nir.NIRGraph, dt_s: float | None = None) -> tuple[FloatLayer, ...]:
    """Turn a NIR chain ``Input -> (Affine | Linear -> neurons)... -> Output`` into discrete layers.

    Parameters
    ----------
    graph : nir.NIRGraph
        The network. Neuron nodes: LIF, CubaLIF, IF.
    dt_s : float, optional
        Time step in seconds; without it the graph's own ``dt_s`` is used.

    Raises
    ------
    BadInput
        If there is no time step, or anything that the integer neuron cannot represent; every finding is named.
    """
    step = time_step(graph, dt_s)
    pairs, findings = _pairs(graph)
    layers: list[FloatLayer] = []
    sources = None
    for connection, neurons in pairs:
        found = _check_pair(graph, connection, neurons, sources, step)
        findings += found
        sources = np.size(graph.nodes[neurons].v_threshold)
        if not found:
            layers.append(_layer(graph, connection, neurons, step))
    refuse_unsupported(findings)
    return tuple(layers)


def time_step(graph: nir.NIRGraph, dt_s: float | None = None) -> float:
    """Return the time step in seconds: the given one, else that of the metadata.

    Raises
    ------
    BadInput
        If there is none, or it is not positive.
    """
    value = dt_s if dt_s is not None else graph.metadata.get("dt_s")
    if value is None:
        raise BadInput("the NIR graph has no 'dt_s' in its metadata; give the time step in seconds")
    try:
        seconds = float(value)
    except (TypeError, ValueError) as error:
        raise BadInput(f"'dt_s' of the NIR graph is {value!r}; it must be a number of seconds") from error
    if not 0 < seconds < np.inf:
        raise BadInput(f"the time step is {seconds:g} s; it must be positive")
    return seconds


def _lif(node: Any, dt_s: float) -> _Neurons:
    dv = dt_s / _array(node.tau)
    return _Neurons(np.ones_like(dv), dv, dv * _array(node.r), dv * _array(node.v_leak))


def _cuba_lif(node: Any, dt_s: float) -> _Neurons:
    du, dv = dt_s / _array(node.tau_syn), dt_s / _array(node.tau_mem)
    return _Neurons(du, dv, du * _array(node.w_in) * dv * _array(node.r), dv * _array(node.v_leak))


def _if(node: Any, dt_s: float) -> _Neurons:
    gain = dt_s * _array(node.r)
    return _Neurons(np.ones_like(gain), np.zeros_like(gain), gain, np.zeros_like(gain))


NEURONS: dict[type, Callable[[Any, float], _Neurons]] = {nir.LIF: _lif, nir.CubaLIF: _cuba_lif, nir.IF: _if}
CONNECTIONS: tuple[type, ...] = (nir.Affine, nir.Linear)


def _pairs(graph: nir.NIRGraph) -> tuple[list[tuple[str, str]], list[Finding]]:
    """Walk the chain; return (connection, neurons) names in order and what does not belong there."""
    chain, findings = _chain(graph)
    supported = (*CONNECTIONS, *NEURONS)
    names = ", ".join(sorted(kind.__name__ for kind in supported))
    findings += [
        Finding(f"node '{name}'", f"{type(graph.nodes[name]).__name__} is not supported; supported: {names}")
        for name in chain
        if not isinstance(graph.nodes[name], supported)
    ]
    if findings:
        return [], findings
    kinds = [isinstance(graph.nodes[name], CONNECTIONS) for name in chain]
    if not chain or kinds != [True, False] * (len(chain) // 2):
        return [], [Finding("graph", f"the chain {' -> '.join(chain)} must alternate a connection and its neurons")]
    return list(zip(chain[::2], chain[1::2], strict=True)), []


def _chain(graph: nir.NIRGraph) -> tuple[list[str], list[Finding]]:
    following: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for source, target in graph.edges:
        following[source].append(target)
    starts = [name for name, node in graph.nodes.items() if isinstance(node, nir.Input)]
    if len(starts) != 1:
        return [], [Finding("graph", f"has {len(starts)} inputs; exactly one is supported")]
    chain, name = [], starts[0]
    while not isinstance(graph.nodes[name], nir.Output):
        if len(following[name]) != 1:
            return [], [
                Finding(f"node '{name}'", f"feeds {following[name] or 'nothing'}; it must feed exactly one node")
            ]
        name = following[name][0]
        if name in chain:
            return [], [Finding(f"node '{name}'", "is part of a loop; recurrent networks are not supported yet")]
        chain.append(name)
    chain = chain[:-1]
    unreached = sorted(set(graph.nodes) - {*chain, starts[0], name})
    return chain, [Finding(f"node '{extra}'", "is not on the way from input to output") for extra in unreached]


def _check_pair(graph: nir.NIRGraph, connection: str, neurons: str, sources: int | None, dt_s: float) -> list[Finding]:
    node, place = graph.nodes[neurons], f"node '{neurons}'"
    weight, size = _array(graph.nodes[connection].weight), np.size(node.v_threshold)
    if weight.ndim != 2 or weight.shape[0] != size:
        return [Finding(f"node '{connection}'", f"weight has shape {weight.shape}, '{neurons}' has {size} neurons")]
    if sources is not None and weight.shape[1] != sources:
        return [Finding(f"node '{connection}'", f"weight has shape {weight.shape}, {sources} neurons feed it")]
    findings = _check_numbers(graph, connection, neurons)
    if neurons == INPUT:
        findings.append(Finding(place, f"'{INPUT}' stands for the input lines; give the node another name"))
    if node.v_reset is not None and np.any(_array(node.v_reset) != 0):
        findings.append(Finding(place, "v_reset is not 0; the chip resets to 0 (shift v_leak and v_threshold by it)"))
    if np.any(_array(node.v_threshold) <= 0):
        findings.append(
            Finding(place, f"v_threshold has {np.min(node.v_threshold):g}; every threshold must be positive")
        )
    for name in ("tau", "tau_syn", "tau_mem"):
        tau = getattr(node, name, None)
        if tau is not None and np.any(_array(tau) < dt_s * (1 - 1e-9)):
            findings.append(Finding(place, f"{name} has {np.min(tau):g} s, less than the time step {dt_s:g} s"))
    if isinstance(node, nir.CubaLIF) and np.any(_bias(graph.nodes[connection]) != 0):
        findings.append(
            Finding(f"node '{connection}'", "a bias into a synaptic filter has no integer form; move it to v_leak")
        )
    return findings


def _check_numbers(graph: nir.NIRGraph, *names: str) -> list[Finding]:
    """Find parameters that hold something else than finite numbers."""
    return [
        Finding(f"node '{name}'", f"{parameter} has values that are not finite")
        for name in names
        for parameter, value in vars(graph.nodes[name]).items()
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and not np.isfinite(value).all()
    ]


def _layer(graph: nir.NIRGraph, connection: str, neurons: str, dt_s: float) -> FloatLayer:
    source, node = graph.nodes[connection], graph.nodes[neurons]
    discrete = NEURONS[type(node)](node, dt_s)
    return FloatLayer(
        name=neurons,
        weights=discrete.gain[:, None] * _array(source.weight),
        bias=discrete.gain * _bias(source) + discrete.drive,
        du=discrete.du,
        dv=discrete.dv,
        threshold=_array(node.v_threshold),
    )


def _bias(node: Any) -> Floats:
    return _array(node.bias) if isinstance(node, nir.Affine) else np.zeros(node.weight.shape[0])


def _array(value: Any) -> Floats:
    return np.asarray(value, dtype=np.float64)
