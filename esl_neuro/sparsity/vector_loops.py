"""The inner loops of the sparse kernels, in vector instructions.

The sums of 128 columns of a signal, or of 8 products of rows, stay in registers while terms are added to them; a plain
loop loads and stores them for every term, which takes most of the time. A signal is a matrix of numbers, or the bits of
spikes: 16 of them are the mask of one vector addition, where the processor has such masks. LLVM translates the vectors
to those that the processor has. The rows of all matrices are contiguous, and nothing checks bounds.

numba does not detect changes in this file: after a change, delete its cache, ``esl_neuro/sparsity/__pycache__``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils

LANES = 16
WIDE, MIDDLE = 128, 32
"""Columns whose sums are in registers together."""
AHEAD = 16
"""How many connections ahead the rows of distant lines are fetched into the cache."""
ROWS = 8
"""Rows whose products with another row are in registers together."""

_tools: Any = cgutils  # without types
_I32, _I64 = ir.IntType(32), ir.IntType(64)
# Sums may be reordered. Values that are not finite stay so (no "nnan", no "ninf").
_FLAGS = ("contract", "reassoc", "nsz")


def intrinsic(function: Callable[..., Any]) -> Any:
    """Make a typing function callable from compiled code."""
    return extending.intrinsic(function)


def _sum(vectors: int, terms: int, ahead: int = 0) -> Any:
    """Make the function that writes ``y[row, column + k] = start + sum_p values[p] x[lines[p], x_column + k]``.

    ``k`` goes from 0 to before 16 times ``vectors``, and ``p`` from ``first`` to before ``last``. So many ``terms`` are
    added to sums of their own, because an addition takes a few cycles, but several can run at a time.
    """

    def write(
        _context: Any,
        y: Any,
        row: Any,
        column: Any,
        start: Any,
        x: Any,
        x_column: Any,
        lines: Any,
        values: Any,
        first: Any,
        last: Any,
    ) -> Any:
        del row, column, start, x_column, first, last
        place = types.int64
        arguments = (y, place, place, y.dtype, x, place, lines, values, place, place)
        return types.void(*arguments), _sum_of_lines(vectors, terms, ahead)

    return intrinsic(write)


sum_wide, sum_middle, sum_narrow = _sum(WIDE // LANES, 1), _sum(MIDDLE // LANES, 4), _sum(1, 4)
sum_far = _sum(WIDE // LANES, 2, ahead=AHEAD)


@intrinsic
def dots(
    _context: Any, products: Any, place: Any, end: Any, x: Any, lines: Any, g: Any, row: Any, first: Any, last: Any
) -> Any:
    """Add ``sum_k x[lines[p], k] g[row, k]`` to ``products[p]`` for 8 places p, or fewer before ``end``.

    ``k`` goes from ``first`` to before ``last``, a multiple of 16 apart.
    """
    del place, end, row, first, last
    integers = types.int64, types.int64
    return types.void(products, *integers, x, lines, g, types.int64, *integers), _dots


@intrinsic
def dots_of_rows(
    _context: Any,
    products: Any,
    place: Any,
    end: Any,
    x: Any,
    lines: Any,
    g: Any,
    row: Any,
    first: Any,
    last: Any,
    count: Any,
    along: Any,
) -> Any:
    """Do the same for ``count`` rows of g, and an x that begins at column ``first``.

    Each row of g is multiplied by what is ``along`` columns further in x than for the one before it.
    """
    del place, end, row, first, last, count, along
    integers = types.int64, types.int64
    return types.void(products, *integers, x, lines, g, types.int64, *integers, *integers), _dots


def _sum_of_lines(vectors: int, terms: int, ahead: int) -> Any:
    """Return what writes the sums of ``vectors`` times 16 columns."""

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _, row, column, start, _, x_column, _, _, first, last = values
        y, x, lines, weights = (_Array(context, builder, signature, values, index) for index in (0, 4, 6, 7))
        vector = ir.VectorType(y.element, LANES)
        offsets = [ir.Constant(_I64, LANES * index) for index in range(vectors)]
        starts = [_filled(builder, start, vector), *[ir.Constant(vector, [0.0] * LANES)] * (terms - 1)]
        sums = [[_tools.alloca_once_value(builder, begin) for _ in offsets] for begin in starts]

        final = builder.sub(lines.length, ir.Constant(_I64, 1))

        def fetch(place: Any) -> None:
            wanted = builder.add(place, ir.Constant(_I64, ahead))
            exists = builder.icmp_signed("<", wanted, final)
            line = builder.sext(lines.load(builder, builder.select(exists, wanted, final)), _I64)
            for offset in offsets:
                x.prefetch(builder, line, builder.add(x_column, offset))

        def add(place: Any, totals: list[Any]) -> None:
            if ahead:
                fetch(place)
            line = builder.sext(lines.load(builder, place), _I64)
            weight = _filled(builder, weights.load(builder, place), vector)
            for total, offset in zip(totals, offsets, strict=True):
                more = x.added(builder, builder.load(total), line, builder.add(x_column, offset), weight)
                builder.store(more, total)

        whole = builder.sub(last, builder.urem(builder.sub(last, first), ir.Constant(_I64, terms)))
        with _tools.for_range_slice(builder, first, whole, ir.Constant(_I64, terms), inc=True) as (place, _step):
            for index, totals in enumerate(sums):
                add(builder.add(place, ir.Constant(_I64, index)), totals)
        with _tools.for_range_slice(builder, whole, last, ir.Constant(_I64, 1), inc=True) as (place, _step):
            add(place, sums[0])
        for index, offset in enumerate(offsets):
            total = builder.load(sums[0][index])
            for totals in sums[1:]:
                total = builder.fadd(total, builder.load(totals[index]), flags=_FLAGS)
            pointer = y.vector_pointer(builder, row, builder.add(column, offset))
            builder.store(total, pointer, align=y.align)
        return context.get_dummy_value()

    return write


def _dots(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    _, place, end, _, _, _, row, first, last, *repeated = values
    count, along, x_first = (*repeated, first) if repeated else (_I64(1), _I64(0), _I64(0))
    products, x, lines, g = (_Array(context, builder, signature, values, index) for index in (0, 3, 4, 5))
    vector = ir.VectorType(g.element, LANES)
    final = builder.sub(end, ir.Constant(_I64, 1))
    rows = []
    for index in range(ROWS):  # the last row stands in for those that do not exist
        wanted = builder.add(place, ir.Constant(_I64, index))
        exists = builder.icmp_signed("<", wanted, final)
        rows.append(builder.sext(lines.load(builder, builder.select(exists, wanted, final)), _I64))
    sums = [_tools.alloca_once_value(builder, ir.Constant(vector, [0.0] * LANES)) for _ in rows]
    with _tools.for_range(builder, count) as loop:
        beside = builder.sub(builder.mul(loop.index, along), x_first)
        with _tools.for_range_slice(builder, first, last, ir.Constant(_I64, LANES), inc=True) as (column, _step):
            factor = g.load_vector(builder, builder.add(row, loop.index), column, vector)
            for line, total in zip(rows, sums, strict=True):
                more = x.added(builder, builder.load(total), line, builder.add(column, beside), factor)
                builder.store(more, total)
    totals = _horizontal_sums(builder, [builder.load(total) for total in sums])
    for index in range(ROWS):
        here = builder.add(place, ir.Constant(_I64, index))
        with builder.if_then(builder.icmp_signed("<", here, end)):
            pointer = builder.gep(products.data, [here])
            more = builder.extract_element(totals, ir.Constant(_I32, index))
            builder.store(builder.fadd(builder.load(pointer), more, flags=_FLAGS), pointer)
    return context.get_dummy_value()


def _horizontal_sums(builder: Any, vectors: list[Any]) -> Any:
    """Return the sums of the elements of 8 vectors as one vector.

    The halves of each vector are added and pairs of vectors joined, until one vector has an element of each.
    """
    width = LANES
    while width > 1:
        one, other = vectors[0::2], vectors[1::2] or vectors
        joined = LANES * (2 if len(vectors) > 1 else 1)
        lower = [start + k for start in range(0, joined, width) for k in range(width // 2)]
        halves = lower, [k + width // 2 for k in lower]
        vectors = [
            builder.fadd(*(builder.shuffle_vector(*pair, _indices(half)) for half in halves), flags=_FLAGS)
            for pair in zip(one, other, strict=True)
        ]
        width //= 2
    return vectors[0]


class _Array:
    """A matrix with contiguous rows, of numbers or of 16 bits together, or a vector."""

    def __init__(self, context: Any, builder: Any, signature: Any, values: Any, index: int) -> None:
        array = context.make_array(signature.args[index])(context, builder, values[index])
        shape = _tools.unpack_tuple(builder, array.shape)
        self.data, self.length, self.row_length = array.data, shape[0], shape[-1]
        self.element = self.data.type.pointee
        self.align = 8 if isinstance(self.element, ir.DoubleType) else 4

    def load(self, builder: Any, place: Any) -> Any:
        """Return an element of a vector."""
        return builder.load(builder.gep(self.data, [place]))

    def vector_pointer(self, builder: Any, row: Any, column: Any) -> Any:
        """Return where some numbers of a row begin."""
        offset = builder.add(builder.mul(row, self.row_length), column)
        return builder.bitcast(builder.gep(self.data, [offset]), ir.VectorType(self.element, LANES).as_pointer())

    def load_vector(self, builder: Any, row: Any, column: Any, vector: Any) -> Any:
        """Return some numbers of a row."""
        pointer = builder.bitcast(self.vector_pointer(builder, row, column), vector.as_pointer())
        return builder.load(pointer, align=self.align)

    def prefetch(self, builder: Any, row: Any, column: Any) -> None:
        """Ask for the line of the cache of some numbers of a row, which will be read soon."""
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32])
        function = _tools.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        read, near, data = ir.Constant(_I32, 0), ir.Constant(_I32, 3), ir.Constant(_I32, 1)
        pointer = builder.bitcast(self.vector_pointer(builder, row, column), byte)
        builder.call(function, [pointer, read, near, data])

    def added(self, builder: Any, total: Any, row: Any, column: Any, factor: Any) -> Any:
        """Return a vector plus some elements of a row times a factor."""
        if isinstance(self.element, ir.IntType):
            word = builder.lshr(column, ir.Constant(_I64, LANES.bit_length() - 1))
            bits = self.load(builder, builder.add(builder.mul(row, self.row_length), word))
            mask = builder.bitcast(bits, ir.VectorType(ir.IntType(1), LANES))
            return builder.select(mask, builder.fadd(total, factor, flags=_FLAGS), total)
        term = builder.fmul(self.load_vector(builder, row, column, total.type), factor, flags=_FLAGS)
        return builder.fadd(total, term, flags=_FLAGS)


def _filled(builder: Any, number: Any, vector: Any) -> Any:
    """Return a vector with one number everywhere."""
    nothing = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(nothing, number, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, nothing, _indices([0] * LANES))


def _indices(indices: list[int]) -> Any:
    return ir.Constant(ir.VectorType(_I32, len(indices)), indices)
