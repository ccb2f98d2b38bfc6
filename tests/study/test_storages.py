"""A study is the same in every storage: a journal, SQLite, PostgreSQL."""

from __future__ import annotations

import math
import uuid

import optuna
import pytest
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import TrialState as OptunaState

from aiq_search.errors import StudyError
from aiq_search.search.driver import StudyDriver
from aiq_search.study import Phase, Study, TrialState, clear_unborn
from aiq_search.study.record import BEGIN
from aiq_search.study.storage import open_journal, open_storage
from aiq_search.worker import Report
from tests.search.simulation import DATASET, finish, run, simulated_space

SMALL = {
    "search": {"trials": 4},
    "training": {"epochs": 2},
    "confirm": {"finalists": 1, "seeds": 1},
}  # and so two confirmations: the finalist's seed, and a further one of the champion's


def facts(study):
    return [(r.key.phase, r.key.number, r.params, r.seed, r.value, r.state) for r in study.records()]


class StorageConformance:
    """What a study relies on; a subclass says where the trials are kept."""

    @pytest.fixture
    def url(self, tmp_path):
        """The database's address; None for a journal."""
        raise NotImplementedError

    @pytest.fixture
    def storage(self, url):
        """An empty place for Optuna's studies."""
        return open_storage(url)

    @pytest.fixture
    def create(self, tmp_path, url):
        """Creates a study under a name of its own."""
        name = uuid.uuid4().hex

        def create(home="home", suffix="", **edits):
            space = simulated_space(**{**SMALL, **edits})
            return Study.create(tmp_path / home, space, DATASET, name + suffix, trials_url=url)

        return create

    # ---- Optuna's contract -----------------------------------------------------------------------

    @pytest.fixture
    def study_id(self, storage):
        return storage.create_new_study([StudyDirection.MAXIMIZE], uuid.uuid4().hex)

    def test_a_name_is_taken_once(self, storage, study_id):
        name = storage.get_study_name_from_id(study_id)
        assert storage.get_study_id_from_name(name) == study_id
        with pytest.raises(DuplicatedStudyError):
            storage.create_new_study([StudyDirection.MAXIMIZE], name)

    def test_what_is_not_there_is_a_key_error(self, storage, study_id):
        with pytest.raises(KeyError):
            storage.get_study_id_from_name("nobody")
        for get in (storage.get_trial, storage.get_study_user_attrs, storage.delete_study):
            with pytest.raises(KeyError):
                get(10**6)
        with pytest.raises(KeyError):
            storage.get_trial_id_from_study_id_trial_number(study_id, 0)

    def test_a_deleted_study_is_gone_with_its_trials(self, storage, study_id):
        trial = storage.create_new_trial(study_id)
        storage.delete_study(study_id)
        assert study_id not in {study._study_id for study in storage.get_all_studies()}
        with pytest.raises(KeyError):
            storage.get_trial(trial)

    def test_attributes_are_json_and_the_last_one_counts(self, storage, study_id):
        trial = storage.create_new_trial(study_id)
        for value in ({"a": [1, None, "b"]}, [True]):
            storage.set_study_user_attr(study_id, "mine", value)
            storage.set_study_system_attr(study_id, "mine", value)
            storage.set_trial_user_attr(trial, "mine", value)
            storage.set_trial_system_attr(trial, "mine", value)
        assert storage.get_study_user_attrs(study_id) == {"mine": [True]}
        assert storage.get_study_system_attrs(study_id)["mine"] == [True]
        assert storage.get_trial(trial).user_attrs == {"mine": [True]}
        assert storage.get_trial(trial).system_attrs == {"mine": [True]}

    def test_trials_are_numbered_from_zero(self, storage, study_id):
        ids = [storage.create_new_trial(study_id) for _ in range(3)]
        assert [storage.get_trial_number_from_id(trial) for trial in ids] == [0, 1, 2]
        assert [storage.get_trial_id_from_study_id_trial_number(study_id, n) for n in range(3)] == ids
        assert storage.get_n_trials(study_id) == 3

    def test_a_template_is_taken_as_it_is(self, storage, study_id):
        template = optuna.trial.create_trial(
            params={"width": 3},
            distributions={"width": optuna.distributions.IntDistribution(1, 9)},
            value=0.5,
            user_attrs={"mine": 1},
            intermediate_values={1: 0.25},
        )
        made = storage.get_trial(storage.create_new_trial(study_id, template))
        assert (made.params, made.value, made.user_attrs) == ({"width": 3}, 0.5, {"mine": 1})
        assert made.intermediate_values == {1: 0.25}

    def test_only_a_waiting_trial_can_be_set_running_and_only_once(self, storage, study_id):
        waiting = storage.create_new_trial(study_id, optuna.trial.create_trial(state=OptunaState.WAITING))
        assert storage.set_trial_state_values(waiting, OptunaState.RUNNING)
        assert not storage.set_trial_state_values(waiting, OptunaState.RUNNING)

    def test_an_ended_trial_cannot_be_changed(self, storage, study_id):
        trial = storage.create_new_trial(study_id)
        assert storage.set_trial_state_values(trial, OptunaState.COMPLETE, [1.0])
        with pytest.raises(UpdateFinishedTrialError):
            storage.set_trial_user_attr(trial, "mine", 1)
        with pytest.raises(UpdateFinishedTrialError):
            storage.set_trial_state_values(trial, OptunaState.FAIL)
        assert storage.get_trial(trial).value == 1.0

    def test_trials_can_be_read_by_their_state(self, storage, study_id):
        running, complete = (storage.create_new_trial(study_id) for _ in range(2))
        storage.set_trial_state_values(complete, OptunaState.COMPLETE, [1.0])
        [trial] = storage.get_all_trials(study_id, deepcopy=False, states=(OptunaState.RUNNING,))
        assert trial.number == storage.get_trial_number_from_id(running)
        assert storage.get_best_trial(study_id).number == storage.get_trial_number_from_id(complete)

    @pytest.mark.parametrize("value", [0.1, -1e300, 5e-324, math.inf])
    def test_numbers_come_back_bit_for_bit(self, storage, study_id, value):
        trial = storage.create_new_trial(study_id)
        storage.set_trial_intermediate_value(trial, 1, value)
        storage.set_trial_state_values(trial, OptunaState.COMPLETE, [value])
        assert storage.get_trial(trial).value == value
        assert storage.get_trial(trial).intermediate_values == {1: value}

    # ---- a study's own ---------------------------------------------------------------------------

    def test_a_search_ends_as_in_a_journal(self, create, tmp_path):
        edits = {"search": {"trials": 6, "sampler": "tpe", "pruner": "asha"}}
        study = create(**edits)
        plain = Study.create(tmp_path / "plain", simulated_space(**{**SMALL, **edits}), DATASET, "plain")
        champion, expected = finish(study), finish(plain)
        assert facts(study) == facts(plain)
        assert champion.document() | {"study": ""} == expected.document() | {"study": ""}

    def test_it_continues_where_a_kill_left_it(self, create):
        study = create()
        driver = StudyDriver(study)
        driver.begin()
        run(driver, stop_after=9)
        begun = [record.key for record in study.refreshed().records()]
        finish(study.refreshed())
        records = study.refreshed().records()
        assert [record.key for record in records][: len(begun)] == begun
        assert {record.state for record in records} == {TrialState.COMPLETE}
        assert len(records) == 6

    def test_whoever_looks_sees_what_a_driver_writes(self, create):
        study = create()
        looking = study.refreshed()
        assert looking.records() == []
        finish(study)
        assert len(looking.records()) == len(study.records()) == 6
        assert looking.finalists == study.finalists != []

    def test_failed_trials_are_queued_once(self, create):
        study = create(search={"trials": 3}, confirm={"finalists": 0})
        finish(study, change=lambda a, e, r: Report(done=True, reason="bad") if a.key.endswith("1") else r)
        assert study.refreshed().queue_failed() == 1
        assert study.refreshed().queue_failed() == 1
        waiting = [t for t in study.refreshed().load(Phase.EXPLORE).trials if t.state is OptunaState.WAITING]
        assert [trial.user_attrs[BEGIN]["retry_of"] for trial in waiting] == [1]

    def test_an_id_is_taken_once(self, create):
        create()
        with pytest.raises(StudyError, match=r"exists already.* continue it with `aiq resume"):
            create()

    def test_one_driver_holds_it(self, create):
        study = create()
        with study.held(), pytest.raises(StudyError, match="another driver"), study.refreshed().held():
            pass

    def test_it_is_deleted_alone(self, create):
        study, other = create(), create(suffix="-other")
        with study.held():
            study.delete()
        assert not study.directory.exists()
        assert other.refreshed().records() == []
        create()  # its name is free again

    def test_what_a_driver_left_that_died_creating_it_is_cleared(self, create, url):
        study = create()
        (study.directory / "study.json").unlink()
        clear_unborn(study.home, study.id, url)
        create()


