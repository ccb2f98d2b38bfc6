"""What a shell offers: the names of shipped spaces and of studies."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from aiq_search.cli.main import app

STUDY = "wine-20260101-120000-0a1b"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / ".aiq" / "studies" / STUDY).mkdir(parents=True)
    (tmp_path / "mine.yaml").write_text("")
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "spaces").mkdir()
    (tmp_path / "spaces" / "other.yml").write_text("")
    for name in ("old.db", "old.journal"):
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AIQ_HOME", raising=False)
    return tmp_path


def offered(typed):
    """The words that bash is offered for the last one that is typed."""
    asked = {"_AIQ_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    result = CliRunner().invoke(app, [], prog_name="aiq", env=asked)
    assert result.exit_code == 0
    return result.output.split()


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("aiq search dig", ["digits"]),
        ("aiq submit lenet", ["lenet_300_100", "lenet_5"]),
        ("aiq search m", ["mnist_smallest", "mine.yaml"]),
        ("aiq space check sp", ["spaces/"]),
        ("aiq space check spaces/", ["spaces/other.yml"]),
        ("aiq best w", ["wine", STUDY]),
        ("aiq resume wine-", [STUDY]),
        ("aiq export x", []),
        ("aiq search digits --warm-start w", ["wine", STUDY]),
        ("aiq search digits --warm-start ./", ["./old.journal"]),
        ("aiq new --copy tab", ["table"]),
        ("aiq ne", ["new"]),
    ],
)
def test_names_are_offered(folder, typed, expected):
    assert offered(typed) == expected


def test_no_folder_is_offered_before_anything_is_typed(folder):
    words = offered("aiq search ")
    assert {"digits", "mine.yaml"} <= set(words)
    assert "spaces/" not in words


def test_a_shell_installs_it_and_is_answered(folder):
    environment = {**os.environ, "HOME": str(folder), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    aiq = "import sys; sys.argv[0] = 'aiq'; from aiq_search.cli import run; run()"

    def run(*arguments, **more):
        command = [sys.executable, "-c", aiq, *arguments]
        return subprocess.run(
            command, cwd=folder, env=environment | more, capture_output=True, text=True, check=False
        )

    done = run("--install-completion", "bash")
    assert done.returncode == 0, done.stderr
    assert "completion installed" in done.stdout
    (installed,) = (folder / ".bash_completions").iterdir()
    assert str(installed) in (folder / ".bashrc").read_text()
    answer = run(_AIQ_COMPLETE="complete_bash", COMP_WORDS="aiq best w", COMP_CWORD="2")
    assert (answer.stdout.split(), answer.stderr) == (["wine", STUDY], "")
