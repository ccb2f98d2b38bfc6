"""Thousands of faulty search-space files: each is understood, or refused in a sentence, soon."""

from __future__ import annotations

import json
import random
import re
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from aiq_search.cli.main import app
from aiq_search.errors import AiqError
from tests.space.grammar import KINDS

# In seconds of processor time: a busy machine is not a slow answer.
LATEST = 5.0
COMMANDS = (["check"], ["show", "--format", "json"], ["sample", "-n", "3"])
TRAP = "open('sprung', 'w').close()\ndef network(input_shape, classes, width=2): raise SystemExit('called')\n"


def answer(command: list[str]) -> tuple[int, str]:
    """Exit code and what is printed, as ``aiq space COMMAND space.yaml`` gives them."""
    started = time.process_time()
    result = CliRunner().invoke(app, ["space", command[0], "space.yaml", *command[1:]])
    assert time.process_time() - started < LATEST
    if isinstance(result.exception, AiqError):  # main prints it
        return result.exception.exit_code, str(result.exception)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def judge(content: bytes, folder: Path) -> None:
    (folder / "space.yaml").write_bytes(content)
    for command in COMMANDS:
        code, printed = answer(command)
        assert code in (0, 2), printed
        assert not (folder / "sprung").exists()
        if code == 2:
            assert re.search(r"space\.yaml(:\d+)?: \S", printed), printed
            assert "Traceback" not in printed
            assert len(printed) < 10_000
            assert command == ["check"], "what check accepts, the others do"
            return
        if "json" in command:
            json.loads(printed, parse_constant=no_constant)


def judge_all(kind: str, seeds: range, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "trap.py").write_text(TRAP)
    for seed in seeds:
        content = KINDS[kind](random.Random(f"{kind} {seed}"))
        try:
            judge(content, folder)
        except BaseException as error:
            error.add_note(f"kind {kind}, seed {seed}: {content[:2000]!r}")
            raise


@pytest.mark.parametrize("kind", KINDS)
def test_a_faulty_file_is_understood_or_refused(kind, tmp_path, monkeypatch):
    judge_all(kind, range(5 if kind == "overlong" else 20), tmp_path, monkeypatch)


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_many_faulty_files_are_understood_or_refused(kind, tmp_path, monkeypatch):
    judge_all(kind, range(20, 1000), tmp_path, monkeypatch)


def test_the_grammar_has_faults_and_files_without(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def refused(kind: str) -> bool:
        (tmp_path / "space.yaml").write_bytes(KINDS[kind](random.Random(f"{kind} 0")))
        return answer(["check"])[0] == 2

    assert not refused("valid")
    assert sum(map(refused, KINDS)) > len(KINDS) / 2
