"""What kernels read and write: vectors, at places counted in elements of flat arrays.

Nothing is bounds-checked.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from aiq_search.training.engines.compiled.vectors import (
    BYTES,
    F32,
    FLOATS,
    I32,
    INT,
    INTS,
    LANES,
    address,
    constant,
    floats,
    ints,
    read,
    spread,
    vectors,
    write,
)

__all__ = [
    "corners",
    "load",
    "load_bytes",
    "loads",
    "loads_at",
    "splats",
    "store",
    "store_bits",
    "store_block",
    "store_bytes",
    "store_largest",
    "store_sums",
    "stores",
    "tap_offsets",
    "transpose",
    "transpose_samples",
]


@intrinsic
def load(context: Any, array: Any, index: Any) -> Any:
    """The vector at ``array[index:]``."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return read(builder, address(context, builder, array, *arguments, FLOATS))

    return floats(array, types.intp), build


@intrinsic
def loads(context: Any, array: Any, index: Any, step: Any, like: Any) -> Any:
    """As many vectors as ``like`` has, ``step`` elements apart."""
    kind = vectors(like.count)

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values, (data, offset, distance, _) = [], arguments
        for _ in range(kind.count):
            values.append(read(builder, address(context, builder, array, data, offset, FLOATS)))
            offset = builder.add(offset, distance)
        return context.make_tuple(builder, kind, values)

    return kind(array, types.intp, types.intp, like), build


@intrinsic
def loads_at(context: Any, array: Any, index: Any, offsets: Any, like: Any) -> Any:
    """The vectors at ``index`` plus each of a tuple of offsets."""
    kind = vectors(like.count)

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data, first = arguments[:2]
        places = [builder.add(first, offset) for offset in cgutils.unpack_tuple(builder, arguments[2])]
        values = [read(builder, address(context, builder, array, data, p, FLOATS)) for p in places]
        return context.make_tuple(builder, kind, values)

    return kind(array, types.intp, offsets, like), build


@intrinsic
def tap_offsets(context: Any, first: Any, width: Any, row: Any, like: Any) -> Any:
    """Where successive taps of a filter so wide look, for rows of ``row`` numbers, as a tuple."""
    kind = types.UniTuple(types.intp, like.count)

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first, width, row, _ = arguments
        offsets = []
        for number in range(kind.count):
            tap = builder.add(first, INT(number))
            line = builder.mul(builder.udiv(tap, width), row)
            offsets.append(builder.add(line, builder.mul(builder.urem(tap, width), INT(LANES))))
        return context.make_tuple(builder, kind, offsets)

    return kind(types.intp, types.intp, types.intp, like), build


@intrinsic
def corners(context: Any, array: Any, index: Any, down: Any, right: Any) -> Any:
    """Four vectors: at index, to the right of it, below it, and below to the right."""
    kind = vectors(4)

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data, first, down, right = arguments
        below = builder.add(first, down)
        offsets = [first, builder.add(first, right), below, builder.add(below, right)]
        values = [read(builder, address(context, builder, array, data, o, FLOATS)) for o in offsets]
        return context.make_tuple(builder, kind, values)

    return kind(array, types.intp, types.intp, types.intp), build


@intrinsic
def splats(context: Any, array: Any, index: Any, step: Any, like: Any) -> Any:
    """As many numbers as ``like`` has vectors, ``step`` elements apart, each in all lanes of one."""
    kind = vectors(like.count)

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values, (data, offset, distance, _) = [], arguments
        for _ in range(kind.count):
            number = builder.load(address(context, builder, array, data, offset, F32))
            values.append(spread(builder, number, FLOATS))
            offset = builder.add(offset, distance)
        return context.make_tuple(builder, kind, values)

    return kind(array, types.intp, types.intp, like), build


