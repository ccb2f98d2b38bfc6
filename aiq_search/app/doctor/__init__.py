"""``aiq doctor``: what is wrong with the environment, a study or the search itself, and what to do."""

from __future__ import annotations

from pathlib import Path

from aiq_search.app.doctor.environment import check_environment, check_home
from aiq_search.app.doctor.finding import Finding, Level
from aiq_search.app.doctor.fix import fix_study
from aiq_search.app.doctor.search import check_search
from aiq_search.app.doctor.study import check_files, check_runs, check_states
from aiq_search.study import Study
from aiq_search.study.home import aiq_home

__all__ = ["Finding", "Level", "examine", "examine_study", "fix_study"]


def examine(
    name: str | None = None, *, tracking_uri: str | None = None, home: Path | None = None
) -> list[Finding]:
    """Look at the environment, and at a study if one is named.

    Args:
        name: A study's id, or a space's name for its newest study.
        tracking_uri: MLflow's store, by default the study's or that of the environment.
        home: AIQ_HOME.

    Raises:
        StudyError: There is no such study, or it is damaged.
    """
    home = home or aiq_home()
    study = None if name is None else Study.find(home, name)
    findings = list(check_environment(home, tracking_uri))
    if study is None:
        return findings + list(check_home(home))
    return findings + examine_study(study, tracking_uri=tracking_uri)


def examine_study(study: Study, *, tracking_uri: str | None = None) -> list[Finding]:
    """Look at a study: its trials, its files, its runs, and whether the search could do better.

    Raises:
        StudyError: It is damaged.
    """
    records = study.records()
    return [
        *check_states(study, records),
        *check_files(study, records),
        *check_runs(study, records, tracking_uri),
        *check_search(study, records),
    ]
