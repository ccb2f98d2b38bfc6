"""The tutorials run as they stand: files are written, commands run, and what is shown is printed."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TUTORIALS = ROOT / "docs" / "tutorials"
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
OTHERS = ("RAY_", "MLFLOW_", "AIQ_", "PG", "PYTHONPATH")


def environment(folder, **more):
    """That of a new user, whose ``aiq`` is this one."""
    command = folder / "bin" / "aiq"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m aiq_search "$@"\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OTHERS)}
    path = f"{command.parent}:{Path(sys.executable).parent}:{kept['PATH']}"
    return {**kept, "PATH": path, "COLUMNS": "200", **more}


def play(name, folder, **more):
    """Do what a tutorial says in an empty folder; the number of its commands."""
    given = environment(folder, **more)
    here = folder / "here"
    here.mkdir()
    commands, printed = 0, ""
    for language, title, content in BLOCK.findall((TUTORIALS / name).read_text(encoding="utf-8")):
        if title:
            (here / title).write_text(content, encoding="utf-8")
        elif language == "bash":
            printed = ""
            for line in content.splitlines():
                done = subprocess.run(
                    ["bash", "-c", line], cwd=here, env=given, stdin=subprocess.DEVNULL, capture_output=True,
                    text=True, timeout=900, check=False,
                )  # fmt: skip
                assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
                printed += done.stdout
                commands += 1
        elif language == "text":
            shown = [" ".join(line.split()) for line in content.splitlines()]
            lines = [" ".join(line.split()) for line in printed.splitlines()]
            assert [line for line in lines if line and line in shown] == [line for line in shown if line]
    return commands


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("name", "commands"),
    [("first-search.md", 14), ("your-data.md", 7), ("your-network.md", 5), ("device.md", 4)],
)
def test_a_tutorial_runs_as_it_stands(name, commands, tmp_path):
    assert play(name, tmp_path, AIQ_RUNNER="in_process") == commands


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_the_cluster_of_the_tutorial_comes_and_goes(tmp_path):
    assert play("cluster.md", tmp_path) == 6


def test_every_tutorial_is_run():
    run = set(re.findall(r"[a-z-]+\.md", Path(__file__).read_text(encoding="utf-8")))
    assert {path.name for path in TUTORIALS.glob("*.md")} <= run
