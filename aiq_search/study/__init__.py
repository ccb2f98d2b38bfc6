"""What a study is: its folder, its trials and their records, its events, and who won."""

from aiq_search.study.champion import Champion, Spread, most_accurate
from aiq_search.study.document import is_study_id
from aiq_search.study.events import (
    EpochEnded,
    Event,
    Phase,
    PhaseStarted,
    RungReached,
    StudyEnded,
    StudyListener,
    StudyStarted,
    TrialEnded,
    TrialKey,
    TrialStarted,
    TrialState,
)
from aiq_search.study.lock import StudyLock
from aiq_search.study.pareto import ParetoFront, front_of, pareto_front
from aiq_search.study.record import TrialRecord
from aiq_search.study.study import Study, clear_unborn, list_studies, unreadable_studies
from aiq_search.study.view import StudyView

__all__ = [
    "Champion",
    "EpochEnded",
    "Event",
    "ParetoFront",
    "Phase",
    "PhaseStarted",
    "RungReached",
    "Spread",
    "Study",
    "StudyEnded",
    "StudyListener",
    "StudyLock",
    "StudyStarted",
    "StudyView",
    "TrialEnded",
    "TrialKey",
    "TrialRecord",
    "TrialStarted",
    "TrialState",
    "clear_unborn",
    "front_of",
    "is_study_id",
    "list_studies",
    "most_accurate",
    "pareto_front",
    "unreadable_studies",
]