@intrinsic
def load_bytes(context: Any, array: Any, index: Any) -> Any:
    """A vector of whole numbers from a uint8 array."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.zext(read(builder, address(context, builder, array, *arguments, BYTES), 1), INTS)

    return ints(array, types.intp), build


@intrinsic
def store(context: Any, array: Any, index: Any, value: Any) -> Any:
    """Write a vector to ``array[index:]``."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        write(builder, arguments[2], address(context, builder, array, *arguments[:2], FLOATS))
        return context.get_dummy_value()

    return types.void(array, types.intp, floats), build


@intrinsic
def store_bytes(context: Any, array: Any, index: Any, value: Any) -> Any:
    """Write a vector of small whole numbers to a uint8 array."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        narrow = builder.trunc(arguments[2], BYTES)
        write(builder, narrow, address(context, builder, array, *arguments[:2], BYTES), 1)
        return context.get_dummy_value()

    return types.void(array, types.intp, ints), build


@intrinsic
def store_bits(context: Any, array: Any, index: Any, value: Any) -> Any:
    """Write a vector of whole numbers to a uint32 array."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        write(builder, arguments[2], address(context, builder, array, *arguments[:2], INTS))
        return context.get_dummy_value()

    return types.void(array, types.intp, ints), build


@intrinsic
def store_block(
    context: Any, array: Any, index: Any, step: Any, down: Any, right: Any, totals: Any, bias: Any
) -> Any:
    """Write ``totals[i, j] + bias[i]``: a row every ``step``, its one vector or its four corners."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data, first, step, down, right = arguments[:5]
        values, biases = (cgutils.unpack_tuple(builder, argument) for argument in arguments[5:])
        columns = len(values) // len(biases)
        for row, offset in enumerate(biases):
            below = builder.add(first, down)
            places = [first, builder.add(first, right), below, builder.add(below, right)][:columns]
            for place, value in zip(places, values[columns * row : columns * (row + 1)], strict=True):
                pointer = address(context, builder, array, data, place, FLOATS)
                write(builder, builder.fadd(value, offset), pointer)
            first = builder.add(first, step)
        return context.get_dummy_value()

    return types.void(array, *[types.intp] * 4, totals, bias), build


@intrinsic
def store_largest(
    context: Any, array: Any, places: Any, index: Any, step: Any, totals: Any, bias: Any
) -> Any:
    """Write ``max(totals[i]) + bias[i]``, the largest of four, and which it was: a vector every ``step``."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data, where, index, step = arguments[:4]
        values, biases = (cgutils.unpack_tuple(builder, argument) for argument in arguments[4:])
        for row, offset in enumerate(biases):
            best, place = values[4 * row], ir.Constant(INTS, [0] * LANES)
            for corner in (1, 2, 3):
                wins = builder.fcmp_ordered(">", values[4 * row + corner], best)
                best = builder.select(wins, values[4 * row + corner], best)
                place = builder.select(wins, ir.Constant(INTS, [corner] * LANES), place)
            pointer = address(context, builder, array, data, index, FLOATS)
            write(builder, builder.fadd(best, offset), pointer)
            narrow = builder.trunc(place, BYTES)
            write(builder, narrow, address(context, builder, places, where, index, BYTES), 1)
            index = builder.add(index, step)
        return context.get_dummy_value()

    return types.void(array, places, types.intp, types.intp, totals, bias), build


