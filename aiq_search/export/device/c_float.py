"""``model.c`` and ``model.h``: a plan in float32 as one C99 file."""

from __future__ import annotations

import math
from collections.abc import Iterator

from aiq_search.export.device.c_steps import StepWriter, begin, check_weights, end
from aiq_search.export.device.c_text import CText, array, float_literal
from aiq_search.lowering.plan import Activation, Convolution, Plan, Pool

__all__ = ["c_files"]

_FUNCTIONS = {
    "elu": "x > 0.0f ? x : {alpha} * expm1f(x)",
    "gelu": "0.5f * x * (1.0f + erff(x * 0.70710678f))",
    "gelu_tanh": "0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x)))",
    "leaky_relu": "x > 0.0f ? x : {alpha} * x",
    "relu": "x > 0.0f ? x : 0.0f",
    "silu": "x / (1.0f + expf(-x))",
    "tanh": "tanhf(x)",
}


def c_files(plan: Plan) -> dict[str, bytes]:
    """The C file and the header of a network.

    Args:
        plan: The network.

    Returns:
        Their bytes by name. The same plan gives the same bytes on every machine.

    Raises:
        InputError: It has more weights than a microcontroller's flash.
    """
    check_weights(plan)
    plan = plan.folded()
    code = CText()
    begin(code, "model", "A network in float32")
    if not plan.normalised:
        code.add(*array("float", "input_scale", plan.scale), *array("float", "input_shift", plan.shift), "")
    writer = _FloatWriter(code, plan)
    for at, step in enumerate(plan.steps):
        writer.write(at, step)
    offsets, room = plan.places()
    if room:
        code.add(f"static float buffer[{room}];", "")
    spots = ["inputs", *(f"buffer + {offset}" if offset else "buffer" for offset in offsets), "logits"]
    calls = [f"step{at}({spots[at]}, {spots[at + 1]});" for at in range(len(plan.steps))]
    header = end(code, "model", plan, calls)
    return {"model.c": code.text().encode(), "model.h": header}


class _FloatWriter(StepWriter):
    number = sum = "float"
    lowest = "-INFINITY"
    by_rows = True

    def __init__(self, code: CText, plan: Plan) -> None:
        super().__init__(code, plan)
        used = dict.fromkeys(each for step in plan.steps for each in (*step.before, *step.after))
        self.names = {activation: f"{activation.function}{at}" for at, activation in enumerate(used)}
        for activation, name in self.names.items():
            body = _FUNCTIONS[activation.function].format(alpha=float_literal(activation.alpha))
            code.add(f"static float {name}(float x) {{ return {body}; }}", "")

    def constants(self, layer: Convolution) -> Iterator[str]:
        yield from array("float", f"weight{self.at}", layer.weight)
        yield from array("float", f"bias{self.at}", layer.bias)

    def read(self, source: str, channel: str) -> str:
        if self.at:
            return f"in[{source}]"
        number = f"(float)in[{source}]" if self.plan.input_dtype == "uint8" else f"in[{source}]"
        if self.plan.normalised:
            return number
        return f"({number} * input_scale[{channel}] + input_shift[{channel}])"

    def finish(self, name: str) -> None:
        self.code.add(f"float {name} = sum;")

    def activate(self, name: str, activation: Activation) -> None:
        self.code.add(f"{name} = {self.names[activation]}({name});")

    def average(self, pool: Pool) -> None:
        self.code.add(f"value /= {float_literal(math.prod(pool.kernel))};")
