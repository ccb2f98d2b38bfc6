"""The undocumented part of torch that we use: its optimizers without its compiler.

torch shields its optimizers from its compiler, and imports that (``torch._dynamo``) to do so: a second or
more of every worker's start, for something that nothing here uses. A later torch that shields them in another
way imports it again, and all else stays as it is.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable

import torch

__all__ = ["leave_compiler_out", "step_of"]


def leave_compiler_out() -> None:
    """Let optimizers be made without the compiler, unless this process has imported it."""
    if "torch._dynamo" in sys.modules:
        return
    shielded = torch._compile._disable_dynamo(lambda: None)  # a wrapper shares its code with all others
    for method in vars(torch.optim.Optimizer).values():
        if getattr(method, "__code__", None) is getattr(shielded, "__code__", method):
            method.__wrapped__.__dynamo_disable = method.__wrapped__


def step_of(optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """An optimizer's step without what wraps it: the compiler, the profiler, and hooks that nobody set."""
    step = inspect.unwrap(type(optimizer).step)

    def take() -> None:
        with torch.no_grad():
            step(optimizer)

    return take
