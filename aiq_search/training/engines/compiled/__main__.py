"""Compile all kernels: ``python -m aiq_search.training.engines.compiled``."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aiq_search.training.engines.compiled.engine import CompiledEngine
from aiq_search.training.evaluation import TensorSplit
from aiq_search.training.kernel_cache import mark_compiled
from aiq_search.training.options import TrainingOptions


def compile_all() -> None:
    """Train and measure small networks that together need every kernel."""
    images = nn.Sequential(
        *(nn.Conv2d(3, 7, 3), nn.MaxPool2d(2), nn.ELU()),
        *(nn.Conv2d(7, 7, 3), nn.BatchNorm2d(7), nn.ReLU(), nn.MaxPool2d((1, 2))),
        *(nn.Conv2d(7, 7, 1), nn.Tanh(), nn.Dropout(0.1), nn.Flatten()),
        *(nn.Linear(21, 23), nn.ELU(), nn.Linear(23, 7)),
    )
    wide = nn.Sequential(
        *(nn.Conv2d(3, 16, 1), nn.ReLU(), nn.Conv2d(16, 16, 5), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Conv2d(16, 16, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Conv2d(16, 16, 1), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 2)),
    )
    pictures = torch.randint(0, 256, (80, 3, 12, 12), dtype=torch.uint8)
    _train(wide, pictures, "sgd")
    _train(images, pictures, "sgd")
    table = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))
    _train(table, torch.randn(80, 5), "adam")


def _train(model: nn.Module, inputs: Tensor, optimizer: str) -> None:
    one, nothing = torch.ones(1), torch.zeros(1)
    split = TensorSplit(inputs, torch.zeros(len(inputs), dtype=torch.int64), one, nothing)
    options = TrainingOptions.model_validate({"batch_size": len(inputs), "optimizer": optimizer})
    engine = CompiledEngine(model, options, split)
    engine.train(split, [torch.arange(len(inputs))], [0.01])
    engine.evaluate(split, 2.0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    compile_all()
    mark_compiled()
