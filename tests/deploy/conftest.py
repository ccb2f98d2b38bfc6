"""The files of a deployment, as the tests read them."""

import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from aiq_search.app.deploy import init_environment
from tests.deploy import engine

ROOT = Path(__file__).parents[2]


def load_all(path):
    return list(YAML(typ="safe", pure=True).load_all(path.read_text(encoding="utf-8")))


def values(path):
    """The variables of an environment file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.fixture(scope="session")
def root():
    return ROOT


@pytest.fixture(scope="session")
def environment_file(tmp_path_factory):
    """What `aiq deploy init` makes for Compose."""
    folder = tmp_path_factory.mktemp("deployment")
    (folder / ".env.example").write_bytes((ROOT / ".env.example").read_bytes())
    return init_environment(folder)[0]


@pytest.fixture(scope="session")
def compose():
    """docker-compose.yml as it is written, before variables are put in."""
    (document,) = load_all(ROOT / "docker-compose.yml")
    return document


@pytest.fixture(scope="session")
def manifests():
    """Every Kubernetes object in deploy/kubernetes, before Kustomize adds its own."""
    folder = ROOT / "deploy" / "kubernetes"
    (kustomization,) = load_all(folder / "kustomization.yaml")
    files = [folder / name for name in kustomization["resources"] if name.endswith(".yaml")]
    return [document for file in files for document in load_all(file)]


@pytest.fixture(scope="session")
def images():
    """The image of docker-compose.yml and the manifests, built here."""
    reason = engine.reason_to_skip()
    if reason:
        pytest.skip(reason)
    engine.build_images()


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)
