"""A result as one reads it, in a console and in a notebook."""

import shutil
from html.parser import HTMLParser

import pytest

from aiq_search.app.result import SearchResult
from aiq_search.app.summary import ResultSummary, spread_text
from aiq_search.study import Study
from tests.search.simulation import DATASET, finish, new_study, simulated_space

EVIL = "<script>alert('&')</script>\x1b[31m"
VOID = {"br"}


class Page(HTMLParser):
    """Elements that are opened and closed, and the text of each cell."""

    def __init__(self, html):
        super().__init__()
        self.open, self.seen, self.cells = [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    study = new_study(tmp_path_factory.mktemp("result"), "study")
    return SearchResult(study, finish(study), "finished")


def test_it_is_read_in_a_console(result):
    lines = repr(result).splitlines()
    champion = result.champion
    assert lines[0] == "SearchResult of study: finished"
    assert lines[1] == f"Champion: trial {champion.trial}"
    assert f"  model.hidden1 = {champion.params['model.hidden1']}" in lines
    assert f"  parameters = {champion.record.metrics['parameters']:,.0f}" in lines
    (aiq,) = [line for line in lines if line.startswith("  aIQ ")]
    assert spread_text("aiq", champion.validation["aiq"]) in aiq
    assert spread_text("aiq", champion.test["aiq"]) in aiq
    finalists = lines[lines.index("Finalists") + 2 :]
    assert len(finalists) == 2
    assert "won: " in finalists[0]


def test_a_notebook_shows_the_same_as_tables(result):
    page = Page(result._repr_html_())
    summary = ResultSummary.of(result)
    assert {"model.hidden1", "aIQ", "validation, 2 seeds", "test, 2 seeds", "why"} <= set(page.cells)
    first = summary.finalists[0]
    assert {first.configuration, first.parameters, first.mean, first.why} <= set(page.cells)


def test_what_a_file_says_is_text(tmp_path):
    parameters = {
        "model.hidden1": {"type": "int", "low": 2, "high": 9},
        "model.activation": {"type": "categorical", "choices": [EVIL]},
    }
    study = Study.create(tmp_path, simulated_space(parameters=parameters), DATASET, "evil")
    result = SearchResult(study, finish(study), "failed", message=EVIL)
    html = result._repr_html_()
    assert "script" not in Page(html).seen
    assert "&lt;script&gt;alert(&#39;&amp;&#39;)" in html
    assert "\x1b" not in html
    assert "\x1b" not in repr(result)
    assert r"\x1b[31m" in repr(result)


def test_without_a_champion_it_says_why(tmp_path):
    study = new_study(tmp_path, "study")
    reason = "no configuration meets accuracy >= 0.99"
    assert repr(SearchResult(study, None, "finished", reason)).splitlines() == [
        "SearchResult of study: finished",
        reason,
    ]
    assert reason.replace(">", "&gt;") in SearchResult(study, None, "finished", reason)._repr_html_()
    assert repr(SearchResult(study, None, "interrupted")).endswith("interrupted\nNo champion.")


def test_before_fresh_seeds_it_says_that_one_seed_is_little(tmp_path):
    study = new_study(tmp_path, "study", confirm={"finalists": 0})
    text = repr(SearchResult(study, finish(study), "finished"))
    assert "on one seed; not confirmed on fresh seeds" in text
    assert "Finalists" not in text


def test_a_result_outlives_its_study(tmp_path):
    study = new_study(tmp_path, "study")
    result = SearchResult(study, finish(study), "finished")
    shutil.rmtree(study.directory)
    gone = SearchResult(Study(study.directory, study.document), result.champion, "finished")
    assert f"Champion: trial {result.champion.trial}" in repr(gone)
    assert "Finalists" not in repr(gone)
