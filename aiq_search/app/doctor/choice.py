"""Whether the study's choice can be trusted: which good finalist was refused, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from aiq_search.app.doctor.finding import Finding, Level
from aiq_search.errors import NothingFeasibleError
from aiq_search.study import Phase, Study, TrialRecord
from aiq_search.study.champion import choose_finalists
from aiq_search.study.chance import chance_problem
from aiq_search.study.finalists import Outcome, verdicts_of

__all__ = ["check_choice"]


def check_choice(study: Study, records: Sequence[TrialRecord]) -> Iterator[Finding]:
    """Report a champion no better than chance, and a leading finalist that a constraint refused.

    Leading: of the best mean, or the best explored trial.

    Args:
        study: The study.
        records: Its trials.
    """
    with suppress(NothingFeasibleError):
        problem = chance_problem(study.document, study.champion())
        if problem is not None:
            what, _, remedy = problem.partition(". ")
            yield Finding("search", Level.PROBLEM, f"{what[0].upper()}{what[1:]}.", remedy)
    verdicts = verdicts_of(study)
    if not verdicts:
        return
    explored = [record for record in records if record.key.phase is Phase.EXPLORE]
    leading = max(verdicts, key=lambda verdict: verdict.finalist.mean).finalist.trial
    best = {record.key.number for record in choose_finalists(study.space, explored, 1)}
    for verdict in verdicts:
        trial = verdict.finalist.trial
        if verdict.outcome is not Outcome.INFEASIBLE or trial not in {leading, *best}:
            continue
        has = "the best mean of the finalists" if trial == leading else "the best value on its first seed"
        yield Finding(
            "search",
            Level.WARNING,
            f"{verdict.finalist.explored.name} has {has}, but was refused: it {verdict.reason}.",
            "Relax the constraint if the miss is small enough for you; to find others that meet it, train "
            "longer (training.epochs) or search further (aiq resume STUDY --trials N).",
        )
