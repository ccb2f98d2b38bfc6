"""Who listens on a port, before a secret is sent there."""

from __future__ import annotations

import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from aiq_search.cluster.ports import ask, free_port, is_listening
from aiq_search.cluster.ray_node import _environment
from aiq_search.errors import InputError


@pytest.fixture
def server():
    """A server that notes which secrets it was given."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.given.append(self.headers["Authorization"])
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"yes")

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as made:
        made.given = []
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


@pytest.mark.parametrize(
    ("family", "address"), [("AF_INET", "127.0.0.1"), ("AF_INET", ""), ("AF_INET6", "::")]
)
def test_a_listener_is_known_by_its_user(family, address):
    with socket.socket(getattr(socket, family)) as listener:
        try:
            listener.bind((address, 0))
        except OSError:
            pytest.skip(f"no {family} here")
        port = listener.getsockname()[1]
        assert not is_listening(port)  # not yet
        listener.listen()
        assert is_listening(port)
        assert is_listening(port, os.geteuid())
        assert not is_listening(port, os.geteuid() + 1)


def test_who_listens_on_another_address_does_not_count():
    with socket.socket() as ours, socket.socket() as listener:
        ours.bind(("127.0.0.1", 0))  # or another process may listen there
        port = ours.getsockname()[1]
        listener.bind(("127.0.0.2", port))
        listener.listen()
        assert not is_listening(port)


def test_our_own_server_is_asked_and_no_proxy(server, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    assert ask(server.server_port, "/", "Bearer secret") == b"yes"
    assert server.given == ["Bearer secret"]


def test_a_stranger_who_took_the_port_hears_no_secret(server, monkeypatch):
    stranger = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: stranger)
    with pytest.raises(OSError, match="no process of ours listens"):
        ask(server.server_port, "/", "Bearer secret")
    assert server.given == []


def test_a_port_that_was_asked_for_and_is_taken_is_said(server):
    with pytest.raises(InputError, match=f"port {server.server_port} is already in use"):
        free_port(server.server_port, strict=True)
    assert free_port(server.server_port) != server.server_port


def test_a_users_own_variables_lead_no_node_elsewhere(monkeypatch, tmp_path):
    """PostgreSQL's clients take PGPASSWORD before the password file that PGPASSFILE names."""
    for name in ("PGPASSWORD", "PGHOSTADDR", "RAY_ADDRESS"):
        monkeypatch.setenv(name, "theirs")
    environment = _environment(tmp_path, {"PGPASSFILE": "ours"})
    assert "theirs" not in environment.values()
    assert environment["PGPASSFILE"] == "ours"
