import pytest

from aiq_search.errors import StudyError
from aiq_search.search.driver import StudyDriver
from aiq_search.search.warm_start import learn_from
from aiq_search.study import Phase
from tests.search.simulation import finish, new_study, run

TPE = {"trials": 20, "sampler": {"name": "tpe", "n_startup_trials": 10}, "pruner": "asha"}


def test_a_warm_study_starts_where_the_earlier_one_was(tmp_path):
    earlier = new_study(tmp_path, "earlier", search={**TPE, "trials": 40})
    finish(earlier)
    cold, warm = (new_study(tmp_path, name, search={**TPE, "seed": 5}) for name in ("cold", "warm"))
    copied = learn_from(warm, earlier)
    assert copied == 40
    finish(cold)
    finish(warm)

    def first(study):
        return [r.history["aiq"][0] for r in study.records(Phase.EXPLORE)[:10]]

    assert sum(first(warm)) > sum(first(cold))


def test_copied_trials_are_no_part_of_the_study(tmp_path):
    earlier, study = new_study(tmp_path, "earlier", search=TPE), new_study(tmp_path, "warm", search=TPE)
    finish(earlier)
    learn_from(study, earlier)
    driver = StudyDriver(study)
    driver.begin()
    explored = [key for key in run(driver) if key.phase is Phase.EXPLORE]
    assert [key.number for key in explored] == list(range(20, 40))
    assert len(study.records(Phase.EXPLORE)) == 20
    assert study.champion().trial >= 20


def test_another_question_is_refused_with_the_difference(tmp_path):
    earlier = new_study(tmp_path, "earlier", training={"epochs": 3})
    with pytest.raises(StudyError, match="it differs in training"):
        learn_from(new_study(tmp_path, "warm"), earlier)
