"""What can be read of a study, wherever it is kept."""

from __future__ import annotations

from typing import Protocol

from aiq_search.space import SearchSpace
from aiq_search.study.champion import Champion, choose_champion
from aiq_search.study.document import StudyDocument
from aiq_search.study.events import Phase
from aiq_search.study.record import TrialRecord

__all__ = ["StudyView", "champion_of"]


class StudyView(Protocol):
    """A study for those who only look: ``Study`` on this machine, or one that is read from MLflow."""

    @property
    def id(self) -> str:
        """The study's id."""

    @property
    def document(self) -> StudyDocument:
        """The content of study.json.

        Raises:
            StudyError: It is damaged.
        """

    @property
    def space(self) -> SearchSpace:
        """What is searched."""

    @property
    def is_running(self) -> bool:
        """Whether a driver runs it now."""

    @property
    def finalists(self) -> list[int]:
        """Numbers of the exploring trials under confirmation; empty before that."""

    def records(self, phase: Phase | None = None) -> list[TrialRecord]:
        """The record of each trial: exploring trials, then confirmations, each in the order of their numbers.

        Args:
            phase: Only of this phase.
        """

    def champion(self) -> Champion:
        """The champion as far as the study has come.

        Raises:
            NothingFeasibleError: No configuration meets the constraints.
        """

    def refreshed(self) -> StudyView:
        """The same study as it is now."""


def champion_of(study: StudyView) -> Champion:
    """The champion as far as a study has come.

    Raises:
        NothingFeasibleError: No configuration meets the constraints.
    """
    explored, confirmed = study.records(Phase.EXPLORE), study.records(Phase.CONFIRM)
    return choose_champion(study.space, explored, confirmed, study.finalists)
