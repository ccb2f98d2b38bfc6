"""A study: ask, run on Ray Tune, prune, tell, confirm finalists, resume."""

from aiq_search.study.champion import Champion, Spread, most_accurate
from aiq_search.study.events import (
    EpochEnded,
    Event,
    Phase,
    PhaseStarted,
    StudyEnded,
    StudyListener,
    StudyStarted,
    TrialEnded,
    TrialKey,
    TrialStarted,
    TrialState,
)
from aiq_search.study.lock import StudyLock
from aiq_search.study.pareto import ParetoFront, pareto_front
from aiq_search.study.record import TrialRecord
from aiq_search.study.study import Study, list_studies

__all__ = [
    "Champion",
    "EpochEnded",
    "Event",
    "ParetoFront",
    "Phase",
    "PhaseStarted",
    "Spread",
    "Study",
    "StudyEnded",
    "StudyListener",
    "StudyLock",
    "StudyStarted",
    "TrialEnded",
    "TrialKey",
    "TrialRecord",
    "TrialStarted",
    "TrialState",
    "list_studies",
    "most_accurate",
    "pareto_front",
]
