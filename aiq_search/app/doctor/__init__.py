"""``aiq doctor``: what is wrong with the environment, a study or the search itself, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aiq_search.app.doctor.environment import check_environment, check_home
from aiq_search.app.doctor.finding import Finding, Level
from aiq_search.app.doctor.fix import fix_study
from aiq_search.app.doctor.search import check_search
from aiq_search.app.doctor.study import check_files, check_runs, check_states, check_time
from aiq_search.errors import InputError
from aiq_search.study import Phase, Study
from aiq_search.study.home import aiq_home

__all__ = ["Diagnosis", "Finding", "Level", "examine", "examine_study", "fix_study"]


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor found.

    Attributes:
        findings: What was checked, and what to do about it.
        repairs: What ``--fix`` did, a sentence each.
    """

    findings: tuple[Finding, ...]
    repairs: tuple[str, ...] = ()

    @property
    def has_problem(self) -> bool:
        """Whether something has to be done: what ``--fix`` should have repaired and did not counts too."""
        fixed = bool(self.repairs)
        return any(each.level is Level.PROBLEM or (fixed and each.fixable) for each in self.findings)


def examine(
    name: str | None = None, *, fix: bool = False, tracking_uri: str | None = None, home: Path | None = None
) -> Diagnosis:
    """Check the environment, and a study if one is named.

    Args:
        name: A study's id, or a space's name for its newest study.
        fix: Repair first what can be repaired safely.
        tracking_uri: MLflow's store, by default the study's or that of the environment.
        home: AIQ_HOME.

    Raises:
        InputError: Something is to be repaired, but no study is named.
        StudyError: There is no such study, it is damaged, or a driver holds it while it is to be repaired.
    """
    home = home or aiq_home()
    if name is None:
        if fix:
            raise InputError("--fix repairs a study: name one, as in aiq doctor STUDY --fix.")
        return Diagnosis((*check_environment(home, tracking_uri), *check_home(home)))
    study = Study.open(name, home)
    repairs = fix_study(study, tracking_uri) if fix else []
    findings = [*check_environment(home, tracking_uri), *examine_study(study, tracking_uri=tracking_uri)]
    return Diagnosis(tuple(findings), tuple(repairs))


def examine_study(study: Study, *, tracking_uri: str | None = None) -> list[Finding]:
    """Check a study: its trials, its files, its runs, and whether the search could do better.

    Raises:
        StudyError: It is damaged.
    """
    study.load(Phase.EXPLORE)  # reads all of the journal: looking leaves out what only a driver needs
    records = study.records()
    return [
        *check_states(study, records),
        *check_time(study, records),
        *check_files(study, records),
        *check_runs(study, records, tracking_uri),
        *check_search(study, records),
    ]
