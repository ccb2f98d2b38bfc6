"""The reference network as a phase of a search, behind the champion: see ``study.reference``.

Some configurations are proposed for their accuracy alone and trained once, where the search did not maximise
accuracy. Then the most accurate network of all is trained on the seeds that report the champion's numbers.

Accurate networks are often wide, and so dear. What the phase takes is therefore bounded by what exploring
took, in multiply-accumulates: the most accurate explored network has at least two seeds, further seeds and
proposals have to fit. Proposals are only made where a network's price is known before it is built.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import optuna
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from aiq_search.errors import NothingFeasibleError
from aiq_search.search.ledger import Ledger
from aiq_search.search.prices import price_in, price_of
from aiq_search.search.samplers import create_sampler
from aiq_search.space import SearchSpace, SpaceError
from aiq_search.space.options import SamplerOptions
from aiq_search.study.asking import AskingStudy
from aiq_search.study.document import DatasetDescription
from aiq_search.study.events import Phase
from aiq_search.study.record import BEGIN, TrialRecord, config_hash
from aiq_search.study.reference import find_reference, seeds_of
from aiq_search.study.seeds import derive_seed

__all__ = ["PROPOSALS", "ReferencePhase", "most_trainings"]

# How many configurations are proposed for their accuracy, and how often one is drawn for that at most.
PROPOSALS = 4
_DRAWN = 40

# How many seeds the reference network has at least, where the champion has as many: one shows no spread.
_SEEDS = 2


def most_trainings(space: SearchSpace) -> int:
    """How many trainings the phase takes at most."""
    if not _is_wanted(space):
        return 0
    return space.confirm.seeds + (0 if _is_steered(space) else PROPOSALS)


def _is_wanted(space: SearchSpace) -> bool:
    """Whether there is such a phase: a search for accuracy alone has its most accurate network confirmed."""
    alone = [name for name, _ in space.objective.directions] == ["accuracy"]
    return space.confirm.reference and space.confirm.confirms and not alone


def _is_steered(space: SearchSpace) -> bool:
    """Whether exploring looked for accuracy, too."""
    return "accuracy" in [name for name, _ in space.objective.directions]


class ReferencePhase:
    """Trains what is proposed for its accuracy, then the reference network on fresh seeds.

    Args:
        space: The space.
        study: The Optuna study of this phase.
        explored: That of the exploring trials: what is proposed follows from them.
        ledger: The finished trials.
        data: The data.
    """

    name = Phase.REFERENCE

    def __init__(
        self,
        space: SearchSpace,
        study: AskingStudy,
        explored: AskingStudy,
        ledger: Ledger,
        data: DatasetDescription,
    ) -> None:
        self._space = space
        self._study = study
        self._explored = explored
        self._ledger = ledger
        self._data = data
        self._waiting = 0
        self._champion: str | None = None  # its configuration, once that was asked for

    @property
    def total(self) -> int:
        """The trainings so far, and the reference network's seeds as far as it is known."""
        trials = self._trials()
        if self._has_seeds():
            return len(trials)
        reference = find_reference(self._ledger.explored.values(), self._ledger.referenced.values())
        if reference is None or reference.config_hash == self._champion:
            return len(trials)
        return len(trials) + self._seeds(reference)

    def take_up(self) -> None:
        """Count what an earlier driver queued."""
        self._waiting = sum(trial.state is OptunaState.WAITING for trial in self._trials())

    def is_ready(self, *, idle: bool) -> bool:
        """Whether a training waits, or follows from the results of those before, once all are there."""
        return self._waiting > 0 or (idle and _is_wanted(self._space) and self._plan())

    def next_trial(self) -> optuna.Trial:
        """The training that was queued first."""
        self._waiting -= 1
        trial = self._study.ask()
        self._space.suggest(trial)
        return trial

    def stopped(self, record: TrialRecord) -> None:
        """Do nothing: what follows is planned once all have ended."""

    # ---- what is trained -------------------------------------------------------------------------

    def _plan(self) -> bool:
        """Queue the next trainings; False where nothing is left to do."""
        try:
            champion = self._ledger.champion(self._space)
        except NothingFeasibleError:
            return False
        self._champion = champion.explored.config_hash
        explored = find_reference(self._ledger.explored.values(), ())
        if explored is None or not champion.further:
            return False
        if not _is_steered(self._space) and not self._has_seeds():
            queued = {trial.user_attrs[BEGIN]["config_hash"] for trial in self._trials()}
            for number, params in enumerate(self._proposals(explored)):
                if config_hash(params) not in queued:  # a driver may have died while it queued them
                    self._enqueue(params, "reference", number, replicate=None)
            if self._waiting:
                return True
        reference = find_reference([explored], self._ledger.referenced.values())
        if reference is None or reference.config_hash == self._champion:
            return False
        records = [*self._ledger.confirmed.values(), *self._ledger.referenced.values()]
        there = seeds_of(reference.config_hash, records)
        first = self._space.confirm.judging
        for replicate in range(first, first + self._seeds(reference)):
            if replicate not in there:
                self._enqueue(reference.params, "confirm", replicate, replicate=replicate)
        return self._waiting > 0

    def _enqueue(self, params: Any, stream: str, number: int, replicate: int | None) -> None:  # noqa: ANN401
        begin = {
            "params": dict(params),
            # Of the reference network the same seeds as the champion's: only configurations differ.
            "seed": derive_seed(self._space.search.seed, stream, number),
            "config_hash": config_hash(params),
        }
        if replicate is not None:
            begin |= {"origin": None, "replicate": replicate}
        self._study.enqueue_trial(self._space.encode(params), user_attrs={BEGIN: begin})
        self._waiting += 1

    def _has_seeds(self) -> bool:
        """Whether the reference network was known before."""
        return any(trial.user_attrs[BEGIN].get("replicate") is not None for trial in self._trials())

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    # ---- what it may cost ------------------------------------------------------------------------

    def _seeds(self, reference: TrialRecord) -> int:
        """On how many seeds the reference network is trained."""
        proposed = (r for r in self._ledger.referenced.values() if r.replicate is None)
        left = self._affordable() - sum(map(self._spent_on, proposed))
        fitting = int(left / self._cost(reference.params, reference.metrics["macs"]))
        return min(self._space.confirm.seeds, max(_SEEDS, fitting))

    def _affordable(self) -> float:
        """What exploring has taken: epochs times what a sample costs in each of them."""
        return sum(map(self._spent_on, self._ledger.explored.values()))

    def _spent_on(self, record: TrialRecord) -> float:
        if record.copied_from is not None or "macs" not in record.metrics:
            return 0.0
        return record.epochs * price_of(record.metrics["macs"], self._data)

    def _cost(self, params: Any, macs: float) -> float:  # noqa: ANN401
        """What a training takes that runs all its epochs."""
        return self._space.training_options(params).epochs * price_of(macs, self._data)

    # ---- what is proposed for its accuracy -------------------------------------------------------

    def _proposals(self, explored: TrialRecord) -> list[dict[str, Any]]:
        """New configurations that may be more accurate, as far as there is room for them beside the seeds.

        Args:
            explored: The most accurate exploring trial.
        """
        price = price_in(self._space, self._data)
        seeds = _SEEDS * self._cost(explored.params, explored.metrics["macs"])
        limit = (self._affordable() - seeds) / PROPOSALS
        if price is None or limit <= 0:
            return []
        known = {record.config_hash for record in self._ledger.explored.values()}

        def fits(params: dict[str, Any]) -> bool:
            sample = price(params)
            epochs = self._space.training_options(params).epochs
            new = config_hash(params) not in known
            known.add(config_hash(params))
            return new and sample is not None and epochs * sample <= limit

        return list(islice(filter(fits, self._drawn()), PROPOSALS))

    def _drawn(self) -> Iterator[dict[str, Any]]:
        """Configurations that TPE proposes for their accuracy, given what exploring has shown."""
        seed = derive_seed(self._space.search.seed, "reference", 0)
        sampler = create_sampler(SamplerOptions(), seed, conditional=self._space.conditional)
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # it would announce each study that is made
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for trial in self._explored.get_trials(deepcopy=False):
            record = self._ledger.explored.get(trial.number)
            if record is not None and record.epochs and record.copied_from is None:
                study.add_trial(_for_accuracy(trial, record))
        for _ in range(_DRAWN):
            try:
                params = self._space.suggest(study.ask())
                if self._space.allows(params):
                    yield params
            except SpaceError:
                continue


def _for_accuracy(trial: FrozenTrial, record: TrialRecord) -> FrozenTrial:
    """An exploring trial as it would be had it been judged by its accuracy."""
    complete, accuracy = trial.state is OptunaState.COMPLETE, record.metrics["accuracy"]
    return optuna.trial.create_trial(
        state=trial.state,
        value=accuracy if complete else None,
        params=trial.params,
        distributions=trial.distributions,
        intermediate_values={record.epochs: accuracy} if not complete else {},
    )
