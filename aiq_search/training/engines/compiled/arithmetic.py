"""What kernels compute with vectors, lane by lane."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from aiq_search.training.engines.compiled.vectors import (
    FLOATS,
    I32,
    INTS,
    LANES,
    Floats,
    constant,
    floats,
    fma,
    ints,
    spread,
    vectors,
)

__all__ = [
    "above",
    "add_bit",
    "block",
    "exp",
    "largest",
    "no_bits",
    "outer",
    "splat",
    "where_byte",
]


@intrinsic(prefer_literal=True)
def block(context: Any, count: Any) -> Any:
    """A block of so many vectors, all zero. The number must be a constant."""
    if not isinstance(count, types.IntegerLiteral):
        return None
    kind = vectors(count.literal_value)

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.make_tuple(builder, kind, [constant(0.0)] * kind.count)

    return kind(count), build


@intrinsic
def splat(context: Any, number: Any) -> Any:
    """A number in all lanes."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return spread(builder, arguments[0], FLOATS)

    return floats(types.float32), build


@intrinsic
def outer(context: Any, totals: Any, left: Any, right: Any) -> Any:
    """``totals[i, j] + left[i] * right[j]``, lane by lane; ``totals`` is flat, ``j`` runs fastest."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        before, rows, columns = (cgutils.unpack_tuple(builder, argument) for argument in arguments)
        pairs = [(row, column) for row in rows for column in columns]
        after = [fma(builder, *pair, total) for pair, total in zip(pairs, before, strict=True)]
        return context.make_tuple(builder, totals, after)

    return totals(totals, left, right), build


@intrinsic
def above(context: Any, x: Any, y: Any, then: Any, otherwise: Any) -> Any:
    """``then`` where x > y, ``otherwise`` elsewhere and where one of them is NaN."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, y, then, otherwise = arguments
        return builder.select(builder.fcmp_ordered(">", x, y), then, otherwise)

    return floats(floats, floats, floats, floats), build


@intrinsic
def largest(context: Any, value: Any, place: Any, other: Any, other_place: Any) -> Any:
    """The larger of two vectors, and where it is: ``place``, or the whole number ``other_place``."""
    kind = types.Tuple((floats, ints))

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, place, other, other_place = arguments
        wins = builder.fcmp_ordered(">", other, value)
        there = spread(builder, builder.trunc(other_place, I32), INTS)
        better = builder.select(wins, other, value), builder.select(wins, there, place)
        return context.make_tuple(builder, kind, better)

    return kind(floats, ints, floats, types.intp), build


@intrinsic
def where_byte(context: Any, place: Any, wanted: Any, then: Any) -> Any:
    """``then`` where ``place`` is the whole number ``wanted``, else 0."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place, wanted, then = arguments
        there = spread(builder, builder.trunc(wanted, I32), INTS)
        return builder.select(builder.icmp_signed("==", place, there), then, constant(0.0))

    return floats(ints, types.intp, floats), build


@intrinsic
def no_bits(context: Any) -> Any:
    """Whole numbers, all zero."""
    return ints(), lambda context, builder, signature, arguments: ir.Constant(INTS, [0] * LANES)


@intrinsic
def add_bit(context: Any, bits: Any, values: Any, bit: Any) -> Any:
    """Set a bit, given by its number, where the value is above 0."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits, values, number = arguments
        bit = spread(builder, builder.shl(I32(1), builder.trunc(number, I32)), INTS)
        on = builder.fcmp_ordered(">", values, constant(0.0))
        return builder.select(on, builder.or_(bits, bit), bits)

    return ints(ints, floats, types.intp), build


@intrinsic
def exp(context: Any, x: Any) -> Any:
    """The exponential, within 2 units in the last place (Cephes; Moshier, 1992)."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (x,) = arguments
        for sign, limit in (("<", constant(-87.0)), (">", constant(88.0))):
            x = builder.select(builder.fcmp_ordered(sign, x, limit), limit, x)
        # Adding 1.5 * 2 ** 23 rounds to a whole number, which then is what the last bits hold.
        magic = constant(12582912.0)
        shifted = fma(builder, x, constant(1.44269504088896341), magic)
        power = builder.fsub(shifted, magic)
        rest = fma(builder, power, constant(-0.693359375), x)
        rest = fma(builder, power, constant(2.12194440e-4), rest)
        series = constant(1.9875691500e-4)
        for coefficient in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5):
            series = fma(builder, series, rest, constant(coefficient))
        series = fma(builder, series, builder.fmul(rest, rest), rest)
        series = builder.fadd(series, constant(1.0))
        whole = builder.sub(builder.bitcast(shifted, INTS), builder.bitcast(magic, INTS))
        biased = builder.add(whole, ir.Constant(INTS, [127] * LANES))
        exponent = builder.shl(biased, ir.Constant(INTS, [23] * LANES))
        return builder.fmul(series, builder.bitcast(exponent, FLOATS))

    return floats(floats), build


def _arithmetic(instruction: str) -> Callable[..., Any]:
    @intrinsic
    def apply(context: Any, x: Any, y: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, instruction)(*arguments)

        return floats(floats, floats), build

    def implement(x: Any, y: Any) -> Any:
        if isinstance(x, Floats) and isinstance(y, Floats):
            return lambda x, y: apply(x, y)
        return None

    return implement


for _operator, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    overload(_operator, strict=False)(_arithmetic(_instruction))
