"""Resources that the axons of a connection use on each core that holds its targets.

Synaptic memory is counted in the formats of Loihi 1, as in nengo-loihi 1.1.0 (``nengo_loihi/block.py``); no other
format has been published.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from esl_neuro.compiler.program import Connection, IntArray
from esl_neuro.compiler.tiling import Tiling
from esl_neuro.nirgraph.kernel import Kernel

WEIGHT_BITS = 8
SMALLEST_INDEX_BITS = 6  # 6 to 12 bits: one more for each doubling of the neurons
RUN = 64  # synapses of an axon that share a header
HEADER_BITS = 10
WORD_BITS = 64

CHUNK = 2**21  # synapse counts in memory at a time
FloatArray = NDArray[np.float32]
Limits: TypeAlias = "Mapping[str, float | None]"


@dataclass(frozen=True)
class Load:
    """Resources that the axons of one connection use.

    Attributes
    ----------
    used : dict of str to int64 array, shape of the tiling's parts
        ``"synapses"``, ``"synaptic_memory"`` (bits) and ``"input_axons"`` of each core.
    reached : int64 array, shape (sources,)
        Number of cores that each source reaches.
    """

    used: dict[str, IntArray]
    reached: IntArray


def exceeds(used: Mapping[str, IntArray], limits: Limits) -> bool:
    """Whether a core exceeds a limit; None means no limit."""
    return any(limit is not None and int(used[name].max()) > limit for name, limit in limits.items() if name in used)


def memory_bits(
    axons: IntArray, neurons: int, delay_bits: int = 0, weight_bits: int = WEIGHT_BITS, *, repeated: bool = False
) -> int:
    """Return the bits that the synapses of a core need, in the smaller of two formats.

    Sparse: each synapse holds weight, delay and index of its neuron. Dense: each axon holds a weight for every neuron,
    and so no second synapse of a pair. Runs of up to 64 synapses share a header of 10 bits and are padded to words of
    64 bits.

    Parameters
    ----------
    axons : int64 array
        ``axons[n]`` is the number of axons with ``n`` synapses on the core.
    neurons : int
        Neurons of the core.
    delay_bits, weight_bits : int
        Bits of the delay and of the weight of each synapse.
    repeated : bool
        Whether a pair of neurons has several synapses, of different delays.

    Examples
    --------
    >>> memory_bits(np.array([0, 0, 0, 1]), 8)  # one axon with 3 synapses: 3 * 14 + 10 bits, in one word
    64
    """
    sparse = int(axons @ sparse_axon_bits(np.arange(axons.size), neurons, delay_bits, weight_bits))
    if repeated:
        return sparse
    dense = int(axons[1:].sum() * dense_axon_bits(neurons, delay_bits, weight_bits))
    return min(sparse, dense)


def sparse_axon_bits(synapses: IntArray, neurons: int, delay_bits: int = 0, weight_bits: int = WEIGHT_BITS) -> IntArray:
    """Return the bits of axons with these numbers of synapses on a core, in the sparse format."""
    index_bits = max(SMALLEST_INDEX_BITS, (neurons - 1).bit_length())
    return _axon_bits(synapses, weight_bits + delay_bits + index_bits)


def dense_axon_bits(neurons: int, delay_bits: int = 0, weight_bits: int = WEIGHT_BITS) -> int:
    """Return the bits of an axon on a core, in the dense format."""
    return int(_axon_bits(np.array([neurons]), weight_bits + delay_bits)[0])


def _axon_bits(synapses: IntArray, bits: int) -> IntArray:
    runs, rest = np.divmod(synapses, RUN)
    last = np.where(rest > 0, _words(rest * bits + HEADER_BITS), 0)
    return np.asarray(runs * _words(np.array(RUN * bits + HEADER_BITS)) + last)


def _words(bits: IntArray) -> IntArray:
    return -(-bits // WORD_BITS) * WORD_BITS


def _amounts(
    counts: IntArray, neurons: int, delay_bits: int, weight_bits: int, *, repeated: bool = False
) -> tuple[int, int, int]:
    """Return synapses, memory and axons of a core from the synapse count of each source (0 means no axon)."""
    axons = np.bincount(counts)
    memory = memory_bits(axons, neurons, delay_bits, weight_bits, repeated=repeated)
    return int(axons @ np.arange(axons.size)), memory, int(axons[1:].sum())


NAMES = ("synapses", "synaptic_memory", "input_axons")  # in the order of `_amounts`


@dataclass(frozen=True)
class MatrixWires:
    """The synapses of a matrix, or of several with different delays, whose sources share their axons.

    Attributes
    ----------
    source : str
        Name of the group.
    pattern : csr_matrix of int32, shape (targets, sources)
        Synapses of each pair of neurons.
    delay_bits, weight_bits : int
        Bits of the delay and of the weight of each synapse.
    """

    source: str
    pattern: sp.csr_matrix
    delay_bits: int
    weight_bits: int

    def load(self, tiling: Tiling, limits: Limits, on_core: IntArray | None = None) -> Load | None:
        """Return what the axons use of each core; None as soon as a limit is exceeded.

        ``on_core`` has the neurons of each core, shape of the tiling's parts, where it holds others too.
        """
        tile = tiling.tile_of_neuron()
        members = sp.csr_matrix(
            (np.ones(tile.size, dtype=np.int32), (tile, np.arange(tile.size))), shape=(tiling.tiles, tile.size)
        )
        counted = members @ self.pattern  # (tiles, sources)
        repeated = bool(self.pattern.data.max(initial=0) > 1)
        neurons = (tiling.neurons if on_core is None else on_core).ravel()
        amounts = np.array(
            [
                _amounts(
                    counted.data[slice(*counted.indptr[at : at + 2])],
                    int(neurons[at]),
                    self.delay_bits,
                    self.weight_bits,
                    repeated=repeated,
                )
                for at in range(tiling.tiles)
            ]
        )
        used = {name: amounts[:, at].reshape(tiling.parts) for at, name in enumerate(NAMES)}
        if exceeds(used, limits):
            return None
        return Load(used, np.bincount(counted.indices, minlength=self.pattern.shape[1]))


@dataclass(frozen=True)
class KernelWires:
    """The synapses of a convolution.

    Tiles with the same view of the source are counted once, for many channel parts in one product.

    Attributes
    ----------
    source : str
        Name of the group.
    kernel : Kernel
        Its ``output_shape`` is the shape of the tiled layer.
    delay_bits, weight_bits : int
        Bits of the delay and of the weight of each synapse.
    """

    source: str
    kernel: Kernel
    delay_bits: int
    weight_bits: int

    @cached_property
    def _there(self) -> FloatArray:
        return np.asarray(self.kernel.weights != 0, dtype=np.float32)

    def load(self, tiling: Tiling, limits: Limits, on_core: IntArray | None = None) -> Load | None:
        """Return what the axons use of each core, which holds no others; None as soon as a limit is exceeded."""
        del on_core
        used = {name: np.zeros(tiling.parts, dtype=np.int64) for name in NAMES}
        reached = np.zeros(self.kernel.input_shape, dtype=np.int64)
        views = [(down, across) for down in _views(self.kernel, 0, tiling) for across in _views(self.kernel, 1, tiling)]
        for down, across in sorted(views, key=lambda pair: -pair[0].taps.sum() * pair[1].taps.sum()):
            for first, counts in self._counts(down, across, tiling):
                parts = np.arange(first, first + len(counts))
                neurons = down.size * across.size * np.diff(tiling.channels)[parts]
                amounts = np.array(
                    [
                        _amounts(part.ravel(), int(size), self.delay_bits, self.weight_bits)
                        for part, size in zip(counts, neurons, strict=True)
                    ]
                )
                alike = np.ix_(np.array(down.tiles), np.array(across.tiles), parts)
                for at, name in enumerate(NAMES):
                    used[name][alike] = amounts[:, at]
                if exceeds({name: amounts[:, at] for at, name in enumerate(NAMES)}, limits):
                    return None
                hits = np.count_nonzero(counts, axis=0)
                for top in down.first:
                    for left in across.first:
                        reached[:, top : top + hits.shape[1], left : left + hits.shape[2]] += hits
        return Load(used, reached.ravel())

    def _counts(self, down: _View, across: _View, tiling: Tiling) -> Iterator[tuple[int, IntArray]]:
        """Yield the first channel part of a chunk, and the synapses of each source in the chunk.

        Their shape is (parts, in channels, rows seen, columns seen).
        """
        rows, columns = down.taps.shape[0], across.taps.shape[0]
        window = np.kron(down.taps, across.taps).T  # (taps, positions seen)
        step = max(1, CHUNK // max(1, self.kernel.input_shape[0] * rows * columns))
        for first in range(0, tiling.parts[2], step):
            bounds = tiling.channels[first : first + step + 1]
            taps = self._taps(bounds)
            counts = taps.reshape(-1, window.shape[0]) @ window
            yield first, counts.reshape(*taps.shape[:2], rows, columns).astype(np.int64)

    def _taps(self, bounds: IntArray) -> FloatArray:
        """Count the non-zero weights, shape (parts of the output channels, in channels, height, width)."""
        there = self._there[bounds[0] : bounds[-1]]
        if self.kernel.groups == 1:
            return np.asarray(np.add.reduceat(there, bounds[:-1] - bounds[0], axis=0))
        channels, per_group = np.arange(bounds[0], bounds[-1]), self.kernel.weights.shape[1]
        group = channels // (self.kernel.weights.shape[0] // self.kernel.groups)
        part = np.searchsorted(bounds, channels, side="right") - 1
        taps = np.zeros((bounds.size - 1, self.kernel.input_shape[0], *there.shape[2:]), dtype=np.float32)
        np.add.at(taps, (part[:, None], group[:, None] * per_group + np.arange(per_group)), there)
        return taps


@dataclass(frozen=True)
class _View:
    """Parts of the rows (or columns) of a layer with the same view of the rows (or columns) of their source.

    Attributes
    ----------
    tiles : list of int
        The parts.
    first : list of int
        For each of them, the first row that it sees.
    size : int
        Rows of such a part.
    taps : float32 array, shape (rows seen, taps)
        1 where a tap falls on a row.
    """

    tiles: list[int]
    first: list[int]
    size: int
    taps: FloatArray


def _views(kernel: Kernel, axis: int, tiling: Tiling) -> list[_View]:
    bounds = (tiling.rows, tiling.columns)[axis]
    views: dict[tuple[int, bytes], _View] = {}
    for tile, (start, end) in enumerate(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)):
        taps, low = _seen(kernel, axis, (start, end))
        view = views.setdefault((end - start, taps.tobytes()), _View([], [], end - start, taps))
        view.tiles.append(tile)
        view.first.append(low)
    return list(views.values())


def _seen(kernel: Kernel, axis: int, positions: tuple[int, int]) -> tuple[FloatArray, int]:
    """Return which tap sees which source row (or column), shape (rows seen, taps), and the first row seen."""
    taps, dilation, stride = kernel.weights.shape[2 + axis], kernel.dilation[axis], kernel.stride[axis]
    starts = np.arange(*positions) * stride - kernel.padding[axis]
    sources = starts[:, None] + np.arange(taps) * dilation
    low, high = max(0, int(sources.min())), min(kernel.input_shape[1 + axis], int(sources.max()) + 1)
    seen = np.zeros((max(high - low, 0), taps), dtype=np.float32)
    position, tap = np.nonzero((sources >= low) & (sources < high))
    seen[sources[position, tap] - low, tap] = 1
    return seen, low


Wires: TypeAlias = "MatrixWires | KernelWires"


def wires(
    connections: Sequence[Connection], shape: tuple[int, int, int], holds: Mapping[int, int]
) -> tuple[Wires, ...]:
    """Return the objects that count the synapses of connections on the cores of a (channels, rows, columns) layer.

    Parameters
    ----------
    connections : sequence of Connection
        All that feed the layer.
    shape : tuple of int
        Shape of the layer.
    holds : mapping of int to int
        Delay of each connection beyond the step that all take, by its ``id``.
    """
    found: list[Wires] = []
    matrices: dict[str, list[Connection]] = {}
    for each in connections:
        if isinstance(each.weights, Kernel) and each.weights.output_shape == shape:
            weight_bits = each.weight_bits or WEIGHT_BITS
            found.append(KernelWires(each.source, each.weights, holds[id(each)].bit_length(), weight_bits))
        else:
            matrices.setdefault(each.source, []).append(each)
    for source, delays in matrices.items():
        longest = max(holds[id(each)] for each in delays)
        weight_bits = max(each.weight_bits or WEIGHT_BITS for each in delays)
        found.append(MatrixWires(source, synapse_pattern(delays), longest.bit_length(), weight_bits))
    return tuple(found)


def synapse_pattern(delays: Sequence[Connection]) -> sp.csr_matrix:
    """Return the synapses of each pair of neurons, over connections of several delays between the same groups."""
    first, *others = (
        sp.csr_matrix((np.ones(each.nnz, dtype=np.int32), each.indices, each.indptr), shape=each.shape)
        for each in (connection.matrix for connection in delays)
    )
    return sum(others, start=first)
