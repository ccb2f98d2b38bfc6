"""Trials that are stopped within their first epoch."""

import itertools
from dataclasses import replace

import pytest

from aiq_search.datasets import DatasetOptions, load_dataset
from aiq_search.errors import InputError
from aiq_search.report.page import write_report
from aiq_search.search.driver import StudyDriver
from aiq_search.search.rungs import Rungs, stopped_share
from aiq_search.search.runners.in_process import InProcessRunner
from aiq_search.space import load_space
from aiq_search.study import Phase, RungReached, Study, TrialEnded, TrialState
from aiq_search.training import TrainingOptions
from aiq_search.worker.worker import TrialWorker
from tests.search.reports import rung_report_of
from tests.search.simulation import DATASET, Recorder, finish, run, simulated_space

SHARES = (0.125, 0.25, 0.5)


def long_study(home, study_id="study", train=50_000, **edits):
    """A study whose epochs are long enough for rungs."""
    search = {"trials": 24, "sampler": "tpe", "pruner": "asha", **edits.pop("search", {})}
    space = simulated_space(search=search, **edits)
    return Study.create(home, space, DATASET | {"train": train}, study_id)


def explored(study):
    return study.records(Phase.EXPLORE)


def stopped_early(study):
    return [r for r in explored(study) if r.state is TrialState.PRUNED and not r.epochs]


def outcomes(study):
    return [
        (r.state, r.params, r.epochs, r.value, r.reason, [dict(rung) for rung in r.rungs])
        for r in study.records()
    ]


def rungs_of(*, objective="aiq", pruner="asha", samples=50_000):
    return Rungs(simulated_space(search={"pruner": pruner}, objective={"maximize": objective}), samples)


def metrics(aiq):
    return {"aiq": aiq, "accuracy": aiq, "efficiency": 0.5, "loss": 1 - aiq}


def test_only_long_epochs_have_rungs():
    options = TrainingOptions(batch_size=200)
    assert rungs_of().of(options) == SHARES
    assert rungs_of(samples=10_000).of(options) == ()
    assert rungs_of().of(TrainingOptions(batch_size=2000)) == ()
    assert rungs_of(pruner="none").of(options) == ()
    assert rungs_of(pruner="pareto").of(options) == ()
    assert rungs_of(pruner={"name": "asha", "rungs": []}).of(options) == ()
    assert rungs_of(pruner={"name": "median", "rungs": [0.5]}).of(options) == (0.5,)


def test_an_early_rung_stops_few_and_a_later_one_more():
    values = [0.5 + 0.01 * ((7 * i) % 30) for i in range(30)]
    stopped = {}
    for share in SHARES:
        rungs = rungs_of()
        stopped[share] = sum(rungs.stops(number, share, metrics(v)) for number, v in enumerate(values))
    assert 0 < stopped[0.125] < stopped[0.25] < stopped[0.5] < 30 / 2
    assert all(number <= stopped_share(share) * 30 + 1 for share, number in stopped.items())


def test_who_was_stopped_before_counts_as_worse():
    rungs = rungs_of()
    values = [0.5 + 0.01 * ((7 * i) % 30) for i in range(30)]
    first = [n for n, value in enumerate(values) if not rungs.stops(n, 0.125, metrics(value))]
    both = [n for n in first if not rungs.stops(n, 0.5, metrics(values[n]))]
    alone = rungs_of()
    second = [n for n, value in enumerate(values) if not alone.stops(n, 0.5, metrics(value))]
    assert len(first) < 30
    assert set(second) - set(both) <= {n for n in range(30) if n not in first}
    assert len(both) >= 30 / 2


def test_the_best_is_never_stopped_and_a_collapsed_network_is_the_worst():
    rungs = rungs_of()
    for number in range(12):
        assert not rungs.stops(number, 0.5, metrics(0.5 + number / 100))
    assert rungs.stops(12, 0.5, metrics(0.99) | {"efficiency": 0.0})


def test_less_loss_is_better():
    rungs = Rungs(simulated_space(search={"pruner": "asha"}, objective={"minimize": "loss"}), 50_000)
    for number in range(12):
        assert not rungs.stops(number, 0.5, metrics(0.5 + number / 100))
    assert rungs.stops(12, 0.5, metrics(0.1))


def test_hopeless_trials_cost_no_epoch_and_the_champion_is_the_same(tmp_path):
    study, heard = long_study(tmp_path), Recorder()
    champion = finish(study, [heard])
    without = long_study(tmp_path, "without", search={"pruner": {"name": "asha", "rungs": []}})
    assert champion.record.params == finish(without).record.params
    assert 4 < len(stopped_early(study)) < 24 / 2
    assert not stopped_early(without)
    assert all(not r.rungs for r in study.records(Phase.CONFIRM))
    assert sum(r.epochs for r in explored(study)) < sum(r.epochs for r in explored(without))
    for record in stopped_early(study):
        assert (record.value, record.metrics, record.history, record.feasible) == (None, {}, {}, None)
        assert record.rungs
        assert "of its first epoch" in record.reason
        trial = study.load(Phase.EXPLORE).trials[record.key.number]
        assert trial.intermediate_values == {0: pytest.approx(record.rungs[-1]["aiq"])}
    ended = {event.key: event for event in heard.of(TrialEnded)}
    for record in explored(study):
        told = [event for event in heard.of(RungReached) if event.key == record.key]
        assert [e.samples for e in told] == [rung["samples"] for rung in record.rungs]
        assert all(e.time <= ended[e.key].time for e in told)


