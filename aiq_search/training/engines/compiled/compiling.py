"""Compiling kernels, and keeping them on disk: numba's cache, in a folder of ours.

The folder is named after all that the machine code depends on: this package's sources, numba, Python, and the
processor. So a kernel is compiled once on a machine, at its first use, and later processes load it in some
milliseconds. Each kernel has a file of its own, because numba's index of several variants may be damaged when
two processes compile at the same time.
"""

from __future__ import annotations

import functools
import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba import njit
from numba.core.registry import cpu_target

__all__ = ["cache_folder", "inlined", "kernel"]

_CONFIG: Any = numba.config
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "boundscheck": False}

inlined = njit(forceinline=True, **_OPTIONS)
"""Decorates a function that becomes part of every kernel that calls it."""


def kernel(*variant: int | str) -> Callable[[Callable[..., Any]], Any]:
    """Decorate a kernel: a function that is compiled at its first call, or loaded if it was compiled before.

    Its arguments must be of the same types at every call.

    Args:
        variant: What tells kernels of the same name apart: the values that a factory closes over.
    """

    def decorate(function: Callable[..., Any]) -> Any:  # noqa: ANN401
        function.__qualname__ = "_".join(map(str, (function.__name__, *variant)))
        if (folder := cache_folder()) is None:
            return njit(**_OPTIONS)(function)
        before = _CONFIG.CACHE_DIR
        _CONFIG.CACHE_DIR = str(folder)
        try:
            return njit(cache=True, **_OPTIONS)(function)
        finally:
            _CONFIG.CACHE_DIR = before

    return decorate


@functools.cache
def cache_folder() -> Path | None:
    """Where compiled kernels are kept: in the user's cache folder, else in the one for temporary files.

    None if neither can be used; then each process compiles them.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    for place in (home / "aiq-search", Path(tempfile.gettempdir()) / f"aiq-search-{os.getuid()}"):
        folder = place / "kernels" / _digest()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            # What lies there is run: nobody else may have put it there.
            state = place.stat()
            ours = state.st_uid == os.getuid() and not state.st_mode & stat.S_IWOTH
            if ours and os.access(folder, os.W_OK):
                return folder
        except OSError:
            continue
    return None


def _digest() -> str:
    """Names all that the machine code depends on."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    target = cpu_target.target_context.codegen().magic_tuple()
    versions = numba.__version__, llvmlite.__version__, sys.version
    digest.update(repr((target, versions)).encode())
    return digest.hexdigest()[:16]
