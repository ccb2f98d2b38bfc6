"""The site builds without a warning, and its reference has all that the code has."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

import aiq_search
from aiq_search.cli.main import app
from aiq_search.space import SearchSpace
from aiq_search.training import TrainingOptions

pytest.importorskip("mkdocstrings", reason="the site needs pip install -e '.[docs]'")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return folder


def text(site, page):
    html = (site / page / "index.html").read_text(encoding="utf-8")
    return unescape(re.sub(r"<[^>]+>", "", html))


@pytest.mark.slow
def test_every_command_field_and_public_name_has_its_place(site):
    import typer

    commands, space, python = (text(site, f"reference/{name}") for name in ("commands", "space", "python"))
    for name in typer.main.get_command(app).commands:
        assert f"aiq {name}" in commands
    for field in {**SearchSpace.model_fields, **TrainingOptions.model_fields}:
        assert field in space
    for name in aiq_search.__all__:
        assert name in python


@pytest.mark.slow
def test_every_field_of_a_space_file_has_a_meaning(site):
    html = (site / "reference" / "space" / "index.html").read_text(encoding="utf-8")
    rows = [
        re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)
        for row in re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
    ]
    fields = [row for row in rows if row]
    assert len(fields) > 60
    assert [row[0] for row in fields if not row[3].strip() or "anything" in row[1]] == []


@pytest.mark.slow
def test_nothing_is_fetched_from_elsewhere(site):
    for page in site.rglob("*.html"):
        fetched = re.findall(
            r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', page.read_text("utf-8")
        )
        assert [url for url in fetched if "canonical" not in url] == [], page


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.name)
def test_links_to_files_are_right_on_github_too(path):
    content = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\((?!https?:|mailto:|#)([^)\s#]+)", content):
        assert (path.parent / target).exists(), target
