"""The reference network: the most accurate one, trained on the champion's seeds."""

from dataclasses import replace

import pytest

from aiq_search.search.driver import StudyDriver
from aiq_search.search.reference import PROPOSALS, most_trainings
from aiq_search.study import Phase, PhaseStarted, StudyEnded, TrialStarted, TrialState
from aiq_search.study.reference import comparison_of, find_reference
from aiq_search.worker import Report
from tests.search.simulation import Recorder, finish, new_study, run, simulated_space

RACE = {"finalists": None, "runs": 6, "seeds": 4, "reference": True}


def wide_is_accurate(assignment, epoch, report):
    """A landscape in which the most accurate networks are the wide ones, and others have the best aIQ."""
    widths = assignment.architecture["arguments"]
    ((number, metrics),) = report.epochs
    accuracy = 1 - 0.5 / (widths["hidden1"] + widths["hidden2"]) + 1e-6 * (assignment.seed % 7)
    metrics = metrics | {"accuracy": accuracy}
    test = report.final and report.final | {"test/accuracy": accuracy}
    return replace(report, epochs=((number, metrics),), final=test)


def proposed(study):
    return [r for r in study.records(Phase.REFERENCE) if r.replicate is None]


def seeds(study):
    return [r for r in study.records(Phase.REFERENCE) if r.replicate is not None]


@pytest.mark.parametrize("confirm", [RACE, {"finalists": 2, "seeds": 4, "reference": True}])
def test_the_most_accurate_network_is_trained_on_the_champions_seeds(tmp_path, confirm):
    study, heard = new_study(tmp_path, confirm=confirm), Recorder()
    champion = finish(study, [heard], change=wide_is_accurate)
    assert [record.state for record in proposed(study)] == [TrialState.COMPLETE] * PROPOSALS
    reference = find_reference(study.records(Phase.EXPLORE), study.records(Phase.REFERENCE))
    comparison = comparison_of(study)
    assert comparison.reference == reference
    assert comparison.confirmed
    assert {r.seed: r.replicate for r in seeds(study)}.items() <= {
        r.seed: r.replicate for r in champion.further
    }.items()
    assert {r.config_hash for r in seeds(study)} == {reference.config_hash}
    assert all("test/accuracy" in r.metrics for r in seeds(study))
    assert not any("test/accuracy" in r.metrics for r in proposed(study))
    lost = [
        100 * (theirs.metrics["test/accuracy"] - ours.metrics["test/accuracy"])
        for ours, theirs in zip(champion.further, seeds(study), strict=False)
    ]
    assert comparison.points.mean == pytest.approx(sum(lost) / len(lost))
    assert comparison.points.mean > 0
    assert heard.of(StudyEnded)[0].comparison == comparison.document()


def test_the_champion_is_chosen_before_the_reference_network_is_trained(tmp_path):
    study, heard = new_study(tmp_path, confirm=RACE), Recorder()
    chosen = []

    class Chosen:
        def on_event(self, event):
            if isinstance(event, PhaseStarted) and event.phase is Phase.REFERENCE and not chosen:
                chosen.append(study.champion())

    champion = finish(study, [heard, Chosen()], concurrency=2, change=wide_is_accurate)
    assert chosen == [champion]
    order = [event.key.phase for event in heard.of(TrialStarted)]
    assert order == sorted(order, key=list(Phase).index)


def test_it_takes_no_more_than_exploring_but_for_two_seeds(tmp_path):
    study = new_study(tmp_path, confirm={**RACE, "seeds": 40}, search={"trials": 12})
    finish(study, change=wide_is_accurate)
    explored = sum(r.epochs * (r.metrics["macs"] + 64 * 64) for r in study.records(Phase.EXPLORE))
    referenced = sum(r.epochs * (r.metrics["macs"] + 64 * 64) for r in study.records(Phase.REFERENCE))
    assert 2 <= len(seeds(study)) < 40
    assert referenced <= explored


def test_a_network_as_dear_as_all_exploring_has_two_seeds_and_no_proposals(tmp_path):
    study = new_study(tmp_path, confirm=RACE, search={"trials": 2})
    finish(study, change=wide_is_accurate)
    assert len(proposed(study)) == 0
    assert len(seeds(study)) == 2


