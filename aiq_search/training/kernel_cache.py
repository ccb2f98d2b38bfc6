"""Compiled kernels on disk: where they are kept, and compiling them before they are needed.

The folder is named after all that the machine code depends on: the kernels' source files, numba, Python, and
the processor. A kernel is compiled once on a machine, a dozen seconds for all of them together, and later
processes load it in some milliseconds. ``start_compiling`` does it in a process of its own, while a search
starts Ray; who needs a kernel meanwhile waits for that process.

Nothing here imports numba, so that a search whose kernels are there loses no time.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import stat
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import IO

__all__ = ["are_compiled", "cache_folder", "mark_compiled", "start_compiling", "wait_for_compiler"]

# Far longer than it takes even on a busy machine.
_PATIENCE = 120.0


@functools.cache
def cache_folder() -> Path | None:
    """Where kernels are kept: in the user's cache folder, else in the one for temporary files.

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


def are_compiled() -> bool:
    """Whether every kernel is there, or none can be kept."""
    folder = cache_folder()
    return folder is None or (folder / "complete").exists()


def start_compiling() -> bool:
    """Compile all kernels in a process of its own, which outlives this one; whether one was started.

    None is where they are compiled already, or are being compiled.
    """
    folder = cache_folder()
    if folder is None or are_compiled():
        return False
    with (folder / "lock").open("w") as file:
        if not _locked(file, fcntl.LOCK_EX):
            return False
        # The process inherits the lock, and holds it as long as it lives.
        subprocess.Popen(
            [sys.executable, "-m", "aiq_search.training.engines.compiled"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=[file.fileno()],
        )
    return True


def mark_compiled() -> None:
    """Note that every kernel is there."""
    if (folder := cache_folder()) is not None:
        (folder / "complete").touch()


def wait_for_compiler() -> None:
    """Wait while another process compiles all kernels, so that the same work is not done twice."""
    folder = cache_folder()
    if folder is None or are_compiled():
        return
    deadline = time.monotonic() + _PATIENCE
    with (folder / "lock").open("w") as file:
        while not _locked(file, fcntl.LOCK_SH) and time.monotonic() < deadline:
            time.sleep(0.05)


def _locked(file: IO[str], kind: int) -> bool:
    """Whether nobody else has a lock on the file, also where files cannot be locked."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _digest() -> str:
    """Names all that the machine code depends on."""
    from llvmlite import binding  # 70 MB, which who only looks at a study can do without

    digest = hashlib.sha256()
    for source in sorted((Path(__file__).parent / "engines" / "compiled").glob("*.py")):
        # Numba compiles again where a source file is at another place or newer, even if it holds the same.
        digest.update(repr((str(source.resolve()), source.stat().st_mtime)).encode())
        digest.update(source.read_bytes())
    chosen = [os.environ.get(name) for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_OPT")]
    processor = binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten(), chosen
    versions = version("numba"), version("llvmlite"), sys.version, sys.platform
    digest.update(repr((processor, versions)).encode())
    return digest.hexdigest()[:16]
