"""What every runner promises, tried on each: in this process, and on Ray."""

from __future__ import annotations

import errno
import threading
import time
from collections import Counter

import pytest

from aiq_search.search.driver import StudyDriver
from aiq_search.search.runners import in_process, ray_watch
from aiq_search.search.runners.in_process import InProcessRunner
from aiq_search.search.runners.ray_tune import RayRunner
from aiq_search.study import EpochEnded, Phase, Study, TrialEnded, TrialStarted, TrialState
from tests.search.faulty_worker import making
from tests.search.simulation import Recorder, finish, new_study


class Drain:
    """Drains a driver at its n-th epoch."""

    def __init__(self, epochs):
        self.driver = None
        self._epochs = epochs

    def on_event(self, event):
        if isinstance(event, EpochEnded):
            self._epochs -= 1
            self.driver.draining = self.driver.draining or self._epochs <= 0


def begun(study, *listeners):
    driver = StudyDriver(study, listeners)
    driver.begin()
    return driver


def facts(study):
    """What a study found out, whatever it went through."""
    return [(r.name, r.params, r.seed, r.state, r.epochs, r.value) for r in study.records()]


class RunnerTests:
    """What a runner promises. The fixture ``run`` runs a driver, with faults by exploring trial."""

    @pytest.fixture
    def run(self, tmp_path):
        raise NotImplementedError

    def test_a_study_runs_to_its_end_and_each_trial_once(self, run, tmp_path):
        whole = new_study(tmp_path, "whole", search={"trials": 6})
        finish(whole)
        study = new_study(tmp_path, search={"trials": 6})
        heard = Recorder()
        driver = begun(study, heard)
        run(driver)
        champion = driver.end()
        assert driver.finished
        assert facts(study) == facts(whole)
        assert champion.validation["aiq"].n == champion.test["aiq"].n == 2
        assert Counter(event.key for event in heard.of(TrialStarted)) == Counter(
            record.key for record in study.records()
        )

    def test_the_pruner_stops_trials(self, run, tmp_path):
        pruner = {"name": "asha", "reduction_factor": 2}
        study = new_study(
            tmp_path, search={"trials": 12, "sampler": "random", "pruner": pruner}, confirm={"finalists": 0}
        )
        driver = begun(study)
        run(driver)
        states = Counter(record.state for record in study.records())
        assert driver.finished
        assert states[TrialState.PRUNED] > 0
        assert states[TrialState.PRUNED] + states[TrialState.COMPLETE] == 12

    def test_a_failed_trial_has_the_reason_that_its_worker_reported(self, run, tmp_path):
        study = new_study(tmp_path, search={"trials": 4}, confirm={"finalists": 0})
        run(begun(study), {1: "diverge"})
        states = [record.state for record in study.records()]
        assert states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
        failed = study.record(Phase.EXPLORE, 1)
        assert (failed.reason, failed.traceback) == ("diverged: the loss is nan", "Traceback: …")
        assert failed.epochs == 1

    @pytest.mark.parametrize("fault", ["raise", "exit"])
    def test_a_trial_whose_worker_dies_is_continued_and_fails_in_the_end(self, run, tmp_path, fault):
        study = new_study(
            tmp_path, search={"trials": 3, "max_retries": 1, "max_failed": 1.0}, confirm={"finalists": 0}
        )
        heard = Recorder()
        run(begun(study, heard), {1: fault})
        assert [record.state for record in study.records()].count(TrialState.COMPLETE) == 2
        reason = study.record(Phase.EXPLORE, 1).reason
        assert reason.startswith("begun 2 times, and search.max_retries = 1: the worker died: ")
        assert "`aiq retry study` runs it again" in reason
        starts = [event.resumed for event in heard.of(TrialStarted) if event.key.number == 1]
        assert starts == [False, True]

    def test_a_worker_that_dies_once_costs_its_trial_nothing(self, run, tmp_path):
        whole = new_study(tmp_path, "whole", search={"trials": 3}, confirm={"finalists": 0})
        finish(whole)
        study = new_study(tmp_path, search={"trials": 3}, confirm={"finalists": 0})
        run(begun(study), {1: "raise once"})
        assert facts(study) == facts(whole)

    def test_an_epoch_that_hangs_ends_its_trial_alone(self, run, tmp_path, monkeypatch):
        for module in (in_process, ray_watch):
            monkeypatch.setattr(module, "GRACE_SECONDS", 1.0)
        study = new_study(
            tmp_path, search={"trials": 3, "trial_minutes": 0.02, "max_failed": 1.0}, confirm={"finalists": 0}
        )
        begin = time.monotonic()
        run(begun(study), {1: "hang"})
        assert time.monotonic() - begin < 240
        assert study.record(Phase.EXPLORE, 1).reason == (
            "took longer than search.trial_minutes = 0.02, in an epoch that hung"
        )
        assert [record.state for record in study.records()].count(TrialState.COMPLETE) == 2

    @pytest.mark.parametrize(
        ("fault", "sentence"),
        [
            ("full", "stopped: the disk of {} is full: free some space"),
            ("away", "stopped: the storage cannot be used ("),
        ],
    )
    def test_files_that_cannot_be_written_stop_the_study_and_keep_the_trial(
        self, run, tmp_path, fault, sentence
    ):
        study = new_study(tmp_path, search={"trials": 20}, confirm={"finalists": 0})
        driver = begun(study)
        run(driver, {1: fault})
        driver.end()
        assert driver.draining
        assert not driver.finished
        assert driver.message.startswith(sentence.format(study.files))
        assert driver.message.endswith("then continue with `aiq resume study`")
        assert study.record(Phase.EXPLORE, 1).state is TrialState.RUNNING
        assert all(record.state is not TrialState.FAIL for record in study.records())

    def test_a_drained_study_continues_from_what_was_put_aside(self, run, tmp_path):
        whole = new_study(tmp_path, "whole", search={"trials": 4}, confirm={"finalists": 0})
        finish(whole)
        study = new_study(tmp_path, search={"trials": 4}, confirm={"finalists": 0})
        drain, heard = Drain(3), Recorder()
        drain.driver = begun(study, drain)
        run(drain.driver)
        drain.driver.end()
        aside = [r for r in study.records() if study.checkpoint_path(r.key).is_file()]
        assert aside
        assert all(record.state is TrialState.RUNNING for record in aside)
        driver = begun(Study.open("study", tmp_path), heard)
        run(driver)
        assert driver.finished
        assert facts(study) == facts(whole)
        resumed = [event.key for event in heard.of(TrialStarted) if event.resumed]
        epochs = Counter(event.key for event in heard.of(EpochEnded))
        for record in aside:
            assert record.key in resumed
            assert epochs[record.key] == 4  # the worker reports those before the checkpoint, too

    def test_an_error_of_the_driver_reaches_the_caller_as_it_was_raised(self, run, tmp_path):
        class Full:
            def on_event(self, event):
                if isinstance(event, TrialEnded):
                    raise OSError(errno.ENOSPC, "No space left on device", "study.journal")

        with pytest.raises(OSError, match="No space left") as raised:
            run(begun(new_study(tmp_path), Full()))
        assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, "study.journal")


