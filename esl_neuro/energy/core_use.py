"""The cores that a program occupies on a chip, and the work of the busiest one in each step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from esl_neuro.backends.trace import Payloads, Trace
from esl_neuro.compiler.placement import place
from esl_neuro.compiler.program import INPUT, Connection, IntArray, Program
from esl_neuro.compiler.timing import timing
from esl_neuro.energy.core_map import CoreMap, parts
from esl_neuro.energy.fans import delayed
from esl_neuro.hardware import HardwareTarget

# Events in memory at once; limits the memory, does not change the result.
BLOCK_ENTRIES = 2**24
# Constants of a target that multiply cores, or the work of one core.
DEPENDING = frozenset({"e_core_step", "t_sop_core"})


@dataclass(frozen=True)
class CoreUse:
    """Use of the cores of a chip by one program in one run.

    Attributes
    ----------
    cores : int
        Cores with neurons. Input lines are on no core.
    limit : int or None
        Cores of one chip; None if unknown.
    fullest : int
        Neurons of the core that has most.
    busiest : int64 array, shape (samples, steps)
        Events x stored weights that they meet on the core with most of them in that step.
    latency_steps : int
        Steps by which the output works after the input.
    """

    cores: int
    limit: int | None
    fullest: int
    busiest: IntArray
    latency_steps: int

    @property
    def chips(self) -> int:
        """Chips that are needed."""
        return 1 if self.limit is None else -(-self.cores // self.limit)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, the work of the busiest core summed over samples and steps."""
        return {
            "cores": self.cores,
            "chips": self.chips,
            "fullest_neurons": self.fullest,
            "busiest_events": int(self.busiest.sum()),
            "latency_steps": self.latency_steps,
        }


def core_use(program: Program, trace: Trace, target: HardwareTarget, placement: CoreMap | None = None) -> CoreUse:
    """Return the cores of a program on a chip, and the work of the busiest one.

    Parameters
    ----------
    program : Program
        The integer program that ran.
    trace : Trace
        Its spikes.
    target : HardwareTarget
        The chip, whose limits determine the cores if no placement is given.
    placement : CoreMap, optional
        Cores of the neurons.

    Raises
    ------
    BadInput
        If the placement has no cores for a group.
    """
    cores: Mapping[str, IntArray] = (
        place(program, target).core_of_neuron
        if placement is None
        else {group.name: placement.cores(group.name, group.neurons) for group in program.groups}
    )
    used, sizes = np.unique(np.concatenate(list(cores.values())), return_counts=True)
    limit = target.limits.get("cores_per_chip")
    return CoreUse(
        cores=len(used),
        limit=None if limit is None or limit.value is None else int(limit.value),
        fullest=int(sizes.max(initial=0)),
        busiest=_busiest(program, trace, {name: np.searchsorted(used, of) for name, of in cores.items()}, len(used)),
        latency_steps=timing(program).latency[program.output.name],
    )


def core_uses(
    program: Program, trace: Trace, targets: Iterable[HardwareTarget], placement: CoreMap | None = None
) -> dict[str, CoreUse]:
    """Return the use of the cores of each target whose energy or time depends on it."""
    return {
        target.name: core_use(program, trace, target, placement)
        for target in targets
        if DEPENDING & target.constants.keys()
    }


def _busiest(program: Program, trace: Trace, core_of: Mapping[str, IntArray], cores: int) -> IntArray:
    """Return the events of the busiest core, shape (samples, steps)."""
    spikes: dict[str, Payloads] = {INPUT: trace.input_spikes, **trace.spikes}
    rows = trace.samples * trace.steps
    signals = {id(each): delayed(spikes[each.source], each.delay).reshape(rows, -1) for each in program.connections}
    fans = {id(each): _fans(each, core_of[each.target], cores) for each in program.connections}
    widest = max((signal.shape[1] for signal in signals.values()), default=1)
    block = max(1, BLOCK_ENTRIES // max(widest, 1))
    result = np.zeros(rows, dtype=np.int64)
    for start in range(0, rows, block):
        part = slice(start, start + block)
        work = sp.csr_matrix((len(result[part]), cores), dtype=np.int64)
        for each in program.connections:
            work += sp.csr_matrix(signals[id(each)][part] != 0, dtype=np.int64) @ fans[id(each)]
        result[part] = work.max(axis=1).toarray().ravel() if cores else 0
    return result.reshape(trace.samples, trace.steps)


def _fans(connection: Connection, core_of: IntArray, cores: int) -> sp.csr_matrix:
    """Count the stored weights of each source on each core, shape (sources, cores).

    Sparse, because a large network has 100,000 sources and as many cores.
    """
    fans = sp.csr_matrix((connection.weights.shape[1], cores), dtype=np.int64)
    sources: list[IntArray] = []
    targets: list[IntArray] = []

    def add() -> sp.csr_matrix:
        places = np.concatenate(sources), np.concatenate(targets)
        sources.clear()
        targets.clear()
        return fans + sp.csr_matrix((np.ones(len(places[0]), dtype=np.int64), places), shape=fans.shape)

    for first_target, first_source, part in parts(connection.weights):
        entries = part.tocoo()
        sources.append(first_source + entries.col)
        targets.append(core_of[first_target + entries.row])
        if sum(map(len, sources)) > BLOCK_ENTRIES:
            fans = add()
    return add() if sources else fans
