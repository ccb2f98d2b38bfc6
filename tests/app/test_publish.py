"""What a search publishes, and what it shows on the way: one real search in this process for all tests."""

from __future__ import annotations

import io
import json
import logging
import sys
from contextlib import redirect_stderr

import numpy as np
import pytest

from aiq_search import run_search
from aiq_search.app.prepare import StudyData
from aiq_search.app.publish import publish_champion, publish_nothing
from aiq_search.app.run import showing
from aiq_search.study import Study
from aiq_search.study.chance import chance_problem
from aiq_search.tracking import MlflowListener
from aiq_search.tracking.letters import ChampionExported
from tests.search.simulation import Recorder, finish, new_study

# Labels by chance, and an odd one: nothing can be learnt, and there is something to warn of.
SPACE = {
    "schema_version": 1,
    "name": "coins",
    "model": {"name": "mlp"},
    "dataset": {"name": "coins.npz"},
    "parameters": {"model.hidden1": {"type": "int", "low": 3, "high": 6}},
    "search": {"trials": 2, "sampler": "random", "pruner": "none"},
    "training": {"epochs": 1},
    "confirm": {"finalists": 1, "seeds": 2, "reference": False},
}


class Warned(logging.Handler):
    """Keeps what is logged."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A search's result, what it printed on stderr, and what it logged."""
    folder = tmp_path_factory.mktemp("coins")
    draw, log, printed = np.random.default_rng(0), Warned(), io.StringIO()
    labels = draw.integers(0, 2, 300)
    labels[7] = 2
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(printed):
        patch.chdir(folder)
        patch.setenv("AIQ_HOME", str(folder / ".aiq"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        np.savez("coins.npz", x_train=draw.random((300, 4)), y_train=labels)
        patch.setattr(logging.getLogger("aiq_search"), "handlers", [log])  # without the command line's
        result = run_search(SPACE, progress=True, runner="in_process", publish=publish_nothing)
    return result, printed.getvalue(), log.messages


@pytest.mark.parametrize("required", [True, False])
def test_a_champion_no_better_than_chance_is_kept_but_not_registered(
    searched, tmp_path, monkeypatch, required
):
    path = searched[0].study.directory / "study.json"
    monkeypatch.chdir(path.parents[3])
    document = json.loads(path.read_text())
    document["space"]["confirm"]["require_better_than_chance"] = required
    path.write_text(json.dumps(document))
    study = Study.open(searched[0].study.id, searched[0].study.home)
    assert (chance_problem(study.document, study.champion()) is not None) is required
    listener = MlflowListener(tmp_path, f"sqlite:///{tmp_path / 'other.db'}")
    monkeypatch.setattr(listener, "_keep_delivering", lambda: None)
    bundle = publish_champion(study, listener, StudyData(study))
    assert (bundle / "model.safetensors").is_file()
    assert len(listener.outbox.history(ChampionExported)) == (not required)
    listener.outbox.close()


def test_progress_is_shown_where_asked_to(searched):
    lines = searched[1].splitlines()
    assert [line for line in lines if line.startswith("started study coins-")]
    assert [line for line in lines if line.startswith("[2/2] trial-")]


def test_a_warning_of_the_data_is_given_once(searched):
    result, printed, logged = searched
    warnings = [message for message in logged if "class '2'" in message]
    assert len(warnings) == len(set(warnings)) == 3
    assert "class '2'" not in printed + " ".join(result.notes)


@pytest.mark.parametrize(
    ("progress", "terminal", "shown"),
    [(None, True, True), (None, False, False), (True, False, True), (False, True, False)],
)
def test_by_default_progress_is_shown_on_a_terminal(tmp_path, capsys, monkeypatch, progress, terminal, shown):
    study, listener = new_study(tmp_path, search={"trials": 3}, confirm={"finalists": 0}), Recorder()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with showing(progress, [listener]) as (heard, _):
        finish(study, heard)
    assert ("trial-0000" in capsys.readouterr().err) is shown
    assert len(listener.events) > 3