class TestInProcess(RunnerTests):
    @pytest.fixture
    def run(self, tmp_path):
        def run(driver, faults=None):
            InProcessRunner(making(faults or {}, tmp_path)).run(driver)

        return run

    def test_an_epoch_that_draining_does_not_wait_for_is_put_back(self, run, tmp_path, monkeypatch):
        monkeypatch.setattr(in_process, "DRAIN_SECONDS", 1.0)
        study = new_study(tmp_path, search={"trials": 3}, confirm={"finalists": 0})
        driver = begun(study)
        drain = threading.Timer(1.0, setattr, (driver, "draining", True))
        drain.start()
        begin = time.monotonic()
        run(driver, {0: "hang"})
        assert time.monotonic() - begin < 20
        assert study.record(Phase.EXPLORE, 0).state is TrialState.RUNNING
        assert driver.message is None

    def test_the_timer_of_others_is_theirs_again(self, run, tmp_path):
        import signal

        rang = []
        before = signal.signal(signal.SIGALRM, lambda *_: rang.append(1))
        outer = signal.setitimer(signal.ITIMER_REAL, 0.3)
        try:
            run(begun(new_study(tmp_path, search={"trials": 2}, confirm={"finalists": 0})))
            time.sleep(0.4)
        finally:
            signal.signal(signal.SIGALRM, before)
            signal.setitimer(signal.ITIMER_REAL, *outer)
        assert rang == [1]

    def test_outside_of_the_main_thread_it_runs_as_well(self, run, tmp_path):
        study = new_study(tmp_path, search={"trials": 2}, confirm={"finalists": 0})
        driver = begun(study)
        thread = threading.Thread(target=run, args=(driver,))
        thread.start()
        thread.join(60)
        assert driver.finished

    def test_a_driver_that_waits_for_nothing_is_an_error(self, tmp_path):
        driver = begun(new_study(tmp_path))
        driver.next_assignment = lambda: None
        with pytest.raises(RuntimeError, match="waits for one to end"):
            InProcessRunner(making({}, tmp_path)).run(driver)


@pytest.mark.slow
class TestOnRay(RunnerTests):
    @pytest.fixture
    def run(self, ray, tmp_path):
        data = ray.put(None)

        def run(driver, faults=None):
            RayRunner(making(faults or {}, tmp_path), data).run(driver)
            assert not (driver.study.files / "tune").exists()

        return run
