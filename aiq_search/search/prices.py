"""Proposals that know their price: of several that are as good, one that does not take far longer.

The price of a configuration is known before it is trained: what a sample costs, in multiply-accumulates.
Where widths may differ by a factor of a hundred, random proposals spend most time on the few widest networks.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from aiq_search.errors import InputError
from aiq_search.search.rungs import is_long
from aiq_search.search.samplers import SeededSampler
from aiq_search.space import SearchSpace
from aiq_search.study.document import DatasetDescription
from aiq_search.study.record import BEGIN
from aiq_search.study.seeds import derive_seed
from aiq_search.user_code import is_reference

if TYPE_CHECKING:
    from optuna import Study

__all__ = ["PricedSampler", "price_in", "price_of", "with_prices"]

# Reading an input value and measuring what follows from it costs about so much.
_MACS_AN_INPUT = 64

# How many proposals are compared, and how much more than their median one may cost.
_PROPOSALS = 5
_DEAREST = 2.0

# The price of a configuration; None if it is not known.
Price = Callable[[Mapping[str, Any]], float | None]


def with_prices(sampler: SeededSampler, space: SearchSpace, data: DatasetDescription) -> SeededSampler:
    """Have a sampler regard what its proposals cost, where that pays.

    It does for TPE, which proposes in milliseconds and at random, where an epoch is long, and where the
    network is one of this package: a user's code is not run in the driver.
    """
    price = price_in(space, data)
    if space.search.sampler.name != "tpe" or price is None or not is_long(data.train, space.training):
        return sampler
    return PricedSampler(sampler, space, price)


def price_in(space: SearchSpace, data: DatasetDescription) -> Price | None:
    """What a sample costs in each configuration of a space; None where the network is a user's code."""
    if is_reference(space.model.name):
        return None

    def price(params: Mapping[str, Any]) -> float | None:
        arguments = json.dumps(space.model_arguments(params), sort_keys=True)
        macs = _macs(space.model.name, arguments, tuple(data.input_shape), len(data.classes))
        return None if macs is None else price_of(macs, data)

    return price


def price_of(macs: float, data: DatasetDescription) -> float:
    """What a sample costs in a network of so many multiply-accumulates."""
    return macs + _MACS_AN_INPUT * math.prod(data.input_shape)


@lru_cache(maxsize=10_000)
def _macs(model: str, arguments: str, shape: tuple[int, ...], classes: int) -> float | None:
    """Multiply-accumulates of a sample's forward pass."""
    import torch  # resuming a study of small data need not wait for it

    from aiq_search.models import Architecture, model_size

    try:
        with torch.device("meta"):
            network = Architecture(model, json.loads(arguments), shape, classes).build()
    except InputError:
        return None  # its trial will fail, and report why
    return float(model_size(network, shape).macs)


class PricedSampler(SeededSampler):
    """Passes over a proposal that costs far more than others that the sampler might have made.

    For each trial the sampler proposes several times, with as many seeds. The first proposal that does not
    cost more than twice their median is taken. So where the best networks are wide, and the sampler has seen
    that, all proposals are wide and none is passed over.

    Args:
        sampler: Proposes.
        space: The space.
        price: Of a configuration.
    """

    def __init__(self, sampler: SeededSampler, space: SearchSpace, price: Price) -> None:
        super().__init__(sampler.create, sampler.study_seed)
        self._space = space
        self._price = price

    def seed_of(self, study: Study, trial: FrozenTrial) -> int:
        """The seed of the proposal that is taken."""
        seeds = [derive_seed(self.study_seed, "sampler", trial.number)]
        seeds += [derive_seed(seeds[0], "proposal", index) for index in range(1, _PROPOSALS)]
        if "fixed_params" in trial.system_attrs or BEGIN in trial.user_attrs:
            return seeds[0]  # nothing is left to propose
        prices = []
        for seed in seeds:
            price = self._price(self._space.suggest(_Proposal(self.create(seed), study, trial)))
            if price is None:
                return seeds[0]
            prices.append(price)
        bound = _DEAREST * statistics.median(prices)
        return next(seed for seed, price in zip(seeds, prices, strict=True) if price <= bound)


class _Proposal:
    """Asks a sampler for the parameters of a trial without giving them to the trial."""

    def __init__(self, sampler: BaseSampler, study: Study, trial: FrozenTrial) -> None:
        self._sampler, self._study, self._trial = sampler, study, trial
        sampler.before_trial(study, trial)
        together = sampler.infer_relative_search_space(study, trial)
        self._together = sampler.sample_relative(study, trial, together)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return int(self._suggest(name, IntDistribution(low, high, log, step)))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return float(self._suggest(name, FloatDistribution(low, high, log, step)))

    def suggest_categorical(self, name: str, choices: Any) -> Any:  # noqa: ANN401
        return self._suggest(name, CategoricalDistribution(choices))

    def _suggest(self, name: str, distribution: BaseDistribution) -> Any:  # noqa: ANN401
        if name in self._together:
            return self._together[name]
        return self._sampler.sample_independent(self._study, self._trial, name, distribution)
