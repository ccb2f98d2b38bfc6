"""What became of a study: nothing lost, nothing run twice, one run a trial, none left RUNNING."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend

from aiq_search.search.pruners import create_pruner
from aiq_search.search.samplers import create_sampler
from aiq_search.study import Phase, Study, TrialEnded, TrialRecord, TrialStarted
from aiq_search.tracking import Outbox
from aiq_search.tracking.removal import runs_of

__all__ = ["Finished", "Verdict", "judge"]

# Proposals that are drawn again, at most: each rebuilds the study as it was then.
_REPLAYED = 40


@dataclass
class Finished:
    """The trials that were seen finished, before one fault or another."""

    seen: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def note(self, records: Iterable[TrialRecord]) -> None:
        """Remember what is finished now; what was seen before stays as it was seen."""
        for record in records:
            if record.finished:
                self.seen.setdefault(str(record.key), _identity(record))


def _identity(record: TrialRecord) -> tuple[Any, ...]:
    return (record.state, record.value, record.epochs, record.seed, record.config_hash, record.ended)


@dataclass(frozen=True)
class Verdict:
    """One row of the fault table.

    Attributes:
        fault: What happened.
        times: How often.
        before: Trials that were finished before a fault.
        lost: Of these, how many are gone or changed.
        twice: Trials that were begun again after their end, and trials beyond the budget.
        doubled: Trials with more than one run in MLflow, or none.
        running: Runs and trials that stayed RUNNING.
        sampler: Whether each proposal is what the study alone, as it was then, makes the sampler say.
        note: What else was checked.
    """

    fault: str
    times: int
    before: int
    lost: int
    twice: int
    doubled: int
    running: int
    sampler: bool
    note: str = ""

    @property
    def holds(self) -> bool:
        """Whether nothing was lost."""
        return not (self.lost or self.twice or self.doubled or self.running) and self.sampler


def judge(fault: str, times: int, study: Study, finished: Finished, uri: str, note: str = "") -> Verdict:
    """Compare a study that came to its end with what was seen on the way, and with MLflow."""
    records = study.records()
    now = {str(record.key): _identity(record) for record in records}
    runs = runs_of(study.id, study.space.name, uri)
    per_owner = Counter(run.owner for run in runs)
    wrong = [key for key in (*now, study.id) if per_owner[key] != 1]
    left = [run.owner for run in runs if run.status == "RUNNING"]
    left += [str(record.key) for record in records if not record.finished]
    return Verdict(
        fault,
        times,
        before=len(finished.seen),
        lost=sum(now.get(key) != seen for key, seen in finished.seen.items()),
        twice=_begun_after_end(study) + _beyond_budget(study, records),
        doubled=len(wrong),
        running=len(left),
        sampler=_draws_again(study),
        note=note,
    )


def _begun_after_end(study: Study) -> int:
    box = Outbox(study.directory)
    try:
        letters = box.history()
    finally:
        box.close()
    ended: set[str] = set()
    again = 0
    for letter in letters:
        again += isinstance(letter.event, TrialStarted) and letter.owner in ended
        if isinstance(letter.event, TrialEnded):
            again += letter.owner in ended
            ended.add(letter.owner)
    return again


def _beyond_budget(study: Study, records: list[TrialRecord]) -> int:
    """Trials too many, or too few, of each phase."""
    explored = sum(record.key.phase is Phase.EXPLORE for record in records)
    confirmed = Counter((r.origin, r.replicate) for r in records if r.key.phase is Phase.CONFIRM)
    doubles = sum(number - 1 for number in confirmed.values())
    return abs(explored - study.space.search.trials) + doubles


def _draws_again(study: Study) -> bool:
    """Draw proposals again, each from the study as it was when it was asked for."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    records = study.records(Phase.EXPLORE)
    step = max(1, len(records) // _REPLAYED)
    chosen = {record.key.number: record for record in records[::step]}
    if study.document.trials_url:
        # The order of events is not kept in a database: such rows take a sampler that has no history.
        return all(_drawn(study, InMemoryStorage(), number) == r.params for number, r in chosen.items())
    lines = study.journal.read_bytes().splitlines(keepends=True)
    number = 0
    with tempfile.TemporaryDirectory() as folder:
        for index, line in enumerate(lines):
            operation = json.loads(line)
            # Operation 4 makes a trial; study 0 is the exploring one.
            if operation["op_code"] != 4 or operation["study_id"] != 0:
                continue
            if number in chosen:
                path = Path(folder) / f"{number}.journal"
                path.write_bytes(b"".join(lines[:index]))
                if (
                    _drawn(study, JournalStorage(JournalFileBackend(str(path))), number)
                    != chosen[number].params
                ):
                    return False
            number += 1
    return True


def _drawn(study: Study, storage: BaseStorage, number: int) -> dict[str, Any]:
    """What a fresh sampler proposes for trial ``number`` on a storage that ends just before it."""
    options = study.space.search
    sampler = create_sampler(options.sampler, options.seed, conditional=False)
    again = optuna.create_study(
        study_name=study.id,
        storage=storage,
        sampler=sampler,
        pruner=create_pruner(options.pruner),
        load_if_exists=True,
        direction="maximize",
    )
    while len(again.get_trials(deepcopy=False)) < number:  # a storage without history
        again.add_trial(optuna.trial.create_trial(value=0.0))
    return dict(study.space.suggest(again.ask()))
