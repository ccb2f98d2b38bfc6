"""The how-to for Python runs as a notebook, and MLflow's examples on the search that it made."""

from __future__ import annotations

import os
import re
from html import unescape
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page):
    return BLOCK.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))


def printed(cell):
    """What a cell shows, as text."""
    texts = [each.get("text") or each.get("data", {}).get("text/plain", "") for each in cell.outputs]
    return "\n".join(texts)


def counts(output):
    """The last line of the view, once the search is over."""
    return lines(unescape(re.sub(r"<[^>]+>", "", output.data["text/html"])))[-1]


def lines(text):
    return [line.strip() for line in text.splitlines() if line.strip()]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_pages_run_as_the_cells_of_a_notebook(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("AIQ_HOME", "MLFLOW_", "RAY_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    cells, expected = [], {}
    for language, content in [*blocks("how-to/python.md"), *blocks("mlflow.md")]:
        if language == "python":
            cells.append(nbformat.v4.new_code_cell(content))
        else:
            expected[len(cells) - 1] = content
    notebook = nbformat.v4.new_notebook(cells=cells)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=1500, resources=resources).execute()
    assert (len(cells), len(expected)) == (9, 3)
    for number, content in expected.items():
        assert lines(printed(notebook.cells[number]))[-len(lines(content)) :] == lines(content)
    live, result = (each for each in notebook.cells[0].outputs if "data" in each)
    assert re.fullmatch(r"\d+ complete +\d+ pruned +0 failed +0 running", counts(live))
    assert live.data["text/plain"].startswith("study digits-")
    assert "<b>Champion: trial" in result.data["text/html"]
    assert "Champion: trial" in result.data["text/plain"]
