"""How well a search chooses: statistics over many replays, goal and verdict beside each figure."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import numpy as np

from benchmarks.replay.search import Outcome, replay
from benchmarks.replay.table import Table

__all__ = ["BUDGETS", "PEERS", "Mean", "Replays", "describe", "replay_all"]

# The measured search, a race for the best mean; as its file says, where among those that cannot be told apart
# the smallest wins; and finalists on equally many seeds, as before there were races. The race's settings were
# chosen on seeds from 1000 on.
BUDGETS: Mapping[str, tuple[str, ...]] = {
    "race for the best mean": ("confirm.ties=best",),
    "race, ties to the smallest": (),
    "five finalists on five seeds": ("confirm.finalists=5", "confirm.ties=best"),
}

# What it is compared with. Each explores until it has used as many network-epochs as the measured search has
# with the same seed, so never fewer, and confirms likewise; the number of trials is no limit.
_MEASURED = "TPE + ASHA"
_AS_LONG = "search.trials=300"
PEERS: Mapping[str, tuple[str, ...]] = {
    "TPE, no pruner": ("search.pruner=none", _AS_LONG),
    "random + ASHA": ("search.sampler=random", _AS_LONG),
    "random, no pruner": ("search.sampler=random", "search.pruner=none", _AS_LONG),
}

# The grid that a search is spared: every cell on as many seeds as the table has at least.
_GRID_SEEDS = 3

_REGRET, _REGRET_BOUND = 0.005, 0.008
_COST = 150  # network-epochs, confirming included
_RESAMPLES = 10_000


@dataclass(frozen=True)
class Mean:
    """A mean with its 95 % interval, by the bootstrap (percentiles of 10,000 resamples)."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Mean:
        """The mean of at least one number.

        >>> Mean.of([0.5, 0.5])
        Mean(value=0.5, low=0.5, high=0.5)
        """
        sample = np.asarray(numbers, dtype=float)
        drawn = np.random.default_rng(0).integers(len(sample), size=(_RESAMPLES, len(sample)))
        low, high = np.percentile(sample[drawn].mean(axis=1), [2.5, 97.5])
        return cls(float(sample.mean()), float(low), float(high))

    def __str__(self) -> str:
        return f"{self.value:.4f} ({self.low:.4f} to {self.high:.4f})"


@dataclass(frozen=True)
class Replays:
    """Every replay of one budget, by kind of search; the same seeds in the same order for each."""

    budget: str
    edits: tuple[str, ...]
    outcomes: Mapping[str, Sequence[Outcome]]

    @property
    def measured(self) -> Sequence[Outcome]:
        """Those of TPE + ASHA."""
        return self.outcomes[_MEASURED]


def replay_all(table: Table, budget: str, seeds: Sequence[int], processes: int | None = None) -> Replays:
    """Replay the measured search and its peers, each with every seed.

    Args:
        table: What answers.
        budget: One of ``BUDGETS``.
        seeds: Values of ``search.seed``.
        processes: How many replay at once; by default one a core.
    """
    edits = BUDGETS[budget]
    processes = processes or os.cpu_count() or 1
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        rows = list(pool.map(partial(_replay_each, table, edits), seeds, chunksize=5))
    return Replays(budget, edits, {name: [row[name] for row in rows] for name in rows[0]})


def _replay_each(table: Table, edits: Sequence[str], seed: int) -> dict[str, Outcome]:
    measured = replay(table, seed, edits)
    as_much = f"search.max_hours={measured.exploring}"  # the replay's clock strikes an hour a network-epoch
    peers = {name: replay(table, seed, [*edits, *peer, as_much]) for name, peer in PEERS.items()}
    return {_MEASURED: measured, **peers}


def describe(table: Table, replays: Replays) -> str:
    """The tables of one budget, in Markdown."""
    sections = (_verdicts(table, replays), _searches(replays), _curse(replays))
    return "\n".join(sections)


def _verdicts(table: Table, replays: Replays) -> str:
    outcomes = replays.measured
    regret = Mean.of([outcome.regret for outcome in outcomes])
    cost, most = Mean.of([outcome.cost for outcome in outcomes]), max(outcome.cost for outcome in outcomes)
    once = len(table.means) * table.epochs
    grid = _GRID_SEEDS * once
    better = _differences(replays)
    rows = [
        ("mean regret", f"at most {_REGRET:.3f}", f"{regret.value:.4f}", _said(regret.value <= _REGRET)),
        (
            "its upper 95 % bound",
            f"at most {_REGRET_BOUND:.3f}",
            f"{regret.high:.4f}",
            _said(regret.high <= _REGRET_BOUND),
        ),
        (
            f"network-epochs that led to the choice, of the grid's {grid}",
            f"at most {_COST}",
            f"{cost.value:.0f} on average, {most} at most ({cost.value / grid:.0%} of the grid; "
            f"{cost.value / once:.0%} of the grid on one seed)",
            _said(cost.value <= _COST),
        ),
        (
            "regret less random's at equal cost",
            "reported",
            f"{better['random, no pruner']}",
            _sign(better["random, no pruner"]),
        ),
    ]
    lines = ["| figure | goal | found | verdict |", "|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def _differences(replays: Replays) -> dict[str, Mean]:
    """Regret of the measured search less each peer's, paired by seed: negative is better."""
    return {
        name: Mean.of([ours.regret - peer.regret for ours, peer in zip(replays.measured, peers, strict=True)])
        for name, peers in replays.outcomes.items()
        if name != _MEASURED
    }


def _said(holds: bool) -> str:
    return "holds" if holds else "MISSED"


def _sign(difference: Mean) -> str:
    if difference.high < 0:
        return "better than random"
    return "worse than random" if difference.low > 0 else "no difference seen"


def _searches(replays: Replays) -> str:
    lines = [
        "| search | mean regret (95 %) | best cell chosen | cells explored | exploring + confirming "
        "| ours less its regret, paired (95 %) |",
        "|---|---|---:|---:|---:|---|",
    ]
    differences = _differences(replays)
    for name, outcomes in replays.outcomes.items():
        best, cells, exploring, confirming = (
            float(np.mean([getattr(outcome, field) for outcome in outcomes]))
            for field in ("is_best", "cells", "exploring", "confirming")
        )
        lines.append(
            f"| {name} | {Mean.of([o.regret for o in outcomes])} | {best:.0%} | {cells:.1f} "
            f"| {exploring:.0f} + {confirming:.0f} | {differences.get(name, '')} |"
        )
    alone = Mean.of([outcome.unconfirmed for outcome in replays.measured])
    exploring = np.mean([outcome.exploring for outcome in replays.measured])
    lines.append(f"| {_MEASURED}, unconfirmed | {alone} | | | {exploring:.0f} + 0 | |")
    return "\n".join(lines) + "\n"


def _curse(replays: Replays) -> str:
    outcomes = replays.measured
    columns = {
        "explored": [outcome.explored for outcome in outcomes],
        "confirmed": [outcome.confirmed for outcome in outcomes],
        "headline": [outcome.headline for outcome in outcomes],
        "truth": [outcome.truth for outcome in outcomes],
    }
    after = np.mean([outcome.measuring for outcome in outcomes])
    head = [
        "explored (one seed)",
        "confirmed",
        f"fresh seeds ({after:.0f} network-epochs more)",
        "table mean",
    ]
    lines = [f"| champion's aIQ | {' | '.join(head)} |", "|---|---|---|---|---|"]
    lines.append(f"| mean (95 %) | {' | '.join(str(Mean.of(column)) for column in columns.values())} |")
    return "\n".join(lines) + "\n"
