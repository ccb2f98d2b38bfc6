"""The sections of a search-space file, field by field (schema_version 1)."""

from __future__ import annotations

import re
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from aiq_search.space.constraint import Constraint
from aiq_search.space.errors import SpaceError
from aiq_search.space.expression import Expression
from aiq_search.space.section import NamedSection, Section
from aiq_search.training.capture import CaptureField, CaptureOptions
from aiq_search.training.measures import COSTS, INT8_ACCURACY, MEASURES, AccuracyName

__all__ = [
    "RUNGS",
    "ConfirmOptions",
    "ModelOptions",
    "ObjectiveOptions",
    "PrunerOptions",
    "ResourceOptions",
    "SamplerOptions",
    "SearchOptions",
    "by_name",
]

Number = Literal[
    "accuracy",
    "activation_bytes",
    "aiq",
    "auroc",
    "balanced_accuracy",
    "efficiency",
    "latency_ms",
    "loss",
    "macro_f1",
    "macs",
    "parameters",
    "parameters_weights",
    "top_5",
]


Numbers = Annotated[tuple[Number, ...], Field(strict=False)]

# By default networks are compared at these shares of their first epoch; docs/search.md shows how well that
# predicts their final ranks.
RUNGS = (0.125, 0.25, 0.5)
_MOST_RUNGS = 16

# More trials, seeds or cores than anybody has: a slip of the finger.
_MOST = 1_000_000


class ModelOptions(NamedSection):
    """Which network, and the arguments that are not searched.

    Attributes:
        name: A key of ``models.MODELS``, ``torchvision.models:<model>`` or ``package.module:function``.
    """

    name: str = Field(min_length=1, max_length=200)


