"""Bit operations that compiled loops cannot express in Python: tests of many bytes at once, and bits of a word.

Each function compiles to one or a few instructions on any processor. numba does not detect changes in this file: after
a change, delete its caches (``__pycache__`` in ``esl_neuro``, and in its ``backends``, ``energy`` and ``snn``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import extending, types

# Bytes tested at once, and words merged at once: one cache line.
BYTES = 64
WORDS = 8
# Rows merged at once.
ROWS = 16


def intrinsic(function: Callable[..., Any]) -> Any:
    """Make a typing function callable from compiled code, without its context argument."""
    return extending.intrinsic(function)


def vector_at(context: Any, builder: Any, array: tuple[Any, Any], index: Any, vector: ir.VectorType) -> Any:
    """Return a pointer to the vector that starts at an element of an array, given by type and value."""
    kind, value = array
    element = builder.gep(context.make_array(kind)(context, builder, value).data, [index])
    return builder.bitcast(element, vector.as_pointer())


@intrinsic
def nonzero_bits(_context: Any, array: Any, start: Any) -> Any:
    """``nonzero_bits(array, start)``: a bit for each of 64 bytes of a uint8 array, 1 if not 0, first byte lowest."""
    del start

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = ir.VectorType(ir.IntType(8), BYTES)
        place = vector_at(context, builder, (signature.args[0], arguments[0]), arguments[1], vector)
        marks = builder.icmp_unsigned("!=", builder.load(place, align=1), ir.Constant(vector, [0] * BYTES))
        return builder.bitcast(marks, ir.IntType(64))

    return types.uint64(array, types.uint64), generate


@intrinsic
def lowest_bit(_context: Any, word: Any) -> Any:
    """``lowest_bit(word)``: the position of the lowest 1 in a word, 64 if there is none."""
    del word

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), generate


@intrinsic
def count_bits(_context: Any, word: Any) -> Any:
    """``count_bits(word)``: the number of 1 bits in a word."""
    del word

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@intrinsic
def merge_rows(_context: Any, marks: Any, at: Any, bits: Any, first: Any, width: Any, lines: Any, event: Any) -> Any:
    """``merge_rows(marks, at, bits, first, width, lines, event)``: merge words of 16 rows of bits into marks.

    Merges eight words, starting at ``at``, of the rows ``lines[event]`` to ``lines[event + 15]``; the row of a line
    starts at ``bits[first + line * width]``. Row by row, each merge would wait for the previous one.
    """
    del at, first, width, event

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = ir.VectorType(ir.IntType(64), WORDS)
        kinds = signature.args
        into = vector_at(context, builder, (kinds[0], arguments[0]), arguments[1], vector)
        words = [builder.load(into, align=8)]
        begin = builder.add(arguments[3], arguments[1])
        listed = context.make_array(kinds[5])(context, builder, arguments[5]).data
        for row in range(ROWS):
            place = builder.gep(listed, [builder.add(arguments[6], ir.IntType(64)(row))])
            line = builder.zext(builder.load(place), ir.IntType(64))
            index = builder.add(begin, builder.mul(line, arguments[4]))
            words.append(builder.load(vector_at(context, builder, (kinds[2], arguments[2]), index, vector), align=8))
        while len(words) > 1:
            pairs = zip(words[::2], words[1::2], strict=False)
            words = [builder.or_(one, other) for one, other in pairs] + words[len(words) // 2 * 2 :]
        builder.store(words[0], into, align=8)
        return context.get_dummy_value()

    return types.void(marks, types.uint64, bits, types.uint64, types.uint64, lines, types.uint64), generate


@intrinsic
def packed(_context: Any, signal: Any, row: Any, column: Any) -> Any:
    """``packed(signal, row, column)``: bits of 16 numbers of a row, those that are 1, and above, those not 0 or 1."""
    del row, column

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        length = builder.extract_value(array.shape, 1)
        start = builder.gep(array.data, [builder.add(builder.mul(arguments[1], length), arguments[2])])
        vector = ir.VectorType(array.data.type.pointee, ROWS)
        zero, one = (ir.Constant(vector, [number] * ROWS) for number in (0.0, 1.0))
        numbers = builder.load(builder.bitcast(start, vector.as_pointer()), align=4)
        ones = builder.fcmp_ordered("==", numbers, one)
        others = builder.not_(builder.or_(ones, builder.fcmp_ordered("==", numbers, zero)))
        low, high = (builder.zext(builder.bitcast(mask, ir.IntType(16)), ir.IntType(32)) for mask in (ones, others))
        return builder.or_(low, builder.shl(high, ir.IntType(32)(16)))

    return types.uint32(signal, types.int64, types.int64), generate
