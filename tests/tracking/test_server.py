"""The MLflow user interface on this machine."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path

import pytest
import requests

from aiq_search.app.ui import open_ui
from aiq_search.errors import AiqError, InputError, StudyError
from aiq_search.tracking import Outbox
from aiq_search.tracking.server import TRAINING, _wait_for, page_of, serving
from tests.tracking.conftest import answers, runs_of, wait_until
from tests.tracking.delivering import deliver
from tests.tracking.simulated import STUDY, whole_study

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.org", "::"])  # noqa: S104
def test_it_refuses_to_listen_elsewhere_without_authentication(
    host: str, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    monkeypatch.delenv("MLFLOW_AUTH_ADMIN_PASSWORD", raising=False)
    monkeypatch.setenv("MLFLOW_FLASK_SERVER_SECRET_KEY", "x")
    with pytest.raises(InputError, match="MLFLOW_AUTH_ADMIN_PASSWORD"), serving(store, host):
        pass


@pytest.mark.slow
def test_elsewhere_nobody_chooses_where_it_writes(monkeypatch: pytest.MonkeyPatch, store: str) -> None:
    pytest.importorskip("flask_wtf", reason="mlflow[auth]")
    monkeypatch.delenv("MLFLOW_AUTH_CONFIG_PATH", raising=False)
    for name in ("MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY"):
        monkeypatch.setenv(name, "a long enough password")
    with serving(store, "0.0.0.0") as server:  # noqa: S104
        create = f"{server.url}/api/2.0/mlflow/experiments/create"
        login = ("admin", "a long enough password")
        placed = {"name": "placed", "artifact_location": "file:///tmp/a"}
        assert requests.post(create, json=placed, timeout=60).status_code == 401
        assert requests.post(create, json=placed, auth=login, timeout=60).status_code == 403
        assert requests.post(create, json={"name": "own"}, auth=login, timeout=60).ok


def test_a_port_that_is_taken_is_a_sentence(store: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"Port {port}"), serving(store, port=port):
            pass


def test_a_server_that_is_there_is_used() -> None:
    with serving("https://ada:lovelace@mlflow.example.org") as server:
        assert server.process is None
        assert server.url == "https://***@mlflow.example.org"
        assert server.wait() == 0


@pytest.mark.slow
def test_a_database_that_cannot_be_opened_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database, and it is long enough to be read as one" * 9)
    with (
        pytest.raises(AiqError, match="ended before it was ready"),
        serving(f"sqlite:///{tmp_path}/mlflow.db"),
    ):
        pass


class Stranger(http.server.BaseHTTPRequestHandler):
    """Another server, which took the port first and is well."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Be quiet."""


def test_a_stranger_on_the_port_is_not_taken_for_our_server() -> None:
    with (
        http.server.HTTPServer(("127.0.0.1", 0), Stranger) as stranger,
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.5)"]) as ours,
        tempfile.TemporaryFile() as log,
    ):
        threading.Thread(target=stranger.serve_forever, daemon=True).start()
        with pytest.raises(AiqError, match="ended before it was ready"):
            _wait_for(f"http://127.0.0.1:{stranger.server_port}", "our name", ours, log)
        stranger.shutdown()


@pytest.mark.slow
def test_it_serves_the_store_and_opens_at_the_study(outbox: Outbox, store: str) -> None:
    outbox.put(whole_study(2))
    deliver(outbox, store)
    run = runs_of(store)[STUDY].info
    shown: list[str] = []
    with open_ui(STUDY, store, show=lambda page, study: shown.append(page)) as server:
        assert shown == [f"{server.url}/#/experiments/{run.experiment_id}/runs/{run.run_id}?{TRAINING}"]
        assert page_of(server, "lenet-5-digits").startswith(f"{server.url}/#/experiments/{run.experiment_id}")
        assert page_of(server, "unknown") == server.url
        assert page_of(server, None) == server.url
        address = f"{server.url}/api/2.0/mlflow/runs/get?run_id={run.run_id}"
        with urllib.request.urlopen(address) as reply:  # noqa: S310
            assert json.load(reply)["run"]["info"]["run_name"] == STUDY
    assert not answers(server.url)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_command_and_its_server(store: str, number: signal.Signals) -> None:
    # A shell starts what it puts in the background with SIGINT ignored, and that is inherited.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "import typer; from aiq_search.cli.ui import ui; typer.run(ui)"
    command = [sys.executable, "-c", code, "--tracking-uri", store]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    ) as process:
        assert process.stdout
        page = process.stdout.readline().strip()
        assert answers(page)
        process.send_signal(number)
        assert process.wait(20) == 0
    wait_until(lambda: not answers(page), 10)


def test_a_study_that_is_not_there_is_refused_before_anything_is_served(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIQ_HOME", str(tmp_path))
    with (
        pytest.raises(StudyError, match=r"no study 'nope' in .* has no such study either"),
        open_ui("nope", store),
    ):
        pytest.fail("it is served")
