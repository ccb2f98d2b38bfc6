"""The steps of a plan as functions of C, whatever they compute with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np

from aiq_search.errors import InputError
from aiq_search.export.device.c_text import CText, comment_name, float_literal, place
from aiq_search.lowering.plan import Activation, Convolution, Plan, Pool, Step

__all__ = ["LARGEST", "StepWriter", "begin", "check_weights", "end"]

# Numbers that a C file may hold: 1 MiB in float32, as much flash as a large microcontroller has.
LARGEST = 2**18


def check_weights(plan: Plan) -> None:
    """Raise InputError where the weights are larger than a microcontroller's flash, or not numbers."""
    if plan.weights > LARGEST:
        raise InputError(
            f"the network has {plan.weights:,} weights, but a C file has at most {LARGEST:,}: 1 MiB in "
            "float32, as much flash as a large microcontroller has."
        )
    for layer in plan.convolutions:
        if not (np.isfinite(layer.weight).all() and np.isfinite(layer.bias).all()):
            raise InputError(f"{layer.name} has weights that are NaN or infinite.")


class StepWriter(ABC):
    """Writes each step of a plan as a function; a subclass knows the arithmetic.

    Args:
        code: Where to.
        plan: The network.
    """

    number: str  # type of what passes from step to step
    sum: str  # type of a sum of products
    lowest: str  # what every number is larger than, or equal to
    by_rows: bool  # whether each row of a filter is summed up by itself, so that less is lost

    def __init__(self, code: CText, plan: Plan) -> None:
        self.code = code
        self.plan = plan
        self.at = 0

    @abstractmethod
    def constants(self, layer: Convolution) -> Iterator[str]:
        """The arrays ``weight<step>``, ``bias<step>`` and what else a layer needs."""

    @abstractmethod
    def read(self, source: str, channel: str) -> str:
        """A number of the input at a place."""

    @abstractmethod
    def finish(self, name: str) -> None:
        """Make the number ``name`` of a layer from ``sum``."""

    @abstractmethod
    def activate(self, name: str, activation: Activation) -> None:
        """Apply an activation to a number."""

    @abstractmethod
    def average(self, pool: Pool) -> None:
        """Make ``value``, the sum of a window, its mean."""

    def write(self, at: int, step: Step) -> None:
        """Write a step as the function ``step<at>``, with its weights."""
        self.at = at
        layer, (channels, rows, columns) = step.layer, step.output_shape
        if isinstance(layer, Convolution):
            self.code.add(*self.constants(layer), "")
        names = [layer.name, *([step.pool.name] if step.pool else [])]
        sizes = " -> ".join(" x ".join(map(str, each)) for each in (layer.input_shape, step.output_shape))
        self.code.add(f"/* {', '.join(map(comment_name, names))}: {sizes} */")
        source, target = self.types(at)
        with (
            self.code.block(f"static void step{at}(const {source} *in, {target} *out)"),
            self.code.loops(("c", channels), ("y", rows), ("x", columns)),
        ):
            if isinstance(layer, Pool):
                self._window(layer)
                self._activate("value", step.before)
            elif step.pool is None:
                self._convolution(layer, "value", "y", "x")
                self._activate("value", step.before)
            else:
                self._pooled(layer, step, step.pool)
            spot = place(("c", rows * columns, channels), ("y", columns, rows), ("x", 1, columns))
            self.code.add(f"out[{spot}] = {self.result(at)};")
        self.code.add("")

    def types(self, at: int) -> tuple[str, str]:
        """What a step reads and writes."""
        raw = "uint8_t" if self.plan.input_dtype == "uint8" else self.number
        return (self.number if at else raw), self.number

    def result(self, at: int) -> str:
        """What a step writes of ``value``."""
        return "value"

    def _pooled(self, layer: Convolution, step: Step, pool: Pool) -> None:
        """A pool of the numbers of a layer, each computed when it is needed."""
        self.code.add(self._empty(pool))
        (_, rows, columns), (_, out_rows, out_columns) = pool.input_shape, pool.output_shape
        with self.code.loops(("py", pool.kernel[0]), ("px", pool.kernel[1])):
            row = place(("y", pool.stride[0], out_rows), ("py", 1, pool.kernel[0]))
            column = place(("x", pool.stride[1], out_columns), ("px", 1, pool.kernel[1]))
            self.code.add(*([f"const int cy = {row};"] if rows > 1 else []))
            self.code.add(*([f"const int cx = {column};"] if columns > 1 else []))
            self._convolution(layer, "each", "cy", "cx")
            self._activate("each", step.before)
            self._gather(pool)
        self._close(pool)
        self._activate("value", step.after)

    def _window(self, pool: Pool) -> None:
        """A pool by itself."""
        self.code.add(self._empty(pool))
        (channels, rows, columns), (_, out_rows, out_columns) = pool.input_shape, pool.output_shape
        with self.code.loops(("py", pool.kernel[0]), ("px", pool.kernel[1])):
            source = place(
                ("c", rows * columns, channels),
                ("y", pool.stride[0] * columns, out_rows),
                ("py", columns, pool.kernel[0]),
                ("x", pool.stride[1], out_columns),
                ("px", 1, pool.kernel[1]),
            )
            self.code.add(f"const {self.wide} each = {self.read(source, place(('c', 1, channels)))};")
            self._gather(pool)
        self._close(pool)

    @property
    def wide(self) -> str:
        """Type of a number while it is computed."""
        return "float" if self.sum == "float" else "int"

    def _empty(self, pool: Pool) -> str:
        start = self.lowest if pool.kind == "max" else float_literal(0) if self.wide == "float" else "0"
        return f"{self.wide} value = {start};"

    def _gather(self, pool: Pool) -> None:
        self.code.add("if (each > value) value = each;" if pool.kind == "max" else "value += each;")

    def _close(self, pool: Pool) -> None:
        if pool.kind == "average":
            self.average(pool)

    def _activate(self, name: str, activations: tuple[Activation, ...]) -> None:
        for activation in activations:
            self.activate(name, activation)

    def _convolution(self, layer: Convolution, name: str, y: str, x: str) -> None:
        """The number of a layer at a row and a column."""
        outputs, each, height, width = layer.weight.shape
        channels, rows, columns = layer.input_shape
        channel = place(("first", 1, layer.groups), ("i", 1, each))
        if layer.groups > 1:
            self.code.add(f"const int first = c / {outputs // layer.groups} * {each};")
        self.code.add(f"{self.sum} sum = bias{self.at}[{place(('c', 1, outputs))}];")
        weight = place(
            ("c", each * height * width, outputs),
            ("i", height * width, each),
            ("ky", width, height),
            ("kx", 1, width),
        )
        by_rows = self.by_rows and width > 1
        down, across = self._along(y, "ky", 0, layer), self._along(x, "kx", 1, layer)
        with self.code.loops(("i", each), ("ky", height)), self._inside("iy", down, rows, layer) as row:
            if by_rows:
                self.code.add(f"{self.sum} row = {float_literal(0)};")
            with self.code.loops(("kx", width)), self._inside("ix", across, columns, layer) as column:
                source = place(
                    (channel, rows * columns, channels), (row, columns, rows), (column, 1, columns)
                )
                product = f"{self.read(source, channel)} * weight{self.at}[{weight}]"
                self.code.add(f"{'row' if by_rows else 'sum'} += {product};")
            if by_rows:
                self.code.add("sum += row;")
        self.finish(name)

    @contextmanager
    def _inside(self, name: str, where: str, size: int, layer: Convolution) -> Iterator[str]:
        """What follows is only done where a row or column is one of the input, if not all are; its name."""
        if not layer.padded or size == 1:
            yield where
            return
        self.code.add(f"const int {name} = {where};")
        with self.code.block(f"if ({name} >= 0 && {name} < {size})"):
            yield name

    @staticmethod
    def _along(at: str, offset: str, axis: Literal[0, 1], layer: Convolution) -> str:
        """The row or column of the input that a weight of the filter is at."""
        output, size = layer.output_shape[1 + axis], layer.weight.shape[2 + axis]
        where = place((at, layer.stride[axis], output), (offset, layer.dilation[axis], size))
        padding = layer.padding[axis]
        return f"{where} - {padding}" if padding else where


