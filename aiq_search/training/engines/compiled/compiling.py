"""Decorators for kernels: functions that numba compiles at their first call, and keeps on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numba import njit

from aiq_search.training.kernel_cache import cache_folder

__all__ = ["inlined", "kernel"]

_CONFIG: Any = numba.config
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "boundscheck": False}

inlined = njit(forceinline=True, **_OPTIONS)
"""Decorates a function that becomes part of every kernel that calls it."""


def kernel(*variant: int | str) -> Callable[[Callable[..., Any]], Any]:
    """Decorate a kernel: a function that is compiled at its first call, or loaded if it was compiled before.

    Its arguments must be of the same types at every call: then each kernel has a file of its own, because
    numba's index of several variants may be damaged when two processes compile at the same time.

    Args:
        variant: What tells kernels of the same name apart: the values that a factory closes over.
    """

    def decorate(function: Callable[..., Any]) -> Any:  # noqa: ANN401
        function.__qualname__ = "_".join(map(str, (function.__name__, *variant)))
        folder = cache_folder()
        if folder is None:
            return njit(**_OPTIONS)(function)
        before = _CONFIG.CACHE_DIR
        _CONFIG.CACHE_DIR = str(folder)
        try:
            return njit(cache=True, **_OPTIONS)(function)
        finally:
            _CONFIG.CACHE_DIR = before

    return decorate
