"""What publishing imports is imported while the last trials train, and not before."""

from __future__ import annotations

import threading

import pytest

from aiq_search.app.publish import Preparation
from aiq_search.study import Phase, TrialKey
from aiq_search.study.events import PhaseStarted, TrialStarted


def started(number):
    return TrialStarted(TrialKey("study", Phase.EXPLORE, number), {}, 0, "", 0.0)


def phase(which, total=0, done=0):
    return PhaseStarted("study", which, total, done, 0.0)


@pytest.fixture
def prepared(monkeypatch):
    """How often something was prepared."""
    calls = []
    monkeypatch.setattr(Preparation, "_prepare", staticmethod(lambda: calls.append(threading.get_ident())))
    return calls


def heard(preparation, *events):
    for event in events:
        preparation.on_event(event)
    preparation.wait()


def test_the_last_exploring_trial_begins_it_once_and_in_a_thread(prepared):
    preparation = Preparation(wanted=True)
    heard(preparation, phase(Phase.EXPLORE, total=3, done=1), started(1))
    assert prepared == []
    heard(preparation, started(2), started(3), phase(Phase.CONFIRM, total=2))
    assert len(prepared) == 1
    assert prepared != [threading.get_ident()]


def test_finalists_begin_it_in_a_study_that_is_resumed(prepared):
    heard(Preparation(wanted=True), phase(Phase.CONFIRM, total=10, done=4))
    assert len(prepared) == 1


def test_without_need_nothing_is_prepared(prepared):
    heard(Preparation(wanted=False), phase(Phase.CONFIRM, total=10))
    assert prepared == []


def test_a_failure_is_left_to_publishing(monkeypatch):
    monkeypatch.setattr("aiq_search.export.warm_up.warm_up", lambda: 1 / 0)
    heard(Preparation(wanted=True), phase(Phase.CONFIRM, total=10))