@pytest.mark.parametrize(
    ("edits", "proposals", "trained"),
    [
        ({"confirm": {**RACE, "reference": False}}, 0, False),
        ({"confirm": {**RACE, "runs": 0}}, 0, False),
        ({"confirm": RACE, "objective": {"maximize": "accuracy"}}, 0, False),
        ({"confirm": RACE, "objective": {"maximize": ["accuracy", "efficiency"]}}, 0, True),
        ({"confirm": RACE, "objective": {"minimize": "parameters"}}, PROPOSALS, True),
    ],
)
def test_what_is_trained_depends_on_what_the_search_maximises(tmp_path, edits, proposals, trained):
    study = new_study(tmp_path, **edits)
    finish(study, change=wide_is_accurate)
    assert len(proposed(study)) == proposals
    assert bool(seeds(study)) is trained
    assert len(study.records(Phase.REFERENCE)) <= most_trainings(simulated_space(**edits))


def test_a_champion_that_is_the_most_accurate_itself_is_not_trained_again(tmp_path):
    def accurate(assignment, epoch, report):
        ((number, metrics),) = report.epochs
        best = assignment.architecture["arguments"] == best_arguments
        return replace(report, epochs=((number, metrics | {"accuracy": 0.99 if best else 0.5}),))

    best_arguments = None
    first = new_study(tmp_path, "first", confirm=RACE)
    champion = finish(first)
    best_arguments = {name.partition(".")[2]: value for name, value in champion.params.items()}
    study = new_study(tmp_path, "second", confirm=RACE)
    finish(study, change=accurate)
    assert len(proposed(study)) == PROPOSALS
    assert seeds(study) == []
    assert comparison_of(study) is None


@pytest.mark.parametrize("stop_after", [1, 3, 17, 20, 30])
def test_an_interrupted_phase_continues_where_it_was(tmp_path, stop_after):
    whole, broken = (new_study(tmp_path, name, confirm=RACE) for name in ("whole", "broken"))
    finish(whole, change=wide_is_accurate)
    before = sum(r.epochs for phase in (Phase.EXPLORE, Phase.CONFIRM) for r in whole.records(phase))
    driver = StudyDriver(broken)
    driver.begin()
    run(driver, change=wide_is_accurate, stop_after=before + stop_after)
    finish(broken, change=wide_is_accurate)
    for one, two in zip(whole.records(), broken.records(), strict=True):
        assert (one.params, one.seed, one.metrics) == (two.params, two.seed, two.metrics)


def test_more_trials_may_find_another_reference_network(tmp_path):
    study = new_study(tmp_path, confirm=RACE, search={"trials": 6})
    finish(study, change=wide_is_accurate)
    earlier = len(proposed(study))
    more = study.extended(12)
    with more.held():
        more.reopen("sqlite:///mlflow.db")
        finish(more, change=wide_is_accurate)
    assert len(proposed(more)) == earlier
    reference = comparison_of(more)
    assert reference.confirmed
    assert len({(r.config_hash, r.replicate) for r in seeds(more)}) == len(seeds(more))


def test_a_proposal_that_fails_leaves_the_others(tmp_path):
    def failing(assignment, epoch, report):
        report = wide_is_accurate(assignment, epoch, report)
        if "/reference/0" in assignment.key:
            return Report(done=True, reason="a bug")
        return report

    study = new_study(tmp_path, confirm=RACE)
    champion = finish(study, change=failing)
    assert [r.state for r in proposed(study)].count(TrialState.FAIL) == 1
    assert comparison_of(study).confirmed
    assert champion is not None


def test_announced_counts_are_those_that_are_trained(tmp_path):
    study, heard = new_study(tmp_path, confirm=RACE), Recorder()
    finish(study, [heard], concurrency=2, change=wide_is_accurate)
    for phase in Phase:
        announced = [event.total for event in heard.of(PhaseStarted) if event.phase is phase]
        assert announced[-1] == len(study.records(phase))
