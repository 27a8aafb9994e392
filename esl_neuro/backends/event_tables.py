"""A program laid out for the compiled loops: flat arrays, the synapses sorted by their source.

All weights are even and stored halved, so that each fits a byte. A source that reaches many of a group's neurons keeps
one byte for every neuron, zeros included: adding whole rows is several times faster than picking neurons. The other
sources keep a list of target and half weight. A kernel stays a kernel, its output channels last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from esl_neuro.backends.lif import Neurons
from esl_neuro.compiler.kernel import Kernel
from esl_neuro.compiler.program import INPUT, Connection, Group, Program

# A source is stored as a whole row if it reaches at least one in so many neurons: there, both ways take equal time.
WHOLE_ROW_FROM = 24
# Neurons that one bit each of a word stands for.
WORD = 64


def _record(*names: str) -> np.dtype[Any]:
    return np.dtype([(name, np.int64) for name in names])


GROUP = _record("first", "neurons", "connections", "connections_end")
CONNECTION = _record("source", "delay", "exponent", "graded", "lines", "kernel")
LINE = _record("start", "synapses", "bits")
KERNEL = _record(
    *("rows", "columns", "blocks", "block_inputs", "block_outputs", "out_rows", "out_columns"),
    *("tap_rows", "tap_columns", "stride_row", "stride_column", "pad_row", "pad_column", "step_row", "step_column"),
    *("start", "taps", "bits"),
)
STAGE = _record("group", "group_end")


class Tables(NamedTuple):
    """A program as flat arrays.

    Attributes
    ----------
    stages : record array
        Ranges of groups. Each stage runs all steps of a sample before the next begins; the groups of a loop share one.
    groups : record array
        ``first`` neuron and number of ``neurons`` in the arrays below; range of its connections.
    keep_u, keep_v, bias, threshold : int32 array, shape (neurons of all groups,)
        As in :class:`~esl_neuro.backends.lif.Neurons`.
    connections : record array
        ``source`` group or -1 for the input; ``lines`` is where its sources begin in ``lines``, ``kernel`` its place in
        ``kernels`` or -1.
    lines : record array
        For each source of each matrix: number of ``synapses``; where they ``start`` in ``targets`` and ``halves``, or,
        if ``bits`` is not -1, in ``whole_rows``, and there ``bits`` is where the marks of non-zero weights are.
    targets : uint16 or uint32 array
        Target neurons of single synapses.
    halves : int8 array
        Their halved weights.
    whole_rows : int8 array
        Halved weights to all neurons of a group.
    kernels : record array
        Shapes, and where weights (``start``), ``taps`` and marks (``bits``) begin.
    kernel_halves : int8 array
        For each input channel and tap the halved weights to the output channels of the same block.
    tap_synapses : int64 array
        How many of these are not zero.
    marks : uint64 array
        A bit for every weight of whole rows and taps that is not zero.
    """

    stages: NDArray[Any]
    groups: NDArray[Any]
    keep_u: NDArray[np.int32]
    keep_v: NDArray[np.int32]
    bias: NDArray[np.int32]
    threshold: NDArray[np.int32]
    connections: NDArray[Any]
    lines: NDArray[Any]
    targets: NDArray[np.uint16] | NDArray[np.uint32]
    halves: NDArray[np.int8]
    whole_rows: NDArray[np.int8]
    kernels: NDArray[Any]
    kernel_halves: NDArray[np.int8]
    tap_synapses: NDArray[np.int64]
    marks: NDArray[np.uint64]


def lay_out(program: Program) -> Tables:
    """Lay out a valid program."""
    place = {INPUT: -1, **{group.name: index for index, group in enumerate(program.groups)}}
    ends = np.cumsum([0, *(group.neurons for group in program.groups)])
    groups = np.zeros(len(program.groups), GROUP)
    connections = np.zeros(len(program.connections), CONNECTION)
    parts = _Parts(np.uint16 if max(group.neurons for group in program.groups) <= 2**16 else np.uint32)
    for index, group in enumerate(program.groups):
        of_group = [k for k, connection in enumerate(program.connections) if connection.target == group.name]
        groups[index] = (ends[index], group.neurons, of_group[0], of_group[-1] + 1)
    for index, connection in enumerate(program.connections):
        graded = connection.source == INPUT and program.input_bits > 1
        source = place[connection.source]
        where = parts.add(connection)
        connections[index] = (source, connection.delay, connection.weight_exp, graded, *where)
    return Tables(
        stages=np.array(_stages(program.connections, place, len(groups)), STAGE),
        groups=groups,
        **_constants(program.groups),
        connections=connections,
        **parts.joined(),
    )


def _stages(connections: Sequence[Connection], place: dict[str, int], groups: int) -> list[tuple[int, int]]:
    """Cut the groups into the smallest ranges such that no connection leads back into an earlier one."""
    loops = [(place[each.target], place[each.source]) for each in connections]
    starts = [here for here in range(groups) if not any(first < here <= last for first, last in loops)]
    return list(zip(starts, [*starts[1:], groups], strict=True))


def _constants(groups: Sequence[Group]) -> dict[str, NDArray[Any]]:
    neurons = [Neurons.of(group) for group in groups]
    names = ("keep_u", "keep_v", "bias", "threshold")
    return {name: np.concatenate([getattr(each, name) for each in neurons]).ravel().astype(np.int32) for name in names}


class _Parts:
    """The synapses of all connections, piece by piece."""

    def __init__(self, target_type: type[np.uint16] | type[np.uint32]) -> None:
        self.pieces: dict[str, list[NDArray[Any]]] = {
            "lines": [np.zeros(0, LINE)],
            "targets": [np.zeros(0, target_type)],
            "halves": [np.zeros(0, np.int8)],
            "whole_rows": [np.zeros(0, np.int8)],
            "kernels": [np.zeros(0, KERNEL)],
            "kernel_halves": [np.zeros(0, np.int8)],
            "tap_synapses": [np.zeros(0, np.int64)],
            "marks": [np.zeros(0, np.uint64)],
        }

    def joined(self) -> dict[str, NDArray[Any]]:
        return {name: np.concatenate(pieces) for name, pieces in self.pieces.items()}

    def add(self, connection: Connection) -> tuple[int, int]:
        """Take the synapses of a connection, and return its ``lines`` and ``kernel``."""
        if isinstance(connection.weights, Kernel):
            self._add_kernel(connection.weights)
            return -1, self._size("kernels") - 1
        lines = self._size("lines")
        self._add_matrix(connection.weights)
        return lines, -1

    def _add_matrix(self, weights: sp.csr_matrix) -> None:
        matrix = sp.csc_matrix(weights)  # a copy, sorted by source
        matrix.eliminate_zeros()
        matrix.sort_indices()
        halves = (matrix.data // 2).astype(np.int8)
        synapses = np.diff(matrix.indptr).astype(np.int64)
        whole = synapses * WHOLE_ROW_FROM >= matrix.shape[0]
        single = np.repeat(~whole, synapses)
        starts = np.cumsum(np.where(whole, 0, synapses)) - np.where(whole, 0, synapses)

        rows = np.zeros((np.count_nonzero(whole), matrix.shape[0]), np.int8)
        row = np.repeat(np.cumsum(whole) - 1, synapses)
        rows[row[~single], matrix.indices[~single]] = halves[~single]
        marks = _pack(rows != 0)

        lines = np.zeros(matrix.shape[1], LINE)
        lines["synapses"], lines["bits"] = synapses, -1
        lines["start"] = self._size("targets") + starts
        lines["start"][whole] = self._size("whole_rows") + np.arange(len(rows)) * rows.shape[1]
        lines["bits"][whole] = self._size("marks") + np.arange(len(rows)) * marks.shape[1]
        self._append(lines=lines, targets=matrix.indices[single], halves=halves[single], whole_rows=rows, marks=marks)

    def _add_kernel(self, kernel: Kernel) -> None:
        out, block_inputs, tap_rows, tap_columns = kernel.weights.shape
        # (block, output, input, row, column) -> (block, input, row, column, output)
        blocks = kernel.weights.reshape(kernel.groups, -1, block_inputs, tap_rows, tap_columns)
        halves = (blocks.transpose(0, 2, 3, 4, 1) // 2).astype(np.int8).reshape(-1, out // kernel.groups)
        entry = np.array(
            [
                (
                    *(*kernel.input_shape[1:], kernel.groups, block_inputs, halves.shape[1], *kernel.output_shape[1:]),
                    *(tap_rows, tap_columns, *kernel.stride, *kernel.padding, *kernel.dilation),
                    *(self._size("kernel_halves"), self._size("tap_synapses"), self._size("marks")),
                )
            ],
            KERNEL,
        )
        self._append(
            kernels=entry,
            kernel_halves=halves,
            tap_synapses=np.count_nonzero(halves, axis=1),
            marks=_pack(halves != 0),
        )

    def _size(self, name: str) -> int:
        return sum(piece.size for piece in self.pieces[name])

    def _append(self, **pieces: NDArray[Any]) -> None:
        for name, piece in pieces.items():
            self.pieces[name].append(piece.ravel().astype(self.pieces[name][0].dtype, copy=False))


def _pack(marks: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Pack each row of marks into whole words, lowest bit first."""
    rows, width = marks.shape
    padded = np.zeros((rows, -(-width // WORD) * WORD), np.bool_)
    padded[:, :width] = marks
    return np.packbits(padded, axis=1, bitorder="little").view(np.uint64)
