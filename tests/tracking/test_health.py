"""Whether MLflow can take runs: one sentence where it cannot, without a password in it."""

from __future__ import annotations

import http.server
import threading
from contextlib import contextmanager

from aiq_search.tracking.health import mlflow_trouble


def test_an_mlflow_server_that_is_down_is_told_without_the_password():
    said = mlflow_trouble("http://ada:lovelace@127.0.0.1:9")
    assert said.startswith("MLflow at http://***@127.0.0.1:9 does not answer")
    assert said.endswith("until then events wait.")
    assert "lovelace" not in said


@contextmanager
def server(known=None):
    """A server that is well, for those whom it knows; its host and port."""

    class Healthy(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if known in (None, self.headers["Authorization"]) else 401)
            self.end_headers()

        def log_message(self, *_):
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Healthy) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{running.server_port}"
        running.shutdown()


def test_an_mlflow_server_that_answers_is_no_trouble():
    with server() as host:
        assert mlflow_trouble(f"http://{host}") is None


def test_user_and_password_of_an_address_are_given_as_http_wants_them():
    with server(known="Basic YWRhOmxvdmU6QGxhY2U=") as host:
        assert mlflow_trouble(f"http://ada:love%3A%40lace@{host}") is None
        assert "answers 401" in mlflow_trouble(f"http://ada:wrong@{host}")


def test_an_address_without_a_port_is_told_without_the_password():
    said = mlflow_trouble("https://ada:lovelace@mlflow.invalid")
    assert said.startswith("MLflow at https://***@mlflow.invalid does not answer")
    assert "lovelace" not in said


def test_a_store_in_a_folder_that_cannot_be_written_is_named(tmp_path):
    assert mlflow_trouble(f"sqlite:///{tmp_path}/mlflow.db") is None
    reason = mlflow_trouble(f"sqlite:///{tmp_path}/missing/mlflow.db")
    assert reason.startswith(f"MLflow's store sqlite:///{tmp_path}/missing/mlflow.db cannot be written: ")
