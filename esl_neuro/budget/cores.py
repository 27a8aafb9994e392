"""The cores of a chip as training keeps them: which synapses each connection makes there, and what each core holds.

Nothing here decides what a synapse is or what a core holds. A network is exported and read by the compiler as a
finished one is; where the weights of a layer are numbered, the numbers come back at the synapses that they make. The
compiler divides the layers over the cores before training, and the counters of training are compared with its own.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from esl_neuro.budget.wiring import Weighted, weight_of, weighted_modules
from esl_neuro.compiler.core_load import dense_axon_bits, sparse_axon_bits
from esl_neuro.compiler.core_plan import CorePlan
from esl_neuro.compiler.core_planning import CORES, plan_cores, planned, synapses_only
from esl_neuro.compiler.frontend import read_network
from esl_neuro.compiler.network import FloatConnection, FloatNetwork
from esl_neuro.compiler.placement import Placement, Utilisation, check_limits, place, utilisation
from esl_neuro.compiler.program import INPUT, Program
from esl_neuro.compiler.timing import timing
from esl_neuro.errors import BadInput, CheckFailed
from esl_neuro.hardware import HardwareTarget
from esl_neuro.interchange.to_nir import to_nir
from esl_neuro.nirgraph.findings import errors
from esl_neuro.nirgraph.kernel import Kernel
from esl_neuro.random_streams import stream
from esl_neuro.sparsity.cores import (
    INPUT_AXONS,
    MEMORY,
    OUTPUT_AXONS,
    RESOURCES,
    SYNAPSES,
    UNLIMITED,
    CoreLines,
    Cores,
    Counters,
    Synapses,
)
from esl_neuro.sparsity.fan_in import rounded_down
from esl_neuro.sparsity.masks import Layer
from esl_neuro.sparsity.selection import LayerNames, indexed_layers, named_weights
from esl_neuro.sparsity.sparse_linear import SparseLinear
from esl_neuro.sparsity.sparse_weights import distinct

IntArray = NDArray[np.int64]
Fill = Callable[[str, Weighted], None]
Link = tuple[str, int]  # source and delay of a connection of the chip
CHIP_SYNAPSES = "synapses_per_chip"
SHOWN = 5  # findings in one message
CLOSE = 0.2  # to a whole number, of a number that went through single precision


class CoreBudget:
    """The cores of a chip for a network that is trained for them.

    Parameters
    ----------
    network : nn.Module
        The network.
    shape : tuple of int
        Shape of an input sample.
    layers : sequence of str or "all"
        The sparse layers, as structure learning names them.
    target : HardwareTarget
        The chip, with the limits of the budget.

    Attributes
    ----------
    core_plan : CorePlan
        How the layers are divided over the cores, once :meth:`plan` has been called; the exported graph notes it.
    cores : Cores
        What each core holds.
    """

    core_plan: CorePlan
    cores: Cores

    def __init__(self, network: nn.Module, shape: tuple[int, ...], layers: LayerNames, target: HardwareTarget) -> None:
        self.network, self.shape, self.target = network, shape, target
        full = {id(weight_of(module)): name for name, module in weighted_modules(network).items()}
        indexed = {layer.name: layer.module.values for layer in indexed_layers(network, layers)}
        weights = indexed or dict(named_weights(network, layers))
        self.layers = {name: full[id(weight)] for name, weight in weights.items()}

    def plan(self, counts: Mapping[str, int]) -> Cores:
        """Divide the layers over the cores, and return empty cores; give the method to ``Rewirer``.

        Parameters
        ----------
        counts : mapping of str to int
            Connections of each sparse layer.

        Raises
        ------
        BadInput
            If the network has no form on the chip, or no connections fit; with all findings and what would fit.
        """
        number = {full: counts[name] for name, full in self.layers.items()}

        def at_random(name: str, module: Weighted) -> None:
            _fill(module, 1 if name not in number else 0)
            if name in number:
                _connect(module, _drawn(module, number[name], name), np.ones(number[name]))

        program = synapses_only(self._read(at_random), self.target)
        refuse_several_delays(program)
        self.core_plan = plan_cores(program, self.target)
        placement = planned(program, self.core_plan, self.target)
        fixed = self._read(lambda name, module: _fill(module, 0 if name in number else 1))
        unchanging = planned(synapses_only(fixed, self.target), self.core_plan, self.target)
        refuse_what_never_fits(program, placement, unchanging, self.target)
        self._table = table = _Table(program, placement, self.target)
        layers = {name: self._synapses(full, table) for name, full in self.layers.items()}
        self.cores = Cores(layers, table.lines, table.limits, table.most_synapses, table.counters(fixed))
        return self.cores

    def _synapses(self, name: str, table: _Table) -> Synapses:
        """Find the synapses that each connection of a layer makes: its weights are numbered, all others are zero."""
        module = weighted_modules(self.network)[name]
        outputs, inputs = _size(module)

        def one_output(output: int, numbers: NDArray[np.float64]) -> FloatNetwork:
            def fill(each: str, other: Weighted) -> None:
                _fill(other, 0)
                if each == name:
                    _connect(other, output * inputs + np.arange(inputs), numbers)

            return self._read(fill)

        nothing = self._read(lambda _name, other: _fill(other, 0))  # synapses without weights, as of shortcuts
        ones = one_output(0, np.ones(inputs))
        numbered, last = one_output(0, np.arange(1.0, inputs + 1)), one_output(outputs - 1, np.ones(inputs))
        parts, of_neurons, sources, places = [], [], set(), 0
        each_read = (nothing, ones, numbered, last)
        for zero, one, two, three in zip(*(network.connections for network in each_read), strict=True):
            found, number, end = (_beyond(each, zero) for each in (one, two, three))
            if not found.nnz:
                continue
            first, size = int(found.row.min()), int(np.ptp(found.row)) + 1
            step, rest = divmod(int(end.row.min()) - first, max(outputs - 1, 1)) if end.nnz else (0, 1)
            columns = np.rint(number.data / found.data) - 1 if found.nnz == number.nnz else np.full(found.nnz, np.nan)
            if rest or step < 0 or not (np.abs(number.data / found.data - 1 - columns) < CLOSE).all():
                raise _unclear(name)
            neurons = first + np.arange(outputs)[:, None] * step + np.arange(size)
            of_neurons.append(table.parts_of(one.target)[neurons])
            parts.append((columns.astype(np.int64), found.row - first + places, table.lines_of(one, found.col)))
            sources.add(one.source)
            places += size
        if not parts:
            raise BadInput(f"budget: no neurons follow layer '{name}', so its synapses cannot be counted")
        column, place, line = (np.concatenate([part[at] for part in parts]) for at in range(3))
        order = np.lexsort((place, column))
        starts = np.searchsorted(column[order], np.arange(inputs + 1))
        groups = getattr(module, "groups", 1)
        shift = np.arange(outputs) // (outputs // groups) * table.lines_per_group(sources, groups)
        part = np.ascontiguousarray(np.concatenate(of_neurons, axis=1))
        return Synapses(starts, place[order].astype(np.int64), line[order], shift, part)

    def check(self, layers: Sequence[Layer]) -> Placement:
        """Let the compiler count what the cores hold now.

        Parameters
        ----------
        layers : sequence of Layer
            The sparse layers.

        Returns
        -------
        Placement
            The cores, with what each holds.

        Raises
        ------
        CheckFailed
            If the compiler finds that a core exceeds a limit, or counts otherwise than training. Either is an error of
            this project.
        """
        masks = {self.layers[layer.name]: layer.mask for layer in layers}

        def connected(name: str, module: Weighted) -> None:
            _fill(module, 1)
            if name in masks:
                weight_of(module).copy_(masks[name])

        network = replace(self._read(connected), core_plan=self.core_plan)
        program = synapses_only(network, self.target)
        placement = place(program, self.target)
        found = [str(finding) for finding in errors(check_limits(program, placement, self.target))]
        found += [] if placement.planned else ["the cores that were planned do not hold the network"]
        if not found:
            for name, now in zip(self._table.counted, self.cores.counters.used, strict=False):
                there = placement.used[name]
                found += [
                    f"{name} of core {one}: {now[one]:,} and {there[one]:,}" for one in np.flatnonzero(now != there)
                ]
        if found:
            raise CheckFailed(
                f"budget: training and compiler count the cores of '{self.target.name}' differently, an error of "
                f"esl-neuro, please report it: {'; '.join(found[:SHOWN])}"
            )
        return placement

    def used_by(self, network: nn.Module) -> list[Utilisation]:
        """Return what a network with the weights of training uses of the chip, as it is exported.

        Raises
        ------
        CheckFailed
            If the compiler finds that it does not fit, which is an error of this project.
        """
        floats = read_network(to_nir(network, 1, shape=self.shape))
        program = synapses_only(replace(floats, core_plan=self.core_plan), self.target)
        placement = place(program, self.target)
        if found := errors(check_limits(program, placement, self.target)):
            raise CheckFailed(
                f"budget: the trained network does not fit on '{self.target.name}', an error of esl-neuro, please "
                f"report it: {'; '.join(map(str, found[:SHOWN]))}"
            )
        return utilisation(program, placement, self.target)

    def _read(self, fill: Fill) -> FloatNetwork:
        """Return the network as the compiler reads it, with other weights."""
        changed = copy.deepcopy(self.network).cpu().eval()
        with torch.no_grad():
            for name, module in weighted_modules(changed).items():
                fill(name, module)
                if module.bias is not None:
                    module.bias.fill_(1)  # constants may need neurons of their own
            for norm in changed.modules():
                if isinstance(norm, _BatchNorm):
                    norm.reset_parameters()
                    if norm.affine:
                        norm.bias.fill_(1)
        return read_network(to_nir(changed, 1, shape=self.shape))


def _fill(module: Weighted, value: float) -> None:
    weight_of(module).fill_(value)


def _connect(module: Weighted, positions: IntArray, values: NDArray[np.float64]) -> None:
    """Give a layer weights at flat positions, and nowhere else."""
    if isinstance(module, SparseLinear):
        module.connect(positions, values)
    else:
        weight = module.weight.zero_().view(-1)
        weight[torch.from_numpy(positions)] = torch.from_numpy(values).to(weight)


def _drawn(module: Weighted, count: int, name: str) -> IntArray:
    outputs, inputs = _size(module)
    return distinct(outputs * inputs, count, stream(0, f"plan {name}"))


def _size(module: Weighted) -> tuple[int, int]:
    """Return outputs and inputs; a weight of a kernel counts as an input of its own."""
    if isinstance(module, SparseLinear):
        return module.out_features, module.in_features
    return len(module.weight), module.weight[0].numel()


class _Table:
    """The lines of the cores of a placed program, and their counters.

    Parameters
    ----------
    program : Program
        With all connections of the chip.
    placement : Placement
        Its cores.
    target : HardwareTarget
        The chip, with the limits of the budget.
    """

    def __init__(self, program: Program, placement: Placement, target: HardwareTarget) -> None:
        limits = {name: limit.value for name, limit in target.limits.items()}
        most = [limits.get(f"{name}_per_core") for name in RESOURCES]
        self.limits = np.array([UNLIMITED if value is None else math.floor(value) for value in most], np.int64)
        chip = limits.get(CHIP_SYNAPSES)
        self.most_synapses = UNLIMITED if chip is None else math.floor(chip)
        self.counted = RESOURCES if (self.limits[MEMORY:] < UNLIMITED).any() else RESOURCES[:1]
        self._cores = placement.core_of_neuron
        self._parts: dict[str, IntArray] = {}
        self._cores_of_parts: list[int] = []
        for group in program.groups:
            there, part = np.unique(self._cores[group.name], return_inverse=True)
            self._parts[group.name] = len(self._cores_of_parts) + part.ravel()
            self._cores_of_parts += there.tolist()
        self._links: dict[str, dict[Link, int]] = {group.name: {} for group in program.groups}  # first line of each
        self._sources = {INPUT: program.input_size, **{group.name: group.neurons for group in program.groups}}
        self._number = {group.name: 0 for group in program.groups}  # of lines
        holds: dict[tuple[str, Link], int] = {}
        for each, hold in zip(program.connections, timing(program).hold, strict=True):
            self._links[each.target][each.source, each.delay] = self._number[each.target]
            self._number[each.target] += self._sources[each.source] if len(self.counted) > 1 else 1
            holds[each.target, (each.source, each.delay)] = hold
        self.lines = self._make_lines(placement, holds)

    def _make_lines(self, placement: Placement, holds: Mapping[tuple[str, Link], int]) -> CoreLines:
        link, source_core, first_line, first_link, counts = [], [], [], [], []
        kinds: dict[tuple[int, int], int] = {}
        kind: list[int] = []
        dense_bits: list[int] = []
        before = 0
        for group, links in self._links.items():
            ends = [*links.values(), self._number[group]][1:]
            for at, ((source, _), first, end) in enumerate(zip(links, links.values(), ends, strict=True)):
                link.append(np.full(end - first, at))
                there = self._cores.get(source) if len(self.counted) > 1 else None
                source_core.append(np.full(end - first, -1) if there is None else there)
            for core in np.unique(self._cores[group]).tolist():
                neurons = int(placement.used["neurons"][core])
                first_line.append(before)
                first_link.append(len(kind))
                counts.append(self._number[group])
                for each in links:
                    delay_bits = holds[group, each].bit_length()
                    kind.append(kinds.setdefault((neurons, delay_bits), len(kinds)))
                    dense_bits.append(dense_axon_bits(neurons, delay_bits))
            before += self._number[group]
        synapses = np.arange(1 + max(neurons for neurons, _ in kinds))
        bits = np.array([sparse_axon_bits(synapses, *each) for each in kinds])
        self._size = sum(counts)
        first_count = np.cumsum([0, *counts[:-1]])
        flat = (np.concatenate(link), np.concatenate(source_core))
        numbers = (first_count, first_line, first_link, self._cores_of_parts, *flat, bits, kind, dense_bits)
        return CoreLines(*(np.asarray(each, np.int64) for each in numbers))

    def parts_of(self, group: str) -> IntArray:
        """Return the part of each neuron of a group: what a core holds of it."""
        return self._parts[group]

    def lines_of(self, connection: FloatConnection, sources: NDArray[np.int32]) -> IntArray:
        """Return the lines of sources of a connection, counted in the group that it feeds."""
        first = self._links[connection.target][connection.source, connection.delay]
        return first + (sources.astype(np.int64) if len(self.counted) > 1 else np.zeros(len(sources), np.int64))

    def lines_per_group(self, sources: set[str], groups: int) -> int:
        """Return the lines from one group of a convolution to the next, where it reads these sources."""
        if groups == 1 or len(self.counted) == 1:
            return 0
        return max(self._sources[source] for source in sources) // groups

    def counters(self, network: FloatNetwork) -> Counters:
        """Count the synapses of a network."""
        lines, parts = self.lines, len(self.lines.core)
        counts = np.zeros(self._size, np.int32)
        now = Counters(
            counts,
            np.zeros((len(RESOURCES), 1 + max(self._cores_of_parts)), np.int64),
            np.zeros(len(lines.kind), np.int64),
            np.zeros(len(lines.kind), np.int64),
            np.zeros(1, np.int64),
        )
        for each in network.connections:
            matrix = _matrix(each.weights)
            cells = lines.first_count[self._parts[each.target][matrix.row]] + self.lines_of(each, matrix.col)
            counts += np.bincount(cells, minlength=self._size).astype(np.int32)
        owner = np.repeat(np.arange(parts), np.diff([*lines.first_count, self._size]))
        line = lines.first_line[owner] + np.arange(self._size) - lines.first_count[owner]
        link = lines.first_link[owner] + lines.link[line]
        there = np.flatnonzero(counts)
        np.add.at(now.axons, link[there], 1)
        reached = np.minimum(counts[there], lines.bits.shape[1] - 1)
        np.add.at(now.sparse_bits, link[there], lines.bits[lines.kind[link[there]], reached])
        np.add.at(now.used[SYNAPSES], lines.core[owner], counts)
        np.add.at(now.used[INPUT_AXONS], lines.core[owner[there]], 1)
        source = lines.source_core[line[there]]
        np.add.at(now.used[OUTPUT_AXONS], source[source >= 0], 1)
        core_of_link = np.repeat(lines.core, np.diff([*lines.first_link, len(lines.kind)]))
        np.add.at(now.used[MEMORY], core_of_link, np.minimum(now.sparse_bits, now.axons * lines.dense_bits))
        now.total[0] = counts.sum(dtype=np.int64)
        return now


def _matrix(weights: sp.csr_matrix | Kernel) -> sp.coo_matrix:
    """Return the synapses of a connection."""
    matrix = weights.matrix() if isinstance(weights, Kernel) else sp.csr_matrix(weights, copy=True)
    matrix.eliminate_zeros()
    return matrix.tocoo()


def _beyond(one: FloatConnection, zero: FloatConnection) -> sp.coo_matrix:
    """Return the synapses of a connection that another network does not have."""
    difference = (_matrix(one.weights).tocsr() - _matrix(zero.weights).tocsr()).tocsr()
    difference.eliminate_zeros()
    difference.sort_indices()
    return difference.tocoo()


def _unclear(name: str) -> BadInput:
    return BadInput(
        f"budget: the synapses of layer '{name}' on the cores cannot be told apart: several of its weights make one "
        "synapse, or its outputs meet before the neurons; put neurons behind it, or omit the budget of the cores"
    )


# --- what never fits ------------------------------------------------------------------------------------------------


def refuse_what_never_fits(
    program: Program, placement: Placement, unchanging: Placement, target: HardwareTarget
) -> None:
    """Reject a budget that no choice of connections can keep.

    Parameters
    ----------
    program : Program
        With as many synapses as are trained.
    placement : Placement
        Its planned cores.
    unchanging : Placement
        The same cores with the synapses alone that structure learning does not choose.
    target : HardwareTarget
        The chip, with the limits of the budget.

    Raises
    ------
    BadInput
        With the smallest value that is possible of each limit, all others as they are.
    """
    limits = {name: limit.value for name, limit in target.limits.items() if limit.value is not None}
    findings = []
    if placement.cores > limits.get(CORES, math.inf):
        findings += _too_few_cores(program, placement, target)
    for name in RESOURCES:
        used, most = int(unchanging.used[name].max()), limits.get(f"{name}_per_core", math.inf)
        if used > most:
            findings.append(
                f"{name}_per_core {most:,.0f} is not possible: the synapses that structure learning does not choose, "
                f"as of dense layers, use {used:,}; raise it to {used:,}, or add their layers to sparsity.layers"
            )
    if program.synapses > (most := limits.get(CHIP_SYNAPSES, math.inf)):
        findings.append(
            f"{CHIP_SYNAPSES} {most:,.0f} is not possible: there are {program.synapses:,} synapses; raise it, or "
            f"multiply the densities by {rounded_down(most / program.synapses)}"
        )
    if findings:
        raise BadInput("budget: " + "; ".join(findings))


def refuse_several_delays(program: Program) -> None:
    """Reject delays whose synapses share axons, which the counters would count once for each delay.

    Raises
    ------
    BadInput
        With all pairs of layers that have several delays.
    """
    delays: dict[tuple[str, str], set[int]] = {}
    for each in program.connections:
        if not isinstance(each.weights, Kernel):
            delays.setdefault((each.source, each.target), set()).add(each.delay)
    several = [f"'{source}' -> '{target}'" for (source, target), found in delays.items() if len(found) > 1]
    if several:
        raise BadInput(
            f"budget: {', '.join(several)}: synapses with several delays share their axons, which a budget of cores "
            "does not count; omit network.delay_slots, or the fields of the cores from [budget]"
        )


def _too_few_cores(program: Program, placement: Placement, target: HardwareTarget) -> list[str]:
    """Say which number of cores, or which limit of a core, would do."""
    given = int(target.limits[CORES].value or 0)
    changes = [f"{CORES.partition('_')[0]} to {placement.cores:,}"]
    for name in ("neurons_per_core", "synapses_per_core"):
        smallest = _smallest(program, target, name)
        if smallest is not None:
            changes.append(f"{name} to {smallest:,}")
    convolutions = any(isinstance(each.weights, Kernel) for each in program.connections)
    alone = ", of which convolutions share no core," if convolutions else ""
    return [
        f"cores {given} is not possible: {program.neurons:,} neurons in {len(program.groups)} layers{alone} with "
        f"{program.synapses:,} synapses need {placement.cores:,}; raise {', or '.join(changes)}"
    ]


def _smallest(program: Program, target: HardwareTarget, name: str) -> int | None:
    """Return the smallest value of a limit of a core with which the cores are enough; None if there is none."""
    limit = target.limits.get(name)
    if limit is None or limit.value is None:
        return None

    def enough(value: float | None) -> bool:
        changed = target.with_limits({name: value}, "")
        return planned(program, plan_cores(program, changed), changed).cores <= (target.limits[CORES].value or 0)

    if not enough(None):
        return None
    low, high = int(limit.value), program.neurons + program.synapses
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
