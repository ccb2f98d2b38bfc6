"""Ports of this machine, and waiting for who will answer there."""

from __future__ import annotations

import socket

from aiq_search.errors import InputError

__all__ = ["free_port"]


def free_port(preferred: int = 0, *, host: str = "127.0.0.1", strict: bool = False) -> int:
    """A port that is free now.

    Args:
        preferred: Take this one if it is free; 0 for any.
        host: Address to listen on; ``0.0.0.0`` for all.
        strict: Raise where ``preferred`` is taken; the user asked for it.

    Raises:
        InputError: The port is taken.
    """
    for candidate in (preferred,) if strict else (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, candidate))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise InputError(f"port {preferred} must be free, but something listens there: end it, or name another.")
