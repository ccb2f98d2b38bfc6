"""What a notebook shows of a search; tests/docs/test_how_to.py has one run by a real kernel."""

import re
from html import unescape

from aiq_search.study import Phase, TrialEnded, TrialKey, TrialStarted, TrialState
from aiq_search.study.events import PhaseStarted, StudyEnded, StudyStarted
from aiq_search.terminal.notebook import NotebookView, in_notebook
from tests.search.simulation import simulated_space

KEY = TrialKey("s", Phase.EXPLORE, 0)
DOCUMENT = {"space": simulated_space().document()}


class Shown:
    """What a cell shows in place of IPython's display."""

    def update(self, bundle, raw):
        assert raw
        self.bundle = bundle

    @property
    def lines(self):
        text = unescape(re.sub(r"<[^>]+>", "", self.bundle["text/html"]))
        return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def view_of(*events):
    view, shown = NotebookView(publishes=True), Shown()
    view._display = shown
    for event in events:
        view._drawn = 0.0
        view.on_event(event)
    return view, shown


def test_this_is_no_notebook():
    assert not in_notebook()


def test_it_shows_what_runs_and_in_the_end_what_stays():
    metrics = {"aiq": 0.5, "accuracy": 0.9, "efficiency": 0.2, "loss": 0.1, "parameters": 100.0}
    started = TrialStarted(KEY, {"model.hidden1": 4}, 0, "", 0.0)
    begun = [StudyStarted("s", "space", DOCUMENT, False, 0.0), PhaseStarted("s", Phase.EXPLORE, 4, 0, 0.0)]
    _, shown = view_of(*begun, started)
    assert shown.lines[0] == "study s"
    assert any(line.startswith("exploring") and "0/4" in line for line in shown.lines)
    assert any(line == "trial-0000 epoch 0 hidden1=4" for line in shown.lines)
    ended = TrialEnded(KEY, TrialState.COMPLETE, 0.0, epochs=1, metrics=metrics, feasible=True)
    view, shown = view_of(*begun, started, ended, StudyEnded("s", "finished", 0.0, {}))
    assert any("exporting the champion" in line for line in shown.lines)
    view.__exit__()
    assert shown.lines[-2:] == [
        "trial-0000: aIQ 0.5000, accuracy 0.9000, efficiency 0.2000, 100 parameters",
        "1 complete 0 pruned 0 failed 0 running",
    ]


def test_what_a_file_says_is_text():
    reason = "<script>alert(1)</script> [bold] \x1b[31m"
    _, shown = view_of(
        StudyStarted("s", "space", DOCUMENT, False, 0.0),
        TrialEnded(KEY, TrialState.FAIL, 0.0, reason=reason),
    )
    assert "<script" not in shown.bundle["text/html"]
    assert "\x1b" not in shown.bundle["text/html"] + shown.bundle["text/plain"]
    assert r"s/explore/0 failed: <script>alert(1)</script> [bold] \x1b[31m" in shown.lines
