"""The Compose file: what Compose says of it, and that it is closed."""

import os
import re
import shutil

import pytest
from ruamel.yaml import YAML

from tests.deploy.conftest import ROOT, run

SECRETS = (
    "POSTGRES_PASSWORD",
    "MLFLOW_DB_PASSWORD",
    "OPTUNA_DB_PASSWORD",
    "MLFLOW_FLASK_SERVER_SECRET_KEY",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_DRIVER_PASSWORD",
    "RAY_AUTH_TOKEN",
)
SERVICES = ["postgres", "mlflow", "ray-head", "ray-worker"]


def compose_command():
    """Compose as a program of its own (Debian's) or as Docker's plugin, whichever is there."""
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    if shutil.which("docker") and run("docker", "compose", "version").returncode == 0:
        return ["docker", "compose"]
    return None


@pytest.fixture(scope="module")
def config():
    command = compose_command()
    if command is None:
        pytest.skip("neither docker-compose nor Docker's compose plugin is installed")
    clean = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}

    def call(env_file, **variables):
        arguments = ["--env-file", str(env_file), "-f", str(ROOT / "docker-compose.yml"), "config"]
        return run(*command, *arguments, cwd=ROOT, env=clean | variables)

    return call


@pytest.fixture(scope="module")
def resolved(config, environment_file):
    done = config(environment_file)
    assert done.returncode == 0, done.stderr
    return YAML(typ="safe", pure=True).load(done.stdout)


def test_compose_accepts_it_with_the_variables_that_init_wrote(resolved):
    assert sorted(resolved["services"]) == sorted(SERVICES)


@pytest.mark.parametrize("missing", SECRETS)
def test_compose_refuses_it_without_any_one_secret_and_says_what_to_do(
    config, environment_file, tmp_path, missing
):
    lines = environment_file.read_text().splitlines()
    (tmp_path / ".env").write_text("\n".join(line for line in lines if not line.startswith(f"{missing}=")))
    done = config(tmp_path / ".env")
    assert done.returncode != 0
    assert "run `aiq deploy init` first" in done.stderr


def test_compose_refuses_the_template_itself(config, root):
    assert config(root / ".env.example").returncode != 0


def test_only_two_ports_are_published_and_on_this_machine_alone(resolved):
    published = {
        name: [_port(port) for port in service["ports"]]
        for name, service in resolved["services"].items()
        if service.get("ports")
    }
    assert published == {"mlflow": [("127.0.0.1", "5000", 5000)], "ray-head": [("127.0.0.1", "8265", 8265)]}


def test_another_address_is_published_only_when_told(config, environment_file):
    done = config(environment_file, PUBLISH_ADDRESS="192.0.2.7")
    ports = YAML(typ="safe", pure=True).load(done.stdout)["services"]["ray-head"]["ports"]
    assert [_port(port) for port in ports] == [("192.0.2.7", "8265", 8265)]


def test_no_page_of_another_origin_may_change_runs_unless_it_is_named(config, environment_file, resolved):
    name = "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"
    assert not resolved["services"]["mlflow"]["environment"][name]
    proxy = "https://mlflow.example.org"
    named = YAML(typ="safe", pure=True).load(config(environment_file, MLFLOW_ALLOWED_ORIGINS=proxy).stdout)
    assert named["services"]["mlflow"]["environment"][name] == proxy


def _port(port):
    """A port as Compose 1 (a string) and 2 (a mapping) write it."""
    if isinstance(port, str):
        address, published, target = port.removesuffix("/tcp").split(":")
        return address, published, int(target)
    return port["host_ip"], str(port["published"]), port["target"]


def test_no_secret_stands_on_a_command_line(resolved, environment_file):
    secrets = re.findall(r"=([0-9a-f]{64})$", environment_file.read_text(), re.MULTILINE)
    assert len(secrets) == len(SECRETS)
    for service in resolved["services"].values():
        words = str([service.get(key) for key in ("command", "entrypoint", "healthcheck", "build", "labels")])
        assert not any(secret in words for secret in secrets)


def test_every_container_gets_only_the_secrets_that_it_needs(compose):
    held = {
        name: {secret for secret in SECRETS if f"${{{secret}:?" in str(service["environment"])}
        for name, service in compose["services"].items()
    }
    assert held == {
        "postgres": {"POSTGRES_PASSWORD", "MLFLOW_DB_PASSWORD", "OPTUNA_DB_PASSWORD"},
        "mlflow": {
            "MLFLOW_DB_PASSWORD",
            "MLFLOW_TRACKING_PASSWORD",
            "MLFLOW_DRIVER_PASSWORD",
            "MLFLOW_FLASK_SERVER_SECRET_KEY",
        },
        "ray-head": {"OPTUNA_DB_PASSWORD", "MLFLOW_DRIVER_PASSWORD", "RAY_AUTH_TOKEN"},
        "ray-worker": {"RAY_AUTH_TOKEN"},
    }


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_closed_limited_and_watched(compose, name):
    service = compose["services"][name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] == "CMD"
    assert {"mem_limit", "cpus", "pids_limit"} <= service.keys()
    assert "privileged" not in service
    assert service.get("network_mode") is None
    image = service["image"]
    assert re.search(r":\d+\.\d+", image), f"{image} is not pinned"


def test_a_worker_reaches_the_head_and_neither_the_databases_nor_the_outside(compose):
    services, networks = compose["services"], compose["networks"]
    assert services["ray-worker"]["networks"] == ["ray"]
    assert services["postgres"]["networks"] == ["database"]
    inner = {name for name, options in networks.items() if options.get("internal")}
    assert set(networks) - inner == {"outside"}
    assert {name for name in SERVICES if "outside" in services[name]["networks"]} == {"mlflow", "ray-head"}
    assert all("ports" not in services[name] for name in ("postgres", "ray-worker"))


def test_head_and_workers_share_one_named_volume_which_holds_the_storage(compose):
    head, worker = (compose["services"][name] for name in ("ray-head", "ray-worker"))
    assert head["volumes"] == worker["volumes"] == ["aiq:/var/lib/aiq"]
    assert (
        head["environment"]["AIQ_STORAGE"] == worker["environment"]["AIQ_STORAGE"] == "/var/lib/aiq/storage"
    )
    assert {"shm_size"} <= head.keys() & worker.keys()
    assert set(compose["volumes"]) == {"postgres", "mlflow", "aiq"}
