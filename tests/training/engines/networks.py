"""Random networks of the kind that the compiled engine knows, and random data for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from aiq_search.datasets.dataset import Normalization, Split
from aiq_search.training import TensorSplit

ACTIVATIONS = {
    "none": nn.Identity,
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "elu": lambda: nn.ELU(1.5),
    "tanh": nn.Tanh,
}


@dataclass(frozen=True)
class Case:
    """A network and how many samples it sees."""

    modules: tuple[nn.Module, ...]
    input_shape: tuple[int, ...]
    classes: int
    samples: int
    seed: int
    kind: str

    def model(self) -> nn.Sequential:
        torch.manual_seed(self.seed)
        model = nn.Sequential(*self.modules)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.4)
        return model

    def split(self) -> TensorSplit:
        return random_split(self.samples, self.input_shape, self.classes, self.seed, self.kind)


def random_split(
    samples: int, shape: tuple[int, ...], classes: int, seed: int = 0, kind: str = "uint8"
) -> TensorSplit:
    draw = np.random.default_rng(seed)
    inputs = draw.integers(0, 256, (samples, *shape)).astype(kind)
    split = Split(inputs, draw.integers(0, classes, samples))
    channels = shape[0]
    normalization = Normalization(
        tuple(draw.uniform(0.005, 0.02, channels)), tuple(draw.uniform(-1, 1, channels))
    )
    return TensorSplit.of(split, normalization, torch.device("cpu"))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Any network that the engine knows, of up to three convolutions and three linear layers."""
    images = draw(st.booleans())
    modules: list[nn.Module] = []
    if images:
        shape = (draw(st.integers(1, 3)), draw(st.integers(6, 15)), draw(st.integers(6, 15)))
        for _ in range(draw(st.integers(0, 3))):
            shape = _convolution(draw, modules, shape) or shape
        input_shape = modules[0].in_channels if modules else shape[0]
        input_shape = (input_shape, *_size_before(modules, shape))
        if _layers(modules) and draw(st.booleans()):
            modules.append(nn.AdaptiveAvgPool2d(1))
            shape = (shape[0], 1, 1)
        modules.append(nn.Flatten())
        features = prod(shape)
    else:
        features = draw(st.integers(1, 40))
        input_shape = (features,)
    for _ in range(draw(st.integers(0 if _layers(modules) else 1, 2))):
        width = draw(st.integers(1, 20))
        modules += [
            nn.Linear(features, width, bias=draw(st.booleans())),
            *_behind(draw, nn.BatchNorm1d(width)),
        ]
        features = width
    classes = draw(st.integers(2, 12))
    modules.append(nn.Linear(features, classes))
    return Case(
        tuple(modules),
        input_shape,
        classes,
        # The gradient through a batch norm of a few samples is what remains of large numbers.
        samples=draw(st.integers(8, 70)),
        seed=draw(st.integers(0, 1 << 20)),
        kind=draw(st.sampled_from(["uint8", "float32"])),
    )


_SIZES: dict[int, tuple[int, int]] = {}


def _size_before(modules: list[nn.Module], shape: tuple[int, int, int]) -> tuple[int, int]:
    return _SIZES[id(modules[0])] if modules else shape[1:]


def _convolution(
    draw: st.DrawFn, modules: list[nn.Module], shape: tuple[int, int, int]
) -> tuple[int, int, int] | None:
    channels, height, width = shape
    filter_ = tuple(draw(st.integers(1, min(5, size))) for size in (height, width))
    padding = tuple(draw(st.integers(0, (size - 1) // 2)) for size in filter_)
    stride = draw(st.sampled_from([1, 1, 1, 2]))
    outs = draw(st.integers(1, 9))
    layer = nn.Conv2d(channels, outs, filter_, stride, padding, bias=draw(st.booleans()))
    _SIZES[id(layer)] = (height, width)
    size = [(s + 2 * p - f) // stride + 1 for s, p, f in zip((height, width), padding, filter_, strict=True)]
    pool = None
    if draw(st.booleans()):
        pool = tuple(draw(st.integers(1, min(3, s))) for s in size)
        size = [s // p for s, p in zip(size, pool, strict=True)]
    behind = _behind(draw, nn.BatchNorm2d(outs), None if pool is None else nn.MaxPool2d(pool))
    modules += [layer, *behind]
    return (outs, *size)


def _behind(draw: st.DrawFn, norm: nn.Module, pool: nn.Module | None = None) -> Iterator[nn.Module]:
    if draw(st.booleans()):
        yield norm
    activation = [ACTIVATIONS[draw(st.sampled_from(sorted(ACTIVATIONS)))]()]
    pools = [] if pool is None else [pool]
    yield from activation + pools if draw(st.booleans()) else pools + activation
    if draw(st.booleans()):
        yield nn.Dropout(draw(st.sampled_from([0.0, 0.3])))


def _layers(modules: list[nn.Module]) -> int:
    return sum(isinstance(module, nn.Linear | nn.Conv2d) for module in modules)


def is_delicate(model: nn.Module, inputs: torch.Tensor) -> bool:
    """Whether rounding decides: two values of a pooling window are almost alike, or one at a kink almost 0.

    The gradient then depends on the last bit of a sum, and both results are right.
    """
    found = []

    def look(module: nn.Module, values: tuple[torch.Tensor], _: torch.Tensor) -> None:
        (x,) = values
        if isinstance(module, nn.MaxPool2d):
            height, width = module.kernel_size
            windows = functional.unfold(
                x.reshape(-1, 1, *x.shape[2:]), (height, width), stride=(height, width)
            )
            if height * width > 1:
                largest = windows.topk(2, dim=1).values
                gap = largest[:, 0] - largest[:, 1]
                found.append(bool(((gap < 1e-4) & (gap > 0)).any()))
        else:
            found.append(bool((x.abs() < 1e-4).any()))

    kinds = (nn.MaxPool2d, nn.ReLU, nn.LeakyReLU)
    handles = [m.register_forward_hook(look) for m in model.modules() if isinstance(m, kinds)]
    with torch.no_grad():
        model(inputs)
    for handle in handles:
        handle.remove()
    return any(found)