class TestJournal(StorageConformance):
    @pytest.fixture
    def url(self):
        return None

    @pytest.fixture
    def storage(self, tmp_path):
        (tmp_path / "study.journal").touch()
        return open_journal(tmp_path / "study.journal")

    def test_what_is_not_there_is_a_key_error(self, storage, study_id):
        """Deviates: to delete an unknown study is taken for damage. The product deletes in databases only."""
        with pytest.raises(KeyError):
            storage.get_trial(10**6)
        with pytest.raises(KeyError):
            storage.get_trial_id_from_study_id_trial_number(study_id, 0)

    def test_a_deleted_study_is_gone_with_its_trials(self, storage, study_id):
        """Deviates: Optuna keeps the trials in the journal. The product deletes the folder."""
        storage.delete_study(study_id)
        assert storage.get_all_studies() == []


class DatabaseConformance(StorageConformance):
    """What a database does besides: other machines reach the study."""

    def test_an_id_is_taken_on_every_machine(self, create):
        create()
        with pytest.raises(StudyError, match=r"exists already in the database.*`aiq resume"):
            create(home="another")

    def test_another_machine_takes_it_over_by_its_id(self, create, url, tmp_path):
        study = create()
        finish(study)
        taken = Study.fetch(tmp_path / "another", study.id, url)
        assert taken.document == study.document
        assert facts(taken) == facts(study)
        assert Study.open(study.id, tmp_path / "another").document.trials_url == url

    def test_the_address_is_not_in_the_database(self, create, url):
        study = create()
        attributes = study.storage.get_study_user_attrs(study.storage.get_study_id_from_name(study.id))
        assert attributes["aiq.study"]["fingerprint"] == study.document.fingerprint
        assert url not in str(attributes)

    @pytest.mark.parametrize("name", ["digits", "../shared"])
    def test_a_study_that_the_database_does_not_have_is_one_sentence(self, url, tmp_path, name):
        with pytest.raises(StudyError) as refused:
            Study.fetch(tmp_path / "new", name, url)
        assert "\n" not in str(refused.value)
        assert not (tmp_path / "new").exists()

    def test_a_study_with_trials_is_never_cleared(self, create, url):
        study = create()
        finish(study)
        with pytest.raises(StudyError, match="has trials in the study database"):
            clear_unborn(study.home, study.id, url)
        assert len(study.refreshed().records()) == 6


class TestSqlite(DatabaseConformance):
    @pytest.fixture
    def url(self, tmp_path):
        return f"sqlite:///{tmp_path / 'trials.db'}"


@pytest.mark.slow
class TestPostgresql(DatabaseConformance):
    @pytest.fixture
    def url(self, server):
        return server.get_uri()

    def test_a_copy_of_the_folder_cannot_be_run_beside_it(self, create, tmp_path):
        """Deviates from SQLite, which has no lock that outlives a file system without locks."""
        import shutil

        study = create()
        shutil.copytree(study.directory, tmp_path / "there" / "studies" / study.id)
        copy = Study.open(study.id, tmp_path / "there")
        with study.held(), pytest.raises(StudyError, match="another driver"), copy.held():
            pass
