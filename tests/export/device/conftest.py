"""Networks of every layer that has a device format, with random weights and batch norms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from aiq_search.export.documents import PreprocessingDocument
from aiq_search.export.network import StandaloneNetwork
from aiq_search.models import build_model

SANITIZED = ("-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined", "-fno-sanitize-recover")


@dataclass(frozen=True)
class Case:
    network: nn.Module
    raw: PreprocessingDocument
    samples: NDArray[Any]

    def logits(self) -> NDArray[np.float32]:
        with torch.inference_mode():
            return StandaloneNetwork(self.network, self.raw)(torch.from_numpy(self.samples))["logits"].numpy()


def case_of(network: nn.Module, shape: tuple[int, ...], *, dtype: str = "uint8", seed: int = 0) -> Case:
    """A network in evaluation mode whose batch norms have seen something, with raw samples for it."""
    random, torches = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(generator=torches)
            module.running_var.uniform_(0.5, 2, generator=torches)
            module.weight.data.normal_(generator=torches)
            module.bias.data.normal_(generator=torches)
    network.eval()
    classes = network(torch.zeros(1, *shape)).shape[1]
    raw = PreprocessingDocument(
        input_dtype=dtype,
        input_shape=shape,
        scale=[0.01 + 0.001 * channel for channel in range(shape[0])],
        shift=[0.1 * channel - 0.4 for channel in range(shape[0])],
        classes=[str(name) for name in range(classes)],
        training_range=(0, 255),
    )
    size = (200, *shape)
    bytes_ = random.integers(0, 256, size, dtype=np.uint8)
    return Case(network, raw, bytes_ if dtype == "uint8" else (50 * random.normal(size=size)).astype("f4"))


def _signals() -> Case:
    network = nn.Sequential(
        nn.Conv1d(2, 4, 5, padding="same"),
        nn.BatchNorm1d(4),
        nn.LeakyReLU(),
        nn.AvgPool1d(4),
        nn.Conv1d(4, 4, 3, groups=4, padding=1, stride=2, bias=False),
        nn.Conv1d(4, 6, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(6, 3),
    )
    return case_of(network, (2, 64), dtype="float32")


def _odd() -> Case:
    """A batch norm first, a dilation, windows that overlap, grouped filters, a sequence inside."""
    network = nn.Sequential(
        nn.BatchNorm2d(2),
        nn.Conv2d(2, 4, (3, 2), padding=(1, 0), dilation=(2, 1)),
        nn.ELU(0.7),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(4, 8, 3, groups=2, padding=1, stride=2),
        nn.Sequential(nn.GELU("tanh"), nn.Flatten()),
        nn.Linear(8 * 3 * 3, 3),
    )
    return case_of(network, (2, 14, 14))


def _separable() -> Case:
    network = nn.Sequential(
        nn.Conv2d(3, 6, 4, padding="same"),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 6, 3, groups=6, bias=False),
        nn.Conv2d(6, 5, 1),
        nn.BatchNorm2d(5),
        nn.SiLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 4),
    )
    return case_of(network, (3, 16, 12))


def _lenet(**arguments: Any) -> Case:
    shape = (1, 28, 28)
    return case_of(build_model("lenet_5", {"conv1": 2, "conv2": 4, "fc": 8, **arguments}, shape, 10), shape)


def _mlp(shape: tuple[int, ...], dtype: str, **arguments: Any) -> Case:
    return case_of(
        build_model("mlp", {"hidden1": 8, "hidden2": 6, **arguments}, shape, 10), shape, dtype=dtype
    )


CASES: dict[str, Callable[[], Case]] = {
    "lenet_5": _lenet,
    "lenet_5, gelu and norm": lambda: _lenet(activation="gelu", batch_norm=True),
    "lenet_5, relu": lambda: _lenet(activation="relu"),
    "mlp, silu and norm": lambda: _mlp((1, 8, 8), "uint8", activation="silu", batch_norm=True),
    "mlp of a table, tanh": lambda: _mlp((5,), "float32", activation="tanh", dropout=0.1),
    "signals": _signals,
    "odd": _odd,
    "separable": _separable,
    "one layer": lambda: case_of(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), (3, 2, 2)),
    "one neuron": lambda: case_of(
        nn.Sequential(nn.Flatten(), nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 2)), (1, 1, 1)
    ),
}


@pytest.fixture(params=list(CASES), scope="session")
def case(request: pytest.FixtureRequest) -> Case:
    torch.manual_seed(0)
    return CASES[request.param]()
