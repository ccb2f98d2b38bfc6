"""Ports of this machine, and who listens there."""

from __future__ import annotations

import os
import socket
import sys
import urllib.request
from pathlib import Path

from aiq_search.errors import InputError

__all__ = ["ask", "free_port", "is_listening"]

# As /proc/net/tcp writes them: of 127.0.0.1, and of every address.
_LOOPBACK = f"{int.from_bytes(socket.inet_aton('127.0.0.1'), sys.byteorder):08X}"
_EVERY = "0" * 8
_LISTENS = "0A"


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


def is_listening(port: int, user: int | None = None) -> bool:
    """Whether processes of a user, and of no other, listen on a port of 127.0.0.1.

    Anyone on this machine may have taken the port before our server does; a secret is sent only after
    this question.

    Args:
        port: The port.
        user: Number of the user; by default ourselves.
    """
    owners = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text(encoding="ascii").splitlines()[1:] if table.exists() else ():
            fields = line.split()
            address, _, number = fields[1].partition(":")
            if fields[3] == _LISTENS and int(number, 16) == port and address[-8:] in (_LOOPBACK, _EVERY):
                owners.add(int(fields[7]))
    return owners == {os.geteuid() if user is None else user}


def ask(port: int, path: str, authorization: str) -> bytes:
    """Ask a server of ours on 127.0.0.1 over HTTP: nobody else on its port, and through no proxy.

    Args:
        port: Where it listens.
        path: What it is asked for.
        authorization: The header of that name: a secret.

    Raises:
        urllib.error.HTTPError: It answers with an error.
        OSError: It does not answer, or another user listens there.
    """
    if not is_listening(port):
        raise ConnectionRefusedError("no process of ours listens there")
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", headers={"Authorization": authorization}
    )
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=20) as reply:
        answer: bytes = reply.read()
    return answer
