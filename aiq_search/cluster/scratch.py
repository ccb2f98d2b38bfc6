"""A folder for Ray's sockets and logs: short enough for the kernel, and closed to other users."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from aiq_search.errors import InputError

__all__ = ["check_scratch", "make_scratch"]

# The path of a socket may have so many bytes, see unix(7).
_LONGEST = 107

# What we and Ray append to a folder. Ray opens its own to all users; they cannot enter ours around it.
_OURS, _RAYS = "/aiq-12345678/ray", "/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"

# Where to look besides the folder for temporary files, which may be too deep.
_SHORT = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - what is made there is ours alone

_VARIABLE = "RAY_TMPDIR"


def check_scratch() -> Path:
    """The folder in which ``make_scratch`` makes another.

    Returns:
        ``RAY_TMPDIR``, or the folder for temporary files, or another where that one is too deep.

    Raises:
        InputError: Ray's sockets fit in none.
    """
    chosen = os.environ.get(_VARIABLE)
    longest = _LONGEST - len(_OURS) - len(_RAYS)
    for folder in [chosen] if chosen else [tempfile.gettempdir(), *_SHORT]:
        path = Path(folder).absolute()
        if len(os.fsencode(path)) <= longest and os.access(path, os.W_OK | os.X_OK):
            return path
    where = f"{_VARIABLE}={chosen} does not fit" if chosen else "no folder fits"
    raise InputError(
        f"{where} Ray's sockets: set {_VARIABLE} to a folder that you may write in, with a path of at most "
        f"{longest} characters."
    )


def make_scratch() -> Path:
    """Make a folder for one Ray node's sockets and logs; only we may enter the folder around it.

    Raises:
        InputError: Ray's sockets fit nowhere.
    """
    return Path(tempfile.mkdtemp(prefix="aiq-", dir=check_scratch())) / "ray"
