"""The README's section "Your data": its five commands, on the data that the tutorial shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from aiq_search.space import load_space
from tests.docs.test_your_data import MODULE, SCRIPT
from tests.support.command_line import run_aiq

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
SECTION = README.partition("## Your data\n")[2].partition("\n## ")[0]
COMMANDS = [line.partition("#")[0].split() for line in SECTION.splitlines() if line.startswith("aiq new")]
SCREEN = 42  # lines


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the module and the data of the tutorial."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "mydata.py").write_text(MODULE)
    subprocess.run([sys.executable, "-c", SCRIPT], cwd=folder, check=True)
    return folder


def test_the_section_has_one_screen_and_five_examples_and_the_readme_three_screens():
    assert SECTION.count("\n") <= SCREEN
    assert len(COMMANDS) == 5
    assert README.count("\n") <= 3 * SCREEN


@pytest.mark.parametrize("number", range(5))
def test_each_command_writes_a_file_that_can_be_searched(folder, number, monkeypatch):
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "mydata", raising=False)
    environment = {"PATH": os.environ["PATH"], "AIQ_DATA_DIR": str(folder / "data")}

    def aiq(*arguments):
        done = run_aiq(*arguments, folder=folder, environment=environment)
        assert done.code == 0, done.err
        return done.out

    (file,) = re.findall(r"Wrote (.*)\.\n", aiq(*COMMANDS[number][1:]))
    assert "valid" in aiq("space", "check", file, "--data")  # trains the narrowest and the widest network
    kinds = ["table", "folder", "arrays", "code", "code"]
    assert load_space(folder / file).dataset.kind == kinds[number]


def test_the_space_file_of_the_section_is_that_of_a_table(folder):
    (text,) = re.findall(r"```yaml\n(.*?)```", SECTION, re.S)
    (folder / "flowers.yaml").write_text(text)
    done = run_aiq("space", "check", "flowers.yaml", "--data", folder=folder, environment={})
    assert (done.code, "valid" in done.out) == (0, True), done.err
