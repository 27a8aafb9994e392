"""Plan the cores of a network before it is trained: which neurons share a core, before the synapses are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import scipy.sparse as sp

from esl_neuro.compiler.core_plan import CorePlan, Cores, Parts
from esl_neuro.compiler.network import FloatNetwork
from esl_neuro.compiler.placement import PER_CORE, Placement, image_of, place
from esl_neuro.compiler.program import Connection, Group, Program, Weights
from esl_neuro.hardware import HardwareTarget, arithmetic_of
from esl_neuro.nirgraph.kernel import Kernel

CORES = "cores_per_chip"
BY_WIRING = ("synaptic_memory", "input_axons", "output_axons")
"""Limits that depend on which synapses there are, not only on how many."""
GROWTH = 8  # a layer above its limits gets an eighth more parts at a time


def synapses_only(network: FloatNetwork, target: HardwareTarget) -> Program:
    """Return a program with the synapses of a network, all weights 1, for counting: nothing is rounded to zero."""
    connections = tuple(
        Connection(each.source, each.target, _ones(each.weights), 0, each.declared, each.delay)
        for each in network.connections
    )
    return Program(
        target=target.name,
        input_size=network.input_size,
        steps=1,
        dt_s=network.dt_s,
        connections=connections,
        groups=tuple(_silent(group.name, group.neurons) for group in network.groups),
        arithmetic=arithmetic_of(target),
        core_plan=network.core_plan,
    )


def _ones(weights: Weights) -> Weights:
    if isinstance(weights, Kernel):
        return replace(weights, weights=(weights.weights != 0).astype(np.int32))
    pattern = sp.csr_matrix(weights, copy=True)
    pattern.eliminate_zeros()
    pattern.data = np.ones(pattern.nnz, dtype=np.int32)
    return pattern


def _silent(name: str, neurons: int) -> Group:
    zeros = np.zeros(neurons, dtype=np.int64)
    return Group(name, zeros, zeros, zeros, zeros, zeros, np.ones(neurons))


def plan_cores(program: Program, target: HardwareTarget) -> CorePlan:
    """Divide the layers of a program over the cores of a chip, so that neurons and the number of synapses fit.

    Where the synapses of the program themselves do not fit, the division is the one with the fewest cores for neurons
    and numbers of synapses, and the layers that are furthest above a limit share the cores that are left: training can
    choose other synapses, which need less memory and fewer axons. If the chip has fewer cores than that, layers share
    cores.

    Parameters
    ----------
    program : Program
        With as many synapses as will be trained.
    target : HardwareTarget
        The chip. The plan may need more cores than it has; :func:`planned` has the number.
    """
    most = _limits(target)[CORES]
    whole = place(replace(program, core_plan=None), target)
    if whole.cores <= most and not _overload(whole, target):
        return CorePlan(target.name, whole.parts)
    loose = target.with_limits({f"{name}_per_core": None for name in BY_WIRING}, "")
    plan = CorePlan(target.name, place(replace(program, core_plan=None), loose).parts)
    if planned(program, plan, target).cores > most:
        return _shared(program, plan, target)
    while (placement := planned(program, plan, target)).cores < most:
        more = _divided_further(program, plan, _overload(placement, target), int(most) - placement.cores)
        if more is None:
            break
        plan = more
    return plan


@dataclass
class _SharedCore:
    """What a core holds of several layers; a convolution keeps it for itself."""

    neurons: int = 0
    synapses: int = 0
    groups: set[str] = field(default_factory=set)
    closed: bool = False


def _shared(program: Program, plan: CorePlan, target: HardwareTarget) -> CorePlan:
    """Let parts of several layers share cores: each goes to the first core of other layers that holds it.

    Neurons and numbers of synapses decide.
    """
    placement, limits = planned(program, plan, target), _limits(target)
    most_neurons = limits.get("neurons_per_core", np.inf)
    most_synapses = limits.get("synapses_per_core", np.inf)
    convolutions = {each.target for each in program.connections if isinstance(each.weights, Kernel)}
    held: list[_SharedCore] = []
    cores: dict[str, Cores] = {group.name: () for group in program.groups}
    for name in cores:
        for part in np.unique(placement.core_of_neuron[name]).tolist():
            neurons, synapses = (int(placement.used[what][part]) for what in ("neurons", "synapses"))
            fitting = (
                at
                for at, core in enumerate(held)
                if not core.closed
                and name not in core.groups
                and core.neurons + neurons <= most_neurons
                and core.synapses + synapses <= most_synapses
            )
            at = len(held) if name in convolutions else next(fitting, len(held))
            if at == len(held):
                held.append(_SharedCore(closed=name in convolutions))
            held[at].neurons += neurons
            held[at].synapses += synapses
            held[at].groups.add(name)
            cores[name] = (*cores[name], at)
    return CorePlan(plan.target, plan.parts, cores if len(held) < placement.cores else {})


def planned(program: Program, plan: CorePlan, target: HardwareTarget) -> Placement:
    """Place a program as planned, also where a core exceeds a limit."""
    free = target.with_limits({f"{name}_per_core": None for name in PER_CORE}, "")
    return place(replace(program, core_plan=plan), free)


def _limits(target: HardwareTarget) -> dict[str, float]:
    return {name: limit.value for name, limit in target.limits.items() if limit.value is not None} | {
        CORES: target.limits[CORES].value or np.inf if CORES in target.limits else np.inf
    }


def _overload(placement: Placement, target: HardwareTarget) -> dict[str, float]:
    """Return how often the fullest core of each group above a limit exceeds it."""
    limits = _limits(target)
    shares = {
        group: max(
            float(placement.used[name][np.unique(cores)].max()) / limits.get(f"{name}_per_core", np.inf)
            for name in PER_CORE
        )
        for group, cores in placement.core_of_neuron.items()
    }
    return {group: share for group, share in shares.items() if share > 1}


def _divided_further(program: Program, plan: CorePlan, overload: Mapping[str, float], spare: int) -> CorePlan | None:
    """Give the most overloaded layer more parts of its channels; None if no layer can have more."""
    channels_of = {group.name: image_of(program, group)[0] for group in program.groups}
    for name in sorted(overload, key=lambda group: (-overload[group], group)):
        rows, columns, channels = plan.parts[name]
        wanted = channels + max(1, min(channels // GROWTH, spare // (rows * columns)))
        if wanted <= channels_of[name] and (wanted - channels) * rows * columns <= spare:
            parts: dict[str, Parts] = {**plan.parts, name: (rows, columns, wanted)}
            return CorePlan(plan.target, parts)
    return None
