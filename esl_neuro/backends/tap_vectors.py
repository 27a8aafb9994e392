"""Sums over the taps of a convolution that stay in vector registers, for compiled loops.

A loop in Python would load and store the sums for every tap. Each function compiles to vector instructions of any
processor. numba does not detect changes in this file: after a change, delete its cache (``__pycache__`` in this
folder).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types

from esl_neuro.backends.taps import VECTOR
from esl_neuro.bits import intrinsic, vector_at

WORD = ir.IntType(64)
BYTES = ir.VectorType(ir.IntType(8), VECTOR)
# The same bytes in pairs: the second one of a pair is the high one.
PAIRS = ir.VectorType(ir.IntType(16), VECTOR // 2)
LONG = ir.VectorType(ir.IntType(32), VECTOR)
HIGH = ir.Constant(PAIRS, [8] * (VECTOR // 2))
INTERLEAVED = [lane for pair in range(VECTOR // 2) for lane in (pair, VECTOR // 2 + pair)]

Values = list[Any]
# Builder, totals, and for each tap its size and its images.
Combine = Callable[[Any, Values, "Sequence[tuple[Any, Values]]"], Values]


def _spread(builder: Any, value: Any, vector: ir.VectorType) -> Any:
    """Return a vector of equal numbers."""
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.IntType(32)(0))
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), lanes)


def _shuffled(builder: Any, first: Any, second: Any, lanes: Sequence[int]) -> Any:
    return builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes)))


def _add_masks(builder: Any, totals: Values, taps: Sequence[tuple[Any, Values]]) -> Values:
    """Add two taps of binary images, which are 0 or 255: the sum of two sizes up to 127 fits a byte.

    Pairs of bytes are added as 16-bit numbers, where the second byte is too large by 256, and once more the second
    bytes alone: these and the difference are the sums.
    """
    (one, ones), (two, twos) = ((_spread(builder, size, BYTES), images) for size, images in taps)
    results = []
    for k, (first, second) in enumerate(zip(ones, twos, strict=True)):
        pairs = builder.bitcast(builder.add(builder.and_(one, first), builder.and_(two, second)), PAIRS)
        results.append(builder.add(totals[2 * k], pairs))
        results.append(builder.add(totals[2 * k + 1], builder.lshr(pairs, HIGH)))
    return results


def _add_counts(builder: Any, totals: Values, taps: Sequence[tuple[Any, Values]]) -> Values:
    """Add two taps of images of counts, in the same two sums."""
    results = totals
    for size, images in taps:
        sizes = _spread(builder, builder.zext(size, ir.IntType(16)), PAIRS)
        pairs = [builder.bitcast(image, PAIRS) for image in images]
        products = [builder.mul(sizes, each) for pair in pairs for each in (pair, builder.lshr(pair, HIGH))]
        results = [builder.add(total, product) for total, product in zip(results, products, strict=True)]
    return results


def _merge(builder: Any, totals: Values, taps: Sequence[tuple[Any, Values]]) -> Values:
    """Merge the bits of two taps."""
    (_, ones), (_, twos) = taps
    return [builder.or_(total, builder.or_(*both)) for total, *both in zip(totals, ones, twos, strict=True)]


def _add_to_sums(builder: Any, places: Values, totals: Values, sign: Any) -> None:
    """Add both kinds of sums to int32 sums, with a sign."""
    signs = _spread(builder, sign, LONG)
    for k, place in enumerate(places):
        mixed, second = totals[2 * k : 2 * k + 2]
        first = builder.sub(mixed, builder.shl(second, HIGH))
        found = builder.zext(_shuffled(builder, first, second, INTERLEAVED), LONG)
        builder.store(builder.add(builder.load(place, align=4), builder.mul(signs, found)), place, align=4)


def _merge_into(builder: Any, places: Values, totals: Values, _sign: Any) -> None:
    for place, total in zip(places, totals, strict=True):
        builder.store(builder.or_(builder.load(place, align=1), total), place, align=1)


def _over_taps(vectors: int, combine: Combine, finish: Any, total: ir.VectorType, stored: ir.VectorType) -> Any:
    """Make ``f(into, at, image, place, offsets, sizes, first, last, sign)`` for so many vectors of positions.

    It combines the taps ``first`` to ``last - 1``, an even number, of ``image[place + offset:]``, and adds the result
    to ``into[at:]``.
    """

    @intrinsic
    def over_taps(
        _context: Any,
        into: Any,
        at: Any,
        image: Any,
        place: Any,
        offsets: Any,
        sizes: Any,
        first: Any,
        last: Any,
        sign: Any,
    ) -> Any:
        del at, place, first, last, sign

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kinds, (_, to, _, begin, _, _, start, end, signed) = signature.args, arguments
            listed, weights = (
                context.make_array(kinds[which])(context, builder, arguments[which]).data for which in (4, 5)
            )

            def vectors_at(which: int, index: Any, vector: ir.VectorType) -> Values:
                array = (kinds[which], arguments[which])
                places = [builder.add(index, WORD(k * VECTOR)) for k in range(vectors)]
                return [vector_at(context, builder, array, place, vector) for place in places]

            def tap_at(index: Any) -> tuple[Any, Values]:
                offset = builder.zext(builder.load(builder.gep(listed, [index])), WORD)
                places = vectors_at(2, builder.add(begin, offset), BYTES)
                size = builder.load(builder.gep(weights, [index]))
                return size, [builder.load(place, align=1) for place in places]

            zero, before = ir.Constant(total, [0] * total.count), builder.block
            loop, after = builder.append_basic_block("taps"), builder.append_basic_block("taps.end")
            builder.cbranch(builder.icmp_unsigned("<", start, end), loop, after)
            builder.position_at_end(loop)
            tap = builder.phi(WORD)
            totals = [builder.phi(total) for _ in range(vectors * (2 if total is PAIRS else 1))]
            results = combine(builder, totals, [tap_at(tap), tap_at(builder.add(tap, WORD(1)))])
            following = builder.add(tap, WORD(2))
            builder.cbranch(builder.icmp_unsigned("<", following, end), loop, after)
            builder.position_at_end(after)
            found = [builder.phi(total) for _ in totals]
            for phi, initial, updated in [
                (tap, start, following),
                *((phi, zero, result) for phis in (totals, found) for phi, result in zip(phis, results, strict=True)),
            ]:
                phi.add_incoming(initial, before)
                phi.add_incoming(updated, loop)
            finish(builder, vectors_at(0, to, stored), found, signed)
            return context.get_dummy_value()

        word = types.uint64
        return types.void(into, word, image, word, offsets, sizes, word, word, types.int32), generate

    return over_taps


def _of_widths(combine: Combine, finish: Any, total: ir.VectorType, stored: ir.VectorType) -> Values:
    return [_over_taps(vectors, combine, finish, total, stored) for vectors in (1, 2, 3, 4)]


add_masks_1, add_masks_2, add_masks_3, add_masks_4 = _of_widths(_add_masks, _add_to_sums, PAIRS, LONG)
add_counts_1, add_counts_2, add_counts_3, add_counts_4 = _of_widths(_add_counts, _add_to_sums, PAIRS, LONG)
merge_1, merge_2, merge_3, merge_4 = _of_widths(_merge, _merge_into, BYTES, BYTES)
