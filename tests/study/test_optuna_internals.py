"""Each private name of Optuna that we use is there, and is used as we expect."""

from __future__ import annotations

import importlib

import numpy as np
import optuna
import pytest
from optuna.storages.journal import JournalFileBackend

NAMES = {
    "optuna._hypervolume:compute_hypervolume": "hypervolume: the number under `aiq pareto`",
    "optuna.storages.journal._file:BaseJournalFileLock": "storage.py: the journal has no lock of its own",
    "optuna.storages.journal._storage:JournalOperation": "storage.py: which lines wait for the disk",
    "optuna.storages:JournalStorage._sync_with_backend": "WatchedJournal: a damaged journal is one sentence",
    "optuna.study._frozen:FrozenStudy": "database.py: the type that get_all_studies returns",
    "optuna.storages:get_storage": "cached: a database whose ended trials are read once",
    "optuna.storages._rdb.models:TrialModel.number": "NumberedDatabase: a trial is created once",
    "optuna.storages._rdb.models:TrialModel.study_id": "NumberedDatabase: a trial is created once",
    "optuna.storages:RDBStorage._get_prepared_new_trial": "NumberedDatabase: a trial is created once",
    "optuna:Study._pop_waiting_trial_id": "AskingStudy: the queue is not searched for each trial",
}


@pytest.mark.parametrize("name", NAMES)
def test_optuna_still_has(name, internals):
    module, _, path = name.partition(":")
    try:
        place = importlib.import_module(module)
        for attribute in path.split("."):
            place = getattr(place, attribute)
    except (ImportError, AttributeError) as error:
        pytest.fail(
            f"Optuna {optuna.__version__} no longer has {name} ({error}). study/optuna_internals.py needs it "
            f"({NAMES[name]}): find what replaced it, or bound Optuna in pyproject.toml."
        )


@pytest.fixture
def internals():
    """Imported only here: where a name is missing, the test above says so."""
    return importlib.import_module("aiq_search.study.optuna_internals")


@pytest.fixture
def study(internals):
    storage = optuna.storages.InMemoryStorage()
    optuna.create_study(study_name="s", storage=storage)
    return internals.OpenStudy("s", storage)


def test_a_study_shows_its_storage_and_its_id(study, internals):
    assert study.storage.get_study_name_from_id(study.study_id) == "s"
    [frozen] = study.storage.get_all_studies()
    assert internals.study_id_of(frozen) == study.study_id


def test_a_trial_has_an_id_in_its_storage(study, internals):
    trial = study.ask()
    assert study.storage.get_trial(internals.trial_id_of(trial)).number == trial.number
    assert internals.trial_id_of(study.trials[0]) == internals.trial_id_of(trial)


def test_ask_takes_the_waiting_trial_that_the_study_chooses(study, internals):
    for width in (3, 4):
        study.enqueue_trial({"width": width})
    second = internals.trial_id_of(study.trials[1])

    class Second(internals.OpenStudy):
        def next_waiting(self):
            self.storage.set_trial_state_values(second, optuna.trial.TrialState.RUNNING)
            return second

    assert Second("s", study.storage).ask().suggest_int("width", 1, 9) == 4


def test_a_journal_is_read_through_the_watch(tmp_path, internals):
    class Counted(internals.WatchedJournal):
        reads = 0

        def read(self):
            self.reads += 1
            super().read()

    journal = Counted(JournalFileBackend(str(tmp_path / "journal")))
    optuna.create_study(storage=journal).ask()
    before = journal.reads
    assert before > 1
    assert len(journal.get_all_trials(0)) == 1
    assert journal.reads > before


def test_a_database_creates_the_trial_of_a_number_once(tmp_path, internals):
    database = internals.NumberedDatabase(f"sqlite:///{tmp_path / 'trials.db'}")
    study = database.create_new_study([optuna.study.StudyDirection.MAXIMIZE], "s")
    assert database.count_trials(study) == 0
    first = database.create_new_trial(study)
    assert database.create_new_trial(study) == first
    database.number = 1
    assert database.create_new_trial(study) != first
    assert database.count_trials(study) == 2


def test_an_ended_trial_is_read_once(tmp_path, monkeypatch, internals):
    database = internals.NumberedDatabase(f"sqlite:///{tmp_path / 'trials.db'}")
    storage = internals.cached(database)
    study = optuna.create_study(storage=storage)
    study.add_trial(optuna.trial.create_trial(value=1.0))
    assert [trial.value for trial in storage.get_all_trials(1)] == [1.0]
    monkeypatch.setattr(database, "get_trial", None)
    assert storage.get_trial(internals.trial_id_of(study.trials[0])).value == 1.0


def test_the_hypervolume_of_two_boxes(internals):
    assert internals.hypervolume(np.array([[0.0, 1.0], [1.0, 0.0]]), [2.0, 2.0]) == pytest.approx(3.0)
