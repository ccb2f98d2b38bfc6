"""A study looks the same from its folder and from MLflow."""

from __future__ import annotations

import pytest

from aiq_search.study import Phase, Study, StudyView, TrialState, front_of
from aiq_search.study.ended import end_of
from aiq_search.worker import Report
from tests.search.simulation import finish, new_study


class StudyViewConformance:
    """What everyone who looks at a study relies on; a subclass says from where ``view`` is read."""

    @pytest.fixture
    def view(self) -> StudyView:
        raise NotImplementedError

    def test_id_and_document(self, view, study):
        assert view.id == study.id
        assert view.document == study.document

    def test_the_space_is_that_of_the_document(self, view, study):
        assert view.space == study.space
        assert view.space.fingerprint == view.document.fingerprint

    def test_a_study_that_has_ended_does_not_run(self, view):
        assert not view.is_running
        assert view.document.ended == "finished"

    def test_exploring_trials_come_before_confirmations_in_the_order_of_their_numbers(self, view, study):
        keys = [record.key for record in view.records()]
        assert keys == [record.key for record in study.records()]
        order = [(list(Phase).index(key.phase), key.number) for key in keys]
        assert order == sorted(order)
        assert {key.phase for key in keys} == {Phase.EXPLORE, Phase.CONFIRM}

    @pytest.mark.parametrize("phase", list(Phase))
    def test_one_phase_can_be_read(self, view, phase):
        assert view.records(phase) == [record for record in view.records() if record.key.phase is phase]

    @pytest.mark.parametrize(
        "field",
        [
            *("key", "name", "state", "params", "seed", "config_hash", "origin", "replicate", "retry_of"),
            *("value", "epoch", "epochs", "collapsed", "feasible", "finished"),
        ],
    )
    def test_a_record_has_this_field(self, view, study, field):
        ours = {record.name: getattr(record, field) for record in study.records()}
        assert {record.name: getattr(record, field) for record in view.records()} == ours

    def test_trials_of_every_final_state_are_among_them(self, view):
        states = {record.state for record in view.records()}
        assert states == {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL}

    def test_parameters_have_the_types_of_the_space(self, view, study):
        def types(of):
            return [{name: type(value) for name, value in r.params.items()} for r in of.records()]

        assert types(view) == types(study)

    def test_metrics_and_history_are_those_of_the_study(self, view, study):
        for ours, theirs in zip(study.records(), view.records(), strict=True):
            assert dict(theirs.metrics) == dict(ours.metrics)
            assert {name: list(theirs.history[name]) for name in theirs.history} == dict(ours.history)

    def test_times_are_known_to_the_millisecond(self, view, study):
        for ours, theirs in zip(study.records(), view.records(), strict=True):
            assert theirs.started == pytest.approx(ours.started, abs=1e-3)
            assert theirs.ended == pytest.approx(ours.ended, abs=1e-3)

    def test_finalists_and_champion(self, view, study):
        assert view.finalists == study.finalists != []
        assert view.champion().document() == study.champion().document()

    def test_the_pareto_front(self, view, study):
        assert front_of(view).document() == front_of(study).document()

    def test_the_end_can_be_made_from_it(self, view, study):
        ours, theirs = end_of(study), end_of(view)
        assert (theirs.reason, theirs.counts, theirs.finalists) == (ours.reason, ours.counts, ours.finalists)

    def test_a_second_look_shows_the_same(self, view, study):
        again = view.refreshed()
        assert type(again) is type(view)
        assert again.document == study.document
        assert [record.key for record in again.records()] == [record.key for record in study.records()]


def one_fails(assignment, epoch, report):
    failed = assignment.key.endswith("explore/3")
    return Report(done=True, reason="ValueError: a bug", traceback="…") if failed else report


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A finished study with complete, pruned and failed trials, and parameters of each type."""
    parameters = {
        "model.hidden1": {"type": "int", "low": 2, "high": 64, "log": True},
        "model.hidden2": {"type": "int", "low": 2, "high": 64, "log": True},
        "model.dropout": {"type": "float", "low": 0.0, "high": 0.5},
        "model.batch_norm": {"type": "categorical", "choices": [False, True]},
        "model.activation": {"type": "categorical", "choices": ["relu", "elu"]},
    }
    study = new_study(
        tmp_path_factory.mktemp("home"),
        "looked-at",
        parameters=parameters,
        search={"trials": 12, "sampler": "random", "pruner": "asha"},
    )
    finish(study, change=one_fails)
    study.mark_ended("finished")
    return study.refreshed()


class TestFromItsFolder(StudyViewConformance):
    @pytest.fixture
    def view(self, study):
        return Study.open(study.id, study.home)


@pytest.fixture(scope="module")
def in_mlflow(study, tmp_path_factory):
    """The study as a real delivery brought it into a real store."""
    from aiq_search.tracking import MlflowListener, reconcile
    from aiq_search.tracking.reading import find_study

    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
    listener = MlflowListener(study.directory, uri)
    reconcile(study, listener)
    listener.on_event(end_of(study))
    assert not listener.close(120, 240)
    return find_study(study.id, uri)


class TestFromMlflow(StudyViewConformance):
    @pytest.fixture
    def view(self, in_mlflow):
        assert in_mlflow is not None
        return in_mlflow
