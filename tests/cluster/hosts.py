"""Hosts on one machine: network namespaces with an address each, joined by a bridge.

Everything lies in namespaces that are made here and deleted in the end, with every process in them.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

__all__ = ["Host", "Network", "why_not"]

_SUBNET = "10.213.77"


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def why_not() -> str | None:
    """Why there can be no namespaces here; None if there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not shutil.which("ip") or not shutil.which("ss"):
        return "network namespaces need iproute2"
    name = f"aiq{os.getpid()}x"
    try:
        _run("ip", "netns", "add", name)
        _run("ip", "netns", "del", name)
    except subprocess.CalledProcessError as error:
        return f"no network namespaces here: {error.stderr.strip()}"
    return None


class Host:
    """One namespace: a host with an address of its own."""

    def __init__(self, name: str, address: str, environment: dict[str, str]) -> None:
        self.name = name
        self.address = address
        self.environment = environment

    def start(self, *command: str, log: Path, hiding: Path | None = None) -> subprocess.Popen[bytes]:
        """Start a command there.

        Args:
            command: The command.
            log: Takes what it writes.
            hiding: A folder in whose place the command sees an empty one of its own.
        """
        if hiding is not None:
            script = 'mount -t tmpfs none "$0" && exec "$@"'
            command = ("unshare", "--mount", "sh", "-c", script, str(hiding), *command)
        with log.open("ab") as file:
            return subprocess.Popen(
                ["ip", "netns", "exec", self.name, *command],
                env=self.environment,
                cwd=log.parent,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def run(self, *command: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command there, in a folder, to its end."""
        return subprocess.run(
            ["ip", "netns", "exec", self.name, *command],
            env=self.environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def listening(self) -> list[int]:
        """The TCP ports that answer to other hosts."""
        ports = set()
        for line in _run("ip", "netns", "exec", self.name, "ss", "-H", "-l", "-t", "-n").splitlines():
            address, _, port = line.split()[3].rpartition(":")
            if not address.startswith(("127.", "[::1]", "[::ffff:127.")):
                ports.add(int(port))
        return sorted(ports)

    def processes(self) -> list[int]:
        """What runs there."""
        return [int(pid) for pid in _run("ip", "netns", "pids", self.name).split()]

    def cut_off(self) -> None:
        """Pull its cable."""
        _run("ip", "-n", self.name, "link", "set", "eth0", "down")

    def end(self) -> None:
        """End every process there."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + 5
            for pid in self.processes():
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            while self.processes() and time.monotonic() < deadline:
                time.sleep(0.1)


class Network:
    """Hosts that reach each other, and nobody else.

    Args:
        hosts: Their names.
        environment: Of the processes there.
    """

    def __init__(self, *hosts: str, environment: dict[str, str]) -> None:
        self._prefix = f"aiq{os.getpid()}"
        self._switch = f"{self._prefix}-switch"
        self.hosts = {
            name: Host(f"{self._prefix}-{name}", f"{_SUBNET}.{number}", dict(environment))
            for number, name in enumerate(hosts, 1)
        }

    def __enter__(self) -> Network:
        _run("ip", "netns", "add", self._switch)
        _run("ip", "-n", self._switch, "link", "add", "bridge", "type", "bridge")
        _run("ip", "-n", self._switch, "link", "set", "bridge", "up")
        for number, host in enumerate(self.hosts.values(), 1):
            port = f"port{number}"
            _run("ip", "netns", "add", host.name)
            _run("ip", "-n", host.name, "link", "set", "lo", "up")
            _run(
                *("ip", "-n", self._switch, "link", "add", port),
                *("type", "veth", "peer", "name", "eth0", "netns", host.name),
            )
            _run("ip", "-n", self._switch, "link", "set", port, "master", "bridge", "up")
            _run("ip", "-n", host.name, "addr", "add", f"{host.address}/24", "dev", "eth0")
            _run("ip", "-n", host.name, "link", "set", "eth0", "up")
            _run("ip", "-n", host.name, "route", "add", "default", "via", f"{_SUBNET}.254")
        return self

    def __exit__(self, *_: object) -> None:
        for host in self.hosts.values():
            with suppress(subprocess.CalledProcessError):
                host.end()
        for name in (*(host.name for host in self.hosts.values()), self._switch):
            with suppress(subprocess.CalledProcessError):
                _run("ip", "netns", "del", name)
