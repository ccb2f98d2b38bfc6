"""From a network to its plan: known layers in a row, batch norms folded, what does nothing left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from torch import nn

from aiq_search.errors import InputError
from aiq_search.lowering.plan import Activation, Convolution, Floats, Pair, Plan, Pool, Shape, Step

__all__ = ["Preprocessing", "RawInputs", "plan_network"]


InputType: TypeAlias = Literal["uint8", "float32"]


class Preprocessing(Protocol):
    """What becomes of raw inputs before a network sees them: ``x * scale + shift``, a number a channel."""

    @property
    def input_dtype(self) -> InputType:
        """uint8 or float32."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one sample."""

    @property
    def scale(self) -> Sequence[float]:
        """See above."""

    @property
    def shift(self) -> Sequence[float]:
        """See above."""


@dataclass(frozen=True)
class RawInputs:
    """A ``Preprocessing`` by itself; attributes as there."""

    input_dtype: InputType
    input_shape: tuple[int, ...]
    scale: Sequence[float]
    shift: Sequence[float]


def plan_network(network: nn.Module, preprocessing: Preprocessing) -> Plan:
    """The plan of a network in evaluation mode.

    Args:
        network: Sequences of convolutions, linear layers, batch norms, pools and activations.
        preprocessing: Of its raw inputs.

    Raises:
        InputError: It has another layer, or one whose options no device format knows.

    Example:
        >>> raw = RawInputs("uint8", (1, 6, 6), scale=(1,), shift=(0,))
        >>> layers = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 2)
        >>> plan = plan_network(nn.Sequential(*layers), raw)
        >>> [step.output_shape for step in plan.steps], plan.places()
        ([(4, 2, 2), (2, 1, 1)], ([0], 16))
    """
    builder = _Builder(preprocessing.input_shape)
    for name, module in _leaves("", network):
        builder.add(name, module)
    return Plan(
        steps=tuple(_steps(builder.layers)),
        input_dtype=preprocessing.input_dtype,
        scale=np.array(preprocessing.scale, np.float32),
        shift=np.array(preprocessing.shift, np.float32),
        sample_shape=preprocessing.input_shape,
    )


