"""``model_int8.c`` and ``model_int8.h``: the quantised network as one C99 file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aiq_search.errors import InputError
from aiq_search.export.device.c_steps import StepWriter, begin, check_weights, end
from aiq_search.export.device.c_text import CText, array, float_literal, place
from aiq_search.lowering.plan import Activation, Convolution, Floats, Plan, Pool, Step
from aiq_search.lowering.quantization import Quantised

__all__ = ["int8_c_files"]

_FUNCTIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "elu": lambda x, alpha: torch.where(x > 0, x, alpha * torch.expm1(x)),
    "gelu": lambda x, _: torch.nn.functional.gelu(x),
    "gelu_tanh": lambda x, _: torch.nn.functional.gelu(x, approximate="tanh"),
    "leaky_relu": lambda x, alpha: torch.where(x > 0, x, alpha * x),
    "relu": lambda x, _: x.clamp(min=0),
    "silu": lambda x, _: x * torch.sigmoid(x),
    "tanh": lambda x, _: torch.tanh(x),
}
_QUANTISE = """\
/* A number in steps of a scale, to the nearest and then the even one, as eight bits. */
static int quantise(float number, int zero)
{
    const float low = (float)(-128 - zero), high = (float)(127 - zero);
    const float within = number < low ? low : number > high ? high : number;
    return (int)lrintf(within) + zero;
}
"""


@dataclass(frozen=True)
class Range:
    """What the eight bits of a tensor mean: (number - zero) * scale."""

    scale: np.float32
    zero: int


def int8_c_files(plan: Plan, quantised: Quantised) -> dict[str, bytes]:
    """The C file and the header of a quantised network.

    Sums are those of onnxruntime's integer kernels: 32 bits, scaled in float32, rounded to the nearest even.

    Args:
        plan: The network.
        quantised: What onnxruntime made of it.

    Returns:
        Their bytes by name.

    Raises:
        InputError: It has more weights than a microcontroller's flash, or sums that 32 bits cannot hold.
    """
    check_weights(plan)
    code = CText()
    begin(code, "model_int8", "A network in eight bits")
    code.add(*_QUANTISE.splitlines(), "")
    writer = _Int8Writer(code, plan, quantised)
    first = writer.input()
    for at, step in enumerate(plan.steps):
        writer.write(at, step)
    offsets, room = plan.places(of_input=bool(first))
    if room:
        code.add(f"static int8_t buffer[{room}];", "")
    buffers = [f"buffer + {offset}" if offset else "buffer" for offset in offsets]
    spots = [*buffers, "logits"] if first else ["inputs", *buffers, "logits"]
    calls = [f"step{at}({spots[at]}, {spots[at + 1]});" for at in range(len(plan.steps))]
    header = end(code, "model_int8", plan, [*first, *calls])
    return {"model_int8.c": code.text().encode(), "model_int8.h": header}


class _Int8Writer(StepWriter):
    number = "int8_t"
    sum = "int32_t"
    lowest = "-128"
    by_rows = False

    def __init__(self, code: CText, plan: Plan, quantised: Quantised) -> None:
        super().__init__(code, plan)
        self.quantised = quantised
        self.value = 0  # number of the tensor that was computed last, in the ONNX
        self.source = self.range = _range(quantised, 0, "the input")
        self.padded = False
        self.given = self.range  # of what the layer gives
        self.rest: list[str] = []  # what becomes of it, in the order of computation
        self.tables = 0

    def write(self, at: int, step: Step) -> None:
        """Write a step behind the tables of its activations."""
        self.at, self.source, layer = at, self.range, step.layer
        self.padded = isinstance(layer, Convolution) and layer.padded
        self.rest = []
        parts = (step.layer, *step.before, *([step.pool] if step.pool else []), *step.after)
        merged = False
        for place_of_part, part in enumerate(parts):
            before = self.range
            self.value += 1
            known = self.quantised.ranges.get(self.value)
            if isinstance(part, Convolution):
                following = parts[1] if len(parts) > 1 else None
                merged = known is None and isinstance(following, Activation) and following.function == "relu"
                self.range = _range(self.quantised, self.value + merged, part.name)
                self.given = self.range
            elif isinstance(part, Activation):
                if not (merged and place_of_part == 1):
                    self.range = _range(self.quantised, self.value, part.function)
                    self.rest.append(self._table(part, before))
                else:
                    self.rest.append("")
            elif part.kind == "average":
                self.range = _range(self.quantised, self.value, part.name)
                self.rest.append(_mean(part, before, self.range))
        super().write(at, step)

    def _table(self, activation: Activation, before: Range) -> str:
        """The 256 values of an activation; the line that looks one up."""
        numbers = (np.arange(-128, 128) - before.zero).astype(np.float32) * before.scale
        exact = _FUNCTIONS[activation.function](torch.from_numpy(numbers).double(), activation.alpha)
        name = f"{activation.function}{self.tables}"
        self.tables += 1
        self.code.add(*array("int8_t", name, _quantise(exact.float().numpy(), self.range)), "")
        return f"{{}} = {name}[{{}} + 128];"

    def input(self) -> list[str]:
        """What raw bytes become, as a table, or what floats do, as a step of its own; the calls of that."""
        scale, shift, to = self.plan.scale, self.plan.shift, self.range
        if self.plan.input_dtype == "uint8":
            numbers = np.arange(256, dtype=np.float32) * scale[:, None] + shift[:, None]
            self.code.add("/* Each byte of each channel, normalised. */")
            self.code.add(*array("int8_t", "input_table", _quantise(numbers, to)), "")
            return []
        self.code.add(*array("float", "input_scale", scale), *array("float", "input_shift", shift), "")
        channels, places = len(scale), self.plan.inputs // len(scale)
        with (
            self.code.block("static void quantise_input(const float *in, int8_t *out)"),
            self.code.loops(("c", channels), ("i", places)),
        ):
            at, channel = place(("c", places, channels), ("i", 1, places)), place(("c", 1, channels))
            number = f"(in[{at}] * input_scale[{channel}] + input_shift[{channel}])"
            self.code.add(f"out[{at}] = (int8_t)quantise({number} / {float_literal(to.scale)}, {to.zero});")
        self.code.add("")
        return ["quantise_input(inputs, buffer);"]

    def types(self, at: int) -> tuple[str, str]:
        """What a step reads and writes."""
        raw = "uint8_t" if self.plan.input_dtype == "uint8" and at == 0 else "int8_t"
        return raw, ("float" if at == len(self.plan.steps) - 1 else "int8_t")

    def result(self, at: int) -> str:
        """Logits are numbers again."""
        if at < len(self.plan.steps) - 1:
            return "(int8_t)value"
        return f"(float)(value - {_bracket(self.range.zero)}) * {float_literal(self.range.scale)}"

    def read(self, source: str, channel: str) -> str:
        """A number of the input; where there are zeros around it, its own zero is subtracted."""
        number = f"in[{source}]"
        if self.at == 0 and self.plan.input_dtype == "uint8":
            at = "" if len(self.plan.scale) == 1 else f"({channel}) * 256 + "
            number = f"input_table[{at}{number}]"
        return f"({number} - {_bracket(self.source.zero)})" if self.padded else number

    def constants(self, layer: Convolution) -> Iterator[str]:
        """Where there are no zeros around the input, its own zero is in the bias."""
        eight = self.quantised.layers[self.at]
        weight, scale = eight.weight, eight.scale
        wide = weight.reshape(len(weight), -1).astype(np.int64)
        bias = eight.bias.astype(np.int64) - (0 if layer.padded else self.source.zero * wide.sum(1))
        if (np.abs(bias) + 255 * np.abs(wide).sum(1)).max() >= 2**31:
            raise InputError(f"{layer.name} has sums in eight bits that 32 bits cannot hold.")
        yield from array("int8_t", f"weight{self.at}", weight)
        yield from array("int32_t", f"bias{self.at}", bias.astype(np.int32))
        yield from array("float", f"factor{self.at}", self.source.scale * scale / self.given.scale)

    def finish(self, name: str) -> None:
        """A sum in the steps of what the layer gives."""
        channels = self.plan.steps[self.at].layer.output_shape[0]
        factor = f"factor{self.at}[{place(('c', 1, channels))}]"
        self.code.add(f"int {name} = quantise((float)sum * {factor}, {self.given.zero});")

    def activate(self, name: str, activation: Activation) -> None:
        """Look it up; a ReLU may be a part of the layer before it."""
        line = self.rest.pop(0)
        self.code.add(*([line.format(name, name)] if line else []))

    def average(self, pool: Pool) -> None:
        """A mean in steps of its own."""
        self.code.add(self.rest.pop(0))


def _range(quantised: Quantised, value: int, what: str) -> Range:
    found = quantised.ranges.get(value)
    if found is None:
        raise InputError(f"onnxruntime has not quantised {what}, so that there is no C file in eight bits.")
    return Range(*found)


def _quantise(numbers: Floats, to: Range) -> NDArray[np.int8]:
    eight: NDArray[np.int8] = np.clip(np.rint(numbers / to.scale) + to.zero, -128, 127).astype(np.int8)
    return eight


def _mean(pool: Pool, before: Range, to: Range) -> str:
    count = math.prod(pool.kernel)
    factor = float_literal(before.scale / (np.float32(count) * to.scale))
    return f"value = quantise((float)(value - {_bracket(count * before.zero)}) * {factor}, {to.zero});"


def _bracket(number: int) -> str:
    return f"({number})" if number < 0 else str(number)
