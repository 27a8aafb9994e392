"""Store a program for the compiled loops: flat arrays with the synapses sorted by source.

All weights are even and stored halved, so that each fits a byte. A connection that is not very sparse stores a whole
row per source, one byte per target neuron including zeros: adding rows is several times faster than addressing single
neurons. Other connections store a list of targets and halved weights. A kernel stays a kernel, with its output channels
last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from esl_neuro.backends.lif import GroupConstants
from esl_neuro.backends.taps import Taps
from esl_neuro.bits import BYTES, WORDS
from esl_neuro.compiler.program import INPUT, Connection, Group, Program
from esl_neuro.nirgraph.kernel import Kernel

# Density above which whole rows are faster, if they fit the processor's cache and if they do not.
ROWS_FROM = 1 / 64
CACHED_BYTES = 2**21
LARGE_ROWS_FROM = 1 / 8
# Time of a kernel's sums: of an image in positions, against a row in weights; and to find the target of a row.
IMAGES_COST = 0.2
TAP_COST = 128
NEVER = 2**62
# Neurons in a row that are alike, from which on it is faster to advance each row on its own.
ALIKE = 32
# Bits of a word. Whole rows and their marks fill cache lines, except very narrow ones.
WORD = 64
LINE = BYTES


def _record(*names: str) -> np.dtype[Any]:
    return np.dtype([(name, np.int64) for name in names])


GROUP = _record("first", "neurons", "alike", "constants", "connections", "connections_end")
CONNECTION = _record(
    *("source", "delay", "exponent", "graded", "lines", "starts", "rows", "marks", "mark_words", "kernel")
)
AXIS = ("sources", "outputs", "taps", "stride", "pad", "step", "pool")
KERNEL = _record(
    *("blocks", "block_inputs", "block_outputs"),
    *(f"{axis}_{name}" for axis in ("row", "column") for name in AXIS),
    *("start", "marks", "first_parts", "row_places", "column_places", "channel_size", "pitch", "positions"),
    "few",
)
STAGE = _record("group", "group_end")


class Tables(NamedTuple):
    """A program as flat arrays.

    Attributes
    ----------
    stages : record array
        Ranges of groups. Each stage runs all steps of a sample before the next begins; the groups of a loop share one.
    groups : record array
        ``first`` neuron in the state and number of ``neurons``; how many neurons in a row are ``alike``, as those of a
        channel are, and where its ``constants`` begin in the arrays below; range of its connections.
    keep_u, keep_v, bias, threshold, reset_by : int32 array
        One value for all neurons that are alike, as in :class:`~esl_neuro.backends.lif.GroupConstants`; ``reset_by`` is
        -1 for a reset to zero.
    connections : record array
        ``source`` group or -1 for the input; where its sources begin in ``fan_out`` (``lines``) and, if it has single
        synapses, in ``starts``; its whole ``rows`` and their ``marks`` of ``mark_words`` words each; or its ``kernel``
        in ``kernels``. -1 where it has none.
    fan_out : int64 array
        Number of synapses of each source of each connection; a 0 follows the last source of a matrix.
    starts : uint64 array
        For each source of a matrix, the start of its synapses in ``targets`` and ``halves``; they end at the start of
        the next source.
    targets, halves : uint32, int8 array
        Target neurons and halved weights of single synapses.
    rows : int8 array
        Halved weights of a source to all neurons of a group, padded with zeros to a multiple of 64. A row of zeros
        follows the last source.
    marks : uint64 array
        A bit for every non-zero weight of a row, padded to a multiple of 8 words if there are more than 4.
    kernels : record array
        Shapes, see :class:`~esl_neuro.backends.taps.Axis` and :class:`~esl_neuro.backends.taps.Taps`, and the starts of
        the weights (``start``), ``marks``, parts and places in the next arrays. Up to a ``few`` spikes, adding rows of
        ``kernel_halves`` is faster than adding images.
    kernel_halves : int8 array
        For each input channel and tap the halved weights to the output channels of the same block.
    kernel_marks : uint64 array
        A bit for every non-zero entry of ``kernel_halves``.
    tap_offsets, tap_sizes : uint32, uint8 array
        Non-zero weights, sorted by output channel and sign.
    tap_parts : uint64 array
        Start of each part of the taps; it ends at the next start. The last part of a kernel is empty.
    tap_signs : int32 array
        1 or -1 for each part.
    first_parts : int64 array
        For each output channel its first part in ``tap_parts``; they end at the first part of the next.
    places : int64 array
        Places of rows and of columns.
    """

    stages: NDArray[Any]
    groups: NDArray[Any]
    keep_u: NDArray[np.int32]
    keep_v: NDArray[np.int32]
    bias: NDArray[np.int32]
    threshold: NDArray[np.int32]
    reset_by: NDArray[np.int32]
    connections: NDArray[Any]
    fan_out: NDArray[np.int64]
    starts: NDArray[np.uint64]
    targets: NDArray[np.uint32]
    halves: NDArray[np.int8]
    rows: NDArray[np.int8]
    marks: NDArray[np.uint64]
    kernels: NDArray[Any]
    kernel_halves: NDArray[np.int8]
    kernel_marks: NDArray[np.uint64]
    tap_offsets: NDArray[np.uint32]
    tap_sizes: NDArray[np.uint8]
    tap_parts: NDArray[np.uint64]
    tap_signs: NDArray[np.int32]
    first_parts: NDArray[np.int64]
    places: NDArray[np.int64]


def lay_out(program: Program) -> Tables:
    """Build the tables of a valid program."""
    place = {INPUT: -1, **{group.name: index for index, group in enumerate(program.groups)}}
    ends = np.cumsum([0, *(group.neurons for group in program.groups)])
    groups = np.zeros(len(program.groups), GROUP)
    connections = np.zeros(len(program.connections), CONNECTION)
    parts = _Parts()
    alike, constants = zip(*(_constants(group) for group in program.groups), strict=True)
    places = np.cumsum([0, *(len(each) for each in constants)])
    for index, group in enumerate(program.groups):
        of_group = [k for k, connection in enumerate(program.connections) if connection.target == group.name]
        groups[index] = (ends[index], group.neurons, alike[index], places[index], of_group[0], of_group[-1] + 1)
    keep_u, keep_v, bias, threshold, reset_by = np.concatenate(constants).T.copy()
    for index, connection in enumerate(program.connections):
        graded = connection.source == INPUT and program.input_bits > 1
        source = place[connection.source]
        where = parts.add(connection, graded)
        entry = {"source": source, "delay": connection.delay, "exponent": connection.weight_exp, "graded": graded}
        connections[index] = tuple((entry | where)[name] for name in CONNECTION.names or ())
    return Tables(
        stages=np.array(_stages(program.connections, place, len(groups)), STAGE),
        groups=groups,
        keep_u=keep_u,
        keep_v=keep_v,
        bias=bias,
        threshold=threshold,
        reset_by=reset_by,
        connections=connections,
        **parts.joined(),
    )


def _stages(connections: Sequence[Connection], place: dict[str, int], groups: int) -> list[tuple[int, int]]:
    """Divide the groups into the smallest ranges without connections back to an earlier range."""
    loops = [(place[each.target], place[each.source]) for each in connections]
    starts = [here for here in range(groups) if not any(first < here <= last for first, last in loops)]
    return list(zip(starts, [*starts[1:], groups], strict=True))


def _constants(group: Group) -> tuple[int, NDArray[np.int32]]:
    """Return how many neurons in a row are alike, 1 if they are few, and the five constants of each row."""
    neurons = GroupConstants.of(group)
    reset_by = np.full_like(neurons.threshold, -1) if neurons.reset_by is None else neurons.reset_by
    constants = np.concatenate([neurons.keep_u, neurons.keep_v, neurons.bias, neurons.threshold, reset_by], axis=1)
    changes = np.flatnonzero((constants[1:] != constants[:-1]).any(axis=1)) + 1
    alike = int(np.gcd.reduce([group.neurons, *changes]))
    alike = alike if alike >= ALIKE else 1
    return alike, constants[::alike].astype(np.int32)


class _Parts:
    """Collects the synapses of all connections."""

    def __init__(self) -> None:
        self.pieces: dict[str, list[NDArray[Any]]] = {
            "fan_out": [np.zeros(0, np.int64)],
            "starts": [np.zeros(0, np.uint64)],
            "targets": [np.zeros(0, np.uint32)],
            "halves": [np.zeros(0, np.int8)],
            "rows": [np.zeros(0, np.int8)],
            "marks": [np.zeros(0, np.uint64)],
            "kernels": [np.zeros(0, KERNEL)],
            "kernel_halves": [np.zeros(0, np.int8)],
            "kernel_marks": [np.zeros(0, np.uint64)],
            "tap_offsets": [np.zeros(0, np.uint32)],
            "tap_sizes": [np.zeros(0, np.uint8)],
            "tap_parts": [np.zeros(0, np.uint64)],
            "tap_signs": [np.zeros(0, np.int32)],
            "first_parts": [np.zeros(0, np.int64)],
            "places": [np.zeros(0, np.int64)],
        }

    def joined(self) -> dict[str, NDArray[Any]]:
        return {name: _joined(pieces) for name, pieces in self.pieces.items()}

    def add(self, connection: Connection, graded: bool) -> dict[str, int]:
        """Add the synapses of a connection, and return their positions."""
        where = {"lines": self._size("fan_out"), "starts": -1, "rows": -1, "marks": -1, "mark_words": 0, "kernel": -1}
        if isinstance(connection.weights, Kernel):
            return where | self._add_kernel(connection.weights, graded)
        matrix = sp.csc_matrix(connection.weights, copy=True)  # sorted by source
        matrix.eliminate_zeros()
        self._append(fan_out=np.append(np.diff(matrix.indptr), 0))
        halves = (matrix.data // 2).astype(np.int8)
        return where | (self._add_rows if _whole_rows_pay(matrix) else self._add_singles)(matrix, halves)

    def _add_rows(self, matrix: sp.csc_matrix, halves: NDArray[np.int8]) -> dict[str, int]:
        targets, sources = matrix.shape
        rows, marks = self._size("rows"), self._size("marks")
        block = np.zeros((sources + 1, -(-targets // LINE) * LINE), np.int8)
        block[np.repeat(np.arange(sources), np.diff(matrix.indptr)), matrix.indices] = halves
        packed = _pack(block != 0)
        words = packed.shape[1]
        if words > WORDS // 2:
            packed = np.pad(packed, ((0, 0), (0, -words % WORDS)))
        self._append(rows=block, marks=np.pad(packed.ravel(), (0, -packed.size % WORDS)))
        return {"rows": rows, "marks": marks, "mark_words": packed.shape[1]}

    def _add_singles(self, matrix: sp.csc_matrix, halves: NDArray[np.int8]) -> dict[str, int]:
        starts, first = self._size("starts"), self._size("targets")
        self._append(starts=first + matrix.indptr.astype(np.int64), targets=matrix.indices, halves=halves)
        return {"starts": starts}

    def _add_kernel(self, kernel: Kernel, graded: bool) -> dict[str, int]:
        taps = Taps.of(kernel)
        outputs, block_inputs, tap_rows, tap_columns = taps.weights.shape
        # (block, output, input, row, column) -> (block, input, row, column, output)
        blocks = taps.weights.reshape(kernel.groups, -1, block_inputs, tap_rows, tap_columns)
        halves = blocks.transpose(0, 2, 3, 4, 1).reshape(-1, outputs // kernel.groups)
        row_places = self._size("places")
        entry = {
            "blocks": kernel.groups,
            "block_inputs": block_inputs,
            "block_outputs": halves.shape[1],
            **{f"row_{name}": getattr(taps.rows, name) for name in AXIS},
            **{f"column_{name}": getattr(taps.columns, name) for name in AXIS},
            "start": self._size("kernel_halves"),
            "marks": self._size("kernel_marks"),
            "first_parts": self._size("first_parts"),
            "row_places": row_places,
            "column_places": row_places + len(taps.row_places),
            "channel_size": taps.channel_size,
            "pitch": taps.pitch,
            "positions": taps.positions,
            "few": NEVER if graded or not taps.compact else _few_spikes(taps, kernel.groups),
        }
        first_part, first_tap = self._size("tap_parts"), self._size("tap_offsets")
        self._append(
            fan_out=kernel.fan_out(),
            kernels=np.array([tuple(entry[name] for name in KERNEL.names or ())], KERNEL),
            kernel_halves=halves,
            kernel_marks=_pack(halves != 0),
            tap_offsets=taps.offsets,
            tap_sizes=taps.sizes,
            tap_parts=first_tap + taps.parts,
            tap_signs=np.append(taps.signs, 0),
            first_parts=first_part + taps.first_parts,
            places=np.concatenate([taps.row_places, taps.column_places]),
        )
        return {"kernel": self._size("kernels") - 1}

    def _size(self, name: str) -> int:
        return sum(piece.size for piece in self.pieces[name])

    def _append(self, **pieces: NDArray[Any]) -> None:
        for name, piece in pieces.items():
            self.pieces[name].append(piece.ravel().astype(self.pieces[name][0].dtype, copy=False))


def _few_spikes(taps: Taps, blocks: int) -> int:
    """Return the number of spikes from which on it is faster to add images of all sources than rows of weights."""
    images = taps.sizes.size * taps.positions
    reached = taps.rows.taps * taps.columns.taps / (taps.rows.stride * taps.columns.stride)
    rows = reached * (len(taps.weights) / blocks + TAP_COST)
    return int(IMAGES_COST * images / rows)


def _whole_rows_pay(matrix: sp.csc_matrix) -> bool:
    size = matrix.shape[0] * matrix.shape[1]
    return bool(matrix.nnz >= size * (ROWS_FROM if size <= CACHED_BYTES else LARGE_ROWS_FROM))


def _pack(marks: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Pack each row of marks into whole words, lowest bit first."""
    rows, width = marks.shape
    padded = np.zeros((rows, -(-width // WORD) * WORD), np.bool_)
    padded[:, :width] = marks
    return np.packbits(padded, axis=1, bitorder="little").view(np.uint64)


def _joined(pieces: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Join pieces to an array that is aligned to a cache line."""
    dtype, length = pieces[0].dtype, sum(piece.size for piece in pieces)
    memory = np.empty(length * dtype.itemsize + LINE, np.uint8)
    begin = -memory.ctypes.data % LINE
    array = memory[begin : begin + length * dtype.itemsize].view(dtype)
    return np.concatenate(pieces, out=array) if length else array