def _leaves(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    if type(module) is not nn.Sequential:
        yield name or "network", module
        return
    for part, child in module.named_children():
        yield from _leaves(f"{name}.{part}" if name else part, child)


def _steps(layers: list[Convolution | Pool | Activation]) -> Iterator[Step]:
    """Each layer with what can be computed together with it."""
    step: Step | None = None
    for layer in layers:
        if isinstance(layer, Activation):
            if step is None:
                raise InputError("a network that begins with an activation has no device format.")
            if step.pool is None:
                step = replace(step, before=(*step.before, layer))
            else:
                step = replace(step, after=(*step.after, layer))
        elif (
            isinstance(layer, Pool)
            and step is not None
            and isinstance(step.layer, Convolution)
            and step.pool is None
            and min(np.subtract(layer.stride, layer.kernel)) >= 0  # no number is in two windows
        ):
            step = replace(step, pool=layer)
        else:
            if step is not None:
                yield step
            step = Step(layer)
    if step is None:
        raise InputError("a network without layers has no device format.")
    yield step


def _pair(number: Any) -> Pair:  # noqa: ANN401 - torch has numbers, and tuples of one or two
    if isinstance(number, int):
        return (number, number)
    return (1, int(number[0])) if len(number) == 1 else (int(number[0]), int(number[1]))


class _Builder:
    """The layers of a network, with the shape that one sample has behind each."""

    def __init__(self, input_shape: tuple[int, ...]) -> None:
        if len(input_shape) > 3:
            raise InputError(f"samples of shape {input_shape} have no device format: at most (C, H, W).")
        self.signal = len(input_shape) == 2
        self.flat = len(input_shape) == 1
        channels, *places = input_shape
        self.shape: Shape = (channels, *([1] * (2 - len(places))), *places)  # type: ignore[assignment]
        self.layers: list[Convolution | Pool | Activation] = []

    def add(self, name: str, module: nn.Module) -> None:
        """Add a module behind the others."""
        make = _MAKERS.get(type(module))
        if make is None:
            known = ", ".join(sorted({kind.__name__ for kind in _MAKERS}))
            raise InputError(
                f"{name} is a {type(module).__name__}, for which there is no device format; there is for "
                f"sequences of {known}."
            )
        layer = make(self, name, module)
        if layer is not None:
            self.layers.append(layer)
        if isinstance(layer, Convolution | Pool):
            self.shape = layer.output_shape

    def nothing(self, name: str, module: Any) -> None:  # noqa: ANN401
        """A module that does nothing when a network is used."""

    def flatten(self, name: str, module: nn.Flatten) -> None:
        if (module.start_dim, module.end_dim) not in ((1, -1), (1, 3 - self.signal)):
            raise InputError(
                f"{name} flattens a part of the dimensions, for which there is no device format."
            )
        self.flat = True

    def linear(self, name: str, module: nn.Linear) -> Convolution:
        if not self.flat:
            raise InputError(f"{name} is applied along the last axis, for which there is no device format.")
        weight = _numbers(module.weight).reshape(-1, *self.shape)
        return Convolution(name, self.shape, (len(weight), 1, 1), weight, _bias(module))

    def convolution(self, name: str, module: Any) -> Convolution:  # noqa: ANN401
        if self.flat or module.padding_mode != "zeros":
            raise InputError(f"{name} has no device format: only padding with zeros, before flattening.")
        weight = _numbers(module.weight)
        if weight.ndim == 3:
            weight = weight[:, :, None]
        lengths = [
            dilation * (size - 1)
            for dilation, size in zip(self._pair(module.dilation, 1), weight.shape[2:], strict=True)
        ]
        if isinstance(module.padding, str):
            both = [length if module.padding == "same" else 0 for length in lengths]
            before = (both[0] // 2, both[1] // 2)
        else:
            before = self._pair(module.padding, 0)
            both = [2 * each for each in before]
        stride = self._pair(module.stride, 1)
        rows, columns = (
            (length + zeros - reach - 1) // step + 1
            for length, zeros, reach, step in zip(self.shape[1:], both, lengths, stride, strict=True)
        )
        return Convolution(
            name, self.shape, (len(weight), rows, columns), weight, _bias(module), stride, before,
            self._pair(module.dilation, 1), module.groups,
        )  # fmt: skip

    def norm(self, name: str, module: Any) -> Convolution | None:  # noqa: ANN401
        """A batch norm: in the weights before it, or by itself a filter of one weight a channel."""
        if module.running_mean is None or module.num_features != self.shape[0]:
            raise InputError(
                f"{name} has no device format: only batch norms of channels, with running statistics."
            )
        deviation = np.sqrt(_numbers(module.running_var).astype(np.float64) + module.eps)
        gain = 1 / deviation if module.weight is None else _numbers(module.weight) / deviation
        offset = (0 if module.bias is None else _numbers(module.bias)) - _numbers(module.running_mean) * gain
        if self.layers and isinstance(before := self.layers[-1], Convolution):
            self.layers[-1] = replace(
                before,
                weight=(before.weight * gain[:, None, None, None]).astype(np.float32),
                bias=(before.bias * gain + offset).astype(np.float32),
                gain=(gain if before.gain is None else before.gain * gain).astype(np.float32),
            )
            return None
        weight = gain.astype(np.float32)[:, None, None, None]
        return Convolution(
            name, self.shape, self.shape, weight, offset.astype(np.float32), groups=len(weight)
        )

    def pool(self, name: str, module: Any) -> Pool:  # noqa: ANN401
        kernel = self._pair(module.kernel_size, 1)
        stride = self._pair(module.stride, 1)
        plain = not module.ceil_mode and not any(self._pair(module.padding, 0))
        plain = plain and not any(each != 1 for each in self._pair(getattr(module, "dilation", 1), 1))
        divisor = getattr(module, "divisor_override", None)
        if self.flat or not plain or divisor is not None:
            raise InputError(
                f"{name} has no device format: only pools without padding, dilation and ceil_mode."
            )
        kind: Literal["max", "average"] = "max" if "Max" in type(module).__name__ else "average"
        return self._pooled(name, kind, kernel, stride)

    def adaptive(self, name: str, module: Any) -> Pool:  # noqa: ANN401
        wanted = module.output_size
        sizes = self._pair(wanted if isinstance(wanted, int) else tuple(wanted), 1)
        sizes = tuple(size or length for size, length in zip(sizes, self.shape[1:], strict=True))  # type: ignore[assignment]
        if self.flat or any(length % size for size, length in zip(sizes, self.shape[1:], strict=True)):
            raise InputError(f"{name} has no device format: {self.shape[1:]} is no multiple of {sizes}.")
        kernel = (self.shape[1] // sizes[0], self.shape[2] // sizes[1])
        return self._pooled(name, "average", kernel, kernel)

    def _pooled(self, name: str, kind: Literal["max", "average"], kernel: Pair, stride: Pair) -> Pool:
        rows, columns = (
            (length - size) // step + 1
            for length, size, step in zip(self.shape[1:], kernel, stride, strict=True)
        )
        return Pool(name, kind, self.shape, (self.shape[0], rows, columns), kernel, stride)

    def _pair(self, number: Any, of_rows: int) -> Pair:  # noqa: ANN401
        """Rows and columns; a signal has one row."""
        pair = _pair(number)
        return (of_rows, pair[1]) if self.signal else pair


def _numbers(tensor: Any) -> Floats:  # noqa: ANN401
    numbers: Floats = tensor.detach().cpu().numpy()
    return numbers


def _bias(module: Any) -> Floats:  # noqa: ANN401
    return np.zeros(len(module.weight), np.float32) if module.bias is None else _numbers(module.bias)


def _activation(function: str, parameter: str = "") -> Callable[[_Builder, str, Any], Activation]:
    def make(builder: _Builder, name: str, module: Any) -> Activation:  # noqa: ANN401
        approximate = "_tanh" if getattr(module, "approximate", "none") == "tanh" else ""
        return Activation(function + approximate, float(getattr(module, parameter)) if parameter else 0.0)

    return make


_MAKERS: dict[type[nn.Module], Callable[[_Builder, str, Any], Convolution | Pool | Activation | None]] = {
    nn.Linear: _Builder.linear,
    nn.Conv1d: _Builder.convolution,
    nn.Conv2d: _Builder.convolution,
    nn.BatchNorm1d: _Builder.norm,
    nn.BatchNorm2d: _Builder.norm,
    nn.MaxPool1d: _Builder.pool,
    nn.MaxPool2d: _Builder.pool,
    nn.AvgPool1d: _Builder.pool,
    nn.AvgPool2d: _Builder.pool,
    nn.AdaptiveAvgPool1d: _Builder.adaptive,
    nn.AdaptiveAvgPool2d: _Builder.adaptive,
    nn.Dropout: _Builder.nothing,
    nn.Identity: _Builder.nothing,
    nn.Flatten: _Builder.flatten,
    nn.ELU: _activation("elu", "alpha"),
    nn.GELU: _activation("gelu"),
    nn.LeakyReLU: _activation("leaky_relu", "negative_slope"),
    nn.ReLU: _activation("relu"),
    nn.SiLU: _activation("silu"),
    nn.Tanh: _activation("tanh"),
}
