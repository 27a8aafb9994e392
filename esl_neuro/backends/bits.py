"""What compiled loops cannot say in Python: tests of many bytes at once, and the bits of a word.

Each function becomes one or a few instructions of any processor. numba does not see changes in this file: after one,
delete what it has kept (``esl_neuro/backends/__pycache__``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import extending, types

# Bytes that are tested at once, and words that are merged at once: a line of the processor's cache.
BYTES = 64
WORDS = 8


def intrinsic(function: Callable[..., Any]) -> Any:
    """Let compiled code call a function, without the context that it is written with."""
    return extending.intrinsic(function)


def _place(context: Any, builder: Any, array: tuple[Any, Any], index: Any, vector: ir.VectorType) -> Any:
    """Return a pointer to the vector that begins at an element of an array, given as its type and value."""
    kind, value = array
    element = builder.gep(context.make_array(kind)(context, builder, value).data, [index])
    return builder.bitcast(element, vector.as_pointer())


@intrinsic
def nonzero_bits(_context: Any, array: Any, start: Any) -> Any:
    """``nonzero_bits(array, start)``: a bit for each of 64 bytes of a uint8 array, the first lowest, 1 if not 0."""
    del start

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = ir.VectorType(ir.IntType(8), BYTES)
        place = _place(context, builder, (signature.args[0], arguments[0]), arguments[1], vector)
        marks = builder.icmp_unsigned("!=", builder.load(place, align=1), ir.Constant(vector, [0] * BYTES))
        return builder.bitcast(marks, ir.IntType(64))

    return types.uint64(array, types.uint64), generate


@intrinsic
def lowest_bit(_context: Any, word: Any) -> Any:
    """``lowest_bit(word)``: the place of the lowest 1 in a word, 64 if there is none."""
    del word

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), generate


@intrinsic
def count_bits(_context: Any, word: Any) -> Any:
    """``count_bits(word)``: how many bits of a word are 1."""
    del word

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@intrinsic
def merge(_context: Any, marks: Any, at: Any, bits: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """``merge(marks, at, bits, a, b, c, d)``: 8 words ``marks[at:] |= bits[a:] | bits[b:] | bits[c:] | bits[d:]``."""
    del at, a, b, c, d

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = ir.VectorType(ir.IntType(64), WORDS)
        into = _place(context, builder, (signature.args[0], arguments[0]), arguments[1], vector)
        total = builder.load(into, align=8)
        for index in arguments[3:]:
            row = _place(context, builder, (signature.args[2], arguments[2]), index, vector)
            total = builder.or_(total, builder.load(row, align=8))
        builder.store(total, into, align=8)
        return context.get_dummy_value()

    return types.void(marks, types.uint64, bits, *[types.uint64] * 4), generate
