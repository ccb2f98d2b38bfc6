"""Vectors of as many lanes as the processor's registers hold, as numba and LLVM see them.

Numba compiles loops well but leaves it to LLVM what becomes of them, and LLVM does not keep a block of sums
in registers across an inner loop. With these types a kernel can ask for that: a tuple of vectors is such a
block, which numba passes from one iteration to the next, each vector in a register.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.core.registry import cpu_target
from numba.extending import register_model

__all__ = [
    "BYTES",
    "F32",
    "FLOATS",
    "I32",
    "INT",
    "INTS",
    "LANES",
    "ROWS",
    "Floats",
    "Ints",
    "address",
    "call",
    "constant",
    "floats",
    "fma",
    "ints",
    "read",
    "spread",
    "vectors",
    "write",
]


def _lanes(features: str) -> int:
    enabled = set(features.split(","))
    if "+avx512f" in enabled:
        return 16
    return 8 if "+avx" in enabled else 4


LANES = _lanes(cpu_target.target_context.codegen().magic_tuple()[2])
# Rows of a block of sums: 4 x 4 vectors leave room in 32 registers. AVX2 has 16 of them.
ROWS = 2 if LANES == 8 else 4

F32, I32, INT = ir.FloatType(), ir.IntType(32), ir.IntType(64)
FLOATS = ir.VectorType(F32, LANES)
INTS = ir.VectorType(I32, LANES)
BYTES = ir.VectorType(ir.IntType(8), LANES)


class Floats(types.Type):
    """The numba type of a vector of float32."""

    def __init__(self) -> None:
        super().__init__(f"floats{LANES}")


class Ints(types.Type):
    """The numba type of a vector of int32."""

    def __init__(self) -> None:
        super().__init__(f"ints{LANES}")


floats, ints = Floats(), Ints()


@register_model(Floats)
class _FloatsModel(models.PrimitiveModel):
    def __init__(self, manager: Any, frontend: Any) -> None:
        super().__init__(manager, frontend, FLOATS)


@register_model(Ints)
class _IntsModel(models.PrimitiveModel):
    def __init__(self, manager: Any, frontend: Any) -> None:
        super().__init__(manager, frontend, INTS)


def address(context: Any, builder: Any, kind: Any, array: Any, index: Any, to: Any) -> Any:
    """A pointer to an element of an array, as one to a type."""
    data = cgutils.create_struct_proxy(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), to.as_pointer())


def read(builder: Any, pointer: Any, align: int = 4) -> Any:
    """Load from a pointer of an alignment in bytes."""
    value = builder.load(pointer)
    value.align = align
    return value


def write(builder: Any, value: Any, pointer: Any, align: int = 4) -> None:
    """Store to a pointer, likewise."""
    builder.store(value, pointer).align = align


def spread(builder: Any, scalar: Any, vector: Any) -> Any:
    """A vector with a scalar in all lanes."""
    nothing = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(nothing, scalar, I32(0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(I32, LANES), [0] * LANES))


def constant(value: float) -> Any:
    """A constant in all lanes."""
    return ir.Constant(FLOATS, [float(np.float32(value))] * LANES)


def call(builder: Any, name: str, *values: Any) -> Any:
    """Call an LLVM intrinsic on vectors of float32."""
    signature = ir.FunctionType(FLOATS, [FLOATS] * len(values))
    function = cgutils.get_or_insert_function(builder.module, signature, f"llvm.{name}.v{LANES}f32")
    return builder.call(function, values)


def fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c``: fused where the processor can, else multiplied and added."""
    return call(builder, "fmuladd", a, b, c)


def vectors(count: int) -> Any:
    """The numba type of a tuple of so many vectors."""
    return types.UniTuple(floats, count)