class ObjectiveOptions(Section):
    """What is searched for.

    Attributes:
        maximize: A reported number, or several.
        minimize: Likewise; together with ``maximize``, several objectives.
        beta: Weight of accuracy in aIQ.
        accuracy: What is the accuracy in aIQ: accuracy, balanced_accuracy, macro_f1, auroc or top_5.
        capture: Which layers' states are measured, after or before them, and by which entropy; ``after`` or
            ``before`` alone: of every hidden layer.
        constraints: ``NAME >= NUMBER`` or ``NAME <= NUMBER`` on reported numbers; or, on parameters,
            an expression such as ``model.hidden2 <= model.hidden1``.
    """

    maximize: Number | Numbers | None = None
    minimize: Number | Numbers | None = None
    beta: float = Field(default=2.0, gt=0)
    accuracy: AccuracyName = "accuracy"
    capture: CaptureField = CaptureOptions()
    constraints: Annotated[tuple[str, ...], Field(strict=False)] = ()

    @field_validator("constraints")
    @classmethod
    def _parse(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for index, text in enumerate(texts):
            try:
                _parse_constraint(text)
            except ValueError as error:
                raise SpaceError(str(error), (index,)) from None
        return texts

    @model_validator(mode="after")
    def _differ(self) -> ObjectiveOptions:
        names = [name for name, _ in self.directions]
        if len(set(names)) < len(names):
            raise ValueError(f"objectives must differ, but got {', '.join(names)}")
        return self

    @cached_property
    def directions(self) -> tuple[tuple[str, str], ...]:
        """Each objective with its direction, maximize or minimize; by default aIQ is maximised."""

        def names(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
            return () if value is None else (value,) if isinstance(value, str) else value

        chosen = [(name, "maximize") for name in names(self.maximize)]
        chosen += [(name, "minimize") for name in names(self.minimize)]
        return tuple(chosen) or (("aiq", "maximize"),)

    @cached_property
    def measures(self) -> tuple[str, ...]:
        """What is measured beside accuracy: the measures that the objective or a constraint names."""
        return tuple(sorted(self._named & set(MEASURES)))

    @cached_property
    def costs(self) -> tuple[str, ...]:
        """Of activation_bytes and latency_ms, those that the objective or a constraint names."""
        return tuple(sorted(self._named & set(COSTS)))

    @property
    def _named(self) -> set[str]:
        constrained = {constraint.name for constraint in self.number_constraints}
        return {self.accuracy, *(name for name, _ in self.directions)} | constrained

    @cached_property
    def confirmed_measures(self) -> tuple[str, ...]:
        """What only confirmations report: accuracy in eight bits, where a constraint names it."""
        return tuple(sorted(self._named & {INT8_ACCURACY}))

    @cached_property
    def number_constraints(self) -> tuple[Constraint, ...]:
        """The constraints on reported numbers."""
        parsed = (_parse_constraint(text) for text in self.constraints)
        return tuple(constraint for constraint in parsed if isinstance(constraint, Constraint))

    @cached_property
    def parameter_constraints(self) -> dict[int, Expression]:
        """The constraints on parameters, by their index in ``constraints``."""
        parsed = ((index, _parse_constraint(text)) for index, text in enumerate(self.constraints))
        return {index: constraint for index, constraint in parsed if isinstance(constraint, Expression)}


def _parse_constraint(text: str) -> Constraint | Expression:
    """A constraint that names a parameter (model.… or training.…) is one on parameters."""
    if re.search(r"\b(model|training)\.", text):
        return Expression(text)
    return Constraint.parse(text)


SamplerName = Literal["tpe", "random", "grid", "gp", "nsga2"]
PrunerName = Literal["asha", "median", "pareto", "none"]


class SamplerOptions(NamedSection):
    """How configurations are proposed: a name, and options of Optuna's class of that name."""

    name: SamplerName = "tpe"


class PrunerOptions(NamedSection):
    """How hopeless trials are stopped: a name, and options of the class of that name.

    Attributes:
        rungs: Shares of the first epoch at which the clearly hopeless are stopped already, where an epoch is
            long enough; none: only whole epochs count. Of asha and median.
    """

    name: PrunerName = "asha"
    rungs: Annotated[tuple[float, ...], Field(strict=False, max_length=_MOST_RUNGS)] = RUNGS

    @field_validator("rungs")
    @classmethod
    def _in_order(cls, rungs: tuple[float, ...]) -> tuple[float, ...]:
        if any(not low < high for low, high in pairwise((0.0, *rungs, 1.0))):
            raise ValueError("expected shares of an epoch between 0 and 1, each larger than the one before")
        return rungs


class SearchOptions(Section):
    """How it is searched.

    Attributes:
        trials: How many configurations are tried; with ``replicates``, how many trainings there are.
        sampler: tpe, random, grid, gp or nsga2, or a mapping with ``name`` and options.
        pruner: asha, median, pareto or none, or a mapping with ``name`` and options. By default asha, or
            pareto where no single number that training changes ranks the trials.
        seed: Fixes what is tried and how it is trained.
        replicates: On how many seeds each cell of a grid is trained, the same ones for all cells.
        concurrency: How many trials run at once, at most; by default what the resources allow.
        max_hours: Stop asking for configurations after this time.
        target: Stop when the objective has reached this value.
        no_improvement: Stop when this many trials in a row brought nothing better.
        weights: Of which networks the weights are kept: best (the few that may become the champion) or all.
        duplicates: A configuration asked for again is trained with a new seed (new_seed), or
            answered by what is known (known_result).
        max_retries: How often a trial whose worker died is tried again.
        max_failed: Stop with an error when more than this share of the trials fails.
        trial_minutes: A trial that takes longer fails.
    """

    trials: int = Field(default=60, ge=1, le=_MOST)
    sampler: SamplerOptions = SamplerOptions()
    pruner: PrunerOptions = PrunerOptions()
    seed: int = Field(default=0, ge=0, lt=2**63)
    replicates: int = Field(default=1, ge=1, le=_MOST)
    concurrency: int | None = Field(default=None, ge=1, le=_MOST)
    max_hours: float | None = Field(default=None, gt=0)
    target: float | None = None
    no_improvement: int | None = Field(default=None, ge=1, le=_MOST)
    weights: Literal["best", "all"] = "best"
    duplicates: Literal["new_seed", "known_result"] = "known_result"
    max_retries: int = Field(default=3, ge=0, le=_MOST)
    max_failed: float = Field(default=0.5, gt=0, le=1)
    trial_minutes: float | None = Field(default=None, gt=0)

    # The types are for the JSON Schema, which editors read: they see what is written, not what becomes of it.
    @field_validator("sampler", mode="before", json_schema_input_type=SamplerName | SamplerOptions)
    @classmethod
    def _sampler_by_name(cls, given: Any) -> Any:  # noqa: ANN401
        return by_name(given)

    @field_validator("pruner", mode="before", json_schema_input_type=PrunerName | PrunerOptions)
    @classmethod
    def _pruner_by_name(cls, given: Any) -> Any:  # noqa: ANN401
        return by_name(given)


def by_name(given: Any) -> Any:  # noqa: ANN401
    """A section that is given by its name alone."""
    return {"name": given} if isinstance(given, str) else given


# Fresh seeds that a champion has at least, however short the race.
_NEEDED = 3


class ConfirmOptions(Section):
    """How the champion is found among the explored configurations: on fresh seeds.

    By default the configurations race: each training on a fresh seed goes to the one that may still be best.
    With ``finalists``, that many are each trained on ``seeds`` fresh seeds instead.

    Attributes:
        runs: Length of the race, in trainings; 0 turns confirming off.
        finalists: How many finalists to train on equally many seeds, in place of a race; 0 turns
            confirming off.
        seeds: How many further seeds report the champion's numbers, on the test split too; and how
            many decide for each finalist, where ``finalists`` is set.
        ties: Who wins where several cannot be told apart: smallest (the fewest parameters within one
            standard error of the best mean) or best (the best mean).
        reference: Whether the reference network, the most accurate one, is trained on the champion's further
            seeds too, so that what the champion gives up in accuracy is known with its spread.
        require_better_than_chance: Whether the champion has to be clearly more accurate than always naming
            the commonest class; otherwise the search ends with exit code 3 and registers no model.
    """

    runs: int = Field(default=10, ge=0, le=_MOST)
    finalists: int | None = Field(default=None, ge=0, le=_MOST)
    seeds: int = Field(default=5, ge=1, le=_MOST)
    ties: Literal["smallest", "best"] = "smallest"
    reference: bool = True
    require_better_than_chance: bool = True

    @property
    def confirms(self) -> bool:
        """Whether anything is trained on fresh seeds."""
        return self.runs > 0 if self.finalists is None else self.finalists > 0

    @property
    def races(self) -> bool:
        """Whether the fresh seeds are given out by a race."""
        return self.finalists is None and self.runs > 0

    @property
    def needed(self) -> int:
        """How many fresh seeds a champion has at least, where the fresh seeds are given out by a race.

        >>> [ConfirmOptions(runs=runs).needed for runs in (2, 10)]
        [2, 3]
        """
        return min(_NEEDED, self.runs)

    @property
    def judging(self) -> int:
        """Replicates below this number decide who wins; those from it on report the champion's numbers."""
        return self.runs if self.races else self.seeds

    @property
    def trainings(self) -> int:
        """How many trainings on fresh seeds there will be, about: a race may take a few more."""
        if not self.confirms:
            return 0
        return (self.runs if self.finalists is None else self.finalists * self.seeds) + self.seeds


class ResourceOptions(Section):
    """What one trial takes.

    Attributes:
        cpu: CPU cores; a trial trains in as many torch threads.
        gpu: GPUs; a fraction shares one.
    """

    cpu: int = Field(default=1, ge=1, le=_MOST)
    gpu: float = Field(default=0, ge=0, le=_MOST)
