"""Check nodes, groups and connections for what NIR can express but the chip cannot do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from esl_neuro.compiler.network import FloatConnection, FloatGroup, FloatNetwork
from esl_neuro.compiler.program import INPUT
from esl_neuro.compiler.timing import TooFast, latencies
from esl_neuro.hardware import HardwareTarget, arithmetic_of
from esl_neuro.nirgraph.findings import Finding
from esl_neuro.nirgraph.linear_nodes import floats
from esl_neuro.nirgraph.neuron_nodes import TIME_CONSTANTS, NeuronNode, one_step
from esl_neuro.nirgraph.shapes import DiscreteGraph


def check_neurons(discrete: DiscreteGraph) -> list[Finding]:
    """Find time constants and thresholds that no chip supports."""
    return [
        Finding(kind, f"node '{name}'", message)
        for name, neurons in discrete.neurons.items()
        for kind, message in (
            *_time_constants(discrete.structure.nodes[name], discrete.dt_s),
            *_thresholds(discrete.structure.nodes[name], neurons),
        )
    ]


def check_groups(network: FloatNetwork) -> list[Finding]:
    """Find names, messages and loops that the chip does not support."""
    groups = {group.name: group for group in network.groups}
    return [
        *_check_names(groups),
        *_check_readouts(groups, network.connections),
        *_check_loops(groups, network.connections, network.dt_s),
    ]


def check_resets(network: FloatNetwork, target: HardwareTarget) -> list[Finding]:
    """Find groups whose reset the chip does not have."""
    resets = arithmetic_of(target).resets
    wanted = {"zero": "to zero", "subtract": "by subtraction"}
    return [
        Finding(
            "soft-reset" if needed == "subtract" else "reset",
            f"node '{group.name}'",
            f"resets {wanted[needed]}; the neurons of '{target.name}' reset "
            f"{' or '.join(wanted[each] for each in resets)} only: train with that reset, or choose a target whose "
            f"arithmetic.resets contain '{needed}', such as loihi2",
        )
        for group in network.groups
        if group.fires and (needed := "zero" if group.reset_by is None else "subtract") not in resets
    ]


Reason = tuple[str, str]


def _time_constants(node: Any, dt_s: float) -> list[Reason]:
    shortest = {name: floats(node, name).min() for name in TIME_CONSTANTS if hasattr(node, name)}
    return [
        ("time-constant", f"{name} is {tau_s:g} s, less than the time step {dt_s:g} s; use a shorter time step")
        for name, tau_s in shortest.items()
        if tau_s < dt_s and not one_step(tau_s, dt_s)
    ]


def _thresholds(node: Any, neurons: NeuronNode) -> list[Reason]:
    lowest = float((neurons.threshold - neurons.reset).min())
    if lowest > 0:
        return []
    name = "v_threshold" if hasattr(node, "v_threshold") else "threshold"
    above = " above v_reset" if np.any(neurons.reset != 0) else ""
    return [("threshold", f"{name} is {lowest:g}{above}; every threshold must be positive{above}")]


def _check_names(groups: Iterable[str]) -> list[Finding]:
    return [
        Finding("reserved-name", f"node '{name}'", f"'{INPUT}' is reserved for the input lines; rename the node")
        for name in groups
        if name == INPUT
    ]


def _check_readouts(groups: Mapping[str, FloatGroup], connections: Iterable[FloatConnection]) -> list[Finding]:
    """Find groups that never fire but feed others: the chip does not transmit potentials."""
    feeding = {connection.source: connection.target for connection in connections}
    return [
        Finding(
            "potential-travels",
            f"node '{name}'",
            f"does not fire, but its potential feeds '{feeding[name]}'; the chip sends spikes only: use a LIF or "
            "IF node, or connect it to the output only",
        )
        for name, group in groups.items()
        if not group.fires and name in feeding
    ]


def _check_loops(
    groups: Mapping[str, FloatGroup], connections: Iterable[FloatConnection], dt_s: float
) -> list[Finding]:
    """Find every loop with fewer steps of delay than connections; a connection takes one step on the chip."""
    findings: list[Finding] = []
    left = list(connections)
    while (loop := _fast_loop(list(groups), left)) is not None:
        pairs = set(zip(loop, (*loop[1:], loop[0]), strict=True))
        inside = [each for each in left if (each.source, each.target) in pairs]
        length = len(loop)
        findings.append(
            Finding(
                "fast-loop",
                f"groups {', '.join(repr(name) for name in loop)}",
                f"form a loop of {_plural(length, 'connection')} with too few steps of delay; a connection takes one "
                f"step on the chip: add a Delay node of {_plural(length, 'step')} ({length * dt_s:g} s) to the loop",
            )
        )
        cut = max(inside, key=lambda each: each.delay)
        left = [each for each in left if each is not cut]
    return findings


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _fast_loop(groups: list[str], connections: list[FloatConnection]) -> tuple[str, ...] | None:
    try:
        latencies(groups, connections)
    except TooFast as loop:
        return loop.groups
    return None
