"""Ports of this machine, and who listens there."""

from __future__ import annotations

import os
import socket

import psutil

from aiq_search.errors import InputError
from aiq_search.http import fetch

__all__ = ["ask", "free_port", "is_listening"]


def free_port(preferred: int = 0, *, host: str = "127.0.0.1", strict: bool = False) -> int:
    """A port that is free now.

    Args:
        preferred: Take this one if it is free; 0 for any.
        host: Address to listen on; ``0.0.0.0`` for all.
        strict: Raise if ``preferred`` is taken: the user asked for it.

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
    raise InputError(f"port {preferred} is already in use: stop what listens there, or choose another port.")


def is_listening(port: int, user: int | None = None) -> bool:
    """Whether processes of a user, and of no other, listen on a port of 127.0.0.1.

    Anyone on this machine may take the port before our server does: this is asked before a secret is sent.

    Args:
        port: The port.
        user: Number of the user; by default ourselves.
    """
    listeners = [
        each.pid
        for each in psutil.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN and each.laddr.port == port and _is_ours(each.laddr.ip)
    ]
    return {_user_of(pid) for pid in listeners} == {os.geteuid() if user is None else user}


def _is_ours(address: str) -> bool:
    """Whether a listener on an address gets what is sent to 127.0.0.1."""
    return address in ("127.0.0.1", "0.0.0.0", "::", "::ffff:127.0.0.1")  # noqa: S104 - compared, not opened


def _user_of(pid: int | None) -> int | None:
    """Number of the user whom a process runs as; None if the kernel does not show it."""
    try:
        return None if pid is None else int(psutil.Process(pid).uids().effective)
    except psutil.Error:
        return None


def ask(port: int, path: str, authorization: str) -> bytes:
    """Send a request with a secret to a server of ours on 127.0.0.1: to no one else, and through no proxy.

    Args:
        port: Where it listens.
        path: Path and query.
        authorization: The header of that name: a secret.

    Raises:
        requests.HTTPError: It answers with an error.
        OSError: It does not answer, or another user listens there.
    """
    if not is_listening(port):
        raise ConnectionRefusedError("no process of ours listens there")
    return fetch(f"http://127.0.0.1:{port}{path}", authorization=authorization, direct=True).content