def test_halving_lets_as_many_pass_as_without_rungs(tmp_path):
    """Those stopped within the epoch count among those that halving compares."""
    finish(study := long_study(tmp_path, search={"trials": 40, "sampler": "random"}))
    passed = [record for record in explored(study) if record.epochs > 1]
    assert 40 / 3 - 3 <= len(passed) <= 40 / 3 + 6


def test_a_duplicate_gets_the_result_of_a_trial_stopped_early(tmp_path):
    study = long_study(tmp_path, search={"trials": 12})
    finish(study)
    source = stopped_early(study)[0]
    again = study.extended(13)
    with again.held():
        again.reopen("sqlite:///mlflow.db")
        again.load(Phase.EXPLORE).enqueue_trial(study.space.encode(source.params))
        finish(again)
    copy = explored(again)[12]
    assert (copy.state, copy.epochs, copy.value) == (TrialState.PRUNED, 0, None)
    assert copy.copied_from == source.key.number


@pytest.mark.parametrize("stop_after", [1, 2, 3, 7, 15, 19, 24, 40])
def test_a_killed_driver_changes_nothing(tmp_path, stop_after):
    whole = long_study(tmp_path, "whole")
    finish(whole)
    killed = long_study(tmp_path, "killed")
    driver = StudyDriver(killed)
    driver.begin()
    run(driver, stop_after=stop_after)
    finish(killed)
    assert outcomes(killed) == outcomes(whole)


def test_a_decision_that_was_not_made_is_made_by_the_next_driver(tmp_path):
    """A driver may die between writing a rung down and deciding."""
    study = long_study(tmp_path, search={"sampler": "random"})
    driver = StudyDriver(study)
    driver.begin()
    assignments = [driver.next_assignment() for _ in range(6)]
    keys = list(driver._trials.running)
    reports = [rung_report_of(a, 0.5) for a in assignments]

    def showing(aiq, report):
        return replace(report, rung=replace(report.rung, metrics={**report.rung.metrics, "aiq": aiq}))

    for index in range(5):
        assert driver.report(keys[index], showing(0.5 + index / 100, reports[index]))
    driver._trials._rungs.stops = lambda *_: False
    assert driver.report(keys[5], showing(0.1, reports[5]))
    again = StudyDriver(study)
    again.begin()
    again.next_assignment()
    for _ in range(5):
        again.next_assignment()
    assert not again.report(keys[5], showing(0.1, reports[5]))
    assert study.records(Phase.EXPLORE)[5].state is TrialState.PRUNED


@pytest.mark.parametrize("rungs", [[0.5, 0.25], [0], [1], [0.25, 0.25], [-1], "half"])
def test_rungs_are_shares_of_an_epoch_in_order(rungs):
    document = simulated_space().document()
    document["search"]["pruner"] = {"name": "asha", "rungs": rungs}
    with pytest.raises(InputError, match=r"search\.pruner\.rungs"):
        load_space(document)


def test_the_default_rungs_are_no_part_of_a_fingerprint_and_others_are():
    def fingerprint(pruner):
        return simulated_space(search={"pruner": pruner}).fingerprint

    assert fingerprint("asha") == fingerprint({"name": "asha", "rungs": list(SHARES)})
    assert fingerprint("asha") != fingerprint({"name": "asha", "rungs": []})
    assert "rungs" not in simulated_space().fingerprinted["search"]["pruner"]


def test_trials_stopped_early_are_counted_in_the_report(tmp_path):
    study = long_study(tmp_path)
    finish(study)
    page = write_report(study, tmp_path / "report.html").read_text()
    pruned = sum(record.state is TrialState.PRUNED for record in explored(study))
    assert f"{pruned} stopped early" in page


def really_trained(home, name, digits, *, put_aside_after=()):
    """A search whose networks are trained in this process, put aside after so many reports and resumed."""
    edits = ["search.trials=12", "search.pruner=asha", "training.epochs=2", "confirm.runs=0"]
    study = Study.create(home, load_space("search_spaces/digits.yaml", edits), digits.description(), name)
    for stop in (*put_aside_after, None):
        driver, reports = StudyDriver(study), itertools.count(1)

        def report(key, content, driver=driver, take=driver.report, reports=reports, stop=stop):
            continues = take(key, content)
            driver.draining = next(reports) == stop
            return continues

        driver.report = report
        driver.begin()
        InProcessRunner(lambda: TrialWorker(digits)).run(driver)
        driver.end()
    return study


def test_trials_put_aside_within_their_first_epoch_end_as_if_nothing_had_happened(tmp_path, monkeypatch):
    digits = load_dataset(DatasetOptions(name="digits", validation=360, test=360))
    monkeypatch.setattr("aiq_search.search.rungs._MIN_SAMPLES", 1000)
    monkeypatch.setattr("aiq_search.search.rungs._MIN_BATCHES", 10)
    whole = really_trained(tmp_path, "whole", digits)
    assert stopped_early(whole)
    parted = really_trained(tmp_path, "parted", digits, put_aside_after=(1, 2, 3, 5, 7, 11))
    assert outcomes(parted) == outcomes(whole)