# ---- what surrounds the steps ------------------------------------------------------------------------------


def begin(code: CText, name: str, what: str) -> None:
    """The head of a file."""
    code.add(
        f"/* {what}, written by aiq-search: C99, no allocation, no library but math.h.",
        " * Not reentrant: all calls share one buffer. */",
        f'#include "{name}.h"',
        "",
        "#include <math.h>",
        "",
    )


def end(code: CText, name: str, plan: Plan, calls: list[str]) -> bytes:
    """The two functions that the file is for; the bytes of its header."""
    kind = "uint8_t" if plan.input_dtype == "uint8" else "float"
    inputs, classes, guard = plan.inputs, plan.classes, name.upper()
    logits = f"void {name}_logits(const {kind} inputs[{inputs}], float logits[{classes}])"
    chances = f"void {name}_probabilities(const float logits[{classes}], float probabilities[{classes}])"
    with code.block(logits):
        code.add(*calls)
    code.add("")
    _softmax(code, chances, classes)
    lines = [
        f"/* A network for {' x '.join(map(str, plan.input_shape))} raw inputs and {classes} classes. */",
        f"#ifndef {guard}_H",
        f"#define {guard}_H",
        "",
        "#include <stdint.h>",
        "",
        f"#define {guard}_INPUTS {inputs}",
        f"#define {guard}_CLASSES {classes}",
        "",
        "/* The logits of one raw sample, in the order channel, row, column. Normalisation is inside. */",
        f"{logits};",
        "",
        "/* The softmax of logits. */",
        f"{chances};",
        "",
        "#endif",
    ]
    return ("\n".join(lines) + "\n").encode()


def _softmax(code: CText, signature: str, classes: int) -> None:
    with code.block(signature):
        code.add("float largest = logits[0];", "float sum = 0.0f;")
        loop = f"for (int c = 0; c < {classes}; c++)"
        with code.block(loop):
            code.add("if (logits[c] > largest) largest = logits[c];")
        with code.block(loop):
            code.add("probabilities[c] = expf(logits[c] - largest);", "sum += probabilities[c];")
        with code.block(loop):
            code.add("probabilities[c] /= sum;")
