"""The wheel is enough: built, checked, and tried in an environment that has it and no clone."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.timeout(900)  # the fixtures build a wheel and an environment


def run(*command, cwd, env=None):
    done = subprocess.run([str(each) for each in command], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The source distribution, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (source,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return source, wheel


@pytest.fixture(scope="module")
def elsewhere(built, tmp_path_factory):
    """An empty folder, and how to run ``aiq`` there as it is in the wheel.

    The environment is a new one. It finds the dependencies in the one that runs the tests, which has no
    editable install for it: a folder that is added to the path brings no ``.pth`` files.
    """
    folder = tmp_path_factory.mktemp("newcomer")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    installed = folder / "venv" / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    (installed / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index"]
    run(*pip, "--ignore-installed", built[1], cwd=folder)
    here = folder / "here"
    here.mkdir()
    kept = {
        k: v for k, v in os.environ.items() if k != "PYTHONPATH" and not k.startswith(("AIQ_", "MLFLOW_"))
    }

    def aiq(*arguments):
        environment = {**kept, "AIQ_RUNNER": "in_process"}
        return run(folder / "venv" / "bin" / "aiq", *arguments, cwd=here, env=environment)

    return here, python, aiq


@pytest.mark.slow
def test_the_wheel_has_the_package_the_shipped_spaces_and_nothing_else(built):
    source, wheel = built
    names = zipfile.ZipFile(wheel).namelist()
    shipped = {str(path.relative_to(ROOT)) for path in (ROOT / "search_spaces").rglob("*.yaml")}
    there = {name.removeprefix("aiq_search/") for name in names}
    assert {name for name in there if name.startswith("search_spaces/")} == shipped
    assert {"aiq_search/py.typed", "aiq_search/app/templates/space.yaml.jinja"} <= set(names)
    assert any(name.endswith("licenses/THIRD_PARTY_NOTICES.md") for name in names)
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"aiq_search"}
    assert not any("__pycache__" in name or name.endswith(".env") for name in names)
    with tarfile.open(source) as archive:
        assert any(name.endswith("/search_spaces/digits.yaml") for name in archive.getnames())


@pytest.mark.slow
def test_an_index_would_take_both(built):
    run(sys.executable, "-m", "twine", "check", "--strict", *built, cwd=built[0].parent)


@pytest.mark.slow
def test_a_newcomer_goes_from_their_own_table_to_a_champion(elsewhere):
    here, python, aiq = elsewhere
    where = run(python, "-c", "import aiq_search; print(aiq_search.__file__)", cwd=here, env={}).stdout
    assert where.startswith(str(here.parent / "venv"))
    assert aiq("--version").stdout.strip() != ""
    assert "valid." in aiq("space", "check", "digits").stdout
    rows = [f"{n % 7},{n % 5 + 10 * (n % 2)},{('sick', 'well')[n % 2]}" for n in range(120)]
    (here / "patients.csv").write_text("\n".join(["age,blood,health", *rows]) + "\n")
    aiq("new", "--data", "patients.csv", "--target", "health", "-o", "patients.yaml")
    fast = ("--trials", "2", "--set", "training.epochs=8", "--set", "confirm.runs=0", "--data-dir", here)
    aiq("search", "patients.yaml", *fast)
    aiq("export", "patients", "--output", "champion", "--format", "safetensors")
    assert aiq("predict", "champion", "patients.csv").stdout.count("\n") >= 120


def test_the_version_is_that_of_the_distribution():
    import aiq_search

    assert aiq_search.__version__ == version("aiq-search")


def test_the_released_version_is_the_same_wherever_it_is_written():
    import re

    (released,) = re.findall(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    (image,) = re.findall(r"^ARG VERSION=(.+)$", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE)
    assert image == released
    deployed = [
        ROOT / "docker-compose.yml",
        *(ROOT / "deploy").rglob("*.y*ml"),
        ROOT / "deploy" / "README.md",
    ]
    tags = {tag for path in deployed for tag in re.findall(r"aiq-search:(\d[\d.]*\d)", path.read_text())}
    assert tags == {released}
