"""The inner loops of the sparse kernels, in vector instructions.

The sums of 128 columns of a signal stay in registers while the connections of a neuron are added to them; a plain loop
loads and stores them for every connection, which takes most of the time. LLVM translates the vectors to those that the
processor has. The rows of all matrices are contiguous, and nothing checks bounds.

numba does not detect changes in this file: after a change, delete its cache, ``esl_neuro/sparsity/__pycache__``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils

LANES = 16
WIDE = 128
"""Columns whose sums are in registers together."""

_tools: Any = cgutils  # without types
_I32, _I64 = ir.IntType(32), ir.IntType(64)
# Sums may be reordered. Values that are not finite stay so (no "nnan", no "ninf").
_FLAGS = ("contract", "reassoc", "nsz")


def intrinsic(function: Callable[..., Any]) -> Any:
    """Make a typing function callable from compiled code."""
    return extending.intrinsic(function)


def _sum(vectors: int) -> Any:
    """Make the function that writes ``y[row, column + k] = start + sum_p values[p] x[lines[p], column + k]``.

    ``k`` goes from 0 to before 16 times ``vectors``, and ``p`` from ``first`` to before ``last``.
    """

    def write(
        _context: Any,
        y: Any,
        row: Any,
        column: Any,
        start: Any,
        x: Any,
        lines: Any,
        values: Any,
        first: Any,
        last: Any,
    ) -> Any:
        del row, column, start, first, last
        arguments = (y, types.int64, types.int64, y.dtype, x, lines, values, types.int64, types.int64)
        return types.void(*arguments), _sum_of_lines(vectors)

    return intrinsic(write)


sum_wide, sum_narrow = _sum(WIDE // LANES), _sum(1)


@intrinsic
def prefetch(_context: Any, x: Any, line: Any, first: Any, last: Any) -> Any:
    """Ask for part of a row of a matrix, which is used soon."""
    del line, first, last
    return types.void(x, types.int64, types.int64, types.int64), _prefetch


@intrinsic
def dot(_context: Any, x: Any, line: Any, g: Any, row: Any, first: Any, last: Any) -> Any:
    """Return ``sum_k x[line, k] g[row, k]`` for k from ``first`` to before ``last``, a multiple of 16 apart."""
    del line, row, first, last
    return g.dtype(x, types.int64, g, types.int64, types.int64, types.int64), _dot


def _sum_of_lines(vectors: int) -> Any:
    """Return what writes the sum of ``vectors`` times 16 columns."""

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _, row, column, start, _, _, _, first, last = values
        y, x, lines, weights = (_array(context, builder, signature, values, index) for index in (0, 4, 5, 6))
        vector = ir.VectorType(y.element, LANES)
        sums = [_tools.alloca_once_value(builder, _filled(builder, start, vector)) for _ in range(vectors)]
        with _tools.for_range_slice(builder, first, last, ir.Constant(_I64, 1), inc=True) as (place, _step):
            line = builder.sext(lines.load(builder, place), _I64)
            weight = _filled(builder, weights.load(builder, place), vector)
            for index, total in enumerate(sums):
                shifted = builder.add(column, ir.Constant(_I64, LANES * index))
                term = builder.fmul(x.load_vector(builder, line, shifted, vector), weight, flags=_FLAGS)
                builder.store(builder.fadd(builder.load(total), term, flags=_FLAGS), total)
        for index, total in enumerate(sums):
            shifted = builder.add(column, ir.Constant(_I64, LANES * index))
            builder.store(builder.load(total), y.vector_pointer(builder, row, shifted), align=y.align)
        return context.get_dummy_value()

    return write


def _dot(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    _, line, _, row, first, last = values
    x, g = (_array(context, builder, signature, values, index) for index in (0, 2))
    vector = ir.VectorType(g.element, LANES)
    sums = [_tools.alloca_once_value(builder, ir.Constant(vector, [0.0] * LANES)) for _ in range(WIDE // LANES)]
    wide = builder.sub(last, builder.and_(builder.sub(last, first), ir.Constant(_I64, WIDE - 1)))

    def add(column: Any, total: Any) -> None:
        pair = x.load_vector(builder, line, column, vector), g.load_vector(builder, row, column, vector)
        builder.store(builder.fadd(builder.load(total), builder.fmul(*pair, flags=_FLAGS), flags=_FLAGS), total)

    with _tools.for_range_slice(builder, first, wide, ir.Constant(_I64, WIDE), inc=True) as (column, _step):
        for index, total in enumerate(sums):
            add(builder.add(column, ir.Constant(_I64, LANES * index)), total)
    with _tools.for_range_slice(builder, wide, last, ir.Constant(_I64, LANES), inc=True) as (column, _step):
        add(column, sums[0])
    total = builder.load(sums[0])
    for other in sums[1:]:
        total = builder.fadd(total, builder.load(other), flags=_FLAGS)
    suffix = "f32" if isinstance(g.element, ir.FloatType) else "f64"
    reduce = _tools.get_or_insert_function(
        builder.module, ir.FunctionType(g.element, [g.element, vector]), f"llvm.vector.reduce.fadd.v{LANES}{suffix}"
    )
    return builder.call(reduce, [ir.Constant(g.element, 0.0), total], fastmath=_FLAGS)


def _prefetch(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    _, line, first, last = values
    x = _array(context, builder, signature, values, 0)
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32])
    ask = _tools.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    step = ir.Constant(_I64, 64 // x.align)
    with _tools.for_range_slice(builder, first, last, step, inc=True) as (column, _step):
        place = builder.gep(x.data, [builder.add(builder.mul(line, x.row_length), column)])
        builder.call(
            ask, [builder.bitcast(place, byte), ir.Constant(_I32, 0), ir.Constant(_I32, 3), ir.Constant(_I32, 1)]
        )
    return context.get_dummy_value()


class _Array:
    """A matrix with contiguous rows, or a vector."""

    def __init__(self, data: Any, row_length: Any) -> None:
        self.data, self.row_length, self.element = data, row_length, data.type.pointee
        self.align = 8 if isinstance(self.element, ir.DoubleType) else 4 if self._is_float() else 1

    def _is_float(self) -> bool:
        return isinstance(self.element, ir.FloatType)

    def load(self, builder: Any, place: Any) -> Any:
        """Return an element of a vector."""
        return builder.load(builder.gep(self.data, [place]))

    def vector_pointer(self, builder: Any, row: Any, column: Any) -> Any:
        """Return where some elements of a row begin."""
        offset = builder.add(builder.mul(row, self.row_length), column)
        return builder.bitcast(builder.gep(self.data, [offset]), ir.VectorType(self.element, LANES).as_pointer())

    def load_vector(self, builder: Any, row: Any, column: Any, vector: Any) -> Any:
        """Return some elements of a row as numbers of the vector's type."""
        loaded = builder.load(self.vector_pointer(builder, row, column), align=self.align)
        return builder.uitofp(loaded, vector) if isinstance(self.element, ir.IntType) else loaded


def _array(context: Any, builder: Any, signature: Any, values: Any, index: int) -> _Array:
    array = context.make_array(signature.args[index])(context, builder, values[index])
    lengths = _tools.unpack_tuple(builder, array.shape)
    return _Array(array.data, lengths[-1])


def _filled(builder: Any, number: Any, vector: Any) -> Any:
    """Return a vector with one number everywhere."""
    nothing = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(nothing, number, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES))
