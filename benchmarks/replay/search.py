"""One search replayed: the product's driver, sampler, pruner and confirmation, without Ray or training."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiq_search.search.driver import StudyDriver
from aiq_search.search.runners.in_process import InProcessRunner
from aiq_search.space import SearchSpace, load_space
from aiq_search.study import Champion, Phase, Study, TrialRecord
from aiq_search.study.champion import choose_finalists
from benchmarks.replay.table import Cell, Table, cell_of
from benchmarks.replay.worker import ReplayWorker

__all__ = ["SPACE", "Outcome", "outcome_of", "replay", "run_driver"]

SPACE = Path(__file__).parent / "lenet_5_search.yaml"

# As on the two-core machine for which it is asked how good a search is.
_CONCURRENCY = 2

_DATASET = {
    "name": "mnist",
    "digest": "",
    "train": 50000,
    "validation": 10000,
    "test": 10000,
    "input_shape": [1, 28, 28],
    "input_dtype": "uint8",
    "classes": [str(digit) for digit in range(10)],
}

_SECONDS_AN_HOUR = 3600.0


class EpochClock:
    """A clock that strikes an hour a network-epoch, so that ``search.max_hours`` is a budget of them."""

    def __init__(self) -> None:
        self.epochs = 0

    def __call__(self) -> float:
        """Seconds, as the driver wants them."""
        return _SECONDS_AN_HOUR * self.epochs

    def tick(self) -> None:
        """Count a network-epoch."""
        self.epochs += 1


@dataclass(frozen=True)
class Outcome:
    """What a search chose and what that took.

    Attributes:
        seed: ``search.seed``.
        chosen: The champion's cell.
        regret: Of the champion, in the table's means.
        unconfirmed: Regret of the best exploring trial, which confirmation could overrule.
        is_best: Whether the champion is the best cell.
        explored: aIQ of the champion's exploring trial.
        confirmed: Mean aIQ over the seeds that the champion was chosen by.
        headline: Mean aIQ over the seeds after the choice.
        truth: Its cell's mean in the table.
        exploring: Network-epochs of exploring trials, pruned ones too.
        confirming: Network-epochs of the confirmations that led to the choice.
        measuring: Network-epochs of the seeds after the choice.
        cells: Configurations explored, each counted once.
    """

    seed: int
    chosen: Cell
    regret: float
    unconfirmed: float
    is_best: bool
    explored: float
    confirmed: float
    headline: float
    truth: float
    exploring: int
    confirming: int
    measuring: int
    cells: int

    @property
    def cost(self) -> int:
        """Network-epochs that led to the choice."""
        return self.exploring + self.confirming


def replay(table: Table, seed: int, edits: Sequence[str] = (), *, concurrency: int = _CONCURRENCY) -> Outcome:
    """Replay the search with a seed.

    Args:
        table: What answers.
        seed: ``search.seed``.
        edits: Further edits of the search's file; ``search.max_hours`` counts network-epochs.
        concurrency: Trials at once.
    """
    space = load_space(SPACE, ["confirm.reference=false", *edits, f"search.seed={seed}"])
    with tempfile.TemporaryDirectory(prefix="aiq-replay-", dir=_fast_folder()) as home:
        study = Study.create(Path(home), space, _DATASET, "replay")
        with study.held():
            champion = run_driver(study, table, concurrency)
            return outcome_of(study, table, champion)


def _fast_folder() -> Path | None:
    """A folder in memory, where there is one: the journal is flushed at each line."""
    memory = Path("/dev/shm")  # noqa: S108
    return memory if memory.is_dir() else None


def run_driver(study: Study, table: Table, concurrency: int) -> Champion:
    """Drive a study to its end; of the trials at once each in turn reports an epoch."""
    clock = EpochClock()
    driver = StudyDriver(study, clock=clock)
    driver.begin()
    InProcessRunner(lambda: ReplayWorker(table, clock.tick), concurrency).run(driver)
    driver.end()
    return driver.champion()


def outcome_of(study: Study, table: Table, champion: Champion) -> Outcome:
    """What a finished study chose, judged by the table."""
    space = study.space
    explored = [record for record in study.records(Phase.EXPLORE) if record.copied_from is None]
    confirmed = study.records(Phase.CONFIRM)
    deciding = [record for record in confirmed if _replicate(record) < space.confirm.judging]
    after = [record for record in confirmed if _replicate(record) >= space.confirm.judging]
    chosen = cell_of(_widths(space, champion.explored))
    return Outcome(
        seed=space.search.seed,
        chosen=chosen,
        regret=table.regret(chosen),
        unconfirmed=table.regret(cell_of(_widths(space, choose_finalists(space, explored, 1)[0]))),
        is_best=chosen == table.best,
        explored=champion.explored.scored["aiq"],
        confirmed=champion.validation["aiq"].mean,
        headline=sum(record.scored["aiq"] for record in after) / len(after),
        truth=table.means[chosen],
        exploring=sum(record.epochs for record in explored),
        confirming=sum(record.epochs for record in deciding),
        measuring=sum(record.epochs for record in after),
        cells=len({record.config_hash for record in explored}),
    )


def _replicate(record: TrialRecord) -> int:
    return record.replicate or 0


def _widths(space: SearchSpace, record: TrialRecord) -> dict[str, Any]:
    return space.model_arguments(record.params)
