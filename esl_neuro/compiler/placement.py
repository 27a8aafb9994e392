"""Neurons onto cores: what each core holds, and what does not fit.

A core holds consecutive neurons of one group: of an image whole channels, or whole rows of a channel, or a piece of a
row. A group gets as many cores as it needs to respect every published limit of a core; limits that nobody published
are reported as unknown and bind nothing. Synaptic memory is counted in the formats of Loihi 1 as nengo-loihi 1.1.0
counts them (``nengo_loihi/block.py``); no other format has been published.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from esl_neuro.compiler.findings import Finding
from esl_neuro.compiler.kernel import Kernel
from esl_neuro.compiler.program import INPUT, Connection, Group, IntArray, Program
from esl_neuro.compiler.timing import timing
from esl_neuro.hardware import HardwareTarget, Limit

WEIGHT_BITS = 8
SMALLEST_INDEX_BITS = 6  # of 6 to 12; one bit more for each doubling beyond
RUN = 64  # synapses of an axon that share a header
HEADER_BITS = 10
WORD_BITS = 64

PER_CORE = ("neurons", "synapses", "synaptic_memory", "input_axons", "output_axons")


@dataclass(frozen=True)
class Placement:
    """Which core each neuron is on, and what every core holds.

    Attributes
    ----------
    core_of_neuron : dict of str to int64 array, shape (neurons,)
        Core of each neuron of each group; core ``c`` is on chip ``c // cores_per_chip``. Input lines are on none.
    used : dict of str to int64 array, shape (cores,)
        ``"neurons"``, ``"synapses"``, ``"synaptic_memory"`` (bits), ``"input_axons"`` (sources of a connection that
        reach the core) and ``"output_axons"`` (for each neuron and connection that leaves it, the cores reached).
    """

    core_of_neuron: dict[str, IntArray]
    used: dict[str, IntArray]

    @property
    def cores(self) -> int:
        """Number of cores in use."""
        return int(self.used["neurons"].size)


@dataclass(frozen=True)
class Utilisation:
    """How much of a resource is used.

    Attributes
    ----------
    resource : str
        Name of the limit, as in ``hw_targets/``.
    used : int
        Of a resource of a core: by the fullest core.
    mean : float
        Of a resource of a core: the mean of all cores in use; else ``used``.
    limit : float or None
        None where it is not published.
    unit : str
    """

    resource: str
    used: int
    mean: float
    limit: float | None
    unit: str


def place(program: Program, target: HardwareTarget) -> Placement:
    """Put the groups of a program on cores, so that no published limit of a core is exceeded where that is possible.

    Groups are placed from the output backward, because the output axons of a core depend on the cores of its targets.
    """
    limits = {name: _known(target, f"{name}_per_core") for name in PER_CORE}
    holds = dict(zip(map(id, program.connections), timing(program).hold, strict=True))
    axons = {group.name: np.zeros(group.neurons, dtype=np.int64) for group in program.groups}
    splits: dict[str, _Split] = {}
    for group in reversed(program.groups):
        incoming = [(each, int(holds[id(each)]).bit_length()) for each in program.incoming(group.name)]
        splits[group.name] = split = _split(group, incoming, axons[group.name], limits)
        for connection, reached in split.reached:
            if connection.source != INPUT:
                axons[connection.source] += reached
    cores, first = {}, 0
    for group in program.groups:
        cores[group.name] = first + np.repeat(np.arange(splits[group.name].blocks), splits[group.name].sizes)
        first += splits[group.name].blocks
    used = {
        name: np.concatenate([splits[group.name].used[name] for group in program.groups])
        for name in ("neurons", "synapses", "synaptic_memory", "input_axons")
    }
    outgoing = [np.add.reduceat(axons[group.name], splits[group.name].starts) for group in program.groups]
    return Placement(cores, used | {"output_axons": np.concatenate(outgoing)})


def utilisation(program: Program, placement: Placement, target: HardwareTarget) -> list[Utilisation]:
    """Compare what a program uses with what one chip has."""
    rows = [
        _utilisation(target, f"{name}_per_core", int(placement.used[name].max()), float(placement.used[name].mean()))
        for name in PER_CORE
    ]
    whole = {
        "cores_per_chip": placement.cores,
        "neurons_per_chip": program.neurons,
        "synapses_per_chip": program.synapses,
        "delay_steps": max(timing(program).hold, default=0),
    }
    return rows + [_utilisation(target, name, needed, needed) for name, needed in whole.items()]


def check_limits(program: Program, placement: Placement, target: HardwareTarget) -> list[Finding]:
    """Find everything that does not fit on one chip; limits that nobody published are not checked."""
    findings = [*_check_cores(program, placement, target)]
    for row in utilisation(program, placement, target):
        if row.resource.endswith("_per_core") or row.limit is None or row.used <= row.limit:
            continue
        over = row.used - row.limit
        change = f"take away {over:,.0f}"
        if row.resource == "cores_per_chip":
            per_core = program.neurons / placement.cores
            change += f" (about {math.ceil(over * per_core):,} neurons), or use {math.ceil(row.used / row.limit)} chips"
        elif row.resource == "synapses_per_chip":
            change += f": a density of {row.limit / row.used:.3g} of the present one"
        elif row.resource == "delay_steps":
            change = f"shorten the delay, or the longer path that meets it, by {over:,.0f} steps"
        source = target.limits[row.resource].source
        message = f"needs {row.used:,} of {row.limit:,} ({source}); {change}"
        findings.append(Finding("too-large", f"{target.name} {row.resource}", message))
    return findings


def _check_cores(program: Program, placement: Placement, target: HardwareTarget) -> Iterator[Finding]:
    """Find the layers of which some core holds too much: those that could not be split further."""
    for name in PER_CORE:
        limit = _known(target, f"{name}_per_core")
        if limit is None:
            continue
        for group in program.groups:
            cores = placement.core_of_neuron[group.name]
            used = int(placement.used[name][cores].max())
            if used <= limit:
                continue
            incoming = [(each, 0) for each in program.incoming(group.name)]
            alone = _alone(group, incoming, np.zeros(1, dtype=np.int64))[name]
            neurons, needed = (1, alone) if alone > limit else (np.bincount(cores - cores.min()).max(), used)
            yield Finding(
                "too-large",
                f"layer '{group.name}'",
                f"a core with {neurons:,} of its neurons needs {needed:,} {_unit(target, name)} of {limit:,.0f} "
                f"({target.name} {name}_per_core); {_change(name)} by {needed - limit:,.0f}",
            )


def _change(name: str) -> str:
    return {
        "neurons": "reduce the neurons of a core",
        "synapses": "lower the density of what feeds it, and so its synapses,",
        "synaptic_memory": "lower the density of what feeds it, and so its bits,",
        "input_axons": "reduce the sources that feed one neuron",
        "output_axons": "reduce the cores that its neurons reach",
    }[name]


def _utilisation(target: HardwareTarget, resource: str, used: int, mean: float) -> Utilisation:
    limit = target.limits.get(resource)
    unit = limit.unit if limit else resource.split("_per_")[0]
    return Utilisation(resource, used, mean, _value(limit), unit)


def _unit(target: HardwareTarget, name: str) -> str:
    return target.limits[f"{name}_per_core"].unit


def _known(target: HardwareTarget, name: str) -> float | None:
    return _value(target.limits.get(name))


def _value(limit: Limit | None) -> float | None:
    return None if limit is None or limit.value is None else limit.value


# --- one group ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Split:
    """A group cut into blocks of consecutive neurons, each for one core.

    Attributes
    ----------
    starts, sizes : int64 array, shape (blocks,)
    used : dict of str to int64 array, shape (blocks,)
    reached : list of (Connection, int64 array of shape (source neurons,))
        For each source of a connection, the blocks that it reaches.
    """

    starts: IntArray
    sizes: IntArray
    used: dict[str, IntArray]
    reached: list[tuple[Connection, IntArray]]

    @property
    def blocks(self) -> int:
        return int(self.starts.size)


def _split(
    group: Group, incoming: Sequence[tuple[Connection, int]], axons: IntArray, limits: Mapping[str, float | None]
) -> _Split:
    """Cut a group into the largest blocks that respect the limits; into single neurons if none do."""
    shape = _layout(group, [connection for connection, _ in incoming])
    size = _allowed(shape, int(min(limits["neurons"] or group.neurons, group.neurons)))
    limits = _attainable(group, incoming, axons, limits)
    while True:
        split = _measure(shape, size, incoming)
        used = split.used | {"output_axons": np.add.reduceat(axons, split.starts)}
        excess = max((int(used[name].max()) / limit for name, limit in limits.items() if limit), default=0.0)
        if excess <= 1 or size == 1:
            return split
        size = _allowed(shape, max(1, min(size - 1, int(size / excess))))


def _attainable(
    group: Group, incoming: Sequence[tuple[Connection, int]], axons: IntArray, limits: Mapping[str, float | None]
) -> dict[str, float | None]:
    """Return the limits that a core with a single neuron respects: the others cannot be met by cutting."""
    alone = _alone(group, incoming, axons)
    return {name: limit if limit is not None and alone[name] <= limit else None for name, limit in limits.items()}


def _alone(group: Group, incoming: Sequence[tuple[Connection, int]], axons: IntArray) -> dict[str, int]:
    """Return the most that a core with one neuron of a group can need."""
    fan_in = sum((_fan_in(connection) for connection, _ in incoming), np.zeros(group.neurons, dtype=np.int64))
    most = int(fan_in.max(initial=0))
    return {
        "neurons": 1,
        "synapses": most,
        "synaptic_memory": most * WORD_BITS,
        "input_axons": most,
        "output_axons": int(axons.max(initial=0)),
    }


def _fan_in(connection: Connection) -> IntArray:
    """Count the synapses of each target, shape (targets,); of a kernel, those of positions away from the border."""
    weights = connection.weights
    if not isinstance(weights, Kernel):
        return np.diff(weights.indptr).astype(np.int64)
    _, rows, columns = weights.output_shape
    return np.repeat(np.count_nonzero(weights.weights, axis=(1, 2, 3)), rows * columns)


def _layout(group: Group, incoming: Sequence[Connection]) -> tuple[int, int, int]:
    """Return (channels, rows, columns) of a group that a kernel feeds, else its neurons as channels of one."""
    shapes = [each.weights.output_shape for each in incoming if isinstance(each.weights, Kernel)]
    return shapes[0] if shapes else (group.neurons, 1, 1)


def _allowed(shape: tuple[int, int, int], size: int) -> int:
    """Round a block size down to whole channels, whole rows, or a piece of a row."""
    _, rows, columns = shape
    unit = rows * columns if size >= rows * columns else columns if size >= columns else 1
    return size // unit * unit


def _measure(shape: tuple[int, int, int], size: int, incoming: Sequence[tuple[Connection, int]]) -> _Split:
    channels, rows, columns = shape
    whole = channels * rows * columns if size >= rows * columns else rows * columns if size >= columns else columns
    starts = (np.arange(0, channels * rows * columns, whole)[:, None] + np.arange(0, whole, size)).ravel()
    ends = np.append(starts[1:], channels * rows * columns)
    sizes = ends - starts
    used = {name: np.zeros(starts.size, dtype=np.int64) for name in ("synapses", "synaptic_memory", "input_axons")}
    reached = []
    for connection, delay_bits in incoming:
        reach = np.zeros(connection.weights.shape[1], dtype=np.int64)
        for block, sources, load in _arrivals(connection, shape, starts, sizes, delay_bits):
            for name, amount in load.items():
                used[name][block] += amount
            reach[sources] += 1
        reached.append((connection, reach))
    return _Split(starts, sizes, used | {"neurons": sizes}, reached)


Load = dict[str, int]


def _load(counts: IntArray, neurons: int, delay_bits: int) -> Load:
    """Return what axons with so many synapses each take of a core."""
    return {
        "synapses": int(counts.sum()),
        "synaptic_memory": memory_bits(np.bincount(counts), neurons, delay_bits),
        "input_axons": counts.size,
    }


def _arrivals(
    connection: Connection, shape: tuple[int, int, int], starts: IntArray, sizes: IntArray, delay_bits: int
) -> Iterator[tuple[int, IntArray, Load]]:
    """For each block, yield the sources that reach it, and what they take of its core."""
    if isinstance(connection.weights, Kernel) and connection.weights.output_shape == shape:
        yield from _kernel_arrivals(connection.weights, starts, sizes, delay_bits)
        return
    entries = connection.matrix.tocoo()
    block_of_row = np.repeat(np.arange(starts.size), sizes)
    counted = sp.csr_matrix(
        (np.ones(entries.nnz, dtype=np.int64), (block_of_row[entries.row], entries.col)),
        shape=(starts.size, connection.weights.shape[1]),
    )
    for block in range(starts.size):
        part = slice(counted.indptr[block], counted.indptr[block + 1])
        yield block, counted.indices[part], _load(counted.data[part], int(sizes[block]), delay_bits)


def memory_bits(axons: IntArray, neurons: int, delay_bits: int = 0) -> int:
    """Return the bits that the synapses of a core take, in the smaller of two formats.

    Sparse: each synapse holds weight, delay and index of its neuron. Dense: each axon holds a weight for every neuron.
    Runs of up to 64 synapses share a header of 10 bits, and fill words of 64 bits.

    Parameters
    ----------
    axons : int64 array
        ``axons[n]``: how many axons have ``n`` synapses on the core.
    neurons : int
        Neurons of the core.
    delay_bits : int
        Bits of the delay of each synapse.

    Examples
    --------
    >>> memory_bits(np.array([0, 0, 0, 1]), 8)  # one axon with 3 synapses: 3 * 14 + 10 bits, in one word
    64
    """
    index_bits = max(SMALLEST_INDEX_BITS, (neurons - 1).bit_length())
    synapses = np.arange(axons.size)
    sparse = int(axons @ _axon_bits(synapses, WEIGHT_BITS + delay_bits + index_bits))
    dense = int(axons[1:].sum() * _axon_bits(np.array([neurons]), WEIGHT_BITS + delay_bits)[0])
    return min(sparse, dense)


def _axon_bits(synapses: IntArray, bits: int) -> IntArray:
    runs, rest = np.divmod(synapses, RUN)
    last = np.where(rest > 0, _words(rest * bits + HEADER_BITS), 0)
    return np.asarray(runs * _words(np.array(RUN * bits + HEADER_BITS)) + last)


def _words(bits: IntArray) -> IntArray:
    return -(-bits // WORD_BITS) * WORD_BITS


def _kernel_arrivals(
    kernel: Kernel, starts: IntArray, sizes: IntArray, delay_bits: int
) -> Iterator[tuple[int, IntArray, Load]]:
    """Do what :func:`_arrivals` does; blocks that see their part of the image alike are counted once."""
    _, source_rows, source_columns = kernel.input_shape
    seen: dict[tuple[int, tuple[int, int]], tuple[IntArray, int]] = {}
    known: dict[tuple[int, int, int, bytes, bytes], tuple[IntArray, Load]] = {}
    for block, (start, size) in enumerate(zip(starts.tolist(), sizes.tolist(), strict=True)):
        channels, rows, columns = _extent(kernel, start, size)
        for axis, positions in enumerate((rows, columns)):
            if (axis, positions) not in seen:
                seen[axis, positions] = _seen(kernel, axis, positions)
        (row_of_tap, top), (column_of_tap, left) = seen[0, rows], seen[1, columns]
        key = (size, *channels, row_of_tap.tobytes(), column_of_tap.tobytes())
        if key not in known:
            taps = _taps(kernel, *channels)
            counts = np.matmul(row_of_tap, np.matmul(taps, column_of_tap.T))  # (in channels, rows, columns seen)
            channel, row, column = np.nonzero(counts)
            offsets = (channel * source_rows + row) * source_columns + column
            known[key] = offsets, _load(counts[channel, row, column].astype(np.int64), size, delay_bits)
        offsets, load = known[key]
        yield block, offsets + (top * source_columns + left), load


def _extent(kernel: Kernel, start: int, size: int) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Return the (first, one past the last) channel, row and column of consecutive targets."""
    _, rows, columns = kernel.output_shape
    first, last = start // (rows * columns), (start + size - 1) // (rows * columns)
    top, bottom = (place % (rows * columns) // columns for place in (start, start + size - 1))
    if first < last:
        return (first, last + 1), (0, rows), (0, columns)
    if top < bottom:
        return (first, last + 1), (top, bottom + 1), (0, columns)
    return (first, last + 1), (top, bottom + 1), (start % columns, (start + size - 1) % columns + 1)


def _taps(kernel: Kernel, first: int, last: int) -> IntArray:
    """Count the weights that are not zero, over some output channels, shape (in channels, height, width)."""
    there = (kernel.weights[first:last] != 0).astype(np.float32)
    if kernel.groups == 1:
        return np.asarray(there.sum(axis=0))
    per_group = kernel.weights.shape[1]
    group = np.arange(first, last) // (kernel.weights.shape[0] // kernel.groups)
    taps = np.zeros((kernel.input_shape[0], *kernel.weights.shape[2:]), dtype=np.float32)
    np.add.at(taps, group[:, None] * per_group + np.arange(per_group), there)
    return np.asarray(taps)


def _seen(kernel: Kernel, axis: int, positions: tuple[int, int]) -> tuple[IntArray, int]:
    """Return which tap sees which source row (or column), shape (rows seen, taps), and the first row seen."""
    taps, dilation, stride = kernel.weights.shape[2 + axis], kernel.dilation[axis], kernel.stride[axis]
    starts = np.arange(*positions) * stride - kernel.padding[axis]
    sources = starts[:, None] + np.arange(taps) * dilation
    low, high = max(0, int(sources.min())), min(kernel.input_shape[1 + axis], int(sources.max()) + 1)
    seen = np.zeros((max(high - low, 0), taps), dtype=np.float32)
    position, tap = np.nonzero((sources >= low) & (sources < high))
    seen[sources[position, tap] - low, tap] = 1
    return np.asarray(seen), low