@intrinsic
def store_sums(context: Any, array: Any, totals: Any) -> Any:
    """Write the sum over the lanes of each vector to the beginning of an array, always in the same order.

    What is written is a whole number of vectors; beyond the sums it is 0.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        level = cgutils.unpack_tuple(builder, arguments[1])
        level += [constant(0.0)] * (-len(level) % LANES)
        # A round adds neighbouring lanes of two vectors and leaves one. After the last, each lane holds the
        # sum of one vector, in their order.
        kind = ir.VectorType(I32, LANES)
        even, odd = (ir.Constant(kind, list(range(first, 2 * LANES, 2))) for first in (0, 1))
        for _ in range(LANES.bit_length() - 1):
            level = [
                builder.fadd(builder.shuffle_vector(a, b, even), builder.shuffle_vector(a, b, odd))
                for a, b in zip(level[::2], level[1::2], strict=True)
            ]
        for index, value in enumerate(level):
            offset = INT(index * LANES)
            write(builder, value, address(context, builder, array, arguments[0], offset, FLOATS))
        return context.get_dummy_value()

    return types.void(array, totals), build


@intrinsic
def stores(context: Any, array: Any, index: Any, step: Any, totals: Any) -> Any:
    """Write a tuple of vectors, ``step`` elements apart."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data, offset, distance, values = arguments
        for value in cgutils.unpack_tuple(builder, values):
            write(builder, value, address(context, builder, array, data, offset, FLOATS))
            offset = builder.add(offset, distance)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, totals), build


def _turned(builder: Any, rows: list[Any]) -> list[Any]:
    """The columns of as many vectors as a vector has lanes."""
    kind, half = ir.VectorType(I32, LANES), LANES // 2
    low = ir.Constant(kind, [lane // 2 + LANES * (lane % 2) for lane in range(LANES)])
    high = ir.Constant(kind, [half + lane // 2 + LANES * (lane % 2) for lane in range(LANES)])
    # A round interleaves vector k with vector k + LANES / 2. After log2(LANES) of them rows are columns.
    for _ in range(LANES.bit_length() - 1):
        rows = [
            builder.shuffle_vector(rows[k], rows[k + half], order)
            for k in range(half)
            for order in (low, high)
        ]
    return rows


@intrinsic
def transpose_samples(context: Any, raw: Any, starts: Any, first: Any, array: Any, index: Any) -> Any:
    """Write ``LANES`` numbers of ``LANES`` samples, as float32, so that a vector holds one of each sample.

    Lane ``k`` of the vector at ``array[index + LANES * f:]`` becomes ``raw[starts[k] + first + f]``.
    """
    narrow = {types.uint8: BYTES, types.float32: FLOATS}[raw.dtype]

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data, where, first, target, index = arguments
        beginnings = address(context, builder, starts, where, INT(0), INT)
        rows = []
        for lane in range(LANES):
            offset = builder.add(builder.load(builder.gep(beginnings, [INT(lane)])), first)
            value = read(builder, address(context, builder, raw, data, offset, narrow), 1)
            rows.append(value if narrow is FLOATS else builder.uitofp(value, FLOATS))
        for place, value in enumerate(_turned(builder, rows)):
            offset = builder.add(index, INT(place * LANES))
            write(builder, value, address(context, builder, array, target, offset, FLOATS))
        return context.get_dummy_value()

    return types.void(raw, starts, types.intp, array, types.intp), build


@intrinsic
def transpose(
    context: Any, source: Any, at: Any, step: Any, last: Any, target: Any, to: Any, distance: Any, limit: Any
) -> Any:
    """Write the columns of ``LANES`` vectors, ``step`` apart, to places ``distance`` apart.

    What lies beyond ``last`` is read at ``last``. What would lie beyond ``limit`` is not written.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data, at, step, last, result, to, distance, limit = arguments

        def bounded(first: Any, apart: Any, bound: Any, k: int) -> Any:
            place = builder.add(first, builder.mul(apart, INT(k)))
            return builder.select(builder.icmp_signed("<", place, bound), place, bound)

        places = [bounded(at, step, last, k) for k in range(LANES)]
        rows = [read(builder, address(context, builder, source, data, p, FLOATS)) for p in places]
        columns = _turned(builder, rows)
        # Backwards, so that at the limit the one that belongs there is the last one written.
        for k in reversed(range(LANES)):
            place = bounded(to, distance, limit, k)
            write(builder, columns[k], address(context, builder, target, result, place, FLOATS))
        return context.get_dummy_value()

    return types.void(source, *[types.intp] * 3, target, *[types.intp] * 3), build
